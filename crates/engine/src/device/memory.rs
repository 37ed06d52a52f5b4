use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use culvert_offload::Device;
use culvert_sys::Eventfd;

use super::{OpenDevice, Queue};
use crate::packet::{Joins, SuperPacket, VNET_HEADER_LEN, VnetHeader, destination};

/// Packets that wait in one direction; more are dropped, as a network device would.
const CAPACITY: usize = 4096;

/// The host's side of a device in memory: what an IP stack would be to a TUN device.
///
/// It exists for tests and for running without privileges. Packets given to it leave through the tunnel; packets
/// taken from it came out of the tunnel. Clones are handles to the same device.
#[derive(Clone)]
pub struct MemoryDevice {
    shared: Arc<Shared>,
}

struct Shared {
    /// One for each queue of the device.
    to_engine: Vec<ToEngine>,
    to_host: Mutex<VecDeque<Vec<u8>>>,
    arrived: Condvar,
    arrived_event: Eventfd,
}

/// Frames to the engine, and their readiness.
struct ToEngine {
    frames: Mutex<VecDeque<Vec<u8>>>,
    readable: Eventfd,
}

impl MemoryDevice {
    /// Sends an IP packet into the tunnel.
    pub fn send(&self, packet: &[u8]) {
        self.send_frame([&VnetHeader::PLAIN.emit()[..], packet].concat());
    }

    /// Sends a frame (virtio header of 10 bytes, then a packet or super-packet) into the tunnel.
    pub fn send_frame(&self, frame: Vec<u8>) {
        // As the kernel does: a flow stays on a queue. Here a destination is a flow.
        let flow = destination(frame.get(VNET_HEADER_LEN..).unwrap_or_default());
        let number = match flow {
            Some(IpAddr::V4(ip)) => ip.to_bits() as usize,
            Some(IpAddr::V6(ip)) => usize::from(ip.octets()[15]),
            None => 0,
        };
        let Some(to) = self.shared.to_engine.get(number % self.shared.to_engine.len().max(1)) else { return };
        let mut queue = lock(&to.frames);
        if queue.len() < CAPACITY {
            queue.push_back(frame);
            to.readable.raise();
        }
    }

    /// Takes the next IP packet that came out of the tunnel.
    #[must_use]
    pub fn try_recv(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.shared.to_host);
        if queue.is_empty() {
            self.shared.arrived_event.lower();
        }
        queue.pop_front()
    }

    /// Waits for the next IP packet that comes out of the tunnel.
    #[must_use]
    pub fn recv_timeout(&self, timeout: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut queue = lock(&self.shared.to_host);
        while queue.is_empty() {
            let left = deadline.checked_duration_since(Instant::now())?;
            queue = self.shared.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.pop_front()
    }

    /// Becomes readable when a packet came out of the tunnel; reading until there is none resets it.
    #[must_use]
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.shared.arrived_event.as_fd()
    }
}

struct MemoryQueue {
    shared: Arc<Shared>,
    index: usize,
}

impl Queue for MemoryQueue {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let from = &self.shared.to_engine[self.index];
        let mut queue = lock(&from.frames);
        let Some(frame) = queue.pop_front() else {
            from.readable.lower();
            return Err(io::ErrorKind::WouldBlock.into());
        };
        buf.get_mut(..frame.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&frame);
        Ok(frame.len())
    }

    /// Cuts super-packets, as a kernel would for a reader of single packets.
    fn write(&self, frame: &[u8]) -> io::Result<()> {
        let packet = SuperPacket::parse(frame).ok_or(io::ErrorKind::InvalidData)?;
        let mut queue = lock(&self.shared.to_host);
        for index in 0..packet.count() {
            if queue.len() < CAPACITY {
                let mut out = vec![0; packet.len(index)];
                packet.write(index, &mut out);
                queue.push_back(out);
            }
        }
        drop(queue);
        self.shared.arrived.notify_all();
        self.shared.arrived_event.raise();
        Ok(())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.shared.to_engine[self.index].readable.as_fd()
    }
}

/// Makes a device in memory with `queues` queues, and the host's side of it.
pub(crate) fn memory_device(joins: Joins, queues: usize) -> io::Result<(OpenDevice, MemoryDevice)> {
    let to_engine = (0..queues).map(|_| Ok(ToEngine { frames: Mutex::default(), readable: Eventfd::new()? }));
    let shared = Arc::new(Shared {
        to_engine: to_engine.collect::<io::Result<_>>()?,
        to_host: Mutex::default(),
        arrived: Condvar::new(),
        arrived_event: Eventfd::new()?,
    });
    let device = OpenDevice {
        device: Device { name: "memory".to_owned(), ifindex: 0 },
        queues: (0..queues)
            .map(|index| Arc::new(MemoryQueue { shared: Arc::clone(&shared), index }) as Arc<dyn Queue>)
            .collect(),
        joins,
        queue_length: None,
        program: None,
    };
    Ok((device, MemoryDevice { shared }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
