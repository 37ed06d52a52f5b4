//! Devices: where inner packets come from and go to.
//!
//! A frame is a virtio header (10 bytes, see `packet::vnet`) and a packet, whether or not the device below really
//! exchanges such headers: a [`Queue`] adds and removes them where it does not.

mod memory;
mod queue_length;
mod tun;
mod virtual_device;

use std::{io, os::fd::BorrowedFd, sync::Arc};

use culvert_offload::Device;

pub use memory::MemoryDevice;
pub(crate) use memory::memory_device;
pub(crate) use queue_length::{FrameSizes, QueueLength};
pub(crate) use tun::open_tun;
pub(crate) use virtual_device::{ProgramStart, open_null, open_program};

use crate::packet::Joins;

/// One queue of a device. Reading and writing may happen on different threads.
pub(crate) trait Queue: Send + Sync {
    /// Reads a frame without waiting.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes a frame without waiting.
    fn write(&self, frame: &[u8]) -> io::Result<()>;

    /// Becomes readable when there is a frame.
    fn readiness(&self) -> BorrowedFd<'_>;
}

/// A device, opened.
pub(crate) struct OpenDevice {
    pub(crate) device: Device,
    /// At least one.
    pub(crate) queues: Vec<Arc<dyn Queue>>,
    /// Which super-packets it takes.
    pub(crate) joins: Joins,
    /// Where frames wait, unless the length of that queue is somebody else's business.
    pub(crate) queue_length: Option<QueueLength>,
    /// The program that it is, before its start.
    pub(crate) program: Option<ProgramStart>,
}
