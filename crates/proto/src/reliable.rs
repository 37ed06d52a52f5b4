//! The reliability layer of one key exchange: numbers, repeats and orders messages, and acknowledges the peer's.
//!
//! Not wrapping, not packets: [`Reliable`] says which message to send when ([`Reliable::poll_send`]) and which
//! acknowledgements to send along ([`Reliable::take_acks`]); each sending is wrapped anew by the caller.
//!
//! The walk of a message: [`Reliable::queue`] gives it an id, [`Reliable::poll_send`] lends it at once and again at
//! each timeout, [`Reliable::handle_acks`] drops it. On the other side [`Reliable::handle_message`] buffers it and
//! queues its acknowledgement, [`Reliable::next_in_order`] delivers it.
//!
//! Source: protocol document, "Reliability layer"; bounds from SEC-CTL-6 and SEC-CTL-7.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use culvert_wire::{AckBlock, MessageId, Opcode};

/// Messages that may be on their way at once.
pub const SEND_WINDOW: u32 = 6;
/// How far ahead of the next expected message one is accepted.
pub const RECEIVE_WINDOW: u32 = 12;
/// Acknowledgements on a packet that carries a message.
pub const ACKS_WITH_MESSAGE: usize = 4;
/// Longest time between two tries (SEC-CTL-7).
pub const MAX_RETRANSMIT_DELAY: Duration = Duration::from_secs(32);
/// Most tries of one message (SEC-CTL-7).
pub const MAX_TRIES: u32 = 16;
/// Later messages acknowledged before an earlier one is resent at once.
const FAST_RETRANSMIT_ACKS: u32 = 3;

/// Both directions of one key exchange.
#[derive(Debug)]
pub struct Reliable {
    timeout: Duration,
    next_id: MessageId,
    /// Unacknowledged messages, oldest first: ids ascend, with gaps where later ones were acknowledged first.
    pending: VecDeque<Pending>,
    /// A TCP server says nothing before its peer has spoken.
    held: bool,
    expected: MessageId,
    /// Messages from `expected` on, which are missing where `None`.
    received: VecDeque<Option<Message>>,
    /// Ids to acknowledge, oldest first.
    ack_queue: VecDeque<MessageId>,
    /// Ids acknowledged lately, latest first: they are repeated while there is room.
    acked: Vec<MessageId>,
}

/// A message as delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How it came: a reset, a soft reset, or TLS bytes.
    pub opcode: Opcode,
    /// Its content.
    pub payload: Vec<u8>,
}

/// A message to put on the wire now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Its id.
    pub id: MessageId,
    /// Its opcode.
    pub opcode: Opcode,
    /// Its content.
    pub payload: &'a [u8],
    /// 1 for the first sending.
    pub tries: u32,
}

/// What became of an arriving message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New: it will be delivered in its turn.
    New,
    /// Known already; it is acknowledged again.
    Duplicate,
    /// Outside of the window, or no acknowledgement could be queued; the peer will repeat it.
    Refused,
}

#[derive(Debug)]
struct Pending {
    id: MessageId,
    opcode: Opcode,
    payload: Vec<u8>,
    tries: u32,
    delay: Duration,
    due: Instant,
    later_acks: u32,
}

