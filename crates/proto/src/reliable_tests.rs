use culvert_testkit::{
    sim::{Faults, SimNet},
    vectors::{numbers, vector},
};
use culvert_wire::{Control, ControlHeader, KeyId, SessionId};
use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(2);

fn ids(list: &[u32]) -> AckBlock {
    list.iter().copied().map(MessageId).collect()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A sender with `n` messages sent once at `start`.
fn sent(start: Instant, n: u32) -> Reliable {
    let mut sender = Reliable::new(TIMEOUT);
    for at in 0..n {
        assert_eq!(sender.queue(start, Opcode::ControlV1, vec![0; 3]), Some(MessageId(at)));
    }
    while sender.poll_send(start).is_some() {}
    sender
}

/// The ids that are due.
fn due(sender: &mut Reliable, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| sender.poll_send(now).map(|out| out.id.0)).collect()
}

#[test]
fn acknowledgements_sent_lately_are_repeated() {
    for case in vector("ack_mru").cases() {
        let list = |field: &str| -> Vec<_> {
            numbers(&case[field]).into_iter().map(|n| MessageId(u32::try_from(n).unwrap())).collect()
        };
        let mut mru = list("mru");
        let n = usize::try_from(case["n"].as_u64().unwrap()).unwrap();
        remember(&mut mru, &list("acks")[..n]);
        assert_eq!(mru, list("result"), "{case}");
    }
}

#[test]
fn the_window_counts_from_the_lowest_unacknowledged_id() {
    let v = vector("reliable_window_available");
    let window = u32::try_from(v.input_u64("window")).unwrap();
    for case in v.cases() {
        let number = |n: u64| MessageId(u32::try_from(n).unwrap());
        let next = number(case["next"].as_u64().unwrap());
        let unacked = numbers(&case["unacked"]).into_iter().map(number);
        let oldest = unacked.max_by_key(|id| next.since(*id)).unwrap();
        assert_eq!(
            u64::from(window_left(window, next, oldest)),
            case["available"].as_u64().unwrap(),
            "{case}"
        );
    }
}

#[test]
fn six_messages_may_be_on_their_way() {
    let start = Instant::now();
    let mut sender = sent(start, SEND_WINDOW);
    assert!(!sender.can_queue());
    assert_eq!(sender.queue(start, Opcode::ControlV1, vec![]), None);
    sender.handle_acks(start, &ids(&[1, 2, 3, 4, 5]));
    assert!(!sender.can_queue(), "the window counts from the oldest");
    sender.handle_acks(start, &ids(&[0]));
    assert_eq!(sender.window_left(), SEND_WINDOW);
    assert_eq!(sender.queue(start, Opcode::ControlV1, vec![]), Some(MessageId(6)));
}

#[test]
fn a_message_is_repeated_with_doubled_delay() {
    let start = Instant::now();
    let mut sender = sent(start, 1);
    let mut at = start;
    for delay in [2, 4, 8, 16, 32, 32, 32] {
        at += secs(delay);
        assert_eq!(sender.poll_timeout(), Some(at));
        assert!(sender.poll_send(at.checked_sub(Duration::from_millis(1)).unwrap()).is_none());
        assert_eq!(due(&mut sender, at), [0]);
    }
}

#[test]
fn sec_ctl_7_a_message_is_tried_sixteen_times() {
    let start = Instant::now();
    let mut sender = sent(start, 1);
    let mut tries = 1;
    while let Some(at) = sender.poll_timeout() {
        tries += due(&mut sender, at).len();
        assert!(!sender.is_exhausted(at));
    }
    assert_eq!(tries, 16);
    assert!(sender.is_exhausted(start + secs(3_600)));
    assert!(!sender.all_acked());
}

#[test]
fn sec_ctl_6_acknowledgements_of_what_was_never_sent_are_ignored() {
    let start = Instant::now();
    let mut sender = sent(start, 2);
    sender.queue(start, Opcode::ControlV1, vec![]);
    assert_eq!(sender.handle_acks(start, &ids(&[2, 3, 77, u32::MAX])), 0);
    assert_eq!(due(&mut sender, start), [2], "queued, acknowledged in advance, and sent all the same");
    assert_eq!(sender.handle_acks(start, &ids(&[1, 1, 1])), 1);
    assert_eq!(sender.handle_acks(start, &ids(&[1])), 0);
    assert!(
        sender.is_acked(MessageId(1)) && !sender.is_acked(MessageId(0)) && !sender.is_acked(MessageId(9))
    );
}

