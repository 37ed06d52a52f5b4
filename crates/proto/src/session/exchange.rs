//! One key exchange: a reset, a TLS connection, two key-method-2 messages, and then the control messages of its key.
//!
//! ```text
//! Resetting   --own reset acknowledged-->  Negotiating  --both key messages, all acknowledged-->  Active  -->  Keyed
//! ```
//!
//! Bytes go through three layers here: control messages and key messages, TLS, the reliability layer. What they mean
//! for the session is told in [`Step`]s. Source: protocol document, "State machine of one key".

use std::{sync::Arc, time::Instant};

use culvert_crypto::{KeyMaterial, TlsRole};
use culvert_wire::{Control, KeyId, Now, Opcode};
use zeroize::{Zeroize as _, Zeroizing};

use super::link::Link;
use crate::{
    ExportedKey,
    access::{Access, Granted, Question},
    control_message::{self, Extracted, MAX_PENDING},
    key_exchange::{
        Derivation, KeyMessage, KeyMessageError, KeySource, export_data_keys, export_dynamic_tls_crypt,
        export_peer_id,
    },
    reliable::{ACKS_WITH_MESSAGE, Arrival, Reliable},
    tls::{PeerIdentity, TlsError, TlsSession},
};

/// What the session has to know of, in order.
pub(super) enum Step {
    /// The TLS handshake is done; nothing goes on before the peer is accepted.
    PeerKnown { identity: Arc<PeerIdentity>, tls: String },
    /// The peer's key message.
    KeyMessage(KeyMessage),
    /// Everything was exchanged and acknowledged.
    Active,
}

/// Why an exchange cannot go on.
#[derive(Debug)]
pub(super) enum Failure {
    Tls(TlsError),
    Protocol(String),
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// See the module's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resetting,
    Negotiating { wrote: bool, read: bool },
    Active,
    Keyed,
}

/// How an exchange begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With this reset as our message 0.
    Reset(Opcode),
    /// After a stateless start: both resets are history.
    Stateless,
}

pub(super) struct Exchange {
    key: KeyId,
    role: TlsRole,
    began: Instant,
    stage: Stage,
    pub(super) access: Access,
    reliable: Reliable,
    tls: Box<dyn TlsSession>,
    /// TLS bytes that are not yet in messages.
    outgoing: Vec<u8>,
    /// Decrypted and not yet understood.
    plaintext: Zeroizing<Vec<u8>>,
    own: KeySource,
    peer: Option<KeySource>,
    /// The server wants the wrapped client key with our next message.
    resend_wkc: bool,
    peer_announced: bool,
    heard: bool,
    /// The data key is with the offload.
    installed: bool,
    /// It was not active in time.
    overdue: bool,
}

impl Exchange {
    pub(super) fn new(
        now: Now,
        key: KeyId,
        beginning: Beginning,
        tls: Box<dyn TlsSession>,
        own: KeySource,
        (role, tls_timeout): (TlsRole, std::time::Duration),
    ) -> Self {
        let (reliable, stage) = match beginning {
            Beginning::Reset(opcode) => {
                let mut reliable = Reliable::new(tls_timeout);
                reliable.queue(now.mono, opcode, Vec::new());
                (reliable, Stage::Resetting)
            }
            Beginning::Stateless => (
                Reliable::after_stateless_reset(tls_timeout),
                Stage::Negotiating { wrote: false, read: false },
            ),
        };
        let mut access = Access::default();
        if role == TlsRole::Client {
            // A server does not log in.
            access.answer(Question::Login, true);
        }
        Self {
            key,
            role,
            began: now.mono,
            stage,
            access,
            reliable,
            tls,
            outgoing: Vec::new(),
            plaintext: Zeroizing::new(Vec::new()),
            own,
            peer: None,
            resend_wkc: false,
            peer_announced: false,
            heard: false,
            installed: false,
            overdue: false,
        }
    }

