//! AEAD, HMAC, key derivation and key material: the only crate that names a crypto library (TLS apart).

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]

mod data_key;

pub use data_key::{DataKey, DirectionKey};
