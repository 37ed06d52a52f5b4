//! Payloads that are not IP packets: pings, and the option-consistency messages of old ("OCC").
//!
//! Source: OpenVPN 2.7 `ping.c`, `occ.c` (the magic strings).

use crate::probe::Largest;

/// A keepalive ping.
pub(crate) const PING: [u8; 16] =
    [0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E, 0xB4, 0xCB, 0x07, 0xED, 0x2D, 0x0A, 0x98, 0x1F, 0xC7, 0x48];

/// In front of an OCC message.
const OCC_MAGIC: [u8; 16] =
    [0x28, 0x7F, 0x34, 0x6B, 0xD4, 0xEF, 0x7A, 0x81, 0x2D, 0x56, 0xB8, 0xD3, 0xAF, 0xC5, 0x45, 0x9C];

const OCC_REQUEST: u8 = 0;
const OCC_REPLY: u8 = 1;
const OCC_MTU_LOAD_REQUEST: u8 = 2;
const OCC_MTU_LOAD: u8 = 3;
const OCC_MTU_REQUEST: u8 = 4;
const OCC_MTU_REPLY: u8 = 5;
const OCC_EXIT: u8 = 6;
/// In front of what an OCC message says.
pub(crate) const OCC_HEADER: usize = OCC_MAGIC.len() + 1;

/// The peer leaves.
pub(crate) const EXIT: [u8; 17] = occ(OCC_EXIT);

/// Asks for the largest packets of a test.
pub(crate) const LARGEST_REQUEST: [u8; 17] = occ(OCC_MTU_REQUEST);

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
    /// The peer tests sizes (`mtu-test`): it wants a packet of this many bytes in all.
    LoadRequest(u16),
    /// A packet of the size that a test is about.
    Load,
    /// The peer asks for the largest packets of its test.
    LargestRequest,
    /// The largest packets of our test.
    LargestReply(Largest),
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
            Some([OCC_MTU_LOAD_REQUEST, high, low, ..]) => {
                Self::LoadRequest(u16::from_be_bytes([*high, *low]))
            }
            Some([OCC_MTU_LOAD, ..]) => Self::Load,
            Some([OCC_MTU_REQUEST, ..]) => Self::LargestRequest,
            Some([OCC_MTU_REPLY, received_high, received_low, sent_high, sent_low, ..]) => {
                let received = u16::from_be_bytes([*received_high, *received_low]);
                Self::LargestReply(Largest { received, sent: u16::from_be_bytes([*sent_high, *sent_low]) })
            }
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

/// A packet for a test of sizes: `filler` more bytes than it needs. Any bytes do; these cannot be compressed away.
pub(crate) fn load(filler: usize) -> Vec<u8> {
    let mut message = occ(OCC_MTU_LOAD).to_vec();
    let noise = |at: usize| (at.wrapping_mul(0x9E37) >> 7).to_le_bytes()[0];
    message.extend((0..filler).map(noise));
    message
}

/// A request for a packet of `size` bytes in all.
pub(crate) fn load_request(size: u16) -> Vec<u8> {
    [&occ(OCC_MTU_LOAD_REQUEST)[..], &size.to_be_bytes()].concat()
}

/// The answer about the largest packets of a test: received, then sent.
pub(crate) fn largest(received: u16, sent: u16) -> Vec<u8> {
    [&occ(OCC_MTU_REPLY)[..], &received.to_be_bytes(), &sent.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_packets() {
        let occ = |rest: &[u8]| Payload::classify(&[&OCC_MAGIC[..], rest].concat());
        assert_eq!(occ(&[OCC_MTU_LOAD_REQUEST, 5, 220]), Payload::LoadRequest(1500));
        assert_eq!(occ(&[OCC_MTU_LOAD_REQUEST, 5]), Payload::OtherOcc);
        assert_eq!(Payload::classify(&load(3)), Payload::Load);
        assert_eq!(Payload::classify(&load_request(1400)), Payload::LoadRequest(1400));
        assert_eq!(Payload::classify(&LARGEST_REQUEST), Payload::LargestRequest);
        let reply = Largest { received: 1500, sent: 1450 };
        assert_eq!(Payload::classify(&largest(1500, 1450)), Payload::LargestReply(reply));
        assert_eq!(occ(&[OCC_MTU_REPLY, 1, 2, 3]), Payload::OtherOcc);
        assert_eq!(occ(&[OCC_EXIT]), Payload::Exit);
        assert_eq!(occ(&[]), Payload::OtherOcc);
        assert_eq!(Payload::classify(&PING), Payload::Ping);
        assert_eq!(Payload::classify(&[0x45; 20]), Payload::Packet);
    }

    #[test]
    fn answers_have_the_form_that_peers_read() {
        assert_eq!(load(100).len(), OCC_HEADER + 100);
        assert_eq!(largest(1500, 1450)[16..], [OCC_MTU_REPLY, 0x05, 0xDC, 0x05, 0xAA]);
    }
}
