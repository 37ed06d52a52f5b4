//! Randomness for protocol values, from the operating system.

use culvert_proto::RandomSource;

/// Returns a source for one session.
pub(crate) fn source() -> RandomSource {
    Box::new(fill)
}

/// Fills a buffer.
pub(crate) fn fill(buffer: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "a system without randomness cannot run a VPN (SEC-KEY-4)")]
    culvert_crypto::random_bytes(buffer).expect("the operating system gives random bytes");
}
