//! Payloads that are not IP packets: pings, and the option-consistency messages of old ("OCC").
//!
//! Source: OpenVPN 2.7 `ping.c`, `occ.c` (the magic strings).

/// A keepalive ping.
pub(crate) const PING: [u8; 16] =
    [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];

/// In front of an OCC message.
const OCC_MAGIC: [u8; 16] =
    [0x28, 0x7F, 0x34, 0x6B, 0xD4, 0xEF, 0x7A, 0x81, 0x2D, 0x56, 0xB8, 0xD3, 0xAF, 0xC5, 0x45, 0x9C];

const OCC_REQUEST: u8 = 0;
const OCC_REPLY: u8 = 1;
const OCC_EXIT: u8 = 6;

/// The peer leaves.
pub(crate) const EXIT: [u8; 17] = occ(OCC_EXIT);

/// An answer to a request for the options string, which nobody evaluates in TLS mode: an empty string.
pub(crate) const EMPTY_REPLY: [u8; 18] = {
    let head = occ(OCC_REPLY);
    let mut message = [0; 18];
    let mut at = 0;
    while at < head.len() {
        message[at] = head[at];
        at += 1;
    }
    message
};

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// An inner packet.
    Packet,
    /// A ping: activity, nothing else.
    Ping,
    /// The peer leaves.
    Exit,
    /// The peer asks for our options string.
    OptionsRequest,
    /// An OCC message that needs no answer.
    OtherOcc,
}

impl Payload {
    pub(crate) fn classify(payload: &[u8]) -> Self {
        // Both magics begin unlike any IP packet: version 2. An Ethernet frame may, but is none by 16 bytes that are random.
        if payload.first().is_none_or(|first| first >> 4 != 2) {
            return Self::Packet;
        }
        if payload == PING {
            return Self::Ping;
        }
        match payload.strip_prefix(&OCC_MAGIC) {
            Some([OCC_EXIT, ..]) => Self::Exit,
            Some([OCC_REQUEST, ..]) => Self::OptionsRequest,
            Some(_) => Self::OtherOcc,
            None => Self::Packet,
        }
    }
}

const fn occ(op: u8) -> [u8; 17] {
    let mut message = [op; 17];
    let mut at = 0;
    while at < OCC_MAGIC.len() {
        message[at] = OCC_MAGIC[at];
        at += 1;
    }
    message
}
