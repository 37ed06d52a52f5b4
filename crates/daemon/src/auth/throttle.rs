//! Slows down guessing: after five failures in a row, further logins of that user and from that network wait for each
//! other, longer each time (SEC-AUTH-8).
//!
//! A wait is reserved, not slept through by each on its own: many guesses at a time are no faster than one after the other.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Failures that are free.
const FREE: u32 = 5;
/// The wait after the first failure that is not; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// How often it doubles.
const DOUBLINGS: u32 = 4;
/// Who would have to wait longer is refused at once.
pub(super) const LONGEST: Duration = Duration::from_secs(20);
/// Failures that are older are forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Users and networks that are remembered.
const ENTRIES: usize = 4096;

/// Whose failures are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A user name.
    User(String),
    /// The network that an address is from: /24, or /56.
    Network(IpAddr),
}

impl Subject {
    /// Both subjects of a login.
    pub(super) fn of(user: &str, from: IpAddr) -> [Self; 2] {
        let network = match from {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xFF).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !((1 << 72) - 1)).into()),
        };
        [Self::User(user.to_owned()), Self::Network(network)]
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    /// When the next login may be judged.
    free_at: Instant,
}

/// What is remembered of failures; a table of bounded size.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    records: HashMap<Subject, Record>,
}

impl Throttle {
    /// Reserves a turn; returns how long to wait for it. `None`: too long, refuse now.
    pub(super) fn admit(&mut self, subjects: &[Subject], now: Instant) -> Option<Duration> {
        let turn = |record: &Record| record.free_at.saturating_duration_since(now);
        let wait = subjects.iter().filter_map(|subject| self.records.get(subject)).map(turn).max();
        let wait = wait.unwrap_or_default();
        if wait > LONGEST {
            return None;
        }
        for subject in subjects {
            if let Some(record) = self.records.get_mut(subject).filter(|record| record.failures >= FREE) {
                record.free_at = now + wait + penalty(record.failures);
            }
        }
        Some(wait)
    }

    /// A login failed.
    pub(super) fn failed(&mut self, subjects: &[Subject], now: Instant) {
        for subject in subjects {
            self.make_room(subject, now);
            let record = self
                .records
                .entry(subject.clone())
                .and_modify(|record| record.failures = record.failures.saturating_add(1))
                .or_insert(Record { failures: 1, free_at: now });
            if record.failures >= FREE {
                record.free_at = record.free_at.max(now + penalty(record.failures));
            }
        }
    }

    /// A login succeeded: its user starts over. The network does not, lest one good account pay for guesses at others.
    pub(super) fn succeeded(&mut self, user: &str) {
        self.records.remove(&Subject::User(user.to_owned()));
    }

    fn make_room(&mut self, newcomer: &Subject, now: Instant) {
        if self.records.len() < ENTRIES || self.records.contains_key(newcomer) {
            return;
        }
        self.records.retain(|_, record| now < record.free_at + MEMORY);
        if self.records.len() >= ENTRIES
            && let Some(mildest) = self
                .records
                .iter()
                .min_by_key(|(_, record)| record.failures)
                .map(|(subject, _)| subject.clone())
        {
            self.records.remove(&mildest);
        }
    }
}

fn penalty(failures: u32) -> Duration {
    FIRST * (1 << failures.saturating_sub(FREE).min(DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> [Subject; 2] {
        Subject::of("alice", IpAddr::from([192, 0, 2, 7]))
    }

    #[test]
    fn sec_auth_8_the_sixth_guess_waits_and_the_next_waits_behind_it() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..FREE {
            assert_eq!(throttle.admit(&alice(), now), Some(Duration::ZERO));
            throttle.failed(&alice(), now);
        }
        assert_eq!(throttle.admit(&alice(), now), Some(FIRST));
        assert_eq!(throttle.admit(&alice(), now), Some(FIRST * 2), "at the same time, behind the first");
    }

    #[test]
    fn whoever_would_wait_too_long_is_refused() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..20 {
            throttle.failed(&alice(), now);
        }
        let admitted = (0..50).map_while(|_| throttle.admit(&alice(), now)).count();
        assert!(admitted < 5, "{admitted} guesses at once");
    }

    #[test]
    fn others_are_not_slowed_down_and_the_network_is_one_subject() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..20 {
            throttle.failed(&alice(), now);
        }
        let bob = |last| Subject::of("bob", IpAddr::from([192, 0, last, 8]));
        assert_eq!(throttle.admit(&bob(3), now), Some(Duration::ZERO), "another network");
        assert!(throttle.admit(&bob(2), now).is_none_or(|wait| wait > Duration::ZERO), "the same network");
    }

    #[test]
    fn a_success_lets_a_user_start_over() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let user = &alice()[..1];
        for _ in 0..20 {
            throttle.failed(user, now);
        }
        throttle.succeeded("alice");
        assert_eq!(throttle.admit(user, now), Some(Duration::ZERO));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_worst() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..20 {
            throttle.failed(&alice(), now);
        }
        for number in 0..2 * ENTRIES {
            throttle.failed(&[Subject::User(number.to_string())], now);
        }
        assert!(throttle.records.len() <= ENTRIES);
        assert!(throttle.records.contains_key(&alice()[0]));
    }
}
