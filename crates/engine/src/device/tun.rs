use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use culvert_offload::{Device, DeviceSpec, OffloadError};
use culvert_sys::{Tun, TunConfig, TunLayer, TunOffload, TunQueue};

use super::{OpenDevice, Queue, QueueLength};
use crate::packet::{Joins, VNET_HEADER_LEN};

/// A TUN queue that exchanges virtio headers itself.
struct Whole(TunQueue);

/// A TUN queue that exchanges bare packets.
struct Bare(TunQueue);

impl Queue for Whole {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.0.write(frame).map(|_| ())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Queue for Bare {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (header, packet) =
            buf.split_at_mut_checked(VNET_HEADER_LEN).ok_or(io::ErrorKind::InvalidInput)?;
        header.fill(0);
        Ok(self.0.read(packet)? + VNET_HEADER_LEN)
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.0.write(frame.get(VNET_HEADER_LEN..).unwrap_or_default()).map(|_| ())
    }

    fn readiness(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the TUN device of a specification, with super-packets where wanted and possible.
pub(crate) fn open_tun(
    spec: &DeviceSpec,
    queues: usize,
    vnet_header: bool,
) -> Result<OpenDevice, OffloadError> {
    let node = spec.node.as_deref().unwrap_or("/dev/net/tun");
    // Super-packets of Ethernet frames would have to be cut and joined behind other headers.
    let (layer, vnet_header) = match spec.ethernet {
        None => (TunLayer::Ip, vnet_header),
        Some(_) => (TunLayer::Ethernet, false),
    };
    let config = TunConfig { node: Path::new(node), name: spec.name.as_deref(), layer, queues, vnet_header };
    let (mut tun, vnet_header) = match Tun::open(&config) {
        Ok(tun) => (tun, vnet_header),
        // A kernel (or sandbox) without virtio headers still has plain packets.
        Err(error) if vnet_header && error.kind() == io::ErrorKind::InvalidInput => {
            let plain = TunConfig { vnet_header: false, ..config };
            (Tun::open(&plain).map_err(|source| failed(node, spec, source))?, false)
        }
        Err(source) => return Err(failed(node, spec, source)),
    };
    let set = |what: &str, result: io::Result<()>| {
        result.map_err(|source| OffloadError::system(format!("set the {what} of {}", tun.name), source))
    };
    set("MTU", tun.set_mtu(spec.mtu))?;
    if let Some(len) = spec.tx_queue_len {
        set("transmit queue length", tun.set_tx_queue_len(len))?;
    }
    tracing::debug!(device = tun.name, offload = ?tun.offload, queues = tun.queues.len(), "opened");
    let joins = Joins { tcp: tun.offload >= TunOffload::Tcp, udp: tun.offload >= TunOffload::TcpUdp };
    let queue =
        |queue| if vnet_header { Arc::new(Whole(queue)) as Arc<dyn Queue> } else { Arc::new(Bare(queue)) };
    Ok(OpenDevice {
        device: Device { name: tun.name.clone(), ifindex: tun.ifindex },
        queues: std::mem::take(&mut tun.queues).into_iter().map(queue).collect(),
        joins,
        // A length that somebody chose stays.
        queue_length: (joins.tcp && spec.tx_queue_len.is_none() && has_usual_length(&tun))
            .then(|| QueueLength::new(move |frames| tun.set_tx_queue_len(frames))),
        program: None,
    })
}

/// Nobody chose the length of the device's queue.
fn has_usual_length(tun: &Tun) -> bool {
    tun.tx_queue_len().is_ok_and(|length| length == QueueLength::USUAL)
}

fn failed(node: &str, spec: &DeviceSpec, source: io::Error) -> OffloadError {
    let kind = if spec.ethernet.is_some() { "tap" } else { "tun" };
    let name = spec.name.as_deref().unwrap_or(kind);
    OffloadError::system(format!("open the device {name} through {node}"), source)
}
