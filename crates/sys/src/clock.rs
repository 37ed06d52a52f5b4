use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine started, suspension included (`CLOCK_BOOTTIME`).
///
/// [`std::time::Instant`] stands still while a machine is suspended; a peer's silence does not.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // Neither is negative on this clock.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time since the machine started, suspension left out (`CLOCK_MONOTONIC`).
#[must_use]
pub fn awake() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let first = since_boot();
        assert!(first > Duration::ZERO && since_boot() >= first);
    }
}
