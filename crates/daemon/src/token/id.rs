//! How a certificate on a token is named: by a URI (RFC 7512), or as `--show-pkcs11-ids` prints it (the form of
//! pkcs11-helper: manufacturer/model/serial/label/id, with `\xNN` for what is not plain, the id in hexadecimal digits).

use std::{fmt::Write as _, path::PathBuf};

use zeroize::Zeroizing;

use super::without_query;

/// What is said of a certificate, its token and its module. What is not said may be anything.
#[derive(Default)]
pub(crate) struct TokenId {
    pub(super) manufacturer: Option<String>,
    pub(super) model: Option<String>,
    pub(super) serial: Option<String>,
    /// The token's label.
    pub(super) token: Option<String>,
    /// The object's label.
    pub(super) object: Option<String>,
    /// `CKA_ID`.
    pub(super) id: Option<Vec<u8>>,
    /// The module to load.
    pub(super) module: Option<PathBuf>,
    /// The module to load, by its name.
    pub(super) module_name: Option<String>,
    /// The PIN, in clear text.
    pub(super) pin: Option<Zeroizing<String>>,
    /// A file with the PIN.
    pub(super) pin_file: Option<PathBuf>,
}

/// A token, as it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenName {
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) serial: String,
    pub(super) label: String,
}

impl TokenId {
    /// Reads either form.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("pkcs11:") {
            Some(uri) => Self::parse_uri(uri),
            None => Self::parse_serialized(text),
        }
        .ok_or_else(|| {
            format!("'{}' names no certificate of a token: see --show-pkcs11-ids", without_query(text))
        })
    }

    fn parse_uri(uri: &str) -> Option<Self> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut id = Self::default();
        for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=')?;
            let bytes = percent_decoded(value)?;
            if name == "id" {
                id.id = Some(bytes.to_vec());
                continue;
            }
            let text = Some(String::from_utf8(bytes.to_vec()).ok()?);
            match name {
                "manufacturer" => id.manufacturer = text,
                "model" => id.model = text,
                "serial" => id.serial = text,
                "token" => id.token = text,
                "object" => id.object = text,
                // Of the library and the slot; the object's kind is known.
                "library-manufacturer"
                | "library-description"
                | "library-version"
                | "slot-id"
                | "slot-description"
                | "slot-manufacturer"
                | "type" => {}
                _ => return None,
            }
        }
        for attribute in query.split('&').filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=')?;
            let mut bytes = percent_decoded(value)?;
            let text = Zeroizing::new(String::from_utf8(std::mem::take(&mut *bytes)).ok()?);
            match name {
                // A name is no path (RFC 7512, 2.3).
                "module-name" if !text.contains('/') => id.module_name = Some(text.to_string()),
                "module-path" => id.module = Some(PathBuf::from(text.as_str())),
                "pin-value" => id.pin = Some(text),
                "pin-source" => {
                    id.pin_file = Some(PathBuf::from(text.strip_prefix("file:").unwrap_or(&text)));
                }
                _ => return None,
            }
        }
        Some(id)
    }

    fn parse_serialized(text: &str) -> Option<Self> {
        let parts: Option<Vec<String>> = text.split('/').map(unescaped).collect();
        let [manufacturer, model, serial, label, id] = <[String; 5]>::try_from(parts?).ok()?;
        let (pairs, rest) = id.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let id: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        Some(Self {
            manufacturer: Some(manufacturer),
            model: Some(model),
            serial: Some(serial),
            token: Some(label),
            id: id.filter(|_| rest.is_empty()),
            ..Self::default()
        })
        .filter(|id| id.id.is_some())
    }

    /// Whether a token may be the one that is meant.
    pub(super) fn is_on(&self, token: &TokenName) -> bool {
        let fits =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        fits(&self.manufacturer, &token.manufacturer)
            && fits(&self.model, &token.model)
            && fits(&self.serial, &token.serial)
            && fits(&self.token, &token.label)
    }
}

impl TokenName {
    /// The name of a certificate with this `CKA_ID`, in the form of pkcs11-helper.
    pub(super) fn serialized(&self, id: &[u8]) -> String {
        let parts = [&self.manufacturer, &self.model, &self.serial, &self.label].map(|part| escaped(part));
        let id = id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"));
        format!("{}/{id}", parts.join("/"))
    }
}

/// Letters and digits stay as they are.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "\\x{byte:02X}"); // a string takes all
        }
    }
    escaped
}

fn unescaped(text: &str) -> Option<String> {
    let mut pieces = text.split("\\x");
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

fn percent_decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TokenName {
        let text = str::to_owned;
        TokenName {
            manufacturer: text("SoftHSM project"),
            model: text("SoftHSM v2"),
            serial: text("165adc56b50c7326"),
            label: text("my token/1"),
        }
    }

    /// As OpenVPN 2.6 and 2.7 print it.
    const SERIALIZED: &str = "SoftHSM\\x20project/SoftHSM\\x20v2/165adc56b50c7326/my\\x20token\\x2F1/0A1B";

    #[test]
    fn certificates_are_named_as_openvpn_names_them() {
        assert_eq!(name().serialized(&[0x0a, 0x1b]), SERIALIZED);
        let id = TokenId::parse(SERIALIZED).unwrap();
        assert!(id.is_on(&name()));
        assert_eq!(id.id.as_deref(), Some(&[0x0a, 0x1b][..]));
        assert!(!id.is_on(&TokenName { serial: "1".to_owned(), ..name() }));
    }

    #[test]
    fn uris_say_as_much_as_they_like() {
        let id = TokenId::parse(
            "pkcs11:token=my%20token%2f1;object=key;id=%0A%1b;type=cert?module-path=/m.so&pin-value=12%2634",
        )
        .unwrap();
        assert!(id.is_on(&name()));
        assert_eq!(id.id.as_deref(), Some(&[0x0a, 0x1b][..]));
        assert_eq!(id.pin.as_ref().map(|pin| pin.as_str()), Some("12&34"));
        assert_eq!((id.module, id.object.as_deref()), (Some("/m.so".into()), Some("key")));
        let id = TokenId::parse("pkcs11:?module-name=opensc-pkcs11").unwrap();
        assert_eq!((id.module, id.module_name.as_deref()), (None, Some("opensc-pkcs11")));
        let id = TokenId::parse("pkcs11:?pin-source=file:/pin").unwrap();
        assert_eq!(id.pin_file, Some("/pin".into()));
        assert!(id.is_on(&name()), "nothing is said");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "a/b/c/d",
            "a/b/c/d/0",
            "a/b/c/d/xy",
            "a\\x2/b/c/d/00",
            "pkcs11:token",
            "pkcs11:colour=red",
            "pkcs11:id=%4",
            "pkcs11:?module-name=../m",
        ] {
            assert!(TokenId::parse(text).is_err(), "{text}");
        }
        let refused = TokenId::parse("pkcs11:colour=red?pin-value=1234").err().unwrap();
        assert!(refused.starts_with("'pkcs11:colour=red' names no certificate"), "{refused}");
    }
}
