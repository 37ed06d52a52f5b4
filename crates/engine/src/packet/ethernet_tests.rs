//! Frames and tags, against an oracle that builds frames from their fields and never looks at bytes.

use proptest::prelude::*;

use super::*;
use crate::packet::{
    clamp_mss,
    segment_tests::{finish, tcp4, tcp6},
};

const TO: Mac = [2, 0, 0, 0, 0, 1];
const FROM: Mac = [2, 0, 0, 0, 0, 2];

/// A frame by its fields. The tag is priority (with its drop flag) and VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    tag: Option<(u16, u16)>,
    kind: u16,
    payload: Vec<u8>,
}

impl Fields {
    fn build(&self) -> Vec<u8> {
        let mut frame = [TO, FROM].concat();
        if let Some((priority, vlan)) = self.tag {
            frame.extend(TYPE_TAGGED.to_be_bytes());
            frame.extend((priority << 12 | vlan).to_be_bytes());
        }
        frame.extend(self.kind.to_be_bytes());
        frame.extend(&self.payload);
        frame
    }

    /// What OpenVPN's `vlan_decapsulate` gives: the VLAN, and the frame for peers.
    fn received(&self, vlans: Vlans) -> Option<(u16, Self)> {
        let own = Some((vlans.pvid, self.clone()));
        match (vlans.accept, self.tag) {
            (VlanAccept::Tagged, None) => None,
            (_, None | Some((_, 0))) => own,
            (VlanAccept::Untagged, Some(_)) => None,
            (_, Some((_, vlan))) => Some((vlan, Self { tag: None, ..self.clone() })),
        }
    }

    /// What OpenVPN's `vlan_process_outgoing_tun` gives: the frame for the device.
    fn sent(&self, vlans: Vlans, vlan: u16) -> Option<Self> {
        let same = vlan == vlans.pvid;
        if vlans.accept == VlanAccept::Untagged {
            return same.then(|| self.clone());
        }
        if vlans.accept == VlanAccept::All && same {
            return Some(self.clone());
        }
        let priority = self.tag.map_or(0, |(priority, _)| priority);
        Some(Self { tag: Some((priority, vlan)), ..self.clone() })
    }
}

fn vlan() -> impl Strategy<Value = u16> {
    prop_oneof![Just(1_u16), Just(2), Just(4094), 1..=4094_u16]
}

fn fields(vlan: impl Strategy<Value = u16>) -> impl Strategy<Value = Fields> {
    // A type that is a tag's would be one.
    let kind = prop_oneof![Just(TYPE_IPV4), Just(TYPE_IPV6), Just(0x0806), 0..=0x80FF_u16];
    let payload = prop::collection::vec(any::<u8>(), 0..60);
    (prop::option::of((0..16_u16, vlan)), kind, payload).prop_map(|(tag, kind, payload)| Fields {
        tag,
        kind,
        payload,
    })
}

fn vlans() -> impl Strategy<Value = Vlans> {
    let accept = prop_oneof![Just(VlanAccept::All), Just(VlanAccept::Tagged), Just(VlanAccept::Untagged)];
    (accept, vlan()).prop_map(|(accept, pvid)| Vlans { accept, pvid })
}

proptest! {
    #[test]
    fn what_the_device_gives_reaches_peers_as_openvpn_says(
        frame in fields(prop_oneof![Just(0), vlan()]),
        vlans in vlans(),
    ) {
        let bytes = frame.build();
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!((header.destination, header.source), (TO, FROM));
        let got = from_device(vlans, header).map(|inbound| {
            let mut out = vec![0; bytes.len() - if inbound.untag { TAG_LEN } else { 0 }];
            copy(&bytes, inbound.untag, &mut out);
            (inbound.vlan, out)
        });
        prop_assert_eq!(got, frame.received(vlans).map(|(vlan, frame)| (vlan, frame.build())));
    }

    #[test]
    fn what_a_peer_sends_reaches_the_device_as_openvpn_says(
        frame in fields(Just(0)),
        vlans in vlans(),
        own in vlan(),
    ) {
        let bytes = frame.build();
        let got = match to_device(vlans, own) {
            Outbound::Drop => None,
            Outbound::AsItIs => Some(bytes),
            Outbound::Tag(vlan) => {
                let mut buf = bytes.clone();
                buf.resize(bytes.len() + TAG_LEN, 0xEE);
                let len = tag(&mut buf, bytes.len(), vlan).unwrap();
                buf.truncate(len);
                Some(buf)
            }
        };
        prop_assert_eq!(got, frame.sent(vlans, own).map(|frame| frame.build()));
    }

    #[test]
    fn bytes_of_any_kind_are_taken_or_left(bytes in prop::collection::vec(any::<u8>(), 0..80), vlans in vlans()) {
        crate::fuzzing::vlan_frame(&bytes, vlans.pvid);
    }
}

#[test]
fn a_tag_needs_room() {
    let frame = Fields { tag: None, kind: TYPE_IPV4, payload: vec![1; 4] }.build();
    let len = frame.len();
    assert_eq!(tag(&mut frame.clone(), len, 7), None);
    assert_eq!(tag(&mut [0; 13], 13, 7), None);
}

#[test]
fn the_mss_is_lowered_behind_the_header_and_behind_a_tag() {
    const SYN: u8 = 2;
    for (mut packet, kind, expected) in
        [(tcp4(7, SYN, b""), TYPE_IPV4, 1300_u16), (tcp6(7, SYN, b""), TYPE_IPV6, 1280)]
    {
        let start = packet.len() - 20;
        packet.extend([2, 4, 0x05, 0xB4]);
        packet[start + 12] = 6 << 4;
        finish(&mut packet);
        for tag in [None, Some((0, 0)), Some((3, 9))] {
            let mut frame = Fields { tag, kind, payload: packet.clone() }.build();
            clamp(&mut frame, 1300);
            assert_eq!(frame[frame.len() - 2..], expected.to_be_bytes());
            let mut other = Fields { tag, kind: 0x0806, payload: packet.clone() }.build();
            let before = other.clone();
            clamp(&mut other, 1300);
            assert_eq!(other, before, "not IP by its type");
        }
    }
}

/// As what peers send and get is changed.
fn clamp(frame: &mut [u8], limit: u16) {
    if let Some(packet) = inner(frame) {
        clamp_mss(packet, limit);
    }
}

#[test]
fn an_address_that_looks_like_a_version_of_ip_is_no_ip_header() {
    let mut frame = [[0x45; 6], [0x60; 6]].concat();
    frame.extend([0x08, 0x06]);
    frame.extend([0x45; 40]);
    let before = frame.clone();
    clamp(&mut frame, 100);
    assert_eq!(frame, before);
}
