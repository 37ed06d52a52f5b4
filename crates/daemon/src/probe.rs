//! One packet to a server, and what its answer tells: for `culvert doctor`.
//!
//! The packet is a client's first one. A server that takes it answers with its own first packet, which is wrapped with the same
//! key; it keeps nothing for who does not go on.

mod way;

use std::{
    io,
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use culvert_config::{Profile, profile::ConnectionEntry};
use culvert_crypto::random_bytes;
use culvert_proto::wrap::{EARLY_NEGOTIATION_START, ReplayId, WrapKeys};
use culvert_sys::sockopt;
use culvert_wire::{
    AckBlock, Control, ControlHeader, KeyId, MessageId, Opcode, SessionId, tcp::FRAME_PREFIX_LEN,
};

use crate::{clock, link, settings::wrapping};

pub use crate::link::port_number;
pub use way::{NoWay, Way, through_proxy};

/// Longest packet: a reset with a wrapped client key.
const MAX_PACKET: usize = 2048;

/// A first packet, ready to be sent.
pub struct Probe {
    keys: Arc<WrapKeys>,
    sid: SessionId,
    packet: Vec<u8>,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An OpenVPN server's, made with the same key.
    Server,
    /// An OpenVPN server's, but it does not open with the key that this end has.
    OtherKey,
    /// No OpenVPN server's.
    Foreign,
}

impl Probe {
    /// Makes the packet for one connection of a client.
    ///
    /// # Errors
    /// When a key file cannot be used, or the system has no randomness.
    pub fn new(profile: &Profile, entry: &ConnectionEntry) -> Result<Self, String> {
        let wrapping = wrapping::client(profile, entry).map_err(|failure| failure.to_string())?;
        let keys = Arc::clone(wrapping.keys());
        let mut bytes = [0; 8];
        random_bytes(&mut bytes).map_err(|failure| failure.to_string())?;
        // Zero is no session id; that the system draws it happens once in 2^64.
        let sid = SessionId::new(bytes).ok_or("the system's randomness is all zeros")?;
        let has_own_key = keys.wkc_len() > 0;
        let (opcode, packet_id) = match has_own_key {
            true => (Opcode::HardResetClientV3, EARLY_NEGOTIATION_START + 1),
            false => (Opcode::HardResetClientV2, 1),
        };
        let reset = Control {
            header: ControlHeader { opcode, key_id: KeyId::FIRST, session_id: sid },
            acks: AckBlock::new(),
            echoed: None,
            message_id: Some(MessageId(0)),
            payload: &[],
        };
        let mut packet = vec![0; MAX_PACKET];
        let id = ReplayId { packet_id, time: clock::unix_seconds() };
        let len = keys.seal_stateless(id, &reset, &mut packet).map_err(|failure| failure.to_string())?;
        packet.truncate(len);
        Ok(Self { keys, sid, packet })
    }

    /// The packet, as a datagram.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// The packet, as a stream carries it.
    #[must_use]
    pub fn framed(&self) -> Vec<u8> {
        let len = u16::try_from(self.packet.len()).unwrap_or(u16::MAX);
        [&len.to_be_bytes()[..], &self.packet].concat()
    }

    /// Judges an answer: a datagram, or what came of a stream.
    #[must_use]
    pub fn judge(&self, answer: &[u8], framed: bool) -> Answer {
        let packet = if framed { answer.get(FRAME_PREFIX_LEN..).unwrap_or_default() } else { answer };
        let Ok((header, _)) = ControlHeader::parse(packet) else { return Answer::Foreign };
        if !matches!(header.opcode, Opcode::HardResetServerV2 | Opcode::AckV1 | Opcode::ControlV1) {
            return Answer::Foreign;
        }
        let mut scratch = vec![0; packet.len()];
        match self.keys.open_stateless(packet, &mut scratch) {
            Ok((control, _)) if control.echoed == Some(self.sid) => Answer::Server,
            Ok(_) | Err(_) => Answer::OtherKey,
        }
    }
}

/// Connects a UDP socket as the tunnel's own is: with the profile's device and mark, which routes and filters know it by.
///
/// # Errors
/// As the system says.
pub fn udp_socket(profile: &Profile, remote: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(link::unspecified_like(remote, 0))?;
    if let Some(device) = &profile.link.bind_dev {
        sockopt::set_bind_device(&socket, device)?;
    }
    if let Some(mark) = link::mark(profile) {
        sockopt::set_mark(&socket, mark)?;
    }
    socket.connect(remote)?;
    Ok(socket)
}

/// Connects a stream as the tunnel's own is. To be called outside of a runtime.
///
/// # Errors
/// As the system says.
pub fn tcp_stream(profile: &Profile, remote: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stream = runtime.block_on(async {
        let connecting = link::tcp_socket(profile, remote)?.connect(remote);
        let connected = tokio::time::timeout(limit, connecting).await;
        connected.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Returns a data packet of nobody, of this length: a server drops it without a word. It finds out how much a path carries.
#[must_use]
pub fn padding(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    // Peer id 0xffffff is that of a peer that has none.
    let header = [Opcode::DataV2.header(KeyId::FIRST), 0xff, 0xff, 0xff];
    packet.iter_mut().zip(header).for_each(|(byte, value)| *byte = value);
    packet
}

#[cfg(test)]
mod tests {
    use culvert_config::{MemoryFiles, parse};

    use super::*;

    #[test]
    fn only_an_answer_to_the_packet_is_a_servers() {
        let arguments: Vec<String> =
            "--client --dev tun --remote a --ca ca".split(' ').map(str::to_owned).collect();
        let files = MemoryFiles::default().with("ca", "");
        let profile = parse(&arguments, &files).check(&files).profile;
        let probe = Probe::new(&profile, &profile.connections[0]).unwrap();
        assert_eq!(probe.judge(b"HTTP/1.1 400 Bad Request\r\n", false), Answer::Foreign);
        assert_eq!(probe.judge(probe.packet(), false), Answer::Foreign, "an echo");
        let mut acks = AckBlock::new();
        acks.push(MessageId(0));
        let answer = |echoed| {
            let header = ControlHeader {
                opcode: Opcode::HardResetServerV2,
                key_id: KeyId::FIRST,
                session_id: SessionId::new([7; 8]).unwrap(),
            };
            let control =
                Control { header, acks, echoed: Some(echoed), message_id: Some(MessageId(0)), payload: &[] };
            let mut packet = [0; 64];
            let len = control.emit(&mut packet).unwrap();
            packet[..len].to_vec()
        };
        assert_eq!(probe.judge(&answer(probe.sid), false), Answer::Server);
        let framed = [&[0, 26], &answer(probe.sid)[..]].concat();
        assert_eq!(probe.judge(&framed, true), Answer::Server);
        assert_eq!(probe.judge(&answer(SessionId::new([9; 8]).unwrap()), false), Answer::OtherKey);
    }

    #[test]
    fn padding_is_a_data_packet() {
        let packet = padding(1200);
        assert_eq!(packet.len(), 1200);
        assert_eq!(packet[..4], [0x48, 0xff, 0xff, 0xff]);
        assert!(padding(2).len() == 2);
    }
}
