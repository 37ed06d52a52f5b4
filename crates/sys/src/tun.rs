use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

pub(crate) const IFF_TUN: u16 = 0x0001;
pub(crate) const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
pub(crate) const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;
/// Bytes of `struct virtio_net_hdr`.
const VNET_HEADER: i32 = 10;
const IFNAMSIZ: usize = 16;

/// How a TUN device is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct TunConfig<'a> {
    /// The clone device, usually `/dev/net/tun`.
    pub node: &'a Path,
    /// What its packets are.
    pub layer: TunLayer,
    /// The name wanted; `%d` in it is filled in by the system; `None` takes the first free `tunN` or `tapN`.
    pub name: Option<&'a str>,
    /// How many queues to open, at least one.
    pub queues: usize,
    /// Exchange super-packets: each packet carries a 10-byte virtio header.
    pub vnet_header: bool,
}

/// What a device exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunLayer {
    /// IP packets (TUN).
    #[default]
    Ip,
    /// Ethernet frames without preamble and checksum (TAP).
    Ethernet,
}

/// Which super-packets the device hands out and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunOffload {
    /// Single packets, complete checksums.
    None,
    /// TCP super-packets.
    Tcp,
    /// TCP and UDP super-packets (Linux 6.2).
    TcpUdp,
}

/// A TUN device; it disappears with its last queue unless it was made persistent by somebody else.
#[derive(Debug)]
pub struct Tun {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub ifindex: u32,
    /// What it hands out and takes.
    pub offload: TunOffload,
    /// Its queues.
    pub queues: Vec<TunQueue>,
}

/// One queue of a TUN device, non-blocking.
#[derive(Debug)]
pub struct TunQueue {
    fd: OwnedFd,
}

/// `struct ifreq` with the members used here: flags, index or length at the start of its union.
#[repr(C)]
pub(crate) struct IfReq {
    name: [u8; IFNAMSIZ],
    pub(crate) value: [u8; 24],
}

impl Tun {
    /// Opens (or creates) the device.
    ///
    /// # Errors
    /// When the clone device cannot be opened, or the kernel refuses the name.
    pub fn open(config: &TunConfig<'_>) -> io::Result<Self> {
        let mut request = IfReq::new(config.name.unwrap_or_default())?;
        let multi = config.queues > 1;
        let first = match attach(config, &mut request, multi) {
            // A persistent device insists on the form in which it was made.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => attach(config, &mut request, !multi)?,
            other => other?,
        };
        let name = request.name();
        let mut queues = vec![first];
        if multi {
            let mut again = IfReq::new(&name)?;
            while queues.len() < config.queues {
                // Fewer queues than asked for still work.
                let Ok(queue) = attach(config, &mut again, true) else { break };
                queues.push(queue);
            }
        }
        let offload = if config.vnet_header { enable_offload(&queues)? } else { TunOffload::None };
        let socket = control_socket()?;
        let ifindex = rustix::net::netdevice::name_to_index(&socket, &name)?;
        Ok(Self { name, ifindex, offload, queues })
    }

    /// Sets the device's MTU.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        self.set_number(libc::SIOCSIFMTU, i32::from(mtu))
    }

    /// Sets the length of the device's transmit queue, in packets (super-packets count as one).
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_tx_queue_len(&self, packets: u32) -> io::Result<()> {
        self.set_number(libc::SIOCSIFTXQLEN, i32::try_from(packets).unwrap_or(i32::MAX))
    }

    /// The length of the device's transmit queue, in packets.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn tx_queue_len(&self) -> io::Result<u32> {
        let mut request = IfReq::new(&self.name)?;
        ioctl_ifreq(control_socket()?.as_fd(), libc::SIOCGIFTXQLEN, &mut request)?;
        let [a, b, c, d, ..] = request.value;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    fn set_number(&self, code: libc::c_ulong, number: i32) -> io::Result<()> {
        let mut request = IfReq::new(&self.name)?;
        request.value[..4].copy_from_slice(&number.to_ne_bytes());
        ioctl_ifreq(control_socket()?.as_fd(), code, &mut request)
    }
}

impl TunQueue {
    /// Reads one packet (with its virtio header, if the device was opened so) without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buf)?)
    }

    /// Writes one packet (with its virtio header, if the device was opened so).
    ///
    /// # Errors
    /// When the kernel refuses the packet, or the device is down (`EIO`).
    pub fn write(&self, packet: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.fd, packet)?)
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl IfReq {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let bytes = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?.into_bytes_with_nul();
        let mut request = Self { name: [0; IFNAMSIZ], value: [0; 24] };
        request.name.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&bytes);
        Ok(request)
    }

    pub(crate) fn name(&self) -> String {
        let len = self.name.iter().position(|b| *b == 0).unwrap_or(IFNAMSIZ);
        String::from_utf8_lossy(&self.name[..len]).into_owned()
    }
}

fn attach(config: &TunConfig<'_>, request: &mut IfReq, multi_queue: bool) -> io::Result<TunQueue> {
    let fd = rustix::fs::open(config.node, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let kind = match config.layer {
        TunLayer::Ip => IFF_TUN,
        TunLayer::Ethernet => IFF_TAP,
    };
    let mut flags = kind | IFF_NO_PI;
    if config.vnet_header {
        flags |= IFF_VNET_HDR;
    }
    if multi_queue {
        flags |= IFF_MULTI_QUEUE;
    }
    request.value = [0; 24];
    request.value[..2].copy_from_slice(&flags.to_ne_bytes());
    ioctl_ifreq(fd.as_fd(), libc::TUNSETIFF as _, request)?;
    if config.vnet_header {
        let mut size = VNET_HEADER;
        // SAFETY: TUNSETVNETHDRSZ reads one `int` from the pointer, which is valid for the call.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw mut size) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(TunQueue { fd })
}

/// Asks for the most that the kernel can do. The setting is the device's; each queue is told for old kernels' sake.
fn enable_offload(queues: &[TunQueue]) -> io::Result<TunOffload> {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    for (flags, offload) in
        [(tcp | TUN_F_USO4 | TUN_F_USO6, TunOffload::TcpUdp), (tcp, TunOffload::Tcp), (0, TunOffload::None)]
    {
        if queues.iter().all(|queue| set_offload(queue, flags).is_ok()) {
            return Ok(offload);
        }
    }
    Err(io::Error::last_os_error())
}

fn set_offload(queue: &TunQueue, flags: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    let result =
        unsafe { libc::ioctl(queue.fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the hardware address of a network device; zeros where it has none.
///
/// # Errors
/// When there is no such device.
pub fn hardware_address(device: &str) -> io::Result<[u8; 6]> {
    let mut request = IfReq::new(device)?;
    ioctl_ifreq(control_socket()?.as_fd(), libc::SIOCGIFHWADDR, &mut request)?;
    // `struct sockaddr`: the family comes first.
    let [_, _, a, b, c, d, e, f, ..] = request.value;
    Ok([a, b, c, d, e, f])
}

fn control_socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    Ok(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

pub(crate) fn ioctl_ifreq(fd: BorrowedFd<'_>, code: libc::c_ulong, request: &mut IfReq) -> io::Result<()> {
    // SAFETY: all codes passed here take a pointer to `struct ifreq`, whose 40 bytes `IfReq` has; the kernel writes
    // at most that many.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), code as _, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_size_of_the_kernels() {
        assert_eq!(size_of::<IfReq>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        assert!(IfReq::new("a-name-of-16-char").is_err());
        assert!(IfReq::new("nul\0inside").is_err());
        assert_eq!(IfReq::new("tun%d").unwrap().name(), "tun%d");
    }
}
