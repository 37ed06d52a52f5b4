//! Rewriting addresses of IPv4 packets one to one (`client-nat`).
//!
//! Checksums are corrected by what changed (RFC 1624): what was wrong stays wrong. ICMP has none over addresses; the
//! packet within an ICMP error is left alone, as by OpenVPN.

use culvert_offload::{NatEnd, NatRule};

use super::{
    TCP, UDP,
    ip::{self, Version},
};

/// Where the addresses stand in an IPv4 header.
const SOURCE: usize = 12;
const DESTINATION: usize = 16;
/// Where its checksum stands.
const HEADER_CHECKSUM: usize = 10;

/// Rules, at least one.
#[derive(Debug)]
pub(crate) struct Nat(Box<[NatRule]>);

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the tunnel.
    Out,
    /// Out of it.
    In,
}

impl Nat {
    /// `None`: there is nothing to rewrite.
    pub(crate) fn new(rules: &[NatRule]) -> Option<Self> {
        (!rules.is_empty()).then(|| Self(rules.into()))
    }

    /// Rewrites the addresses of a packet whose checksums are complete.
    pub(crate) fn rewrite(&self, packet: &mut [u8], way: Way) {
        if ip::version(packet) != Some(Version::V4) {
            return;
        }
        let mut delta = Delta::default();
        let (mut source_done, mut destination_done) = (false, false);
        for rule in &self.0 {
            let (from, to) = match way {
                Way::Out => (rule.network, rule.alias),
                Way::In => (rule.alias, rule.network),
            };
            let is_source = (rule.end == NatEnd::Source) == (way == Way::Out);
            let (done, at) =
                if is_source { (&mut source_done, SOURCE) } else { (&mut destination_done, DESTINATION) };
            let old = u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
            let mask = rule.netmask.to_bits();
            if *done || old & mask != from.to_bits() {
                continue;
            }
            let new = old & !mask | to.to_bits();
            packet[at..at + 4].copy_from_slice(&new.to_be_bytes());
            delta.replace(old, new);
            *done = true;
        }
        if source_done || destination_done {
            delta.apply(&mut packet[HEADER_CHECKSUM..]);
            correct_transport(packet, delta);
        }
    }
}

/// Corrects the checksum of TCP or UDP, which has the addresses in it. Of a datagram in pieces, the first has it.
fn correct_transport(packet: &mut [u8], delta: Delta) {
    let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1FFF;
    if offset > 0 {
        return;
    }
    let start = usize::from(packet[0] & 0x0F) * 4;
    let at = match packet[9] {
        TCP => start + 16,
        UDP => start + 6,
        _ => return,
    };
    let is_udp = packet[9] == UDP;
    let Some(checksum) = packet.get_mut(at..).filter(|rest| start >= ip::IPV4_LEN && rest.len() >= 2) else {
        return;
    };
    if is_udp && checksum[..2] == [0, 0] {
        return; // there is none
    }
    delta.apply(checksum);
    if is_udp && checksum[..2] == [0, 0] {
        checksum[..2].fill(0xFF);
    }
}

/// What a sum gains when words are replaced: the sum of `~old + new`, not folded.
#[derive(Clone, Copy, Debug, Default)]
struct Delta(u32);

impl Delta {
    /// At most two addresses of two words are replaced: far from an overflow.
    fn replace(&mut self, old: u32, new: u32) {
        for number in [!old, new] {
            self.0 += (number >> 16) + (number & 0xFFFF);
        }
    }

    /// RFC 1624, equation 3: `HC' = ~(~HC + ~m + m')`, at the beginning of `bytes`.
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    fn apply(self, bytes: &mut [u8]) {
        let mut sum = u32::from(!u16::from_be_bytes([bytes[0], bytes[1]])) + self.0;
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        bytes[..2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::packet::{
        ip::{Transport, is_sound},
        segment_tests::finish,
    };

    fn rule(end: NatEnd, network: [u8; 4], bits: u32, alias: [u8; 4]) -> NatRule {
        let netmask = Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - bits).unwrap_or(0));
        NatRule { end, network: network.into(), netmask, alias: alias.into() }
    }