    pub(super) const fn key(&self) -> KeyId {
        self.key
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Both key messages were exchanged and acknowledged: control messages may flow.
    pub(super) const fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Active | Stage::Keyed)
    }

    /// Both key messages are written and read, here: the other end may soon have ours.
    pub(super) const fn has_both_key_messages(&self) -> bool {
        self.is_active() || matches!(self.stage, Stage::Negotiating { wrote: true, read: true })
    }

    pub(super) const fn is_overdue(&self) -> bool {
        self.overdue
    }

    pub(super) const fn set_overdue(&mut self) {
        self.overdue = true;
    }

    pub(super) const fn is_installed(&self) -> bool {
        self.installed
    }

    pub(super) const fn set_installed(&mut self) {
        self.installed = true;
    }

    /// The data key is in use: the next exchange may begin.
    pub(super) const fn is_keyed(&self) -> bool {
        matches!(self.stage, Stage::Keyed)
    }

    pub(super) const fn set_keyed(&mut self) {
        self.stage = Stage::Keyed;
    }

    pub(super) fn is_tls_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Nothing of ours is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.reliable.all_acked()
    }

    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        self.reliable.is_exhausted(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.reliable.poll_timeout()
    }

    pub(super) fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.tls.identity()
    }

    /// Takes a packet of this key.
    pub(super) fn handle_packet(&mut self, now: Now, packet: &Control<'_>) -> Result<(), &'static str> {
        self.reliable.handle_acks(now.mono, &packet.acks);
        let Some(id) = packet.message_id else { return Ok(()) };
        if !self.heard {
            self.heard = true;
            self.reliable.resend_now(now.mono);
        }
        match self.reliable.handle_message(id, packet.header.opcode, packet.payload) {
            Arrival::New | Arrival::Duplicate => Ok(()),
            Arrival::Refused => Err("message outside of the receive window"),
        }
    }

    /// The peer began the next exchange, so it has everything of this one: the missing acknowledgement is implied.
    pub(super) fn assume_delivered(&mut self) {
        if self.stage == (Stage::Negotiating { wrote: true, read: true }) {
            self.stage = Stage::Active;
        }
    }

    /// Does what can be done and returns what the session must know; to be called until there is nothing.
    pub(super) fn next_step(&mut self) -> Result<Option<Step>, Failure> {
        self.deliver()?;
        self.tls.take(&mut self.outgoing);
        if self.stage == Stage::Resetting && self.reliable.all_acked() {
            self.stage = Stage::Negotiating { wrote: false, read: false };
        }
        if !self.peer_announced && !self.tls.is_handshaking() {
            self.peer_announced = true;
            let identity = self.tls.identity().cloned().unwrap_or_default();
            return Ok(Some(Step::PeerKnown { identity, tls: self.tls.description() }));
        }
        let Stage::Negotiating { wrote, read } = self.stage else { return Ok(None) };
        let may_read = self.access.is_accepted(Question::Peer) && (wrote || self.role == TlsRole::Server);
        if !read
            && may_read
            && let Some(message) = self.read_key_message()?
        {
            self.stage = Stage::Negotiating { wrote, read: true };
            return Ok(Some(Step::KeyMessage(message)));
        }
        if wrote && read && self.is_idle() {
            self.stage = Stage::Active;
            return Ok(Some(Step::Active));
        }
        Ok(None)
    }

    /// Whether our key message is still to be written.
    pub(super) const fn wants_key_message(&self) -> bool {
        matches!(self.stage, Stage::Negotiating { wrote: false, .. })
    }

    /// Writes our key message; `message` gets this exchange's contribution.
    pub(super) fn write_key_message(
        &mut self,
        options: &str,
        username: &str,
        password: &str,
        peer_info: String,
    ) -> Result<(), TlsError> {
        let message = KeyMessage {
            source: self.own.clone(),
            options: options.to_owned(),
            username: username.to_owned(),
            password: Zeroizing::new(password.to_owned()),
            peer_info: Some(peer_info),
        };
        self.tls.write(&message.encode(self.role))?;
        if let Stage::Negotiating { read, .. } = self.stage {
            self.stage = Stage::Negotiating { wrote: true, read };
        }
        Ok(())
    }

    /// Writes a control message as a record of its own.
    pub(super) fn write_text(&mut self, text: &str) -> Result<(), TlsError> {
        let mut record = Zeroizing::new(text.as_bytes().to_vec());
        record.push(0);
        self.tls.write(&record)
    }

    /// Takes the control messages that arrived.
    pub(super) fn take_texts(&mut self) -> Vec<Extracted> {
        if !self.is_active() || self.plaintext.is_empty() {
            return Vec::new();
        }
        let texts = control_message::split(&self.plaintext);
        self.plaintext.zeroize();
        texts
    }

    /// Cuts TLS bytes into messages, as far as the send window allows. Early alerts pass the reset, nothing else does.
    pub(super) fn fill(&mut self, now: Now, link: &Link) {
        self.tls.take(&mut self.outgoing);
        if self.stage == Stage::Resetting {
            return;
        }
        // SEC-CTL-8: who has no wrapped key is not moved by being asked for it.
        self.resend_wkc &= link.wkc_len() > 0;
        while !self.outgoing.is_empty() && self.reliable.can_queue() {
            let room = link.room(self.key);
            let (opcode, room) = if self.resend_wkc {
                (Opcode::ControlWkcV1, room.saturating_sub(link.wkc_len()))
            } else {
                (Opcode::ControlV1, room)
            };
            self.resend_wkc = false;
            let len = self.outgoing.len().min(room);
            let payload = self.outgoing.drain(..len).collect();
            self.reliable.queue(now.mono, opcode, payload);
        }
        if self.outgoing.is_empty() {
            // Most sessions are idle most of the time, and there are many.
            self.outgoing = Vec::new();
        }
        if self.resend_wkc && self.reliable.has_acks() && self.reliable.can_queue() {
            // A bare acknowledgement would reach a server that has kept nothing, the key included.
            self.resend_wkc = false;
            self.reliable.queue(now.mono, Opcode::ControlWkcV1, Vec::new());
        }
    }

    /// Another exchange takes over: what was not acknowledged is not repeated.
    pub(super) fn retire(&mut self) {
        self.reliable.give_up();
        self.outgoing = Vec::new();
    }

    /// Writes the next packet: a message that is due, or acknowledgements that wait.
    pub(super) fn emit(&mut self, now: Now, link: &mut Link, out: &mut [u8]) -> Option<usize> {
        let due = self.reliable.poll_timeout().is_some_and(|at| at <= now.mono);
        if !due && !self.reliable.has_acks() {
            return None;
        }
        let acks = self.reliable.take_acks(ACKS_WITH_MESSAGE);
        let echoed = link.remote_sid.filter(|_| !acks.is_empty()).map(|sid| sid.0);
        let message = self.reliable.poll_send(now.mono);
        let header =
            |opcode| culvert_wire::ControlHeader { opcode, key_id: self.key, session_id: link.local_sid.0 };
        let packet = match message {
            Some(message) => Control {
                header: header(message.opcode),
                acks,
                echoed,
                message_id: Some(message.id),
                payload: message.payload,
            },
            None => Control { header: header(Opcode::AckV1), acks, echoed, message_id: None, payload: &[] },
        };
        link.seal(now, &packet, out).ok()
    }

    /// Derives the key material of the data channel. Whoever calls proves that the peer was accepted.
    pub(super) fn data_keys(
        &self,
        _: &Granted,
        by_exporter: bool,
        link: &Link,
    ) -> Result<KeyMaterial, Failure> {
        if by_exporter {
            return Ok(export_data_keys(&*self.tls)?);
        }
        let (Some(peer), Some(remote_sid)) = (&self.peer, link.remote_sid) else {
            return Err(Failure::Protocol("no key material from the peer".to_owned()));
        };
        let (local, remote) = (link.local_sid.0, remote_sid.0);
        let derivation = match self.role {
            TlsRole::Client => Derivation {
                client: &self.own,
                server: peer,
                client_sid: local.as_bytes(),
                server_sid: remote.as_bytes(),
            },
            TlsRole::Server => Derivation {
                client: peer,
                server: &self.own,
                client_sid: remote.as_bytes(),
                server_sid: local.as_bytes(),
            },
        };
        Ok(derivation.prf())
    }

    pub(super) fn dynamic_tls_crypt(&self) -> Result<KeyMaterial, Failure> {
        Ok(export_dynamic_tls_crypt(&*self.tls)?)
    }

    /// Exports keying material for others.
    pub(super) fn exported(&self, label: &str, len: u16) -> Result<ExportedKey, Failure> {
        let mut key = Zeroizing::new(vec![0; usize::from(len)]);
        self.tls.export(label, &mut key)?;
        Ok(ExportedKey(key))
    }

    pub(super) fn exported_peer_id(&self) -> Result<[u8; 3], Failure> {
        Ok(export_peer_id(&*self.tls)?)
    }

    /// From the reliability layer through TLS into plaintext.
    fn deliver(&mut self) -> Result<(), Failure> {
        while let Some(message) = self.reliable.next_in_order() {
            match message.opcode {
                Opcode::HardResetServerV2 => self.resend_wkc |= asks_for_wkc(&message.payload)?,
                Opcode::ControlV1 | Opcode::ControlWkcV1 if !message.payload.is_empty() => {
                    self.tls.feed(&message.payload)?;
                    self.tls.read(&mut self.plaintext)?;
                }
                // Other resets carry nothing; an empty message was sent for its acknowledgements.
                _ => {}
            }
            if self.plaintext.len() > MAX_PENDING {
                return Err(Failure::Protocol("control message too long".to_owned()));
            }
        }
        Ok(())
    }

    fn read_key_message(&mut self) -> Result<Option<KeyMessage>, Failure> {
        if self.plaintext.is_empty() {
            return Ok(None);
        }
        let sender = match self.role {
            TlsRole::Client => TlsRole::Server,
            TlsRole::Server => TlsRole::Client,
        };
        match KeyMessage::decode(sender, &self.plaintext) {
            Ok((message, taken)) => {
                let rest = Zeroizing::new(self.plaintext.get(taken..).unwrap_or_default().to_vec());
                self.plaintext.zeroize();
                self.plaintext = rest;
                self.peer = Some(message.source.clone());
                Ok(Some(message))
            }
            Err(KeyMessageError::Incomplete) => Ok(None),
            Err(error) => Err(Failure::Protocol(error.text())),
        }
    }
}

