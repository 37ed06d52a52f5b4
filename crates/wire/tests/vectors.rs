//! Known packets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use culvert_testkit::vectors::{hex, numbers, vector};
use culvert_wire::{Control, EpochId, Opcode, WireError, data::epoch_packet_id};

/// Parses the vector's packet, compares its fields, and prints it again.
fn check_packet(name: &str) {
    let v = vector(name);
    let packet = v.input_hex("packet_hex");
    let control = Control::parse(&packet).unwrap();
    assert_eq!(u64::from(control.header.opcode as u8), v.expected_u64("opcode"));
    assert_eq!(u64::from(control.header.key_id.get()), v.expected_u64("key_id"));
    assert_eq!(control.header.session_id.as_bytes().to_vec(), v.expected_hex("session_id_hex"));
    let acks: Vec<_> = control.acks.as_slice().iter().map(|id| u64::from(id.0)).collect();
    assert_eq!(acks, numbers(&v.expected()["acks"]));
    let echoed = &v.expected()["echoed_session_id_hex"];
    let echoed = (!echoed.is_null()).then(|| hex(echoed));
    assert_eq!(control.echoed.map(|sid| sid.as_bytes().to_vec()), echoed);
    let mut again = vec![0; packet.len()];
    assert_eq!(control.emit(&mut again), Ok(packet.len()));
    assert_eq!(again, packet);
}

#[test]
fn a_client_reset_parses() {
    check_packet("packet_client_reset_v2_none");
}

#[test]
fn a_control_packet_with_an_acknowledgement_parses() {
    check_packet("packet_client_control_with_ack");
}

#[test]
fn acknowledgements_parse() {
    check_packet("packet_client_ack_none_random_id");
    check_packet("packet_client_ack_123_none_random_id");
}

#[test]
fn a_control_packet_that_ends_inside_the_echoed_id_is_refused() {
    let v = vector("packet_client_control_none_random_id");
    let packet = v.input_hex("packet_hex");
    assert!(matches!(Control::parse(&packet), Err(WireError::Truncated { .. })));
    let (header, _) = culvert_wire::ControlHeader::parse(&packet).unwrap();
    assert_eq!(header.opcode, Opcode::ControlV1);
    assert_eq!(header.session_id.as_bytes().to_vec(), v.expected_hex("session_id_hex"));
}

#[test]
fn epoch_and_counter_pack_into_eight_bytes() {
    for case in vector("packet_id_epoch_encoding").cases() {
        let epoch = EpochId::new(u16::try_from(case["epoch"].as_u64().unwrap()).unwrap()).unwrap();
        let packed = epoch_packet_id(epoch, case["next_counter"].as_u64().unwrap());
        let expected = (!case["hex"].is_null()).then(|| hex(&case["hex"]));
        assert_eq!(packed.ok().map(|bytes| bytes.to_vec()), expected, "{case}");
    }
}
