//! Whether what was delivered is what was sent.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    TCP, cut,
    headers::{Parts, get16, has_valid_header, has_valid_transport, put16, renew_header_checksum},
};

/// A packet that came out of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Its bytes.
    pub packet: Vec<u8>,
    /// It came as part of a super-packet, or may have: then [`canonical`] forms are compared.
    pub joined: bool,
}

/// What the kernel makes of a frame that was written to its device.
///
/// # Errors
/// When it would make nothing of it.
pub fn deliver(frame: &[u8]) -> Result<Vec<Delivered>, String> {
    let packets = cut(frame)?;
    let joined = packets.len() > 1;
    Ok(packets.into_iter().map(|packet| Delivered { packet, joined }).collect())
}

/// The packet without what a kernel's own joining and cutting does not keep, which is all that may differ:
///
/// - the id of an IPv4 packet with don't-fragment, where it means nothing (RFC 6864): counted up while cutting;
/// - how zero is written in the checksum of TCP and of the IPv4 header, 0x0000 or 0xFFFF: both are right.
///
/// Wrong checksums stay as they are: a packet whose damage was repaired on the way is another packet.
#[must_use]
pub fn canonical(packet: &[u8]) -> Vec<u8> {
    let mut out = with_one_zero(packet);
    if Parts::find(packet).is_some_and(|parts| !parts.v6) && packet[6] & 0x40 != 0 && has_valid_header(packet)
    {
        put16(&mut out, 4, 0);
        renew_header_checksum(&mut out);
    }
    out
}

/// The packet with zero written in one way, the second of what [`canonical`] names.
#[must_use]
pub fn with_one_zero(packet: &[u8]) -> Vec<u8> {
    let mut out = packet.to_vec();
    let Some(parts) = Parts::find(packet) else { return out };
    if !parts.v6 && has_valid_header(packet) {
        renew_header_checksum(&mut out);
    }
    let at = parts.checksum_at();
    if parts.protocol == TCP && get16(packet, at) == 0xFFFF && has_valid_transport(packet) {
        put16(&mut out, at, 0);
    }
    out
}

/// Compares flow by flow: the same packets, byte by byte, in the same order. Flows may overtake each other.
///
/// # Errors
/// The first difference.
pub fn compare(sent: &[Vec<u8>], delivered: &[Delivered]) -> Result<(), String> {
    let mut expected: BTreeMap<Flow, Vec<&Vec<u8>>> = BTreeMap::new();
    for packet in sent {
        expected.entry(Flow::of(packet)).or_default().push(packet);
    }
    let mut came: BTreeMap<Flow, Vec<&Delivered>> = BTreeMap::new();
    for packet in delivered {
        came.entry(Flow::of(&packet.packet)).or_default().push(packet);
    }
    for (flow, expected) in &expected {
        let came = came.remove(flow).unwrap_or_default();
        for (index, (sent, got)) in expected.iter().zip(&came).enumerate() {
            if !is_same(sent, got) {
                return Err(format!(
                    "packet {index} of {flow:?} is another:\n  sent {sent:02x?}\n  came {got:02x?}"
                ));
            }
        }
        if expected.len() != came.len() {
            return Err(format!("{} of {} packets of {flow:?}", came.len(), expected.len()));
        }
    }
    match came.first_key_value() {
        None => Ok(()),
        Some((flow, packets)) => Err(format!("never sent: {flow:?}: {:02x?}", packets.first())),
    }
}

/// Compares where packets may be lost: nothing came that was not sent, nothing came twice, and within each flow nothing
/// came out of order, if the network keeps order.
///
/// # Errors
/// The first packet that should not have come, or not then.
pub fn compare_lossy(sent: &[Vec<u8>], delivered: &[Vec<u8>], in_order: bool) -> Result<(), String> {
    // Places of equal packets, of which there are few: those without payload.
    let mut places: BTreeMap<Vec<u8>, BTreeSet<usize>> = BTreeMap::new();
    for (place, packet) in sent.iter().enumerate() {
        places.entry(canonical(packet)).or_default().insert(place);
    }
    let mut last: BTreeMap<Flow, usize> = BTreeMap::new();
    for packet in delivered {
        let next = if in_order { last.get(&Flow::of(packet)).map_or(0, |last| last + 1) } else { 0 };
        let left = places.get_mut(&canonical(packet)).ok_or_else(|| format!("never sent: {packet:02x?}"))?;
        let Some(place) = left.range(next..).next().copied() else {
            let when = if left.is_empty() { "twice" } else { "late" };
            return Err(format!("came {when}: {packet:02x?}"));
        };
        left.remove(&place);
        last.insert(Flow::of(packet), place);
    }
    Ok(())
}

