//! Packets in: which exchange they belong to, and whether they may be looked at at all.

use std::net::SocketAddr;

use culvert_wire::{Control, ControlHeader, KeyId, MessageId, Now, Opcode};

use super::{Beginning, Phase, Session};
use crate::{CloseReason, Event, Mode, ProtoError};

/// Longest control packet that is unwrapped; stock peers receive less than 1800 bytes.
const MAX_PACKET: usize = 2048;

type Dropped = ProtoError;

impl Session {
    pub(super) fn receive(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) -> Result<(), Dropped> {
        if matches!(self.phase, Phase::Closed) {
            return dropped("session is closed");
        }
        if from != self.link.remote {
            // Control packets do not float: only authenticated data moves the address (trap 23).
            return dropped("control packet from another address");
        }
        if bytes.len() > MAX_PACKET {
            return dropped("control packet too long");
        }
        let Ok((header, _)) = ControlHeader::parse(bytes) else {
            return self.malformed("malformed control packet");
        };
        self.check_header(&header).inspect_err(|_| self.refused.otherwise())?;
        let mut scratch = [0; MAX_PACKET];
        let packet = match self.link.open(now, bytes, &mut scratch) {
            Ok(packet) => packet,
            Err(error) => {
                self.refused.by_wrapping(&error);
                if self.link.is_tcp() {
                    self.close(CloseReason::Protocol(error.to_string()));
                }
                return dropped("control packet does not unwrap");
            }
        };
        self.check_packet(&packet).inspect_err(|_| self.refused.otherwise())?;
        if !self.started {
            self.started = true;
            self.link.remote_sid = Some(packet.sender());
            self.emit(Event::Started(from, packet.sender()));
        }
        self.hear(now);
        self.dispatch(now, &packet)
    }

    /// What can be said before the wrapping was checked.
    fn check_header(&self, header: &ControlHeader) -> Result<(), Dropped> {
        let from_server = header.opcode == Opcode::HardResetServerV2;
        let from_client = matches!(
            header.opcode,
            Opcode::HardResetClientV2 | Opcode::HardResetClientV3 | Opcode::ControlWkcV1
        );
        let is_server = self.config.mode.is_tls_server();
        if (is_server && from_server) || (!is_server && from_client) {
            return dropped("opcode of the other role");
        }
        match self.link.remote_sid {
            Some(sid) if sid.0 != header.session_id => return dropped("unknown session id"),
            None if !from_server => return dropped("no reset yet"),
            _ => {}
        }
        if (from_server || from_client) && header.key_id != KeyId::FIRST {
            return dropped("reset with a key id");
        }
        Ok(())
    }

    /// What can be said once the packet is authentic, as far as the wrapping goes.
    fn check_packet(&self, packet: &Control<'_>) -> Result<(), Dropped> {
        match packet.echoed_local() {
            Some(sid) if sid != self.link.local_sid => return dropped("acknowledgement for another session"),
            // A stranger who cannot read our packets cannot answer them either. Point-to-point servers of stock
            // OpenVPN with a `remote` send their reset unasked.
            None if !self.started && self.config.mode == Mode::Client => {
                return dropped("reset that acknowledges nothing");
            }
            _ => {}
        }
        let is_hard_reset = matches!(
            packet.header.opcode,
            Opcode::HardResetServerV2 | Opcode::HardResetClientV2 | Opcode::HardResetClientV3
        );
        if is_hard_reset && packet.message_id != Some(MessageId(0)) {
            // SEC-CTL-8
            return dropped("hard reset that is not message 0");
        }
        Ok(())
    }

    fn dispatch(&mut self, now: Now, packet: &Control<'_>) -> Result<(), Dropped> {
        let key = packet.header.key_id;
        let begins = packet.header.opcode == Opcode::SoftResetV1 && packet.message_id == Some(MessageId(0));
        if begins && self.may_follow(key) {
            self.follow(now, key)?;
        }
        match (&mut self.exchange, &mut self.former) {
            (Some(exchange), _) if exchange.key() == key => {
                exchange.handle_packet(now, packet).map_err(ProtoError::Dropped)
            }
            (_, Some(former)) if former.key() == key => {
                former.handle_packet(now, packet).map_err(ProtoError::Dropped)
            }
            _ => dropped("packet of another key"),
        }
    }

    /// Whether a soft reset for this key is the peer's start of the next exchange.
    fn may_follow(&self, key: KeyId) -> bool {
        !self.is_ending() && self.exchange.as_ref().is_some_and(|exchange| exchange.key().next() == key)
    }

    /// The peer renegotiates.
    fn follow(&mut self, now: Now, key: KeyId) -> Result<(), Dropped> {
        if let Some(exchange) = &mut self.exchange {
            exchange.assume_delivered();
        }
        self.after_active(now);
        if !self.exchange.as_ref().is_some_and(super::Exchange::is_keyed) {
            return dropped("soft reset before the key is in use");
        }
        self.log(3, format!("TLS: soft reset by the peer, key id {key}"));
        self.begin_renegotiation(now);
        Ok(())
    }

    /// A renegotiation begins, from whichever side.
    pub(super) fn begin_renegotiation(&mut self, now: Now) {
        let Some(exchange) = &self.exchange else { return };
        let key = exchange.key().next();
        let ops = self.schedule.negotiation_began();
        self.emit_keys(ops);
        self.retire_exchange(now);
        self.open_exchange(now, key, Beginning::Reset(Opcode::SoftResetV1));
    }

    /// A packet without the layout of one: on a stream nothing after it can be trusted.
    fn malformed(&mut self, what: &'static str) -> Result<(), Dropped> {
        if self.link.is_tcp() {
            self.close(CloseReason::Protocol(what.to_owned()));
        }
        dropped(what)
    }
}

const fn dropped<T>(reason: &'static str) -> Result<T, Dropped> {
    Err(ProtoError::Dropped(reason))
}
