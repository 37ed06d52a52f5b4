//! The machine itself, through the kernel's routing netlink interface.

use std::{io, net::IpAddr};

use netlink_bindings::{
    rt_addr::{self, Ifaddrmsg},
    rt_link::{self, Ifinfomsg},
    rt_route::{self, Rtmsg},
};
use netlink_socket2::{NetlinkSocket, ReplyError};

use crate::{
    Address, DnsBackend, DnsSettings, DnsUndo, Family, Host, HostError, Route, RouteKind, dns::KeptFile,
    shaper,
};

// linux/socket.h, linux/rtnetlink.h, linux/if.h
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;
const IFF_UP: u32 = 1;
const IFA_F_NODAD: u8 = 0x02;
const RT_TABLE_UNSPEC: u8 = 0;
const RT_TABLE_MAIN: u32 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
pub(crate) const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTNH_F_ONLINK: u32 = 4;
pub(crate) const RTM_F_CLONED: u32 = 0x200;

/// `rtm_protocol` of routes that culvert makes, so that an operator can find them: `ip route show proto 0x76`.
/// No daemon of iproute2's list uses it.
pub(crate) const RTPROT_CULVERT: u8 = 0x76;

/// The network namespace of the thread that created it.
pub struct NetlinkHost {
    socket: NetlinkSocket,
    /// What taking back DNS settings needs.
    resolv_conf: Option<KeptFile>,
}

impl std::fmt::Debug for NetlinkHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetlinkHost").finish_non_exhaustive()
    }
}

