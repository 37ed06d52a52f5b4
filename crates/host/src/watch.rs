//! Follows the routes that somebody else puts on a tunnel device.
//!
//! With a kernel that carries the data packets, an administrator can say `ip route add NETWORK via CLIENT` and the
//! client gets the network. A userspace data plane does the same when it is told: this asks the kernel for such routes,
//! and tells when to ask again. What culvert made itself is left out.
//!
//! The kernel does not announce every IPv4 route that goes: those of a device that is brought down, or whose source
//! address is removed, vanish silently. News of links and addresses therefore count as well.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

use culvert_sys::{NetlinkFamily, NetlinkSocket};
use netlink_bindings::{
    builtin::Nlmsghdr,
    rt_link::Ifinfomsg,
    rt_route::{self, Rtmsg},
    utils,
};

use crate::{
    Family, HostError,
    netlink::{AF_INET, AF_INET6, RTM_F_CLONED, RTN_UNICAST, RTPROT_CULVERT, refused},
};

// linux/rtnetlink.h, linux/netlink.h
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLM_F_REPLACE: u16 = 0x100;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTNH_F_DEAD: u8 = 1;

/// Bytes of `struct rtnexthop`: length, flags, weight, device.
const NEXT_HOP_HEADER: usize = 8;
/// A datagram of news; the kernel's are below 4096 bytes unless a route has hundreds of next hops.
const BUFFER: usize = 16 * 1024;
/// Bytes of news that may wait; more is reported as lost, which costs one question.
const QUEUE: u32 = 1024 * 1024;
/// Datagrams taken at a time, so that a storm of other routes cannot hold up the caller.
const ROUND: usize = 4096;

/// A network that is reached through a gateway behind the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ViaRoute {
    /// The network (host bits are zero).
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The next hop: an address of the VPN. May be IPv6 for an IPv4 network (RFC 5549).
    pub gateway: IpAddr,
}

/// The routes through one device, in the network namespace of the thread that opened it.
pub struct RouteWatch {
    index: u32,
    requests: netlink_socket2::NetlinkSocket,
    news: NetlinkSocket,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for RouteWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteWatch").field("index", &self.index).finish_non_exhaustive()
    }
}

impl RouteWatch {
    /// Begins to listen. Needs no privilege. The caller asks for [`RouteWatch::routes`] once, then whenever the
    /// descriptor is readable and [`RouteWatch::drain`] says so.
    ///
    /// # Errors
    /// When the kernel gives no netlink socket.
    pub fn open(ifindex: u32) -> Result<Self, HostError> {
        let failed = |source| HostError::Refused {
            what: "subscription to route changes".to_owned(),
            detail: None,
            source,
        };
        let news = NetlinkSocket::open(NetlinkFamily::Route).map_err(failed)?;
        news.set_recv_buffer(QUEUE).map_err(failed)?;
        for group in [RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_IFADDR, RTNLGRP_LINK] {
            news.join(group).map_err(failed)?;
        }
        let requests = netlink_socket2::NetlinkSocket::new();
        let mut watch = Self { index: ifindex, requests, news, buffer: vec![0; BUFFER] };
        // The library opens its socket at the first request: here, where the namespace is the caller's.
        watch.routes()?;
        Ok(watch)
    }

