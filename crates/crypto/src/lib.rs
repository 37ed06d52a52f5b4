//! AEAD, HMAC, key derivation and key material: the only crate that names a crypto library (TLS apart).
//!
//! The walk of a data key: a key exchange fills [`KeyMaterial`] (by the TLS exporter or by [`tls1_prf`]), which gives
//! a [`DataKey`] for the negotiated cipher, format and TLS role; an offload turns that into a [`Sealer`] and an
//! [`Opener`] (classic format), or an [`EpochSealer`] and an [`EpochOpener`] (epoch format), a
//! [`LegacySealer`] and a [`LegacyOpener`] (ciphers without tag).
//!
//! The walk of a control packet's keys: [`KeyMaterial`] out of a static key file (or out of a client key that
//! [`TlsCryptV2ServerKey`] unwrapped) gives [`MacKey`]s for tls-auth or [`TlsCryptKey`]s for tls-crypt.
//!
//! This crate counts nothing: packet ids, epochs' counters and replay windows are the callers', the limits that they
//! have to respect are in [`usage`]. Secrets are wiped on drop and have no way to be printed.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]

mod aead;
mod auth_token;
mod cookie;
mod data_key;
mod epoch;
mod error;
mod kdf;
mod key_material;
mod legacy;
mod mac;
mod random;
mod secret;
mod tls_crypt;
pub mod usage;

pub use aead::{Opener, Sealer};
pub use auth_token::{AUTH_TOKEN_PREFIX, AuthToken, AuthTokenKey, TokenUser};
pub use cookie::CookieKey;
pub use data_key::{DataKey, DirectionKey};
pub use epoch::{EpochKey, EpochOpener, EpochPlace, EpochSealer, FUTURE_EPOCHS};
pub use error::CryptoError;
pub use kdf::{expand_label, hkdf_expand_sha256, tls1_prf};
pub use key_material::{DataFormat, KeyDirection, KeyMaterial, TlsRole};
pub use legacy::{LegacyHalf, LegacyKey, LegacyOpened, LegacyOpener, LegacySealer, Stamp};
pub use mac::{AuthDigest, MacKey, MacTag, UnknownDigest};
pub use random::random_bytes;
pub use secret::{Secret, constant_time_eq};
pub use tls_crypt::{TLS_CRYPT_TAG_LEN, TlsCryptKey, TlsCryptV2ServerKey, UnwrappedClientKey};
