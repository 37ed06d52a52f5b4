//! The way to the peer: its address, both session ids, the wrapping, and how large a packet may be.

use std::net::SocketAddr;

use culvert_crypto::{KeyMaterial, TlsRole};
use culvert_wire::{Control, ControlHeader, KeyId, LocalSid, Now, RemoteSid, body_overhead};

use crate::{
    RandomSource, Transport,
    reliable::ACKS_WITH_MESSAGE,
    wrap::{WrapError, Wrapping},
};

/// Smallest piece of TLS bytes, however large wrapping is and however small `max-packet-size`.
const MIN_PAYLOAD: usize = 32;
const MESSAGE_ID_LEN: usize = 4;

pub(super) struct Link {
    pub(super) remote: SocketAddr,
    pub(super) local_sid: LocalSid,
    /// Unknown to a client until the server's reset.
    pub(super) remote_sid: Option<RemoteSid>,
    pub(super) wrapping: Wrapping,
    transport: Transport,
    max_packet_size: u16,
}

impl Link {
    pub(super) const fn new(
        remote: SocketAddr,
        sids: (LocalSid, Option<RemoteSid>),
        wrapping: Wrapping,
        transport: Transport,
        max_packet_size: u16,
    ) -> Self {
        Self { remote, local_sid: sids.0, remote_sid: sids.1, wrapping, transport, max_packet_size }
    }

    /// Draws a session id.
    pub(super) fn draw_sid(random: &mut RandomSource) -> LocalSid {
        loop {
            let mut raw = [0; 8];
            random(&mut raw);
            if let Some(sid) = culvert_wire::SessionId::new(raw) {
                return LocalSid(sid);
            }
        }
    }

    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.transport, Transport::Tcp)
    }

    /// How many TLS bytes fit into a packet of this key, room for acknowledgements left.
    pub(super) fn room(&self, key: KeyId) -> usize {
        let ip = if self.remote.is_ipv4() { 20 } else { 40 };
        let transport = match self.transport {
            Transport::Udp => 8,
            Transport::Tcp => 20,
        };
        let overhead = ip
            + transport
            + ControlHeader::LEN
            + body_overhead(ACKS_WITH_MESSAGE)
            + MESSAGE_ID_LEN
            + self.wrapping.reserved(key);
        usize::from(self.max_packet_size).saturating_sub(overhead).max(MIN_PAYLOAD)
    }

    /// Length of the wrapped client key, where the server wants it again.
    pub(super) fn wkc_len(&self) -> usize {
        self.wrapping.keys().wkc_len()
    }

    pub(super) fn open<'p>(
        &mut self,
        now: Now,
        packet: &'p [u8],
        scratch: &'p mut [u8],
    ) -> Result<Control<'p>, WrapError> {
        self.wrapping.unwrap(now, packet, scratch)
    }

    pub(super) fn seal(
        &mut self,
        now: Now,
        packet: &Control<'_>,
        out: &mut [u8],
    ) -> Result<usize, WrapError> {
        self.wrapping.wrap(now, packet, out)
    }

    pub(super) fn enable_dynamic(&mut self, exported: KeyMaterial, role: TlsRole) {
        self.wrapping.enable_dynamic(exported, role);
    }
}
