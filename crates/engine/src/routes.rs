//! Longest-prefix match, flattened: disjoint ranges in order, found by bisection.
//!
//! Built whole from the prefixes by the calls, read without locks by the workers. Thousands of host routes and a few
//! networks are the usual contents: a bisection over them stays in the cache, and building is one pass.

use std::net::IpAddr;

use culvert_wire::PeerId;

/// An immutable table from address to peer.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// Where each range starts, and whose it is; a range ends where the next starts.
#[derive(Debug, Default)]
struct Ranges<T> {
    starts: Vec<T>,
    owners: Vec<Option<PeerId>>,
}

impl Routes {
    /// The peer of the longest prefix that holds the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(ip) => self.v4.find(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.find(ip.to_bits()),
        }
    }
}

impl FromIterator<((IpAddr, u8), PeerId)> for Routes {
    /// Takes prefixes without host bits, each at most once, in any order.
    fn from_iter<I: IntoIterator<Item = ((IpAddr, u8), PeerId)>>(prefixes: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ((address, len), peer) in prefixes {
            match address {
                IpAddr::V4(ip) => {
                    let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                    v4.push((ip.to_bits(), ip.to_bits() | host, peer));
                }
                IpAddr::V6(ip) => {
                    let host = u128::MAX.checked_shr(len.into()).unwrap_or(0);
                    v6.push((ip.to_bits(), ip.to_bits() | host, peer));
                }
            }
        }
        Self { v4: Ranges::flatten(v4, |n| n.checked_add(1)), v6: Ranges::flatten(v6, |n| n.checked_add(1)) }
    }
}

impl<T: Copy + Ord> Ranges<T> {
    /// Flattens nested intervals: `(first, last, owner)`, any two either nested or disjoint.
    fn flatten(mut intervals: Vec<(T, T, PeerId)>, after: impl Fn(T) -> Option<T>) -> Self {
        intervals.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut ranges = Self { starts: Vec::new(), owners: Vec::new() };
        let mut open: Vec<(T, PeerId)> = Vec::new();
        for (first, last, owner) in intervals {
            ranges.close(&mut open, Some(first), &after);
            ranges.push(first, Some(owner));
            open.push((last, owner));
        }
        ranges.close(&mut open, None, &after);
        ranges
    }

    /// Ends the open intervals that end before `until`, innermost first.
    fn close(&mut self, open: &mut Vec<(T, PeerId)>, until: Option<T>, after: &impl Fn(T) -> Option<T>) {
        while let Some((last, _)) = open.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
            let outer = open.last().map(|(_, owner)| *owner);
            if let Some(start) = after(last) {
                self.push(start, outer);
            }
        }
    }

    fn push(&mut self, start: T, owner: Option<PeerId>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.owners.pop();
        }
        self.starts.push(start);
        self.owners.push(owner);
    }

    fn find(&self, address: T) -> Option<PeerId> {
        let after = self.starts.partition_point(|start| *start <= address);
        *self.owners.get(after.checked_sub(1)?)?
    }
}

/// A prefix without host bits; a length beyond the address counts as a host.
pub(crate) fn masked((address, len): (IpAddr, u8)) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(ip) => {
            let len = len.min(32);
            let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            (std::net::Ipv4Addr::from_bits(ip.to_bits() & !host).into(), len)
        }
        IpAddr::V6(ip) => {
            let len = len.min(128);
            let host = u128::MAX.checked_shr(len.into()).unwrap_or(0);
            (std::net::Ipv6Addr::from_bits(ip.to_bits() & !host).into(), len)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn naive(prefixes: &BTreeMap<(IpAddr, u8), PeerId>, address: IpAddr) -> Option<PeerId> {
        (0..=128_u8).rev().find_map(|len| {
            let fits = len <= if address.is_ipv4() { 32 } else { 128 };
            fits.then(|| prefixes.get(&masked((address, len))).copied()).flatten()
        })
    }

    /// Addresses whose bits are all in the first and last byte, so that prefixes nest and touch the ends.
    fn address() -> impl Strategy<Value = IpAddr> {
        let byte = prop_oneof![Just(0_u8), Just(255), 0..8_u8, 248..=255_u8];
        (byte.clone(), byte, any::<bool>(), any::<bool>()).prop_map(|(a, d, fill, v6)| {
            let mid = if fill { 255 } else { 0 };
            if v6 {
                let mut octets = [mid; 16];
                (octets[0], octets[15]) = (a, d);
                IpAddr::from(octets)
            } else {
                IpAddr::from([a, mid, mid, d])
            }
        })
    }

    proptest! {
        #[test]
        fn the_table_finds_what_a_search_from_longest_to_shortest_finds(
            prefixes in prop::collection::vec((address(), 0..=128_u8), 0..40),
            probes in prop::collection::vec(address(), 1..40),
        ) {
            let prefixes: BTreeMap<_, _> = prefixes
                .into_iter()
                .zip(0_u32..)
                .map(|(prefix, n)| (masked(prefix), PeerId::new(n).unwrap()))
                .collect();
            let routes: Routes = prefixes.iter().map(|(p, id)| (*p, *id)).collect();
            for probe in probes.into_iter().chain(prefixes.keys().map(|(address, _)| *address)) {
                prop_assert_eq!(routes.find(probe), naive(&prefixes, probe), "{}", probe);
            }
        }
    }
}
