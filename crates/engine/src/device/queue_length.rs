//! How many frames may wait in the device's queue.
//!
//! The kernel counts frames: its 500 are 32 MiB of super-packets, or 32 KB of small datagrams. Delay comes from bytes. So the
//! length follows the size of the frames that are read: about a mebibyte may wait, however it is cut. With a short
//! queue of super-packets TCP keeps less in flight, at the same speed; a short queue of small datagrams would lose bursts.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

/// Bytes that may wait: what a tunnel of 10 Gb/s carries in less than a millisecond.
const BACKLOG: usize = 1 << 20;
/// The shortest queue: fewer super-packets cost speed.
const SHORTEST: u32 = 16;
/// The longest queue.
const LONGEST: u32 = 500;
/// The queue becomes shorter only when frames were large for so long, in milliseconds, and by half at most: what waits
/// beyond the new length is lost. It becomes longer at once.
const PATIENCE: u64 = 250;

/// Sizes of the frames that one worker read lately.
#[derive(Debug, Default)]
pub(crate) struct FrameSizes {
    frames: usize,
    bytes: usize,
}

impl FrameSizes {
    /// Frames whose sizes are looked at together.
    const MANY: usize = 64;

    /// Counts a frame; with the last of many, returns their mean size in bytes and begins anew.
    pub(crate) fn count(&mut self, len: usize) -> Option<usize> {
        self.frames += 1;
        self.bytes += len;
        (self.frames == Self::MANY).then(|| std::mem::take(self).bytes / Self::MANY)
    }
}

/// The length of a device's queue, and how it is set.
pub(crate) struct QueueLength {
    fit: Mutex<Fit>,
    set: Box<dyn Fn(u32) -> io::Result<()> + Send + Sync>,
}

impl QueueLength {
    /// What the kernel gives a new TUN device.
    pub(crate) const USUAL: u32 = LONGEST;

    /// For a new device. `set` changes the length; should it fail, the length stays as it is for good.
    pub(crate) fn new(set: impl Fn(u32) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { fit: Mutex::new(Fit::new()), set: Box::new(set) }
    }

    /// Frames of this mean size were read.
    pub(crate) fn follow(&self, mean: usize, now: u64) {
        let mut fit = self.fit.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(length) = fit.follow(mean, now) else { return };
        match (self.set)(length) {
            Ok(()) => tracing::debug!(frames = length, "the device's queue follows the size of its frames"),
            Err(error) => {
                tracing::debug!(%error, "the length of the device's queue stays as it is");
                fit.fixed = true;
            }
        }
    }
}

/// Which length fits.
#[derive(Debug)]
struct Fit {
    current: u32,
    /// The longest that was wanted since `since`.
    wanted: u32,
    since: u64,
    fixed: bool,
}

impl Fit {
    const fn new() -> Self {
        Self { current: LONGEST, wanted: 0, since: 0, fixed: false }
    }

    /// Returns the new length, if it is to change.
    fn follow(&mut self, mean: usize, now: u64) -> Option<u32> {
        if self.fixed {
            return None;
        }
        let fitting = u32::try_from(BACKLOG / mean.max(1)).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
        self.wanted = self.wanted.max(fitting);
        let longer = fitting > self.current && (fitting == LONGEST || fitting >= 2 * self.current);
        if !longer && now.saturating_sub(self.since) < PATIENCE {
            return None;
        }
        let wanted = self.wanted.max(self.current / 2);
        // Small differences are not worth a call.
        let change = (longer || wanted * 4 <= self.current * 3).then_some(wanted);
        self.current = change.unwrap_or(self.current);
        (self.wanted, self.since) = (0, now);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPER_PACKET: usize = 65_000;

    /// What becomes of the length while large frames are read.
    fn shrink(fit: &mut Fit, begin: u64) -> Vec<u32> {
        (1..20).filter_map(|n| fit.follow(SUPER_PACKET, begin + n * PATIENCE)).collect()
    }

    #[test]
    fn the_queue_becomes_short_step_by_step() {
        let mut fit = Fit::new();
        assert_eq!(shrink(&mut fit, 0), [250, 125, 62, 31, SHORTEST]);
    }

    #[test]
    fn one_look_at_small_frames_keeps_the_queue_long() {
        let mut fit = Fit::new();
        assert_eq!(fit.follow(100, PATIENCE), None);
        assert_eq!(fit.follow(SUPER_PACKET, PATIENCE + 50), None);
        assert_eq!(fit.follow(100, PATIENCE + 100), None);
        assert_eq!(fit.follow(SUPER_PACKET, 2 * PATIENCE), None);
        assert_eq!(fit.follow(SUPER_PACKET, 3 * PATIENCE), Some(LONGEST / 2));
    }

    #[test]
    fn the_queue_becomes_long_at_once() {
        let mut fit = Fit::new();
        shrink(&mut fit, 0);
        assert_eq!(fit.current, SHORTEST);
        assert_eq!(fit.follow(100, 20 * PATIENCE), Some(LONGEST));
    }

    #[test]
    fn frames_between_get_a_length_between() {
        let mut fit = Fit::new();
        assert_eq!(fit.follow(4 << 10, PATIENCE), Some(256));
        assert_eq!(fit.follow(5 << 10, 2 * PATIENCE), None, "204: not worth it");
    }

    #[test]
    fn a_device_that_cannot_be_changed_is_left_alone() {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counter = std::sync::Arc::clone(&asked);
        let length = QueueLength::new(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(io::ErrorKind::PermissionDenied.into())
        });
        length.follow(SUPER_PACKET, 1000);
        length.follow(100, 2000);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[test]
    fn the_mean_is_that_of_many_frames() {
        let mut sizes = FrameSizes::default();
        let means: Vec<_> = (0..FrameSizes::MANY * 2).filter_map(|n| sizes.count(1000 + n)).collect();
        assert_eq!(means, [1031, 1095]);
    }
}