impl Reliable {
    /// Starts both directions at message 0. `timeout` is the first retransmission's (`tls-timeout`).
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout: timeout.min(MAX_RETRANSMIT_DELAY),
            next_id: MessageId(0),
            pending: VecDeque::new(),
            held: false,
            expected: MessageId(0),
            received: VecDeque::new(),
            ack_queue: VecDeque::new(),
            acked: Vec::new(),
        }
    }

    /// Continues a stateless start: the own reset (message 0) was sent and acknowledged, the peer's reset was seen
    /// and acknowledged. Both directions go on with message 1.
    #[must_use]
    pub fn after_stateless_reset(timeout: Duration) -> Self {
        let mut this = Self::new(timeout);
        this.next_id = MessageId(1);
        this.expected = MessageId(1);
        this.acked.push(MessageId(0));
        this
    }

    /// Holds everything back until [`Reliable::release`]: a TCP server waits for the client's first packet.
    pub const fn hold(&mut self) {
        self.held = true;
    }

    /// Ends [`Reliable::hold`].
    pub const fn release(&mut self) {
        self.held = false;
    }

    /// Returns whether the send window has room for another message.
    #[must_use]
    pub fn can_queue(&self) -> bool {
        self.window_left() > 0
    }

    /// How many messages may still be queued: the window counts from the lowest unacknowledged id.
    #[must_use]
    pub fn window_left(&self) -> u32 {
        let oldest = self.pending.front().map_or(self.next_id, |pending| pending.id);
        window_left(SEND_WINDOW, self.next_id, oldest)
    }

    /// Numbers a message and makes it due at once. Returns `None`, and drops it, when the window is full.
    pub fn queue(&mut self, now: Instant, opcode: Opcode, payload: Vec<u8>) -> Option<MessageId> {
        if !self.can_queue() {
            return None;
        }
        let id = self.next_id;
        self.next_id = id.next();
        let delay = self.timeout;
        self.pending.push_back(Pending { id, opcode, payload, tries: 0, delay, due: now, later_acks: 0 });
        Some(id)
    }

    /// Lends the next message that is due and sets its next try: the delay doubles with each.
    pub fn poll_send(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        if self.held {
            return None;
        }
        let pending = self.pending.iter_mut().find(|p| p.due <= now && p.tries < MAX_TRIES)?;
        pending.tries += 1;
        pending.later_acks = 0;
        pending.due = now + pending.delay;
        pending.delay = (pending.delay * 2).min(MAX_RETRANSMIT_DELAY);
        let Pending { id, opcode, ref payload, tries, .. } = *pending;
        Some(Outgoing { id, opcode, payload, tries })
    }

    /// Lends what the next packet is made of: a message that is due with acknowledgements beside it, or, when there
    /// are new ones, up to `alone` acknowledgements for a packet of their own. `None`: nothing to send now.
    pub fn poll_packet(&mut self, now: Instant, alone: usize) -> Option<(AckBlock, Option<Outgoing<'_>>)> {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            let acks = self.take_acks(ACKS_WITH_MESSAGE);
            return Some((acks, self.poll_send(now)));
        }
        self.has_acks().then(|| (self.take_acks(alone), None))
    }

    /// When [`Reliable::poll_send`] will have something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.held {
            return None;
        }
        self.pending.iter().filter(|p| p.tries < MAX_TRIES).map(|p| p.due).min()
    }

    /// Returns whether a message was tried as often as allowed and its last wait is over.
    #[must_use]
    pub fn is_exhausted(&self, now: Instant) -> bool {
        self.pending.iter().any(|p| p.tries >= MAX_TRIES && p.due <= now)
    }

    /// Returns whether everything queued was acknowledged.
    #[must_use]
    pub fn all_acked(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns whether this message was sent and acknowledged.
    #[must_use]
    pub fn is_acked(&self, id: MessageId) -> bool {
        is_before(id, self.next_id) && !self.pending.iter().any(|pending| pending.id == id)
    }

    /// Takes the peer's acknowledgements; returns how many messages they confirmed. Ids never sent or confirmed
    /// before have no effect (SEC-CTL-6). A message that three later ones overtook is due at once.
    pub fn handle_acks(&mut self, now: Instant, acks: &AckBlock) -> usize {
        let mut confirmed = 0;
        for &id in acks.as_slice() {
            let Some(at) = self.pending.iter().position(|pending| pending.id == id && pending.tries > 0)
            else {
                continue;
            };
            self.pending.remove(at);
            confirmed += 1;
            for earlier in self.pending.iter_mut().take(at) {
                earlier.later_acks += 1;
                if earlier.later_acks == FAST_RETRANSMIT_ACKS {
                    earlier.due = now;
                }
            }
        }
        confirmed
    }

    /// Forgets what was not acknowledged; only acknowledgements are left to send.
    pub fn give_up(&mut self) {
        self.pending = VecDeque::new();
    }

    /// Makes all messages due at once and restarts their delays: the peer has just shown that it is there.
    pub fn resend_now(&mut self, now: Instant) {
        for pending in &mut self.pending {
            pending.due = now;
            pending.delay = self.timeout;
        }
    }

    /// Takes a message from the peer and queues its acknowledgement.
    pub fn handle_message(&mut self, id: MessageId, opcode: Opcode, payload: &[u8]) -> Arrival {
        let ahead = id.since(self.expected);
        if ahead >= RECEIVE_WINDOW {
            if !is_before(id, self.expected) {
                return Arrival::Refused;
            }
            self.queue_ack(id);
            return Arrival::Duplicate;
        }
        if !self.queue_ack(id) {
            return Arrival::Refused;
        }
        let at = ahead as usize;
        if self.received.len() <= at {
            self.received.resize(at + 1, None);
        }
        match self.received.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(Message { opcode, payload: payload.to_vec() });
                Arrival::New
            }
            _ => Arrival::Duplicate,
        }
    }

    /// Delivers the next message in order, if it is here.
    pub fn next_in_order(&mut self) -> Option<Message> {
        let message = self.received.front_mut()?.take()?;
        self.received.pop_front();
        self.expected = self.expected.next();
        Some(message)
    }

    /// The id of the message that is delivered next.
    #[must_use]
    pub const fn expected(&self) -> MessageId {
        self.expected
    }

    /// Returns whether acknowledgements wait to be sent, if need be in a packet of their own.
    #[must_use]
    pub fn has_acks(&self) -> bool {
        !self.ack_queue.is_empty()
    }

    /// Takes up to `limit` acknowledgements for the next packet: new ones, and as far as there is room those sent
    /// lately, so that the loss of a packet does not cost a retransmission.
    pub fn take_acks(&mut self, limit: usize) -> AckBlock {
        let limit = limit.min(AckBlock::MAX);
        let fresh: Vec<_> = self.ack_queue.drain(..limit.min(self.ack_queue.len())).collect();
        remember(&mut self.acked, &fresh);
        self.acked.iter().copied().take(limit).collect()
    }

    fn queue_ack(&mut self, id: MessageId) -> bool {
        if self.ack_queue.contains(&id) {
            return true;
        }
        if self.ack_queue.len() >= AckBlock::MAX {
            return false;
        }
        self.ack_queue.push_back(id);
        true
    }
}

/// Moves ids to the front of a most-recently-used list of at most eight, keeping their order.
fn remember(list: &mut Vec<MessageId>, fresh: &[MessageId]) {
    let mut merged = Vec::with_capacity(AckBlock::MAX);
    for &id in fresh.iter().chain(list.iter()) {
        if merged.len() < AckBlock::MAX && !merged.contains(&id) {
            merged.push(id);
        }
    }
    *list = merged;
}

/// Places left in a window of `size` ids when `next` is the id to be given and `oldest` is unacknowledged.
const fn window_left(size: u32, next: MessageId, oldest: MessageId) -> u32 {
    size.saturating_sub(next.since(oldest))
}

/// Order modulo 2^32.
const fn is_before(a: MessageId, b: MessageId) -> bool {
    let distance = b.since(a);
    distance != 0 && distance < 1 << 31
}

#[cfg(test)]
#[path = "reliable_tests.rs"]
mod tests;
