//! TCP connections that have not authenticated themselves: how many there may be (SEC-CTL-11).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use super::listeners::ListenerId;

/// Streams of strangers at a time.
const MAX_IN_ALL: usize = 1024;
/// Streams that every IPv4 address or IPv6 /64 may have. It may have more while there are fewer than [`CROWD`] in all: a
/// site behind one address reconnects at once, and leaves most places to others.
const MAX_PER_PREFIX: usize = 16;
/// Streams of strangers from which on each prefix has its limit.
const CROWD: usize = 256;

/// The streams of strangers, with the prefixes that they come from.
#[derive(Debug, Default)]
pub(super) struct Strangers(HashMap<ListenerId, IpAddr>);

impl Strangers {
    /// Whether one more may come from this address.
    pub(super) fn has_room(&self, from: IpAddr) -> bool {
        let prefix = prefix(from);
        let of_prefix = || self.0.values().filter(|&&other| other == prefix).count();
        self.0.len() < CROWD || self.0.len() < MAX_IN_ALL && of_prefix() < MAX_PER_PREFIX
    }

    /// A stream was accepted.
    pub(super) fn add(&mut self, stream: ListenerId, from: IpAddr) {
        self.0.insert(stream, prefix(from));
    }

    /// A stream is over, or no longer a stranger's.
    pub(super) fn forget(&mut self, stream: ListenerId) {
        self.0.remove(&stream);
    }
}

fn prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(streams: u64, from: impl Fn(u64) -> IpAddr) -> Strangers {
        let mut strangers = Strangers::default();
        for n in 0..streams {
            assert!(strangers.has_room(from(n)), "stream {n}");
            strangers.add(ListenerId(n), from(n));
        }
        strangers
    }

    #[test]
    fn sec_ctl_11_a_prefix_cannot_have_all_streams_and_others_are_not_affected() {
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        let mut strangers = filled(256, |_| host);
        assert!(!strangers.has_room(host));
        assert!(!strangers.has_room("::ffff:192.0.2.1".parse().unwrap()));
        assert!(strangers.has_room("192.0.2.2".parse().unwrap()));
        strangers.forget(ListenerId(3));
        assert!(strangers.has_room(host));
    }

    #[test]
    fn sec_ctl_11_where_it_is_crowded_a_prefix_has_sixteen_streams() {
        let others = |n: u64| IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()));
        let mut strangers = filled(256, others);
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        for n in 256..272 {
            assert!(strangers.has_room(host), "stream {n}");
            strangers.add(ListenerId(n), host);
        }
        assert!(!strangers.has_room(host));
    }

    #[test]
    fn sec_ctl_11_addresses_of_one_ipv6_64_share() {
        let address = |n: u64| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(n)));
        let strangers = filled(256, address);
        assert!(!strangers.has_room(address(999)));
        assert!(strangers.has_room("2001:db8:0:1::1".parse().unwrap()));
    }

    #[test]
    fn sec_ctl_11_there_are_1024_strangers_in_all() {
        let address = |n: u64| IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()));
        let strangers = filled(1024, address);
        assert!(!strangers.has_room(address(5000)));
    }
}
