//! Deadlines on slow machines.

use std::sync::LazyLock;
use std::time::Duration;

/// Returns how long to wait on this machine for what takes at most `timeout` on a usual one.
///
/// `CULVERT_TEST_PATIENCE=N` makes every deadline of this crate N times as long: an emulated machine is that
/// slow. What waits inside this crate takes usual times.
pub fn patient(timeout: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| {
        let factor = std::env::var("CULVERT_TEST_PATIENCE").ok();
        factor.and_then(|factor| factor.parse().ok()).unwrap_or(1)
    });
    timeout.saturating_mul(*FACTOR)
}