    /// Returns the unicast routes of all tables that lead through the device to a gateway and were not made by culvert,
    /// sorted and without duplicates. Reads all routes of the namespace.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn routes(&mut self) -> Result<Vec<ViaRoute>, HostError> {
        let mut found = BTreeSet::new();
        for family in [AF_INET, AF_INET6] {
            let what = || "list of routes".to_owned();
            let header = Rtmsg { rtm_family: family, ..Rtmsg::default() };
            let request = rt_route::Request::new().op_getroute_dump(&header);
            let mut reply = self.requests.request(&request).map_err(|error| refused(what(), error))?;
            while let Some((header, attributes)) =
                reply.recv().transpose().map_err(|error| refused(what(), error))?
            {
                if header.rtm_family == family {
                    collect(self.index, &header, attributes.get_buf(), &mut found);
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Takes the news that wait, without waiting for more; returns whether [`RouteWatch::routes`] could have changed.
    /// Some may be left over under a storm of news: the descriptor stays readable then.
    pub fn drain(&mut self) -> bool {
        let mut concerned = false;
        for _ in 0..ROUND {
            match self.news.try_recv(&mut self.buffer) {
                Ok(len) => concerned |= self.buffer.get(..len).is_none_or(|news| concerns(self.index, news)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Some were lost, or were too long to read.
                Err(_) => concerned = true,
            }
        }
        concerned
    }
}

/// Readable when [`RouteWatch::drain`] has something to do.
impl AsFd for RouteWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// Whether one of the messages can concern routes through a device.
fn concerns(index: u32, mut news: &[u8]) -> bool {
    while let Some((bytes, _)) = news.split_at_checked(Nlmsghdr::len()) {
        let Some(header) = Nlmsghdr::new_from_slice(bytes) else { return true };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        // What cannot be read may have said anything.
        let Some(payload) = news.get(Nlmsghdr::len()..len) else { return true };
        let concerned = match header.r#type {
            // The route that was replaced may have led through the device; only the new one is told.
            RTM_NEWROUTE if header.flags & NLM_F_REPLACE != 0 => true,
            RTM_NEWROUTE | RTM_DELROUTE => {
                payload.split_at_checked(Rtmsg::len()).is_none_or(|(header, attributes)| {
                    Rtmsg::new_from_slice(header).is_none_or(|header| {
                        is_foreign(&header)
                            && next_hops(&header, attributes).any(|hop| hop.device == Some(index))
                    })
                })
            }
            RTM_NEWLINK | RTM_DELLINK => {
                let header = payload.get(..Ifinfomsg::len()).and_then(Ifinfomsg::new_from_slice);
                header.is_none_or(|header| u32::try_from(header.ifi_index) == Ok(index))
            }
            RTM_DELADDR => true,
            _ => false,
        };
        if concerned {
            return true;
        }
        news = news.get(utils::nla_align_up(len)..).unwrap_or_default();
    }
    false
}

/// Adds what a route sends to gateways behind a device.
fn collect(index: u32, header: &Rtmsg, attributes: &[u8], found: &mut BTreeSet<ViaRoute>) {
    if !is_foreign(header) || header.rtm_flags & RTM_F_CLONED != 0 {
        return;
    }
    let any = if header.rtm_family == AF_INET { Family::V4.any() } else { Family::V6.any() };
    let Some(network) = utils::find_attr(attributes, RTA_DST).map_or(Some(any), utils::parse_ip) else {
        return;
    };
    let through = next_hops(header, attributes).filter(|hop| hop.device == Some(index) && !hop.dead);
    found.extend(
        through
            .filter_map(|hop| Some(ViaRoute { network, prefix: header.rtm_dst_len, gateway: hop.gateway? })),
    );
}

/// Whether a message is about a unicast route that culvert did not make.
fn is_foreign(header: &Rtmsg) -> bool {
    header.rtm_type == RTN_UNICAST && header.rtm_protocol != RTPROT_CULVERT
}

struct NextHop {
    device: Option<u32>,
    gateway: Option<IpAddr>,
    dead: bool,
}

/// Returns the next hop of a route, or all of a route that has several.
///
/// Attributes are searched here and not through the library's view, which stops at an IPv6 gateway of an IPv4 route.
fn next_hops<'a>(header: &Rtmsg, attributes: &'a [u8]) -> impl Iterator<Item = NextHop> + 'a {
    let device = utils::find_attr(attributes, RTA_OIF).and_then(utils::parse_u32);
    let dead = header.rtm_flags & u32::from(RTNH_F_DEAD) != 0;
    let single = NextHop { device, gateway: gateway(attributes), dead };
    let mut rest = utils::find_attr(attributes, RTA_MULTIPATH).unwrap_or_default();
    // linux/rtnetlink.h: struct rtnexthop { u16 len; u8 flags; u8 hops; int ifindex }, then attributes.
    let several = std::iter::from_fn(move || {
        let len = usize::from(utils::parse_u16(rest)?);
        let hop = rest.get(..len)?;
        let (fixed, attributes) = hop.split_at_checked(NEXT_HOP_HEADER)?;
        rest = rest.get(utils::nla_align_up(len)..).unwrap_or_default();
        Some(NextHop {
            device: fixed.get(4..).and_then(utils::parse_u32),
            gateway: gateway(attributes),
            dead: fixed.get(2).is_some_and(|flags| flags & RTNH_F_DEAD != 0),
        })
    });
    std::iter::once(single).chain(several)
}

fn gateway(attributes: &[u8]) -> Option<IpAddr> {
    // struct rtvia: a family of two bytes, then the address.
    let via = || utils::find_attr(attributes, RTA_VIA)?.get(2..).and_then(utils::parse_ip);
    utils::find_attr(attributes, RTA_GATEWAY).and_then(utils::parse_ip).or_else(via)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        utils::push_header(&mut bytes, kind, u16::try_from(value.len()).expect("short"));
        bytes.extend_from_slice(value);
        utils::align(&mut bytes);
        bytes
    }

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(Nlmsghdr::len() + payload.len()).expect("short");
        let header = Nlmsghdr { len, r#type: kind, flags, seq: 0, pid: 0 };
        [header.as_slice(), payload].concat()
    }

