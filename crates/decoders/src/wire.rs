use culvert_wire::{
    Control, DataV1, DataV2, DataV2Epoch, EpochId, KeyId, PacketId,
    data::{self, v1_classic_prefix, v2_classic_prefix, v2_epoch_prefix},
    tcp::{frame_prefix, split_frame},
};

pub(crate) fn control_packet(bytes: &[u8]) {
    if let Ok(control) = Control::parse(bytes) {
        let mut again = vec![0; bytes.len()];
        assert_eq!(control.emit(&mut again), Ok(bytes.len()));
        assert_eq!(again, bytes, "SEC-PARSE-2");
    }
}

pub(crate) fn control_packets() -> Vec<Vec<u8>> {
    let mut reset = vec![0x38];
    reset.extend([7; 8]);
    reset.extend([0; 5]);
    let mut control = vec![0x20];
    control.extend([7; 8]);
    control.extend([2, 0, 0, 0, 1, 0, 0, 0, 0]);
    control.extend([8; 8]);
    control.extend([0, 0, 0, 3]);
    control.extend(b"\x16\x03\x01payload");
    vec![reset, control]
}

pub(crate) fn data_packet(bytes: &[u8]) {
    let _ = data::v2_peer_id(bytes);
    if let Ok(view) = DataV1::parse(bytes) {
        let prefix = v1_classic_prefix(view.key_id(), view.packet_id());
        assert_eq!([&prefix[..], view.tag(), view.ciphertext()].concat(), bytes, "SEC-PARSE-2");
    }
    if let Ok(view) = DataV2::parse(bytes) {
        let prefix = v2_classic_prefix(view.key_id(), view.peer_id(), view.packet_id());
        assert_eq!([&prefix[..], view.tag(), view.ciphertext()].concat(), bytes, "SEC-PARSE-2");
    }
    if let Ok(view) = DataV2Epoch::parse(bytes) {
        let prefix = v2_epoch_prefix(view.key_id(), view.peer_id(), view.epoch(), view.counter());
        assert_eq!(
            prefix.map(|prefix| [&prefix[..], view.ciphertext(), view.tag()].concat()).as_deref(),
            Ok(bytes)
        );
    }
}

pub(crate) fn data_packets() -> Vec<Vec<u8>> {
    let behind = [5; 60];
    let mut packets = vec![
        [&v1_classic_prefix(KeyId::FIRST, PacketId::FIRST)[..], &behind].concat(),
        [&v2_classic_prefix(KeyId::FIRST, None, PacketId::FIRST)[..], &behind].concat(),
    ];
    let epoch = v2_epoch_prefix(KeyId::FIRST, None, EpochId::FIRST, 1);
    packets.extend(epoch.map(|prefix| [&prefix[..], &behind].concat()));
    packets
}

pub(crate) fn tcp_frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = split_frame(rest, 2048) {
        let prefix = frame_prefix(frame.packet.len());
        let again = prefix.map(|prefix| [&prefix[..], frame.packet, frame.rest].concat());
        assert_eq!(again.as_deref(), Ok(rest), "SEC-PARSE-2");
        rest = frame.rest;
    }
}

pub(crate) fn tcp_streams() -> Vec<Vec<u8>> {
    vec![vec![0, 3, 1, 2, 3, 0, 1, 9, 0, 5, 1], vec![8, 0]]
}