impl NetlinkHost {
    /// Opens the interface to the kernel of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open() -> Result<Self, HostError> {
        let mut host = Self { socket: NetlinkSocket::new(), resolv_conf: None };
        // The library opens its socket at the first request: do it here, where the namespace is the caller's, and
        // before privileges are dropped (the kernel looks at the opener's rights too).
        host.device_index("lo")?;
        Ok(host)
    }

    fn link_name(&mut self, index: u32) -> Option<String> {
        let header = Ifinfomsg { ifi_index: i32::try_from(index).ok()?, ..Default::default() };
        let request = rt_link::Request::new().op_getlink_do(&header);
        let mut reply = self.socket.request(&request).ok()?;
        let (_, attributes) = reply.recv_one().ok()?;
        attributes.get_ifname().ok().map(|name| name.to_string_lossy().into_owned())
    }

    fn change_link(
        &mut self,
        device: &str,
        what: &str,
        flags: u32,
        set: impl FnOnce(rt_link::PushLinkAttrs<&mut Vec<u8>>),
    ) -> Result<(), HostError> {
        let index = self.device_index(device)?;
        let header = Ifinfomsg {
            ifi_index: i32::try_from(index).map_err(|_| HostError::NoDevice(device.to_owned()))?,
            ifi_flags: flags,
            ifi_change: flags,
            ..Default::default()
        };
        let mut request = rt_link::Request::new().op_newlink_do(&header);
        set(request.encode());
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("{what} of {device}"), error))
    }

    fn address_header(&mut self, device: &str, address: &Address) -> Result<Ifaddrmsg, HostError> {
        let index = self.device_index(device)?;
        Ok(match *address {
            Address::V4 { prefix, .. } => Ifaddrmsg {
                ifa_family: AF_INET,
                ifa_prefixlen: prefix,
                ifa_index: index,
                ..Default::default()
            },
            Address::V4Peer { .. } => {
                Ifaddrmsg { ifa_family: AF_INET, ifa_prefixlen: 32, ifa_index: index, ..Default::default() }
            }
            // No duplicate detection: a point-to-point device has nobody to ask, and the address must work at once.
            Address::V6 { prefix, .. } => Ifaddrmsg {
                ifa_family: AF_INET6,
                ifa_prefixlen: prefix,
                ifa_index: index,
                ifa_flags: IFA_F_NODAD,
                ..Default::default()
            },
        })
    }

    fn route_header(route: &Route) -> Rtmsg {
        let unicast = route.kind == RouteKind::Unicast;
        Rtmsg {
            rtm_family: family_code(route.family()),
            rtm_dst_len: route.prefix,
            rtm_table: RT_TABLE_UNSPEC,
            rtm_protocol: route.protocol.unwrap_or(RTPROT_CULVERT),
            rtm_scope: if unicast && route.gateway.is_none() && route.family() == Family::V4 {
                RT_SCOPE_LINK
            } else {
                RT_SCOPE_UNIVERSE
            },
            rtm_type: match route.kind {
                RouteKind::Unicast => RTN_UNICAST,
                RouteKind::Blackhole => RTN_BLACKHOLE,
                RouteKind::Unreachable => RTN_UNREACHABLE,
            },
            rtm_flags: if route.on_link { RTNH_F_ONLINK } else { 0 },
            ..Default::default()
        }
    }

    /// Appends the attributes that add and delete have in common.
    fn push_route(
        &mut self,
        route: &Route,
        mut attributes: rt_route::PushRouteAttrs<&mut Vec<u8>>,
    ) -> Result<(), HostError> {
        attributes = attributes.push_dst(route.network).push_table(route.table.unwrap_or(RT_TABLE_MAIN));
        if let Some(device) = &route.device {
            attributes = attributes.push_oif(self.device_index(device)?);
        }
        if let Some(gateway) = route.gateway {
            attributes = attributes.push_gateway(gateway);
        }
        if let Some(metric) = route.metric {
            attributes = attributes.push_priority(metric);
        }
        if let Some(source) = route.source {
            attributes.push_prefsrc(source);
        }
        Ok(())
    }

    /// Turns a kernel message into a route; `None` for kinds that we never make.
    fn decode(&mut self, raw: &RawRoute) -> Option<Route> {
        let any = match raw.header.rtm_family {
            AF_INET => Family::V4.any(),
            AF_INET6 => Family::V6.any(),
            _ => return None,
        };
        let kind = match raw.header.rtm_type {
            RTN_UNICAST => RouteKind::Unicast,
            RTN_BLACKHOLE => RouteKind::Blackhole,
            RTN_UNREACHABLE => RouteKind::Unreachable,
            _ => return None,
        };
        Some(Route {
            gateway: raw.gateway,
            device: raw.device.and_then(|index| self.link_name(index)),
            metric: raw.metric,
            table: raw.table.filter(|table| *table != RT_TABLE_MAIN),
            source: raw.source,
            kind,
            on_link: raw.header.rtm_flags & RTNH_F_ONLINK != 0,
            protocol: Some(raw.header.rtm_protocol),
            ..Route::to(raw.network.unwrap_or(any), raw.header.rtm_dst_len)
        })
    }
}

/// A route as the kernel tells it, before device names are looked up (which needs the socket again).
struct RawRoute {
    header: Rtmsg,
    network: Option<IpAddr>,
    gateway: Option<IpAddr>,
    device: Option<u32>,
    metric: Option<u32>,
    table: Option<u32>,
    source: Option<IpAddr>,
}

impl RawRoute {
    fn read(header: Rtmsg, attributes: &rt_route::IterableRouteAttrs<'_>) -> Self {
        Self {
            header,
            network: attributes.get_dst().ok(),
            gateway: attributes.get_gateway().ok(),
            device: attributes.get_oif().ok(),
            metric: attributes.get_priority().ok(),
            table: attributes.get_table().ok(),
            source: attributes.get_prefsrc().ok(),
        }
    }
}

impl Host for NetlinkHost {
    fn device_index(&mut self, device: &str) -> Result<u32, HostError> {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname_bytes(device.as_bytes());
        let mut reply =
            self.socket.request(&request).map_err(|error| refused(format!("device {device}"), error))?;
        match reply.recv_one() {
            Ok((header, _)) => {
                u32::try_from(header.ifi_index).map_err(|_| HostError::NoDevice(device.to_owned()))
            }
            Err(_) => Err(HostError::NoDevice(device.to_owned())),
        }
    }

