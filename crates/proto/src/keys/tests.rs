use culvert_crypto::{DataFormat, KeyMaterial, TlsRole};
use culvert_wire::CipherName;
use proptest::prelude::*;

use super::*;

fn key(id: KeyId) -> DataKey {
    let material = KeyMaterial::from_slice(&[7; KeyMaterial::LEN]).unwrap();
    material.data_key(TlsRole::Client, CipherName::Aes256Gcm, DataFormat::Classic, id).unwrap()
}

fn timing() -> Timing {
    Timing {
        hand_window: Duration::from_secs(60),
        tran_window: Duration::from_secs(3600),
        tls_timeout: Duration::from_secs(2),
        reneg_after: Duration::from_secs(3600),
        reneg_sec: Duration::from_secs(3600),
        reneg_bytes: None,
        reneg_packets: None,
    }
}

/// What an offload makes of the operations.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slots {
    primary: Option<KeyId>,
    secondary: Option<KeyId>,
}

impl Slots {
    fn apply(&mut self, ops: Vec<KeyOp>) {
        for op in ops {
            match op {
                KeyOp::New(Slot::Primary, key) => assert_eq!(self.primary.replace(key.id()), None),
                KeyOp::New(Slot::Secondary, key) => assert_eq!(self.secondary.replace(key.id()), None),
                KeyOp::Swap => {
                    assert!(self.primary.is_some() && self.secondary.is_some());
                    std::mem::swap(&mut self.primary, &mut self.secondary);
                }
                KeyOp::Delete(Slot::Primary) => panic!("the sending key is never deleted"),
                KeyOp::Delete(Slot::Secondary) => assert!(self.secondary.take().is_some()),
            }
        }
    }

    fn of(ring: KeyRing) -> Self {
        let (primary, secondary) = match ring {
            KeyRing::Empty => (None, None),
            KeyRing::One(sending) => (Some(sending), None),
            KeyRing::Rekeying { sending, next } => (Some(sending), Some(next)),
            KeyRing::Draining { sending, previous } => (Some(sending), Some(previous)),
        };
        Self { primary, secondary }
    }
}

proptest! {
    /// The operations, executed by an offload, lead to the slots that the ring names; no slot is overwritten, no empty
    /// one swapped or deleted.
    #[test]
    fn ring_and_offload_always_agree(steps in proptest::collection::vec(0_u8..3, 0..60)) {
        let mut ring = KeyRing::Empty;
        let mut slots = Slots::default();
        let mut id = KeyId::FIRST;
        for step in steps {
            let (next, ops) = match step {
                0 => {
                    let result = ring.install(key(id));
                    id = id.next();
                    result
                }
                1 => ring.promote(),
                _ => ring.retire(),
            };
            ring = next;
            slots.apply(ops);
            prop_assert_eq!(&slots, &Slots::of(ring));
            prop_assert_eq!(slots.primary, ring.sending());
        }
    }
}

/// Installs a key whose negotiation is over at both ends.
fn install(schedule: &mut KeySchedule, id: KeyId, times: (Instant, Instant), timing: &Timing) {
    schedule.install(key(id));
    schedule.activate(times, timing);
}

#[test]
fn a_key_that_the_other_end_may_lack_only_decrypts() {
    let began = Instant::now();
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing());
    let ops = schedule.install(key(KeyId::FIRST.next()));
    assert!(matches!(ops[..], [KeyOp::New(Slot::Secondary, _)]));
    assert_eq!(schedule.poll_timeout(), None);
    assert_eq!(schedule.ring().sending(), Some(KeyId::FIRST));
}

#[test]
fn the_old_key_sends_until_the_switch_delay_and_decrypts_until_the_transition_window() {
    let began = Instant::now();
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing());
    assert_eq!(schedule.poll_timeout(), None);
    let next = KeyId::FIRST.next();
    install(&mut schedule, next, (began, began), &timing());
    assert_eq!(schedule.poll_timeout(), Some(began + Duration::from_secs(60)));
    assert!(schedule.handle_timeout(began + Duration::from_secs(59)).is_empty());
    assert!(matches!(schedule.handle_timeout(began + Duration::from_secs(60))[..], [KeyOp::Swap]));
    assert_eq!(schedule.poll_timeout(), Some(began + Duration::from_secs(3600)));
    let ops = schedule.handle_timeout(began + Duration::from_secs(3600));
    assert!(matches!(ops[..], [KeyOp::Delete(Slot::Secondary)]));
    assert_eq!(schedule.ring(), KeyRing::One(next));
}

#[test]
fn half_of_a_short_reneg_sec_bounds_the_switch_delay() {
    let began = Instant::now();
    let timing = Timing { reneg_sec: Duration::from_secs(10), ..timing() };
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing);
    install(&mut schedule, KeyId::FIRST.next(), (began, began), &timing);
    assert_eq!(schedule.poll_timeout(), Some(began + Duration::from_secs(5)));
}

#[test]
fn the_next_renegotiation_makes_a_pending_switch_due_at_once() {
    let began = Instant::now();
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing());
    install(&mut schedule, KeyId::FIRST.next(), (began, began), &timing());
    assert!(matches!(schedule.negotiation_began()[..], [KeyOp::Swap]));
    assert_eq!(schedule.ring().sending(), Some(KeyId::FIRST.next()));
    assert!(schedule.negotiation_began().is_empty());
}

#[test]
fn a_negotiation_that_took_long_leaves_the_peer_a_moment() {
    let began = Instant::now();
    let late = began + Duration::from_secs(70);
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing());
    install(&mut schedule, KeyId::FIRST.next(), (began, late), &timing());
    assert_eq!(schedule.poll_timeout(), Some(late + Duration::from_secs(1)));
}

#[test]
fn a_used_up_key_hastens_the_switch_to_the_next_one() {
    let began = Instant::now();
    let mut schedule = KeySchedule::default();
    install(&mut schedule, KeyId::FIRST, (began, began), &timing());
    assert!(!schedule.hasten(began));
    install(&mut schedule, KeyId::FIRST.next(), (began, began), &timing());
    assert!(schedule.hasten(began));
    assert_eq!(schedule.poll_timeout(), Some(began + Duration::from_secs(1)));
}
