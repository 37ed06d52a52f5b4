use aws_lc_rs::rand;

use crate::CryptoError;

/// Fills `out` with random bytes: the one function that takes randomness from the operating system (SEC-KEY-4).
///
/// # Errors
/// When the system gives none: fatal at start, the peer's end later.
pub fn random_bytes(out: &mut [u8]) -> Result<(), CryptoError> {
    rand::fill(out).map_err(|_| CryptoError::Random)
}
