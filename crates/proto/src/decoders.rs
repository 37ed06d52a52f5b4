//! This crate's inner decoders of foreign bytes, by name: for fuzzing and random tests only, not an interface.
//!
//! Each function decodes, checks what must hold for whatever was accepted, and panics when it does not.

use culvert_crypto::TlsRole;

use crate::{
    PeerInfo,
    control_message::{self, ControlMessage, Extracted},
    key_exchange::KeyMessage,
    options_string,
    push::Accumulator,
};

/// Key-method-2 messages of both TLS roles.
pub fn key_message(bytes: &[u8]) {
    for sender in [TlsRole::Client, TlsRole::Server] {
        if let Ok((message, taken)) = KeyMessage::decode(sender, bytes) {
            assert!(taken <= bytes.len(), "more was taken than there is");
            let again = message.encode(sender);
            let same = KeyMessage::decode(sender, &again).map(|(message, _)| message.encode(sender));
            assert!(same.is_ok_and(|same| same == again), "what was accepted does not print and parse again");
        }
    }
}

/// Plaintext of the control channel: message by message, pushes over their continuations.
pub fn control_messages(bytes: &[u8]) {
    let mut push = Accumulator::default();
    for message in control_message::split(bytes) {
        let Extracted::Message(text) = message else { continue };
        assert!(text.chars().all(control_message::is_printable), "unprintable text came through");
        match ControlMessage::parse(&text) {
            ControlMessage::PushReply(items) | ControlMessage::PushUpdate(items) => {
                push.add(items);
                let _ = crate::push::split_update(items);
            }
            ControlMessage::AuthFailed(reason) => {
                crate::AuthFailure::parse(reason);
            }
            ControlMessage::AuthPending(keywords) => {
                control_message::auth_pending_timeout(keywords);
            }
            _ => {}
        }
    }
}

/// `NAME=value` lines of a peer.
pub fn peer_info(text: &str) {
    if let Some(info) = PeerInfo::parse(text) {
        let again = PeerInfo::parse(&PeerInfo::render(&info.lines));
        assert!(again.is_some_and(|again| again.lines == info.lines), "lines do not print and parse again");
        drop((info.cipher_names(), info.negotiates_cipher(), info.has(0)));
    }
}

/// Options strings of a peer, against the one that is expected.
pub fn options_string(text: &str) {
    let expected = "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-client";
    let _ = (options_string::cipher(text), options_string::has_comp_lzo(text));
    drop(options_string::with_comp_lzo(text));
    drop((options_string::differences(expected, text), options_string::differences(text, expected)));
}
