//! The network device: made, recognised, and removed again.
//!
//! A device that culvert made says so in its alias, and its maker holds an abstract socket named after it, in the same
//! network namespace: when the process ends in whatever way, the socket is gone and the device is a leftover that the
//! next start removes. Devices of others are used as they are and left behind.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use culvert_sys::NetlinkFamily;
use netlink_bindings::{
    rt_link::{self, Ifinfomsg, IterableLinkAttrs, LinkinfoDataMsg},
    traits::Pusher as _,
    utils,
};

use super::{
    module::FAMILY,
    netlink::{Refused, Requests},
};
use crate::{Device, DeviceMode, OffloadError};

// linux/if_link.h
const IFLA_INFO_DATA: u16 = 2;
const IFLA_OVPN_MODE: u16 = 1;
const OVPN_MODE_P2P: u8 = 0;
const OVPN_MODE_MP: u8 = 1;

// asm-generic/errno.h
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;

/// Names that are tried for a device without a name.
const NUMBERS: u32 = 256;

/// What a device of ours has as its alias.
const ALIAS: &str = "culvert";

/// Requests about links.
pub(super) struct Links {
    requests: Requests,
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// The kind: `ovpn`, `tun`, `veth` …; physical ones have none.
    pub(super) kind: Option<String>,
    /// The mode, of links of our kind.
    pub(super) mode: Option<u8>,
    alias: Option<String>,
}

/// A device of the module in our hands.
#[derive(Debug)]
pub(super) struct OwnedLink {
    pub(super) device: Device,
    /// Held as long as the device is ours; `None` for a device that was there before, which stays.
    _claim: Option<UnixDatagram>,
    pub(super) made_here: bool,
}