    fn mtu(&mut self, device: &str) -> Result<u32, HostError> {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname_bytes(device.as_bytes());
        let mut reply =
            self.socket.request(&request).map_err(|error| refused(format!("device {device}"), error))?;
        let (_, attributes) = reply.recv_one().map_err(|_| HostError::NoDevice(device.to_owned()))?;
        attributes.get_mtu().map_err(|_| HostError::NoDevice(device.to_owned()))
    }

    fn set_mtu(&mut self, device: &str, mtu: u32) -> Result<(), HostError> {
        self.change_link(device, &format!("mtu {mtu}"), 0, |link| {
            link.push_mtu(mtu);
        })
    }

    fn set_link_address(&mut self, device: &str, mac: [u8; 6]) -> Result<(), HostError> {
        self.change_link(device, "address", 0, |link| {
            link.push_address(&mac);
        })
    }

    fn link_kind(&mut self, device: &str) -> Option<String> {
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname_bytes(device.as_bytes());
        let mut reply = self.socket.request(&request).ok()?;
        let (_, attributes) = reply.recv_one().ok()?;
        let kind = attributes.get_linkinfo().ok()?.get_kind().ok()?;
        Some(kind.to_string_lossy().into_owned())
    }

    fn set_tx_queue_len(&mut self, device: &str, packets: u32) -> Result<(), HostError> {
        self.change_link(device, &format!("txqueuelen {packets}"), 0, |link| {
            link.push_txqlen(packets);
        })
    }

    fn set_up(&mut self, device: &str) -> Result<(), HostError> {
        self.change_link(device, "state up", IFF_UP, |_| {})
    }

    fn shape(&mut self, device: &str, bytes_per_second: u32) -> Result<(), HostError> {
        let index = self.device_index(device)?;
        let mtu = self.mtu(device)?;
        shaper::install(&mut self.socket, device, index, mtu, bytes_per_second)
    }

    fn unshape(&mut self, device: &str) -> Result<(), HostError> {
        let index = self.device_index(device)?;
        shaper::remove(&mut self.socket, device, index)
    }