    fn route(protocol: u8, attributes: &[u8]) -> Vec<u8> {
        let header = Rtmsg {
            rtm_family: AF_INET,
            rtm_dst_len: 8,
            rtm_type: RTN_UNICAST,
            rtm_protocol: protocol,
            ..Rtmsg::default()
        };
        [header.as_slice(), attributes].concat()
    }

    #[test]
    fn news_concern_a_device_when_its_routes_may_have_changed() {
        let through = |device: u32| attribute(RTA_OIF, &device.to_ne_bytes());
        assert!(concerns(7, &message(RTM_NEWROUTE, 0, &route(4, &through(7)))));
        assert!(concerns(7, &message(RTM_DELROUTE, 0, &route(4, &through(7)))));
        assert!(!concerns(7, &message(RTM_NEWROUTE, 0, &route(4, &through(8)))));
        assert!(!concerns(7, &message(RTM_NEWROUTE, 0, &route(RTPROT_CULVERT, &through(7)))));
        assert!(concerns(7, &message(RTM_NEWROUTE, NLM_F_REPLACE, &route(4, &through(8)))));
        let two = [message(3, 0, &[]), message(RTM_NEWROUTE, 0, &route(4, &through(7)))].concat();
        assert!(concerns(7, &two));
        assert!(concerns(7, &two[..two.len() - 1]), "what is cut short may have said anything");
        assert!(!concerns(7, &[]));
    }

    #[test]
    fn each_next_hop_through_the_device_counts() {
        let hop = |device: u32, flags: u8, attributes: &[u8]| {
            let len = u16::try_from(NEXT_HOP_HEADER + attributes.len()).expect("short");
            [&len.to_ne_bytes()[..], &[flags, 0], &device.to_ne_bytes(), attributes].concat()
        };
        let hops = [
            hop(7, 0, &attribute(RTA_GATEWAY, &[10, 8, 0, 2])),
            hop(8, 0, &attribute(RTA_GATEWAY, &[10, 8, 0, 3])),
            hop(7, RTNH_F_DEAD, &attribute(RTA_GATEWAY, &[10, 8, 0, 4])),
            hop(7, 0, &[]),
            vec![200, 0, 0, 0],
        ]
        .concat();
        let attributes = [attribute(RTA_DST, &[172, 16, 0, 0]), attribute(RTA_MULTIPATH, &hops)].concat();
        let mut found = BTreeSet::new();
        let bytes = route(4, &attributes);
        let header = Rtmsg::new_from_slice(&bytes[..Rtmsg::len()]).expect("a header");
        collect(7, &header, &attributes, &mut found);
        let expected = ViaRoute { network: [172, 16, 0, 0].into(), prefix: 8, gateway: [10, 8, 0, 2].into() };
        assert_eq!(found, BTreeSet::from([expected]));
    }
}
