//! Rules of the calls, which hold whether or not anything is carried.

use std::net::SocketAddr;

use culvert_wire::{CipherName, Slot};

use super::{Lab, device, id, inner6, key, peer, udp, wait};
use crate::{
    ControlBatch, DeviceMode, Offload, OffloadError, PeerChange, PeerSpec, TransportId, VpnAddresses,
};

fn remote() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn server(lab: &impl Lab) -> (std::sync::Arc<dyn Offload>, TransportId) {
    let offload = lab.open(device(DeviceMode::MultiPeer));
    let (transport, ..) = offload.open_transport(udp()).unwrap();
    (offload, transport)
}

/// A peer can be added, not twice, and removed, not twice.
pub fn a_peer_exists_from_new_to_del(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    assert!(matches!(offload.peer_new(peer(1, transport, remote())), Err(OffloadError::PeerExists(_))));
    offload.peer_del(id(1)).unwrap();
    assert!(matches!(offload.peer_del(id(1)), Err(OffloadError::UnknownPeer(_))));
    offload.peer_new(peer(1, transport, remote())).unwrap();
}

/// Every call that names a peer refuses one that does not exist.
pub fn calls_for_an_unknown_peer_say_so(lab: &impl Lab) {
    let (offload, _) = server(lab);
    let unknown =
        |result: Result<(), OffloadError>| assert!(matches!(result, Err(OffloadError::UnknownPeer(_))));
    unknown(offload.peer_del(id(3)));
    unknown(offload.peer_set(id(3), &PeerChange::default()));
    unknown(offload.key_new(id(3), Slot::Primary, key(0, false)));
    unknown(offload.key_swap(id(3)));
    unknown(offload.key_del(id(3), Slot::Primary));
    unknown(offload.stats(Some(id(3)), &mut Vec::new()));
}

/// A peer on a transport that is not open is refused.
pub fn a_peer_needs_a_transport(lab: &impl Lab) {
    let (offload, _) = server(lab);
    let refused = offload.peer_new(peer(1, TransportId(4711), remote()));
    assert!(matches!(refused, Err(OffloadError::UnknownTransport(TransportId(4711)))));
}

/// Two peers cannot have the same address or network inside the tunnel.
pub fn a_vpn_address_belongs_to_one_peer(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    let network = ([192, 168, 7, 0].into(), 24);
    let mut first = peer(1, transport, remote());
    first.iroutes.push(network);
    offload.peer_new(first.clone()).unwrap();
    let mut second = peer(2, transport, remote());
    second.vpn = first.vpn;
    assert!(matches!(offload.peer_new(second.clone()), Err(OffloadError::PeerExists(_))));
    second.vpn = peer(2, transport, remote()).vpn;
    second.iroutes.push(network);
    assert!(matches!(offload.peer_new(second.clone()), Err(OffloadError::PeerExists(_))));
    second.iroutes.clear();
    offload.peer_new(second).unwrap();
    let change = PeerChange { vpn: Some((first.vpn, Vec::new())), ..PeerChange::default() };
    assert!(matches!(offload.peer_set(id(2), &change), Err(OffloadError::PeerExists(_))));
}

/// Addresses that no host can have are no peer's, whether it is new or not; nothing is changed then.
pub fn an_address_that_no_host_can_have_is_refused(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    let v4 = |ip: [u8; 4]| VpnAddresses { v4: Some(ip.into()), v6: None };
    let v6 = |ip: &str| VpnAddresses { v4: None, v6: Some(ip.parse().unwrap()) };
    for vpn in [
        v4([224, 0, 0, 1]),
        v4([127, 0, 0, 1]),
        v4([255, 255, 255, 255]),
        v4([0, 0, 0, 0]),
        v6("ff02::1"),
        v6("::1"),
        v6("::"),
        v6("::10.8.0.1"),
    ] {
        let refused = |result: Result<(), OffloadError>| {
            assert!(matches!(result, Err(OffloadError::UnusableAddress(_))), "{vpn:?}: {result:?}");
        };
        refused(offload.peer_new(PeerSpec { vpn, ..peer(2, transport, remote()) }));
        refused(
            offload.peer_set(id(1), &PeerChange { vpn: Some((vpn, Vec::new())), ..PeerChange::default() }),
        );
        assert!(matches!(offload.peer_del(id(2)), Err(OffloadError::UnknownPeer(_))));
    }
    let mut second = peer(2, transport, remote());
    second.vpn = peer(1, transport, remote()).vpn;
    assert!(
        matches!(offload.peer_new(second), Err(OffloadError::PeerExists(_))),
        "the old one is the first's"
    );
}

