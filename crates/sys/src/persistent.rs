//! TUN and TAP devices that stay without a process: `mktun`, `rmtun`.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::fs::{Mode, OFlags};

use crate::tun::{IFF_NO_PI, IFF_TAP, IFF_TUN, IfReq, TunLayer, ioctl_ifreq};

/// Whether a device is to stay, and who may open it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays; a user and a group without privileges may open it.
    On {
        /// The user's id.
        user: Option<u32>,
        /// The group's id.
        group: Option<u32>,
    },
    /// It goes with the last process that has it open.
    Off,
}

/// A device that is open, and whose persistence can be set.
#[derive(Debug)]
struct OpenedDevice {
    fd: OwnedFd,
    name: String,
}

/// Opens a device of this name (`%d` in it is filled in by the system), makes it where there is none, tells the name, and sets
/// whether it stays.
///
/// # Errors
/// When the clone device cannot be opened, the kernel refuses the name, or the owner may not be set.
pub fn set_persistent(
    node: &Path,
    name: &str,
    layer: TunLayer,
    persistence: Persistence,
) -> io::Result<String> {
    let device = OpenedDevice::open(node, name, layer)?;
    if let Persistence::On { user, group } = persistence {
        if let Some(user) = user {
            device.set(libc::TUNSETOWNER as _, user)?;
        }
        if let Some(group) = group {
            device.set(libc::TUNSETGROUP as _, group)?;
        }
    }
    device.set(libc::TUNSETPERSIST as _, u32::from(persistence != Persistence::Off))?;
    Ok(device.name)
}

impl OpenedDevice {
    fn open(node: &Path, name: &str, layer: TunLayer) -> io::Result<Self> {
        let fd = rustix::fs::open(node, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut request = IfReq::new(name)?;
        let flags = IFF_NO_PI
            | match layer {
                TunLayer::Ip => IFF_TUN,
                TunLayer::Ethernet => IFF_TAP,
            };
        request.value[..2].copy_from_slice(&flags.to_ne_bytes());
        ioctl_ifreq(fd.as_fd(), libc::TUNSETIFF as _, &mut request)?;
        Ok(Self { fd, name: request.name() })
    }

    fn set(&self, code: libc::c_ulong, value: u32) -> io::Result<()> {
        // SAFETY: the three codes passed here take a number by value.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), code as _, libc::c_ulong::from(value)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