impl Links {
    /// Opens a connection, in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { requests: Requests::open(NetlinkFamily::Route)? })
    }

    /// Makes the device, or takes over one of this name that fits.
    ///
    /// What killed processes of culvert have left behind is removed first.
    pub(super) fn acquire(
        &mut self,
        name: Option<&str>,
        mode: DeviceMode,
        mtu: u16,
    ) -> Result<OwnedLink, OffloadError> {
        self.remove_leftovers().map_err(|refused| refuse("list the network devices", refused))?;
        let create = |links: &mut Self, name: &str| links.create(name, mode, mtu);
        let Some(name) = name.filter(|name| !name.contains('%')) else {
            let pattern = name.unwrap_or("tun%d");
            for number in 0..NUMBERS {
                let name = pattern.replacen("%d", &number.to_string(), 1);
                match create(self, &name) {
                    Err(refused) if refused.errno() == Some(EEXIST) => {}
                    made => {
                        return made.map_err(|refused| refuse(format!("create the device {name}"), refused));
                    }
                }
            }
            return Err(OffloadError::system("find a free device name", io::ErrorKind::AddrInUse.into()));
        };
        match create(self, name) {
            Err(refused) if refused.errno() == Some(EEXIST) => self.take_over(name, mode),
            made => made.map_err(|refused| refuse(format!("create the device {name}"), refused)),
        }
    }

    fn create(&mut self, name: &str, mode: DeviceMode, mtu: u16) -> Result<OwnedLink, Refused> {
        let mut request = rt_link::Request::new().set_create().set_excl().op_newlink_do(&Ifinfomsg::new());
        let mut info = request
            .encode()
            .push_ifname_bytes(name.as_bytes())
            .push_mtu(mtu.into())
            .nested_linkinfo()
            .push_kind_bytes(FAMILY.as_bytes());
        // The library has no writer for this kind. One byte, not four: the kernel reads the first.
        let buffer = info.as_vec_mut();
        let data = utils::push_nested_header(buffer, IFLA_INFO_DATA);
        utils::push_header(buffer, IFLA_OVPN_MODE, 1);
        buffer.push(mode_number(mode));
        utils::align(buffer);
        utils::finalize_nested_header(buffer, data);
        info.end_nested();
        self.requests.order(&request)?;
        let link = self.find(name)?.ok_or_else(|| io::Error::from_raw_os_error(ENODEV))?;
        // The claim first: with the alias alone the device would be a leftover.
        let claimed = claim(link.index).map_err(Refused::from);
        match claimed.and_then(|claim| self.set_alias(link.index).map(|()| claim)) {
            Ok(claim) => {
                let device = Device { name: link.name, ifindex: link.index };
                Ok(OwnedLink { device, _claim: Some(claim), made_here: true })
            }
            // Nobody would know whose it is.
            Err(refused) => {
                self.delete(link.index)?;
                Err(refused)
            }
        }
    }

    /// Uses a device that somebody else made.
    fn take_over(&mut self, name: &str, mode: DeviceMode) -> Result<OwnedLink, OffloadError> {
        let found =
            self.find(name).map_err(|refused| refuse(format!("look at the device {name}"), refused))?;
        let Some(link) = found else {
            return Err(OffloadError::system(
                format!("look at the device {name}"),
                io::Error::from_raw_os_error(ENODEV),
            ));
        };
        if link.kind.as_deref() != Some(FAMILY) {
            return Err(OffloadError::WrongDevice {
                device: name.to_owned(),
                note: format!(
                    "Interface {name} exists and is not using the ovpn DCO driver. Disabling data channel offload"
                ),
            });
        }
        if link.mode != Some(mode_number(mode)) {
            return Err(OffloadError::WrongDevice {
                device: name.to_owned(),
                note: format!(
                    "Interface {name} is an ovpn device of the other mode, which cannot be changed: delete it (ip link del \
                     {name}), or make it with mode {}",
                    if mode == DeviceMode::MultiPeer { "multipeer" } else { "p2p" }
                ),
            });
        }
        if link.is_ours() {
            return Err(OffloadError::WrongDevice {
                device: name.to_owned(),
                note: format!(
                    "Interface {name} belongs to another process of culvert: choose another name with `dev`"
                ),
            });
        }
        let device = Device { name: link.name, ifindex: link.index };
        Ok(OwnedLink { device, _claim: None, made_here: false })
    }

    /// Removes devices whose makers are gone.
    fn remove_leftovers(&mut self) -> Result<(), Refused> {
        for link in self.all()? {
            if link.kind.as_deref() == Some(FAMILY) && link.is_ours() && claim(link.index).is_ok() {
                tracing::info!("removing the device {}, which a killed process left behind", link.name);
                self.delete(link.index)?;
            }
        }
        Ok(())
    }

    /// Removes a device; that it is gone already is no error.
    pub(super) fn delete(&mut self, index: u32) -> Result<(), Refused> {
        match self.requests.order(&rt_link::Request::new().op_dellink_do(&header(index))) {
            Err(refused) if refused.errno() == Some(ENODEV) => Ok(()),
            done => done,
        }
    }

    /// Returns whether a device is there.
    pub(super) fn exists(&mut self, index: u32) -> bool {
        let request = rt_link::Request::new().op_getlink_do(&header(index));
        self.requests.order(&request).is_ok()
    }

    pub(super) fn find(&mut self, name: &str) -> Result<Option<Link>, Refused> {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname_bytes(name.as_bytes());
        let mut found = None;
        match self.requests.call(&request, |(header, attributes)| found = Link::read(&header, &attributes)) {
            Err(refused) if refused.errno() == Some(ENODEV) => Ok(None),
            done => done.map(|()| found),
        }
    }

    fn all(&mut self) -> Result<Vec<Link>, Refused> {
        let request = rt_link::Request::new().op_getlink_dump(&Ifinfomsg::new());
        let mut links = Vec::new();
        self.requests
            .call(&request, |(header, attributes)| links.extend(Link::read(&header, &attributes)))?;
        Ok(links)
    }

    fn set_alias(&mut self, index: u32) -> Result<(), Refused> {
        let mut request = rt_link::Request::new().op_setlink_do(&header(index));
        request.encode().push_ifalias_bytes(ALIAS.as_bytes());
        self.requests.order(&request)
    }
}

impl Link {
    fn read(header: &Ifinfomsg, attributes: &IterableLinkAttrs<'_>) -> Option<Self> {
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let info = attributes.get_linkinfo().ok();
        let mode = info.as_ref().and_then(|info| match info.get_data() {
            Ok(LinkinfoDataMsg::Ovpn(data)) => data.get_mode().ok(),
            _ => None,
        });
        Some(Self {
            index: u32::try_from(header.ifi_index).ok()?,
            name: text(attributes.get_ifname().ok()?),
            kind: info.and_then(|info| info.get_kind().ok().map(text)),
            mode,
            alias: attributes.get_ifalias().ok().map(text),
        })
    }

    fn is_ours(&self) -> bool {
        self.alias.as_deref() == Some(ALIAS)
    }
}

const fn mode_number(mode: DeviceMode) -> u8 {
    match mode {
        DeviceMode::PointToPoint => OVPN_MODE_P2P,
        DeviceMode::MultiPeer => OVPN_MODE_MP,
    }
}

fn header(index: u32) -> Ifinfomsg {
    Ifinfomsg { ifi_index: i32::try_from(index).unwrap_or(0), ..Default::default() }
}

/// Claims a device for this process; fails while another process holds it.
fn claim(index: u32) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("culvert/device/{index}"))?)
}

fn refuse(what: impl Into<String>, refused: Refused) -> OffloadError {
    OffloadError::system(what, refused.into_io())
}
