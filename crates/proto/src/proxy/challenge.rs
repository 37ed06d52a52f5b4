//! What an HTTP proxy asks for (`Proxy-Authenticate`), and the answer to a digest's challenge.

use std::fmt::Write as _;

use aws_lc_rs::digest::{self, SHA256};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::ProxyError;
use crate::Credentials;

/// The methods of login that a proxy offers, as far as they are known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    offers: Vec<Offer>,
    /// Every method's name, for the log.
    names: Vec<String>,
}

/// One method of login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The password in clear text.
    Basic,
    /// A hash over it and the proxy's nonce.
    Digest(DigestChallenge),
    /// NTLM; version 2 is what is answered.
    Ntlm,
}

impl Offers {
    /// Adds what a `Proxy-Authenticate` header offers.
    pub(super) fn add(&mut self, header: &str) {
        for (scheme, parameters) in challenges(header) {
            let offer = match scheme.to_ascii_lowercase().as_str() {
                "basic" => Some(Offer::Basic),
                "digest" => DigestChallenge::new(&parameters).map(Offer::Digest),
                "ntlm" => Some(Offer::Ntlm),
                _ => None,
            };
            self.offers.extend(offer);
            self.names.push(scheme);
        }
    }

    /// Returns the strongest that may be used: digest, then NTLM, then, in clear text, basic.
    #[must_use]
    pub fn choose(&self, clear_text: bool) -> Option<&Offer> {
        let strength = |offer: &&Offer| match offer {
            Offer::Digest(_) => 2,
            Offer::Ntlm => 1,
            Offer::Basic => 0,
        };
        self.offers.iter().filter(|offer| clear_text || **offer != Offer::Basic).max_by_key(strength)
    }

    /// Returns the digest's challenge, if there is one.
    #[must_use]
    pub fn digest(&self) -> Option<&DigestChallenge> {
        self.offers.iter().find_map(|offer| match offer {
            Offer::Digest(challenge) => Some(challenge),
            Offer::Basic | Offer::Ntlm => None,
        })
    }

    /// Returns the names of all methods, known or not.
    #[must_use]
    pub fn names(&self) -> String {
        self.names.join(", ")
    }
}

/// Splits a header into challenges: scheme and parameters. Several may stand in one, separated as the parameters are.
fn challenges(header: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for item in split_unquoted(header) {
        let (word, rest) = item.split_at(item.find([' ', '\t', '=']).unwrap_or(item.len()));
        let parameter = if rest.trim_start().starts_with('=') {
            item
        } else {
            found.push((word.to_owned(), Vec::new()));
            rest.trim()
        };
        if let (Some((_, parameters)), Some((name, value))) = (found.last_mut(), parameter.split_once('=')) {
            parameters.push((name.trim().to_ascii_lowercase(), unquote(value.trim())));
        }
    }
    found
}

/// Splits at commas outside of quotes.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let was_escaped = std::mem::take(&mut escaped);
        match c {
            '"' if !was_escaped => quoted = !quoted,
            '\\' if quoted && !was_escaped => escaped = true,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}

fn quote(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A digest's challenge (RFC 7616).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestChallenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// As written.
    algorithm: Option<String>,
    qop: Option<String>,
    /// The nonce was good once: the login need not be wrong.
    stale: bool,
}