    fn add_address(&mut self, device: &str, address: &Address) -> Result<(), HostError> {
        let header = self.address_header(device, address)?;
        let mut request = rt_addr::Request::new().set_create().set_excl().op_newaddr_do(&header);
        let attributes = request.encode().push_local(address.local());
        match *address {
            Address::V4 { local, prefix } => {
                let attributes = attributes.push_address(local.into());
                // The broadcast address is what ifconfig(8) and OpenVPN set; some programs look for it.
                if prefix < 31 {
                    let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                    attributes.push_broadcast((local.to_bits() | host_bits).into());
                }
            }
            Address::V4Peer { remote, .. } => {
                attributes.push_address(remote.into());
            }
            Address::V6 { local, .. } => {
                attributes.push_address(local.into());
            }
        }
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("address {address} dev {device}"), error))
    }

    fn delete_address(&mut self, device: &str, address: &Address) -> Result<(), HostError> {
        let header = self.address_header(device, address)?;
        let mut request = rt_addr::Request::new().op_deladdr_do(&header);
        request.encode().push_local(address.local());
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("address {address} dev {device}"), error))
    }

    fn add_route(&mut self, route: &Route) -> Result<(), HostError> {
        let header = Self::route_header(route);
        let mut request = rt_route::Request::new().set_create().set_excl().op_newroute_do(&header);
        self.push_route(route, request.encode())?;
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("route {route}"), error))
    }

    /// Without `NLM_F_EXCL` IPv4 puts the newest first. IPv6 keeps the order, which it does not promise to use.
    fn add_route_first(&mut self, route: &Route) -> Result<(), HostError> {
        let header = Self::route_header(route);
        let mut request = rt_route::Request::new().set_create().op_newroute_do(&header);
        self.push_route(route, request.encode())?;
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("route {route}"), error))
    }

    fn delete_route(&mut self, route: &Route) -> Result<(), HostError> {
        let mut header = Self::route_header(route);
        header.rtm_scope = RT_SCOPE_NOWHERE;
        let mut request = rt_route::Request::new().op_delroute_do(&header);
        self.push_route(route, request.encode())?;
        let result =
            self.socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
        result.map_err(|error| refused(format!("route {route}"), error))
    }

    fn default_routes(&mut self, family: Family) -> Result<Vec<Route>, HostError> {
        let what = || "list of routes".to_owned();
        let header = Rtmsg { rtm_family: family_code(family), ..Default::default() };
        let request = rt_route::Request::new().op_getroute_dump(&header);
        let mut reply = self.socket.request(&request).map_err(|error| refused(what(), error))?;
        let mut raw = Vec::new();
        while let Some((header, attributes)) =
            reply.recv().transpose().map_err(|error| refused(what(), error))?
        {
            let wanted = header.rtm_dst_len == 0
                && header.rtm_type == RTN_UNICAST
                && header.rtm_flags & RTM_F_CLONED == 0
                && attributes.get_table() == Ok(RT_TABLE_MAIN);
            if wanted {
                raw.push(RawRoute::read(header, &attributes));
            }
        }
        let mut routes: Vec<Route> = raw.iter().filter_map(|route| self.decode(route)).collect();
        routes.sort_by_key(|route| route.metric.unwrap_or(0));
        Ok(routes)
    }

    fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>, HostError> {
        let family = Family::of(destination);
        let header =
            Rtmsg { rtm_family: family_code(family), rtm_dst_len: family.bits(), ..Default::default() };
        let mut request = rt_route::Request::new().op_getroute_do(&header);
        request.encode().push_dst(destination);
        let what = || format!("route to {destination}");
        let mut reply = self.socket.request(&request).map_err(|error| refused(what(), error))?;
        let raw = match reply.recv_one() {
            Ok((header, attributes)) => RawRoute::read(header, &attributes),
            // ENETUNREACH, EHOSTUNREACH, EACCES (prohibit), EINVAL (blackhole): not reachable is an answer.
            Err(error) => {
                return match error.as_io_error().raw_os_error() {
                    Some(101 | 113 | 13 | 22) => Ok(None),
                    _ => Err(refused(what(), error)),
                };
            }
        };
        Ok(self.decode(&raw))
    }

    fn addresses(&mut self, device: &str) -> Result<Vec<(IpAddr, u8)>, HostError> {
        let index = self.device_index(device)?;
        let what = || format!("addresses of {device}");
        let request = rt_addr::Request::new().op_getaddr_dump(&Ifaddrmsg::new());
        let mut reply = self.socket.request(&request).map_err(|error| refused(what(), error))?;
        let mut found = Vec::new();
        while let Some((header, attributes)) =
            reply.recv().transpose().map_err(|error| refused(what(), error))?
        {
            if header.ifa_index != index {
                continue;
            }
            // IPv4 tells its own address apart from the peer's; IPv6 has only one attribute.
            if let Ok(address) = attributes.get_local().or_else(|_| attributes.get_address()) {
                found.push((address, header.ifa_prefixlen));
            }
        }
        Ok(found)
    }

    fn set_dns(&mut self, device: &str, settings: &DnsSettings) -> Result<DnsUndo, HostError> {
        let undo = DnsBackend::detect()?.set(device, settings)?;
        self.resolv_conf = undo.keep();
        Ok(undo)
    }

    fn unset_dns(&mut self, undo: &DnsUndo) -> Result<(), HostError> {
        undo.run_with(self.resolv_conf.take())
    }
}

fn family_code(family: Family) -> u8 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

pub(crate) fn refused(what: String, error: impl Into<ReplyError>) -> HostError {
    let error = error.into();
    let detail = error
        .ext_ack()
        .and_then(|attributes| attributes.get_msg().ok())
        .map(|text| text.to_string_lossy().into_owned());
    HostError::Refused { what, detail, source: io::Error::from(error) }
}