    fn packet(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let header: usize = if protocol == TCP { 20 } else { 8 };
        let mut packet = vec![0; 20 + header];
        packet.extend_from_slice(payload);
        packet[0] = 0x45;
        let len = u16::try_from(packet.len()).unwrap();
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&destination);
        if protocol == TCP {
            packet[32] = 0x50;
        } else {
            packet[24..26].copy_from_slice(&(len - 20).to_be_bytes());
        }
        finish(&mut packet);
        packet
    }

    fn addresses(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
        let at = |at: usize| Ipv4Addr::from(*packet[at..].first_chunk::<4>().unwrap());
        (at(SOURCE), at(DESTINATION))
    }

    /// The rewriting, told bit by bit of `ADDRESS/MASK` in text.
    fn plain(address: Ipv4Addr, (from, mask, to): (Ipv4Addr, Ipv4Addr, Ipv4Addr)) -> Option<Ipv4Addr> {
        let bits = |ip: Ipv4Addr| format!("{:032b}", ip.to_bits());
        let (address, from, mask, to) = (bits(address), bits(from), bits(mask), bits(to));
        let each = || address.chars().zip(from.chars()).zip(mask.chars()).zip(to.chars());
        let fits = each().all(|(((a, f), m), _)| (if m == '1' { a } else { '0' }) == f);
        let new = each().map(|(((a, _), m), t)| if m == '0' && a == '1' || t == '1' { '1' } else { '0' });
        fits.then(|| Ipv4Addr::from_bits(u32::from_str_radix(&new.collect::<String>(), 2).unwrap()))
    }

    #[test]
    fn each_kind_rewrites_one_end_and_the_other_on_the_way_back() {
        let snat = Nat::new(&[rule(NatEnd::Source, [192, 168, 0, 0], 16, [10, 64, 0, 0])]).unwrap();
        let dnat = Nat::new(&[rule(NatEnd::Destination, [10, 64, 0, 0], 16, [192, 168, 0, 0])]).unwrap();
        let after = |nat: &Nat, way, source, destination| {
            let mut packet = packet(UDP, source, destination, b"x");
            nat.rewrite(&mut packet, way);
            addresses(&packet)
        };
        let (here, there, alias) = ([192, 168, 1, 2], [10, 8, 0, 1], [10, 64, 1, 2]);
        assert_eq!(after(&snat, Way::Out, here, there), (alias.into(), there.into()));
        assert_eq!(after(&snat, Way::In, there, alias), (there.into(), here.into()));
        assert_eq!(after(&snat, Way::Out, there, here), (there.into(), here.into()), "not the destination");
        assert_eq!(after(&dnat, Way::Out, there, alias), (there.into(), here.into()));
        assert_eq!(after(&dnat, Way::In, here, there), (alias.into(), there.into()));
    }

    #[test]
    fn the_first_rule_that_fits_an_address_decides() {
        let rules = [
            rule(NatEnd::Source, [10, 1, 0, 0], 16, [10, 2, 0, 0]),
            rule(NatEnd::Source, [10, 2, 0, 0], 16, [10, 3, 0, 0]),
            rule(NatEnd::Source, [10, 1, 0, 9], 32, [10, 4, 0, 0]),
        ];
        let mut packet = packet(TCP, [10, 1, 0, 9], [10, 1, 0, 9], b"");
        Nat::new(&rules).unwrap().rewrite(&mut packet, Way::Out);
        assert_eq!(addresses(&packet), ([10, 2, 0, 9].into(), [10, 1, 0, 9].into()));
    }

    #[test]
    fn a_datagram_without_checksum_stays_without_and_later_pieces_have_none() {
        let nat = Nat::new(&[rule(NatEnd::Source, [10, 1, 0, 0], 16, [10, 2, 0, 0])]).unwrap();
        let mut without = packet(UDP, [10, 1, 0, 1], [10, 8, 0, 1], b"payload");
        without[26..28].fill(0);
        nat.rewrite(&mut without, Way::Out);
        assert_eq!(without[26..28], [0, 0]);
        let mut piece = packet(UDP, [10, 1, 0, 1], [10, 8, 0, 1], b"payload");
        piece[6..8].copy_from_slice(&[0, 5]);
        let payload = piece[20..].to_vec();
        nat.rewrite(&mut piece, Way::Out);
        assert_eq!(piece[20..], payload);
        assert_eq!(addresses(&piece).0, Ipv4Addr::new(10, 2, 0, 1));
    }

    fn any_rule() -> impl Strategy<Value = NatRule> {
        // Few networks, so that they fit.
        (any::<bool>(), 0_u32..=32, 0_u8..4, any::<[u8; 4]>()).prop_map(|(source, bits, network, alias)| {
            let end = if source { NatEnd::Source } else { NatEnd::Destination };
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let network = (u32::from_be_bytes([10, network, 0, 0]) & mask).to_be_bytes();
            rule(end, network, bits, alias)
        })
    }

    proptest! {
        #[test]
        fn addresses_are_those_of_a_plain_rewriting_and_checksums_right(
            rules in prop::collection::vec(any_rule(), 1..4),
            out in any::<bool>(),
            tcp in any::<bool>(),
            ends in any::<[(u8, u8); 2]>(),
            payload in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let [source, destination] = ends.map(|(a, b)| [10, a % 4, 0, b]);
            let mut packet = packet(if tcp { TCP } else { UDP }, source, destination, &payload);
            let mut expected = [Ipv4Addr::from(source), Ipv4Addr::from(destination)];
            for end in [0, 1] {
                let of_end = rules.iter().filter(|rule| ((rule.end == NatEnd::Source) == out) == (end == 0));
                let new = of_end.filter_map(|rule| {
                    let (from, to) = if out { (rule.network, rule.alias) } else { (rule.alias, rule.network) };
                    plain(expected[end], (from, rule.netmask, to))
                }).next();
                expected[end] = new.unwrap_or(expected[end]);
            }
            Nat::new(&rules).unwrap().rewrite(&mut packet, if out { Way::Out } else { Way::In });
            prop_assert_eq!(addresses(&packet), (expected[0], expected[1]));
            prop_assert!(is_sound(&packet, Version::V4));
            prop_assert!(Transport::find(&packet).unwrap().is_valid(&packet));
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), first in 0x40_u8..0x50) {
            let nat = Nat::new(&[rule(NatEnd::Source, [0; 4], 0, [1, 2, 3, 4])]).unwrap();
            nat.rewrite(&mut bytes, Way::Out);
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            nat.rewrite(&mut bytes, Way::Out);
        }
    }
}