#[test]
fn a_message_that_three_later_ones_overtook_is_resent_at_once() {
    let start = Instant::now();
    let mut sender = sent(start, 5);
    sender.handle_acks(start, &ids(&[1, 2]));
    assert_eq!(due(&mut sender, start), [] as [u32; 0]);
    sender.handle_acks(start, &ids(&[4]));
    assert_eq!(due(&mut sender, start), [0]);
    assert_eq!(due(&mut sender, start), [] as [u32; 0], "once");
}

#[test]
fn sec_ctl_6_repeated_acknowledgements_do_not_resend_anything() {
    let start = Instant::now();
    let mut sender = sent(start, 3);
    for _ in 0..10 {
        sender.handle_acks(start, &ids(&[1, 2]));
    }
    assert_eq!(due(&mut sender, start), [] as [u32; 0]);
}

#[test]
fn a_late_acknowledgement_does_not_restart_the_timer_of_others() {
    let start = Instant::now();
    let mut sender = sent(start, 2);
    sender.handle_acks(start + secs(1), &ids(&[0]));
    assert_eq!(sender.poll_timeout(), Some(start + secs(2)));
}

#[test]
fn the_first_packet_of_the_peer_makes_everything_due() {
    let start = Instant::now();
    let mut sender = sent(start, 2);
    due(&mut sender, start + secs(2));
    sender.resend_now(start + secs(3));
    assert_eq!(due(&mut sender, start + secs(3)), [0, 1]);
    assert_eq!(sender.poll_timeout(), Some(start + secs(5)), "delays start again");
}

#[test]
fn a_held_sender_is_silent_until_released() {
    let start = Instant::now();
    let mut sender = Reliable::new(TIMEOUT);
    sender.hold();
    sender.queue(start, Opcode::HardResetServerV2, vec![]);
    assert_eq!((sender.poll_timeout(), sender.poll_send(start)), (None, None));
    sender.release();
    assert_eq!(due(&mut sender, start), [0]);
}

#[test]
fn messages_are_delivered_in_order_and_once() {
    let mut receiver = Reliable::new(TIMEOUT);
    let arrive = |receiver: &mut Reliable, id: u32| {
        receiver.handle_message(MessageId(id), Opcode::ControlV1, &id.to_be_bytes())
    };
    assert_eq!(arrive(&mut receiver, 1), Arrival::New);
    assert_eq!(receiver.next_in_order(), None);
    assert_eq!(arrive(&mut receiver, 1), Arrival::Duplicate);
    assert_eq!(arrive(&mut receiver, 0), Arrival::New);
    assert_eq!(receiver.next_in_order().unwrap().payload, 0_u32.to_be_bytes());
    assert_eq!(receiver.next_in_order().unwrap().payload, 1_u32.to_be_bytes());
    assert_eq!(receiver.next_in_order(), None);
    assert_eq!(arrive(&mut receiver, 0), Arrival::Duplicate);
    assert_eq!(receiver.expected(), MessageId(2));
}

#[test]
fn sec_ctl_6_messages_beyond_the_window_are_refused_without_acknowledgement() {
    let mut receiver = Reliable::new(TIMEOUT);
    for id in [12, 13, 1 << 30, u32::MAX / 2] {
        assert_eq!(receiver.handle_message(MessageId(id), Opcode::ControlV1, b""), Arrival::Refused);
    }
    assert!(!receiver.has_acks());
    assert_eq!(receiver.handle_message(MessageId(11), Opcode::ControlV1, b""), Arrival::New);
}

#[test]
fn duplicates_are_acknowledged_again() {
    let mut receiver = Reliable::new(TIMEOUT);
    receiver.handle_message(MessageId(0), Opcode::ControlV1, b"");
    receiver.next_in_order();
    assert_eq!(receiver.take_acks(8), ids(&[0]));
    assert!(!receiver.has_acks());
    assert_eq!(receiver.handle_message(MessageId(0), Opcode::ControlV1, b""), Arrival::Duplicate);
    assert!(receiver.has_acks());
}

#[test]
fn a_message_whose_acknowledgement_finds_no_room_is_refused() {
    let mut receiver = Reliable::new(TIMEOUT);
    for id in 0..8 {
        assert_eq!(receiver.handle_message(MessageId(id), Opcode::ControlV1, b""), Arrival::New);
    }
    assert_eq!(receiver.handle_message(MessageId(8), Opcode::ControlV1, b""), Arrival::Refused);
    receiver.take_acks(4);
    assert_eq!(receiver.handle_message(MessageId(8), Opcode::ControlV1, b""), Arrival::New);
}

