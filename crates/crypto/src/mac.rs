use std::str::FromStr;

use aws_lc_rs::hmac as fast;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use thiserror::Error;

use crate::{CryptoError, constant_time_eq};

/// A digest that HMAC can be built on, by the name that `auth` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the digests' own names")]
pub enum AuthDigest {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A name that no digest known to culvert has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown message digest '{0}'")]
pub struct UnknownDigest(pub String);

impl AuthDigest {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// OpenVPN's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }

    /// Length of its output and of its HMAC keys, in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "the length of a digest, which is never empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl std::fmt::Display for AuthDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AuthDigest {
    type Err = UnknownDigest;

    /// Ignores case and knows the spellings `SHA-256` and `RSA-SHA256`, which old files carry.
    fn from_str(name: &str) -> Result<Self, UnknownDigest> {
        let upper = name.to_ascii_uppercase();
        let plain =
            upper.strip_prefix("RSA-").unwrap_or(&upper).replace("SHA-", "SHA").replace("SHA2-", "SHA");
        Self::ALL
            .into_iter()
            .find(|digest| digest.as_str() == plain)
            .ok_or_else(|| UnknownDigest(name.to_owned()))
    }
}

/// An HMAC key, prepared for one digest.
pub struct MacKey {
    digest: AuthDigest,
    key: Prepared,
}

enum Prepared {
    Fast(Box<fast::Key>),
    Md5(Box<Hmac<Md5>>),
}

impl MacKey {
    /// Prepares a key of any length.
    #[must_use]
    pub fn new(digest: AuthDigest, key: &[u8]) -> Self {
        let fast = |algorithm| Prepared::Fast(Box::new(fast::Key::new(algorithm, key)));
        let key = match digest {
            AuthDigest::Md5 => Prepared::Md5(Box::new(hmac_md5(key))),
            AuthDigest::Sha1 => fast(fast::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            AuthDigest::Sha224 => fast(fast::HMAC_SHA224),
            AuthDigest::Sha256 => fast(fast::HMAC_SHA256),
            AuthDigest::Sha384 => fast(fast::HMAC_SHA384),
            AuthDigest::Sha512 => fast(fast::HMAC_SHA512),
        };
        Self { digest, key }
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> AuthDigest {
        self.digest
    }

    /// Authenticates the concatenation of the parts.
    pub fn mac<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> MacTag {
        let mut tag = MacTag { bytes: [0; 64], len: self.digest.len() };
        match &self.key {
            Prepared::Fast(key) => {
                let mut context = fast::Context::with_key(key);
                for part in parts {
                    context.update(part);
                }
                tag.fill(context.sign().as_ref());
            }
            Prepared::Md5(key) => {
                let mut context = Hmac::clone(key);
                for part in parts {
                    context.update(part);
                }
                tag.fill(&context.finalize().into_bytes());
            }
        }
        tag
    }

    /// Checks a tag in constant time.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`] when it is not the tag of the parts.
    pub fn verify<'p>(
        &self,
        parts: impl IntoIterator<Item = &'p [u8]>,
        tag: &[u8],
    ) -> Result<(), CryptoError> {
        if constant_time_eq(self.mac(parts).as_bytes(), tag) {
            Ok(())
        } else {
            Err(CryptoError::Authentication)
        }
    }
}

/// HMAC's output: as many bytes as the digest has. Not comparable but in constant time.
pub struct MacTag {
    bytes: [u8; 64],
    len: usize,
}

impl MacTag {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn fill(&mut self, from: &[u8]) {
        for (to, from) in self.bytes.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "the interface can fail for MACs with fixed key lengths, HMAC has none"
)]
fn hmac_md5(key: &[u8]) -> Hmac<Md5> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
