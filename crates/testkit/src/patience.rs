//! Deadlines on slow machines.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

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

/// Calls `check` until it is true, at most for `timeout`.
///
/// # Panics
///
/// When the time is over, with what `check` saw last.
pub fn eventually(timeout: Duration, mut check: impl FnMut() -> std::result::Result<(), String>) {
    let timeout = patient(timeout);
    let deadline = Instant::now() + timeout;
    loop {
        match check() {
            Ok(()) => return,
            Err(seen) if Instant::now() > deadline => panic!("within {timeout:?}: {seen}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