#[test]
fn acknowledgements_wait_for_a_message_that_is_due_and_go_alone_otherwise() {
    let start = Instant::now();
    let mut end = sent(start, 1);
    for id in 0..6 {
        end.handle_message(MessageId(id), Opcode::ControlV1, b"");
    }
    end.queue(start, Opcode::ControlV1, b"hello".to_vec());
    let (acks, message) = end.poll_packet(start, 8).unwrap();
    assert_eq!((acks, message.map(|out| out.id)), (ids(&[0, 1, 2, 3]), Some(MessageId(1))));
    let (acks, message) = end.poll_packet(start, 8).unwrap();
    assert_eq!((acks, message), (ids(&[4, 5, 0, 1, 2, 3]), None));
    assert_eq!(end.poll_packet(start, 8), None, "acknowledgements are not repeated for their own sake");
}

#[test]
fn acknowledgements_ride_in_portions_and_repeat() {
    let mut receiver = Reliable::new(TIMEOUT);
    for id in 0..6 {
        receiver.handle_message(MessageId(id), Opcode::ControlV1, b"");
    }
    assert_eq!(receiver.take_acks(4), ids(&[0, 1, 2, 3]));
    assert_eq!(receiver.take_acks(8), ids(&[4, 5, 0, 1, 2, 3]));
    assert_eq!(receiver.take_acks(4), ids(&[4, 5, 0, 1]));
}

#[test]
fn after_a_stateless_start_both_directions_go_on_with_message_one() {
    let start = Instant::now();
    let mut server = Reliable::after_stateless_reset(TIMEOUT);
    assert!(server.all_acked() && server.is_acked(MessageId(0)));
    assert_eq!(server.handle_message(MessageId(0), Opcode::HardResetClientV2, b""), Arrival::Duplicate);
    assert_eq!(server.handle_message(MessageId(1), Opcode::ControlV1, b"hello"), Arrival::New);
    assert_eq!(server.next_in_order().unwrap().payload, b"hello");
    assert_eq!(server.queue(start, Opcode::ControlV1, vec![]), Some(MessageId(1)));
}

/// One end of a conversation: it has messages to send, and collects what it is sent.
struct End {
    reliable: Reliable,
    to_send: VecDeque<Vec<u8>>,
    delivered: Vec<Vec<u8>>,
    sid: SessionId,
    address: std::net::SocketAddr,
}

impl End {
    fn new(name: u8, messages: usize) -> Self {
        let to_send = (0..messages).map(|n| vec![name, u8::try_from(n % 256).unwrap()]).collect();
        let address = std::net::SocketAddr::from(([192, 0, 2, name], 1194));
        let sid = SessionId::new([name; 8]).unwrap();
        Self { reliable: Reliable::new(TIMEOUT), to_send, delivered: vec![], sid, address }
    }

    /// Sends all that may be sent now.
    fn transmit(&mut self, net: &mut SimNet, other: (SessionId, std::net::SocketAddr)) {
        let now = net.now().mono;
        while self.reliable.can_queue() {
            let Some(message) = self.to_send.pop_front() else { break };
            self.reliable.queue(now, Opcode::ControlV1, message);
        }
        while let Some((acks, message)) = self.reliable.poll_packet(now, AckBlock::MAX) {
            let (id, payload) = message.map_or((None, vec![]), |out| (Some(out.id), out.payload.to_vec()));
            self.emit(net, other, acks, id, &payload);
        }
    }

    fn emit(
        &self,
        net: &mut SimNet,
        (peer, to): (SessionId, std::net::SocketAddr),
        acks: AckBlock,
        message_id: Option<MessageId>,
        payload: &[u8],
    ) {
        let opcode = if message_id.is_some() { Opcode::ControlV1 } else { Opcode::AckV1 };
        let header = ControlHeader { opcode, key_id: KeyId::FIRST, session_id: self.sid };
        let echoed = (!acks.is_empty()).then_some(peer);
        let mut out = [0; 100];
        let len = Control { header, acks, echoed, message_id, payload }.emit(&mut out).unwrap();
        // Corruption is wrapping's to find; here a checksum stands for it.
        let sum = out[..len].iter().fold(7_u8, |sum, byte| sum.rotate_left(3) ^ byte);
        out[len] = sum;
        net.send(self.address, to, &out[..=len]);
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let Some((sum, packet)) = bytes.split_last() else { return };
        if packet.iter().fold(7_u8, |sum, byte| sum.rotate_left(3) ^ byte) != *sum {
            return;
        }
        let Ok(control) = Control::parse(packet) else { return };
        self.reliable.handle_acks(now, &control.acks);
        if let Some(id) = control.message_id {
            self.reliable.handle_message(id, control.header.opcode, control.payload);
        }
        while let Some(message) = self.reliable.next_in_order() {
            self.delivered.push(message.payload);
        }
    }
}

