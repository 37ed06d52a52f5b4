//! What the two key slots of a peer do to its packets.

use culvert_wire::Slot;

use super::{
    Lab, id, key,
    server::{packet, server},
    wire_peer::WireKey,
};

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
