use std::time::Duration;

/// The engine's clock: milliseconds since it was opened, suspension included, read once per batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: culvert_sys::since_boot() }
    }

    /// Milliseconds since the start.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from(culvert_sys::since_boot().saturating_sub(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}
