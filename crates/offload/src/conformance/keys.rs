//! What the two key slots of a peer do to its packets.

use culvert_wire::Slot;

use super::{
    Lab, id, key,
    server::{packet, packet_of, server},
    wire_peer::WireKey,
};
use crate::{PeerStats, Traffic};

/// A key in the secondary slot decrypts at once; the primary one is used for sending until the swap.
pub fn both_slots_decrypt_and_the_primary_encrypts(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    let mut new = WireKey::new(1);
    wire.send(&mut new, &packet(2, 1, 1));
    wire.send(&mut old, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 1));
    server.expect(&packet(2, 1, 2));
    server.tunnel.send(&packet(1, 2, 3));
    assert_eq!(wire.receive(&old), packet(1, 2, 3));

    server.offload.key_swap(id(2)).unwrap();
    server.tunnel.send(&packet(1, 2, 4));
    assert_eq!(wire.receive(&new), packet(1, 2, 4));
    wire.send(&mut old, &packet(2, 1, 5));
    server.expect(&packet(2, 1, 5));
}

/// Packets under way during a swap arrive.
pub fn a_swap_while_receiving_loses_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    let mut new = WireKey::new(1);
    for number in 0..60 {
        let key = if number % 2 == 0 { &mut old } else { &mut new };
        wire.send(key, &packet(2, 1, number));
        if number % 10 == 5 {
            server.offload.key_swap(id(2)).unwrap();
        }
    }
    for number in 0..60 {
        server.expect(&packet(2, 1, number));
    }
}

/// A deleted key is gone.
pub fn a_deleted_key_decrypts_no_more(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    server.offload.key_swap(id(2)).unwrap();
    server.offload.key_del(id(2), Slot::Secondary).unwrap();
    wire.send(&mut old, &packet(2, 1, 1));
    wire.send(&mut WireKey::new(1), &packet(2, 1, 2));
    server.expect(&packet(2, 1, 2));
}

/// Without keys a peer carries nothing either way, stays, and is as before with the next key.
pub fn a_peer_without_keys_carries_nothing_until_the_next_one(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    let (other, mut other_key) = server.add(3, |spec| spec);
    server.expect_both_ways(2, &wire, &mut old, 1);
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    server.offload.key_del(id(2), Slot::Primary).unwrap();
    server.offload.key_del(id(2), Slot::Secondary).unwrap();

    wire.send(&mut old, &packet(2, 1, 2));
    wire.send(&mut WireKey::new(1), &packet(2, 1, 3));
    server.tunnel.send(&packet(1, 2, 4));
    server.expect_both_ways(3, &other, &mut other_key, 5);

    server.offload.key_new(id(2), Slot::Primary, key(2, false)).unwrap();
    server.expect_both_ways(2, &wire, &mut WireKey::new(2), 6);
}

/// A key that is installed into an occupied slot takes the place of the one that was there.
pub fn a_key_in_an_occupied_slot_replaces_the_old_one(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    server.offload.key_new(id(2), Slot::Primary, key(1, false)).unwrap();
    wire.send(&mut old, &packet(2, 1, 1));
    server.expect_both_ways(2, &wire, &mut WireKey::new(1), 2);

    server.offload.key_new(id(2), Slot::Secondary, key(2, false)).unwrap();
    server.offload.key_new(id(2), Slot::Secondary, key(3, false)).unwrap();
    wire.send(&mut WireKey::new(2), &packet(2, 1, 3));
    wire.send(&mut WireKey::new(3), &packet(2, 1, 4));
    server.expect(&packet(2, 1, 4));
}

/// Packets of a key that was never installed are dropped.
pub fn an_unknown_key_id_opens_nothing(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut known) = server.add(2, |spec| spec);
    wire.send(&mut WireKey::new(7), &packet(2, 1, 1));
    wire.send(&mut known, &packet(2, 1, 2));
    server.expect(&packet(2, 1, 2));
}

/// Inner bytes, bytes of whole data packets, and what the key carried are told exactly.
pub fn counters_equal_what_was_sent(lab: &impl Lab) {
    const COUNT: u64 = 10;
    /// What `ping` sends by default.
    const INNER: u64 = 84;
    const OUTER: u64 = INNER + 24;
    let server = server(lab);
    let (wire, mut key) = server.add(2, |spec| spec);
    let len = usize::try_from(INNER).unwrap();
    for _ in 0..COUNT {
        wire.send(&mut key, &packet_of(2, 1, len));
        server.expect(&packet_of(2, 1, len));
        server.tunnel.send(&packet_of(1, 2, len));
        assert_eq!(wire.receive_raw().len() as u64, OUTER);
    }
    let both = |bytes| Traffic {
        rx_bytes: COUNT * bytes,
        rx_packets: COUNT,
        tx_bytes: COUNT * bytes,
        tx_packets: COUNT,
    };
    let all =
        |s: &PeerStats| [s.tunnel, s.link, s.key].iter().all(|t| t.tx_packets + t.rx_packets == 2 * COUNT);
    let stats = server.wait_for(2, "all are counted", all);
    assert_eq!((stats.tunnel, stats.link, stats.key), (both(INNER), both(OUTER), both(INNER)));
}

/// What a key carried is counted from its first packet on; the peer's counters go on.
pub fn the_counters_of_a_key_begin_anew_at_a_swap(lab: &impl Lab) {
    let server = server(lab);
    let (wire, mut old) = server.add(2, |spec| spec);
    (0..5).for_each(|number| server.expect_both_ways(2, &wire, &mut old, number));
    let packets = |t: Traffic| (t.rx_packets, t.tx_packets);
    server.wait_for(2, "the old key's", |s| packets(s.key) == (5, 5) && packets(s.tunnel) == (5, 5));
    server.offload.key_new(id(2), Slot::Secondary, key(1, false)).unwrap();
    server.offload.key_swap(id(2)).unwrap();
    assert_eq!(server.stats(2).key, Traffic::default());
    let mut new = WireKey::new(1);
    (5..8).for_each(|number| server.expect_both_ways(2, &wire, &mut new, number));
    server.wait_for(2, "the new key's", |s| packets(s.key) == (3, 3) && packets(s.tunnel) == (8, 8));
    server.offload.key_new(id(2), Slot::Primary, key(2, false)).unwrap();
    assert_eq!(server.stats(2).key, Traffic::default());
}
