//! TLS through its public face: two ends in memory, certificates made on the spot.
//!
//! [`pki`] makes certificates, [`pair`] lets two ends talk; the other modules hold the tests.

#![allow(clippy::unwrap_used, reason = "a test's helper panics as its tests do")]

mod handshake;
mod keys;
mod names;
mod openssl;
mod pair;
mod pki;
mod refusals;
mod revocation;
mod settings;
