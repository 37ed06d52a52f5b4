//! The one place where the control plane reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use culvert_wire::Now;

/// Returns the current time in both forms that the protocol wants.
pub(crate) fn now() -> Now {
    at(Instant::now())
}

/// Returns the time of a packet that the data plane read at `mono`.
pub(crate) fn at(mono: Instant) -> Now {
    Now { mono, unix: unix_seconds() }
}

/// Returns the time of day, for files and scripts.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since the Unix epoch; 0 before it, the last representable second after 2106.
pub(crate) fn unix_seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    u32::try_from(since).unwrap_or(u32::MAX)
}
