//! Lists of data channel ciphers (`data-ciphers`).
//!
//! Names are separated by colons and compared without regard to case. `?NAME` is left out silently where it is unknown; an
//! unknown name without it is an error. `DEFAULT` stands, once, for [`DEFAULT`]. The list as OpenVPN writes it has at most
//! 127 characters.

use culvert_wire::CipherName;
use thiserror::Error;

/// The list when none is written, and what the word `DEFAULT` stands for.
pub const DEFAULT: &[CipherName] =
    &[CipherName::Aes256Gcm, CipherName::Aes128Gcm, CipherName::ChaCha20Poly1305];

/// The longest list, in characters of its normalised form.
const MAX_LEN: usize = 127;

/// Why a list is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CipherListError {
    /// A name that is unknown, or whose mode data channels do not use.
    #[error("Unsupported cipher in --data-ciphers: {0}")]
    Unsupported(String),
    /// More than 127 characters.
    #[error("Length of --data-ciphers is over the limit of 127 chars")]
    TooLong,
    /// Nothing is left.
    #[error("no cipher in --data-ciphers is supported")]
    Empty,
}

/// Reads a list.
///
/// # Errors
/// A name is unknown, the list is too long, or nothing is left of it.
pub fn parse(text: &str) -> Result<Vec<CipherName>, CipherListError> {
    parse_available(text, |_| true)
}

/// Reads a list; a cipher that is not available is as if it were unknown.
pub(crate) fn parse_available(
    text: &str,
    available: impl Fn(CipherName) -> bool,
) -> Result<Vec<CipherName>, CipherListError> {
    let mut list = Vec::new();
    let mut expanded = false;
    for word in text.split(':').filter(|word| !word.is_empty()) {
        if word == "DEFAULT" && !expanded {
            expanded = true;
            list.extend_from_slice(DEFAULT);
            continue;
        }
        let (name, optional) = word.strip_prefix('?').map_or((word, false), |name| (name, true));
        match name.parse().ok().filter(|cipher| available(*cipher)) {
            Some(cipher) => list.push(cipher),
            None if optional => {}
            None => return Err(CipherListError::Unsupported(name.to_owned())),
        }
    }
    match print(&list).len() {
        0 => Err(CipherListError::Empty),
        len if len > MAX_LEN => Err(CipherListError::TooLong),
        _ => Ok(list),
    }
}

/// Returns the list as OpenVPN writes it: normalised names with colons between them.
pub fn print(list: &[CipherName]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vector `ncp_cipher_list_normalise`.
    #[test]
    fn lists_are_normalised_as_openvpn_does() {
        let chacha = "CHACHA20-POLY1305:".repeat(7);
        let seven = chacha.trim_end_matches(':');
        let cases = [
            ("none", Some("none")),
            ("AES-256-GCM:none", Some("AES-256-GCM:none")),
            ("AES-256-GCM:AES-128-GCM", Some("AES-256-GCM:AES-128-GCM")),
            ("AES-256-GCM:?vollbit:AES-128-GCM", Some("AES-256-GCM:AES-128-GCM")),
            ("?AES-256-GCM:?AES-128-GCM", Some("AES-256-GCM:AES-128-GCM")),
            ("?kugelfisch:?grasshopper", None),
            ("Vollbit:Littlebit:AES-256-CBC:BF-CBC:?nixbit", None),
            ("AES-256-GCM:AES-128-CCM", None),
            ("AES-256-GCM:?AES-128-CCM:AES-128-GCM", Some("AES-256-GCM:AES-128-GCM")),
            ("AES-128-CBC:ChaCha20-Poly1305", Some("AES-128-CBC:CHACHA20-POLY1305")),
            ("vollbit", None),
            ("AES-256-GCM:vollbit", None),
            ("", None),
            (seven, Some(seven)),
            (&chacha, Some(seven)),
            (&format!("{chacha}CHACHA20-POLY1305"), None),
            ("id-aes128-GCM:id-aes256-GCM", Some("AES-128-GCM:AES-256-GCM")),
        ];
        for (list, expected) in cases {
            assert_eq!(parse(list).ok().map(|list| print(&list)).as_deref(), expected, "{list}");
        }
    }

    /// Vector `ncp_default_expansion`.
    #[test]
    fn the_word_default_stands_for_the_default_list() {
        let cases = [
            (
                "BF-CBC:DEFAULT:AES-128-CBC:AES-256-CBC",
                "BF-CBC:AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305:AES-128-CBC:AES-256-CBC",
            ),
            (
                "DEFAULT:AES-128-CBC:AES-192-CBC",
                "AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305:AES-128-CBC:AES-192-CBC",
            ),
            (
                "AES-192-GCM:AES-128-CBC:DEFAULT",
                "AES-192-GCM:AES-128-CBC:AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305",
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(print(&parse(list).unwrap()), expected);
        }
        assert_eq!(print(DEFAULT), "AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305");
    }
}
