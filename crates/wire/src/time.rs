use std::time::Instant;

/// The current time, as it is passed into protocol code: that code never reads a clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time: deadlines and intervals.
    pub mono: Instant,
    /// Seconds since the Unix epoch: what the wire format wants (replay ids, cookies, tokens).
    pub unix: u32,
}