/// IPv6 addresses belong to one peer, too, whichever call asks for them.
pub fn an_ipv6_address_belongs_to_one_peer(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    let six = |number| VpnAddresses { v4: None, v6: Some(inner6(number)) };
    offload.peer_new(PeerSpec { vpn: six(1), ..peer(1, transport, remote()) }).unwrap();
    offload.peer_new(PeerSpec { vpn: six(2), ..peer(2, transport, remote()) }).unwrap();
    let taken =
        |result: Result<(), OffloadError>| assert!(matches!(result, Err(OffloadError::PeerExists(_))));
    taken(offload.peer_new(PeerSpec { vpn: six(1), ..peer(3, transport, remote()) }));
    let set =
        |vpn| offload.peer_set(id(2), &PeerChange { vpn: Some((vpn, Vec::new())), ..PeerChange::default() });
    taken(set(six(1)));
    set(six(2)).unwrap();
    offload.peer_del(id(1)).unwrap();
    set(six(1)).unwrap();
    offload.peer_new(PeerSpec { vpn: six(2), ..peer(3, transport, remote()) }).unwrap();
}

/// What a removed peer owned can be given to another.
pub fn a_removed_peers_addresses_are_free_again(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    let first = peer(1, transport, remote());
    offload.peer_new(first.clone()).unwrap();
    offload.peer_del(id(1)).unwrap();
    let mut second = peer(2, transport, remote());
    second.vpn = first.vpn;
    offload.peer_new(second).unwrap();
}

/// A point-to-point device refuses a second peer.
pub fn a_point_to_point_device_takes_one_peer(lab: &impl Lab) {
    let offload = lab.open(device(DeviceMode::PointToPoint));
    let (transport, ..) = offload.open_transport(udp()).unwrap();
    offload.peer_new(peer(1, transport, remote())).unwrap();
    assert!(matches!(offload.peer_new(peer(2, transport, remote())), Err(OffloadError::PeerExists(_))));
}

/// There is nothing to swap with.
pub fn a_swap_needs_a_secondary_key(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    offload.key_new(id(1), Slot::Primary, key(0, false)).unwrap();
    assert!(matches!(offload.key_swap(id(1)), Err(OffloadError::NoSecondaryKey(_))));
}

/// Swapping exchanges the slots, so that both stay filled.
pub fn a_swap_can_be_undone_by_another(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    offload.key_new(id(1), Slot::Primary, key(0, false)).unwrap();
    offload.key_new(id(1), Slot::Secondary, key(1, false)).unwrap();
    offload.key_swap(id(1)).unwrap();
    offload.key_swap(id(1)).unwrap();
}

/// After a deletion there is nothing to swap with; deleting an empty slot is no error.
pub fn a_deleted_slot_is_empty(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    offload.key_new(id(1), Slot::Primary, key(0, false)).unwrap();
    offload.key_new(id(1), Slot::Secondary, key(1, false)).unwrap();
    offload.key_del(id(1), Slot::Secondary).unwrap();
    assert!(matches!(offload.key_swap(id(1)), Err(OffloadError::NoSecondaryKey(_))));
    offload.key_del(id(1), Slot::Secondary).unwrap();
}

/// A cipher that does not belong to the key's format is refused by name.
pub fn a_cipher_that_is_not_offered_is_refused(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    let mut blowfish = key(0, false);
    if let culvert_crypto::DataKey::Classic { cipher, .. } = &mut blowfish {
        *cipher = CipherName::BfCbc;
    }
    let refused = offload.key_new(id(1), Slot::Primary, blowfish);
    assert!(matches!(refused, Err(OffloadError::Cipher(CipherName::BfCbc))));
}

/// Counters exist for each peer, and for one.
pub fn statistics_name_every_peer(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    offload.peer_new(peer(1, transport, remote())).unwrap();
    offload.peer_new(peer(2, transport, SocketAddr::from(([127, 0, 0, 1], 10)))).unwrap();
    let mut all = Vec::new();
    offload.stats(None, &mut all).unwrap();
    let mut ids: Vec<_> = all.iter().map(|s| s.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [id(1), id(2)]);
    let one = super::stats(&*offload, id(2));
    assert_eq!((one.id, one.remote.port()), (id(2), 10));
}

/// A transport can be closed once.
pub fn a_closed_transport_is_unknown(lab: &impl Lab) {
    let (offload, transport) = server(lab);
    drop(offload.close_transport(transport).unwrap());
    assert!(matches!(offload.close_transport(transport), Err(OffloadError::UnknownTransport(_))));
    assert!(matches!(offload.peer_new(peer(1, transport, remote())), Err(OffloadError::UnknownTransport(_))));
}

/// Who waits at the port of a closed transport is told.
pub fn a_closed_port_says_so(lab: &impl Lab) {
    let offload = lab.open(device(DeviceMode::MultiPeer));
    let (transport, mut receiver, _) = offload.open_transport(udp()).unwrap();
    drop(offload.close_transport(transport).unwrap());
    let mut batch = ControlBatch::default();
    wait(|cx| receiver.poll_recv(cx, &mut batch)).unwrap();
    assert!(batch.packets.is_empty());
}