impl DigestChallenge {
    fn new(parameters: &[(String, String)]) -> Option<Self> {
        let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(Self {
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm: get("algorithm"),
            qop: get("qop"),
            stale: get("stale").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }

    /// Returns whether only the nonce was too old, not the login wrong.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Returns the value of `Proxy-Authorization` for a CONNECT to `uri`.
    ///
    /// # Errors
    /// When the proxy wants an algorithm or a protection that is not known.
    pub(super) fn answer(
        &self,
        login: &Credentials,
        uri: &str,
        cnonce: [u8; 8],
    ) -> Result<Zeroizing<String>, ProxyError> {
        let unknown = |what: &str, value: &str| ProxyError::Digest(format!("unknown {what} '{value}'"));
        let algorithm = self.algorithm.as_deref().unwrap_or("MD5");
        let upper = algorithm.to_ascii_uppercase();
        let (name, session) =
            upper.strip_suffix("-SESS").map_or((upper.as_str(), false), |name| (name, true));
        let hash: fn(&[u8]) -> Vec<u8> = match name {
            "MD5" => |bytes| Md5::digest(bytes).to_vec(),
            "SHA-256" => |bytes| digest::digest(&SHA256, bytes).as_ref().to_vec(),
            _ => return Err(unknown("algorithm", algorithm)),
        };
        let hex = |text: &str| Zeroizing::new(hex(&hash(text.as_bytes())));
        let has_auth = |qop: &str| qop.split(',').any(|word| word.trim().eq_ignore_ascii_case("auth"));
        if let Some(qop) = self.qop.as_deref().filter(|qop| !has_auth(qop)) {
            return Err(unknown("protection", qop));
        }
        let cnonce = self::hex(&cnonce);
        let (realm, nonce, user) = (&self.realm, &self.nonce, &login.username);
        let secret = Zeroizing::new([user, ":", realm, ":", &login.password].concat());
        let mut ha1 = hex(&secret);
        if session {
            ha1 = hex(&Zeroizing::new([&ha1, ":", nonce, ":", &cnonce].concat()));
        }
        let ha2 = hex(&format!("CONNECT:{uri}"));
        let middle = match self.qop {
            Some(_) => format!("{nonce}:{NONCE_COUNT}:{cnonce}:auth"),
            None => nonce.clone(),
        };
        let response = hex(&Zeroizing::new([&ha1, ":", &middle, ":", &ha2].concat()));
        let mut text = Zeroizing::new(format!(
            "Digest username={}, realm={}, nonce={}, uri={}",
            quote(user),
            quote(realm),
            quote(nonce),
            quote(uri)
        ));
        if self.qop.is_some() {
            let _ = write!(*text, ", qop=auth, nc={NONCE_COUNT}, cnonce=\"{cnonce}\""); // a string takes all
        }
        let _ = write!(*text, ", response=\"{}\"", *response);
        if let Some(opaque) = &self.opaque {
            let _ = write!(*text, ", opaque={}", quote(opaque));
        }
        if let Some(algorithm) = &self.algorithm {
            let _ = write!(*text, ", algorithm={algorithm}");
        }
        Ok(text)
    }
}

/// Each nonce is used once.
const NONCE_COUNT: &str = "00000001";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(headers: &[&str]) -> Offers {
        let mut offers = Offers::default();
        headers.iter().for_each(|header| offers.add(header));
        offers
    }

    fn login(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: Zeroizing::new(password.to_owned()) }
    }

    #[test]
    fn the_strongest_method_is_chosen() {
        let all =
            offers(&["Negotiate", "NTLM", "Basic realm=\"a, b\", Digest realm=\"r\\\"\", nonce = \"n\""]);
        assert!(matches!(all.choose(true), Some(Offer::Digest(challenge)) if challenge.realm == "r\""));
        assert_eq!(all.names(), "Negotiate, NTLM, Basic, Digest");
        assert_eq!(offers(&["Basic realm=x", "NTLM"]).choose(true), Some(&Offer::Ntlm));
        assert_eq!(offers(&["BASIC realm=x"]).choose(true), Some(&Offer::Basic));
        assert_eq!(offers(&["Basic realm=x"]).choose(false), None, "auto-nct sends no password");
    }

    /// Names of RFC 2617, section 3.5; the hashes, over the method CONNECT, by Python's hashlib.
    #[test]
    fn digests_are_those_of_the_standard() {
        let digest = |algorithm: &str, qop: &str| {
            let header = format!(
                "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"{qop}{algorithm}, opaque=\"5ccc\""
            );
            let login = login("Mufasa", "Circle Of Life");
            offers(&[&header]).digest().unwrap().answer(&login, "a.example:443", [0x0a; 8]).unwrap()
        };
        let md5 = digest("", ", qop=\"auth,auth-int\"");
        assert!(md5.contains("qop=auth, nc=00000001, cnonce=\"0a0a0a0a0a0a0a0a\""), "{}", *md5);
        assert!(md5.contains("response=\"991cc87a8e913bb7fc60a466f3e95468\", opaque=\"5ccc\""), "{}", *md5);
        assert!(digest("", "").contains("response=\"9cd554bf099b8780fc080a3b836a6853\""));
        assert!(
            digest(", algorithm=MD5-sess", ", qop=auth")
                .contains("response=\"fc083fa7307332d48a772cd3e45ba021\"")
        );
        assert!(
            digest(", algorithm=SHA-256", ", qop=auth")
                .contains("response=\"70ab57efe8353eeac2b256008d5ec25556bdda2b18150dcc6763089f55fc247d\"")
        );
    }

    #[test]
    fn what_is_not_known_is_named() {
        let header = "Digest realm=a, nonce=b, algorithm=SHA-512-256";
        let failure =
            offers(&[header]).digest().unwrap().answer(&login("a", "b"), "c:1", [0; 8]).unwrap_err();
        assert!(failure.to_string().contains("unknown algorithm 'SHA-512-256'"), "{failure}");
    }
}