/// Reads the TLVs of a server's reset: `u16 type, u16 length, value`. Type 1 are flags, bit 0 asks for the wrapped
/// client key again; other types are skipped.
fn asks_for_wkc(mut payload: &[u8]) -> Result<bool, Failure> {
    const EARLY_NEGOTIATION_FLAGS: u16 = 1;
    const RESEND_WKC: u16 = 1;
    let mut asks = false;
    while !payload.is_empty() {
        let tlv = payload.split_first_chunk::<4>().and_then(|(&[t0, t1, l0, l1], rest)| {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
            Some((u16::from_be_bytes([t0, t1]), value, rest))
        });
        let Some((kind, value, rest)) = tlv else {
            return Err(Failure::Protocol("malformed TLV in the server's reset".to_owned()));
        };
        if kind == EARLY_NEGOTIATION_FLAGS {
            let Ok(flags) = <[u8; 2]>::try_from(value) else {
                return Err(Failure::Protocol("malformed early negotiation flags".to_owned()));
            };
            asks |= u16::from_be_bytes(flags) & RESEND_WKC != 0;
        }
        payload = rest;
    }
    Ok(asks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_of_a_server_may_ask_for_the_wrapped_client_key() {
        assert!(asks_for_wkc(&[0, 1, 0, 2, 0, 1]).unwrap());
        assert!(!asks_for_wkc(&[]).unwrap());
        assert!(!asks_for_wkc(&[0, 9, 0, 1, 7]).unwrap());
        assert!(asks_for_wkc(&[0, 9, 0, 1, 7, 0, 1, 0, 2, 0, 3]).unwrap());
        for malformed in [&[0_u8][..], &[0, 1, 0, 2, 0], &[0, 1, 0, 1, 1], &[0, 9, 255, 255]] {
            assert!(asks_for_wkc(malformed).is_err(), "{malformed:?}");
        }
    }
}