/// Runs a conversation until everything arrived and was acknowledged; returns what each end got.
fn converse(seed: u64, faults: Faults, messages: usize) -> [Vec<Vec<u8>>; 2] {
    let mut net = SimNet::new(seed, faults);
    let mut ends = [End::new(1, messages), End::new(2, messages)];
    while ends.iter().any(|end| !end.to_send.is_empty() || !end.reliable.all_acked()) {
        assert!(net.elapsed() < secs(4 * 3_600), "seed {seed}: no progress");
        let names = ends.each_ref().map(|end| (end.sid, end.address));
        ends[0].transmit(&mut net, names[1]);
        ends[1].transmit(&mut net, names[0]);
        let next = [net.next_arrival(), ends[0].reliable.poll_timeout(), ends[1].reliable.poll_timeout()];
        let Some(next) = next.into_iter().flatten().min() else { break };
        net.advance_to(next);
        while let Some(datagram) = net.arrived() {
            let now = net.now().mono;
            let end = ends.iter_mut().find(|end| end.address == datagram.to).unwrap();
            end.receive(now, &datagram.bytes);
        }
    }
    ends.map(|end| end.delivered)
}

#[test]
fn a_conversation_over_a_good_network_needs_no_repetition() {
    let [a, b] = converse(1, Faults::none(), 40);
    assert_eq!((a.len(), b.len()), (40, 40));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_message_arrives_once_and_in_order_over_a_bad_network(
        seed in any::<u64>(),
        loss in 0_u16..350,
        messages in 1_usize..60,
    ) {
        let [to_a, to_b] = converse(seed, Faults { loss, ..Faults::bad() }, messages);
        let expected = |name| End::new(name, messages).to_send.into_iter().collect::<Vec<_>>();
        prop_assert_eq!(to_a, expected(2));
        prop_assert_eq!(to_b, expected(1));
    }

    #[test]
    fn sec_ctl_7_no_acknowledgement_stretches_a_delay_or_adds_a_try(
        steps in prop::collection::vec((0_u32..20, 0_u64..40), 1..200),
    ) {
        let start = Instant::now();
        let mut sender = sent(start, SEND_WINDOW);
        let (mut now, mut tries) = (start, [1_u32; 256]);
        for (ack, wait) in steps {
            now += secs(wait);
            sender.handle_acks(now, &ids(&[ack, ack, ack + 1]));
            while let Some(out) = sender.poll_send(now) {
                tries[out.id.0 as usize] += 1;
                prop_assert_eq!(out.tries, tries[out.id.0 as usize]);
                prop_assert!(out.tries <= MAX_TRIES);
            }
            if let Some(due) = sender.poll_timeout() {
                prop_assert!(due <= now + MAX_RETRANSMIT_DELAY);
            }
        }
    }

    #[test]
    fn any_sequence_of_messages_keeps_the_windows(
        steps in prop::collection::vec((any::<u32>(), 0_u32..40, any::<bool>()), 1..300),
    ) {
        let mut receiver = Reliable::new(TIMEOUT);
        let mut delivered = 0;
        for (wild, near, is_wild) in steps {
            let id = MessageId(if is_wild { wild } else { near });
            let before = receiver.expected();
            let arrival = receiver.handle_message(id, Opcode::ControlV1, b"");
            if arrival == Arrival::New {
                prop_assert!(id.since(before) < RECEIVE_WINDOW);
            }
            while receiver.next_in_order().is_some() {
                delivered += 1;
            }
            prop_assert_eq!(receiver.expected(), MessageId(delivered));
            prop_assert!(receiver.received.len() <= RECEIVE_WINDOW as usize);
            prop_assert!(receiver.take_acks(4).len() <= 4);
        }
    }
}