fn is_same(sent: &[u8], got: &Delivered) -> bool {
    sent == got.packet || (got.joined && canonical(sent) == canonical(&got.packet))
}

/// What the order of packets is kept within: protocol, addresses and ports. Packets without ports (fragments, other
/// protocols, broken headers) are told apart by addresses alone; what is not IP is one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    addresses: Vec<u8>,
    protocol: u8,
    ports: Option<[u8; 4]>,
}

impl Flow {
    fn of(packet: &[u8]) -> Self {
        let (addresses, protocol) = match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.len() >= 20 => (packet[12..20].to_vec(), packet[9]),
            Some(6) if packet.len() >= 40 => (packet[8..40].to_vec(), packet[6]),
            _ => (Vec::new(), 0),
        };
        let ports = Parts::find(packet).and_then(|parts| packet.get(parts.ip..)?.first_chunk::<4>().copied());
        Self { addresses, protocol, ports }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inner::{Mix, finish};

    /// Some well-formed packets of several flows.
    fn packets() -> Vec<Vec<u8>> {
        let choices: Vec<u8> = (0..60).flat_map(|n: u8| [n, 141, n]).collect();
        Mix::hostile(&choices, 1500).collect()
    }

    fn whole(packets: &[Vec<u8>]) -> Vec<Delivered> {
        packets.iter().map(|packet| Delivered { packet: packet.clone(), joined: true }).collect()
    }

    #[test]
    fn the_same_packets_are_the_same() {
        let sent = packets();
        assert_eq!(compare(&sent, &whole(&sent)), Ok(()));
    }

    #[test]
    fn every_way_to_be_another_stream_is_noticed() {
        let sent = packets();
        let good = whole(&sent);
        let spoilt = |spoil: &dyn Fn(&mut Vec<Delivered>)| {
            let mut came = good.clone();
            spoil(&mut came);
            compare(&sent, &came).is_err()
        };
        assert!(spoilt(&|came| drop(came.pop())), "one is missing");
        assert!(spoilt(&|came| came.push(came[0].clone())), "one came twice");
        assert!(spoilt(&|came| came[3].packet[1] ^= 4), "another TOS, and a wrong checksum with it");
        assert!(spoilt(&|came| {
            came[3].packet[8] ^= 1;
            finish(&mut came[3].packet);
        }));
        assert!(spoilt(&|came| {
            let flow = Flow::of(&came[0].packet);
            let last = came.iter().rposition(|other| Flow::of(&other.packet) == flow).unwrap();
            came.swap(0, last); // out of order in a flow
        }));
    }

    #[test]
    fn loss_is_allowed_where_it_is_and_nothing_else() {
        let sent = packets();
        let some: Vec<_> = sent.iter().step_by(3).cloned().collect();
        assert_eq!(compare_lossy(&sent, &some, true), Ok(()));
        let twice = [&some[..], &some[..1]].concat();
        assert!(compare_lossy(&sent, &twice, false).is_err());
        let mut another = some.clone();
        *another[2].last_mut().unwrap() ^= 1;
        assert!(compare_lossy(&sent, &another, false).is_err());
        let backwards: Vec<_> = some.into_iter().rev().collect();
        assert!(compare_lossy(&sent, &backwards, true).is_err());
        assert_eq!(compare_lossy(&sent, &backwards, false), Ok(()));
    }

    #[test]
    fn damage_that_was_repaired_is_noticed() {
        let sent = vec![packets().remove(0)];
        for at in [8, sent[0].len() - 1] {
            let mut damaged = sent.clone();
            damaged[0][at] ^= 1;
            let mut repaired = damaged[0].clone();
            finish(&mut repaired);
            assert!(compare(&damaged, &whole(&damaged)).is_ok());
            assert!(compare(&damaged, &whole(&[repaired])).is_err());
        }
    }
}
