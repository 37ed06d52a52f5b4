//! Slows down guessing, whoever judges the guesses: after a few failures, further logins wait for each other, longer each
//! time (SEC-AUTH-8).
//!
//! A wait is reserved, not slept through by each on its own: many guesses at a time are no faster than one after the other.
//! What was reserved is given back by whoever turns out to be right: only failures cost.
//!
//! And of one user from one network, no more are judged at a time than may still fail for nothing: guesses that all come at
//! once learn no more than those that wait for each other. That ends where a judge puts its answer off (somebody is in a
//! browser), and does not concern logins without a name.
//!
//! A user's failures are counted for each network apart: nobody locks out a user from elsewhere. All of them together
//! only ever delay, and by little, so that guesses from many networks are slowed down as well.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use culvert_proto::TemporaryFailure;
use tokio::sync::Notify;

use crate::clock;

/// The wait after the first failure that is not free; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// How often it doubles.
const DOUBLINGS: u32 = 4;
/// Who would have to wait longer is refused at once.
pub(crate) const LONGEST: Duration = Duration::from_secs(20);
/// The most that failures from elsewhere delay a user.
const FOREIGN: Duration = Duration::from_secs(3);
/// Failures that are older are forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Subjects that are remembered.
const ENTRIES: usize = 4096;

/// Whose failures are counted. Names are kept as keyed hashes: a long one takes no more room than a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// A user name from one network.
    UserAt(u64, IpAddr),
    /// The network that an address is from: /24, or /56.
    Network(IpAddr),
    /// A user name from anywhere.
    User(u64),
}

impl Subject {
    /// Failures that are free.
    fn free(self) -> u32 {
        match self {
            Self::UserAt(..) | Self::Network(_) => 5,
            Self::User(_) => 50,
        }
    }

    fn penalty(self, failures: u32) -> Duration {
        match failures.checked_sub(self.free()) {
            None => Duration::ZERO,
            Some(beyond) => FIRST * (1 << beyond.min(DOUBLINGS)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    failures: u32,
    /// When the last of them was.
    last: Instant,
    /// When the next login may be judged.
    free_at: Instant,
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.last + MEMORY
    }
}

/// A login that was let through to its judges. Say what became of it; one that is dropped counts as neither.
#[derive(Debug)]
pub(crate) struct Turn {
    /// How long to wait first.
    pub(crate) wait: Duration,
    subjects: [Subject; 3],
    reserved: [Duration; 3],
    /// It counts among those that are judged at a time.
    has_place: bool,
    throttle: Arc<Throttle>,
}

impl Turn {
    /// The answer may take long: others need not wait for it.
    pub(crate) fn give_up_place(&mut self) {
        if std::mem::take(&mut self.has_place) {
            self.throttle.judged(self.subjects[0]);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_up_place();
    }
}

/// What becomes of a login.
#[derive(Debug)]
enum Admitted {
    Turn(Turn),
    /// Others of the same user are being judged.
    Busy,
    /// It would be too long until its turn.
    Refused,
}

/// What is remembered of failures; a table of bounded size.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    hasher: RandomState,
    records: Mutex<HashMap<Subject, Record>>,
    /// Logins of a user from one network that are being judged. As bounded as sessions are.
    under_way: Mutex<HashMap<Subject, u32>>,
    /// One of them is no longer.
    ended: Notify,
}

impl Throttle {
    /// Reserves a turn, once no more than a few logins of this user are being judged; `None`: it would be too long until
    /// then, refuse now.
    pub(crate) async fn admit(self: &Arc<Self>, user: &str, from: IpAddr) -> Option<Turn> {
        loop {
            let ended = self.ended.notified();
            match self.try_admit(user, from, clock::now().mono) {
                Admitted::Turn(turn) => return Some(turn),
                Admitted::Refused => return None,
                Admitted::Busy => ended.await,
            }
        }
    }

    fn try_admit(self: &Arc<Self>, user: &str, from: IpAddr, now: Instant) -> Admitted {
        let subjects = self.subjects(user, from);
        let mut records = self.records();
        let mut wait = Duration::ZERO;
        for subject in subjects {
            if records.get(&subject).is_some_and(|record| record.is_over(now)) {
                records.remove(&subject);
            }
            let Some(record) = records.get(&subject) else { continue };
            let turn = record.free_at.saturating_duration_since(now);
            wait = wait.max(match subject {
                Subject::User(_) => turn.min(FOREIGN),
                Subject::UserAt(..) | Subject::Network(_) => turn,
            });
        }
        if wait > LONGEST {
            return Admitted::Refused;
        }
        let has_place = !user.is_empty();
        if has_place {
            let mut under_way = self.under_way();
            let failures = records.get(&subjects[0]).map_or(0, |record| record.failures);
            let at_a_time = subjects[0].free().saturating_sub(failures).max(1);
            let here = under_way.entry(subjects[0]).or_default();
            if *here >= at_a_time {
                return Admitted::Busy;
            }
            *here += 1;
        }
        let reserved = subjects.map(|subject| {
            let Some(record) = records.get_mut(&subject) else { return Duration::ZERO };
            let penalty = subject.penalty(record.failures);
            if !penalty.is_zero() {
                record.free_at = record.free_at.max(now + wait) + penalty;
            }
            penalty
        });
        Admitted::Turn(Turn { wait, subjects, reserved, has_place, throttle: Arc::clone(self) })
    }

    /// A login is not being judged any more.
    fn judged(&self, subject: Subject) {
        let mut under_way = self.under_way();
        if let Some(here) = under_way.get_mut(&subject) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                under_way.remove(&subject);
            }
        }
        drop(under_way);
        self.ended.notify_waiters();
    }

    /// A login failed.
    pub(crate) fn failed(&self, user: &str, from: IpAddr, now: Instant) {
        let mut records = self.records();
        for subject in self.subjects(user, from) {
            make_room(&mut records, subject, now);
            let fresh = Record { failures: 0, last: now, free_at: now };
            let record = records.entry(subject).or_insert(fresh);
            if record.is_over(now) {
                *record = fresh;
            }
            record.failures = record.failures.saturating_add(1);
            record.last = now;
            record.free_at = record.free_at.max(now + subject.penalty(record.failures));
        }
    }

    /// Nothing was guessed, or it was asked back: what was reserved is free again.
    pub(crate) fn give_back(&self, turn: &Turn, now: Instant) {
        let mut records = self.records();
        for (subject, reserved) in turn.subjects.iter().zip(turn.reserved) {
            if let Some(record) = records.get_mut(subject) {
                record.free_at = record.free_at.checked_sub(reserved).map_or(now, |earlier| earlier.max(now));
            }
        }
    }

    /// A login succeeded: its user starts over. The network does not, lest one good account pay for guesses at others.
    pub(crate) fn succeeded(&self, user: &str, from: IpAddr) {
        let mut records = self.records();
        for subject in self.subjects(user, from) {
            if !matches!(subject, Subject::Network(_)) {
                records.remove(&subject);
            }
        }
    }

    fn subjects(&self, user: &str, from: IpAddr) -> [Subject; 3] {
        let network = match from.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xFF).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !((1 << 72) - 1)).into()),
        };
        let user = self.hasher.hash_one(user);
        [Subject::UserAt(user, network), Subject::Network(network), Subject::User(user)]
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, u32>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a refusal for this reason is a failure: a question is none, and neither is that a judge has no time now.
pub(crate) fn is_guess(reason: Option<&str>) -> bool {
    !reason.is_some_and(|reason| reason.starts_with("CRV1:") || TemporaryFailure::is_meant_by(reason))
}

fn make_room(records: &mut HashMap<Subject, Record>, newcomer: Subject, now: Instant) {
    if records.len() < ENTRIES || records.contains_key(&newcomer) {
        return;
    }
    records.retain(|_, record| !record.is_over(now));
    if records.len() >= ENTRIES
        && let Some(mildest) =
            records.iter().min_by_key(|(_, record)| record.failures).map(|(&subject, _)| subject)
    {
        records.remove(&mildest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 8));

    fn turn(throttle: &Arc<Throttle>, user: &str, from: IpAddr, now: Instant) -> Option<Turn> {
        match throttle.try_admit(user, from, now) {
            Admitted::Turn(turn) => Some(turn),
            Admitted::Busy | Admitted::Refused => None,
        }
    }

    fn wait(throttle: &Arc<Throttle>, user: &str, from: IpAddr, now: Instant) -> Option<Duration> {
        turn(throttle, user, from, now).map(|turn| turn.wait)
    }

    /// So many failures of alice's at home.
    fn after(failures: u32, now: Instant) -> Arc<Throttle> {
        let throttle = Arc::new(Throttle::default());
        for _ in 0..failures {
            throttle.failed("alice", HOME, now);
        }
        throttle
    }

    #[test]
    fn a_reason_that_only_begins_like_a_temporary_failure_is_a_guess() {
        assert!(is_guess(Some("TEMPORARILY blocked")) && is_guess(None));
        assert!(!is_guess(Some("TEMP[backoff 5]")) && !is_guess(Some("CRV1:R:x:YQ==:Which?")));
    }

    #[test]
    fn sec_auth_8_the_sixth_guess_waits_and_the_next_waits_behind_it() {
        let now = Instant::now();
        let throttle = Arc::new(Throttle::default());
        for _ in 0..5 {
            assert_eq!(wait(&throttle, "alice", HOME, now), Some(Duration::ZERO));
            throttle.failed("alice", HOME, now);
        }
        assert_eq!(wait(&throttle, "alice", HOME, now), Some(FIRST));
        assert_eq!(
            wait(&throttle, "alice", HOME, now),
            Some(FIRST * 2),
            "at the same time, behind the first"
        );
    }

    #[test]
    fn sec_auth_8_guesses_that_come_at_once_wait_for_the_first_verdicts() {
        let now = Instant::now();
        let throttle = Arc::new(Throttle::default());
        let mut judged: Vec<_> = (0..100).map_while(|_| turn(&throttle, "alice", HOME, now)).collect();
        assert_eq!(judged.len(), 5);
        assert!(turn(&throttle, "bob", HOME, now).is_some(), "a colleague does not wait");
        assert!(turn(&throttle, "alice", ELSEWHERE, now).is_some());
        // One was right, the others wrong: then as many as have not failed yet.
        drop(judged.pop());
        throttle.succeeded("alice", HOME);
        judged.push(turn(&throttle, "alice", HOME, now).expect("there is room again"));
        for turn in judged {
            throttle.failed("alice", HOME, now);
            drop(turn);
        }
        let next = turn(&throttle, "alice", HOME, now).expect("after a while");
        assert_eq!(next.wait, FIRST);
        assert!(turn(&throttle, "alice", HOME, now).is_none(), "one at a time from here on");
        drop(next);
        assert!(throttle.under_way().is_empty());
    }

    #[test]
    fn nobody_waits_for_people_in_their_browsers_nor_behind_logins_without_a_name() {
        let now = Instant::now();
        let throttle = Arc::new(Throttle::default());
        let mut in_browsers: Vec<_> = (0..5).map_while(|_| turn(&throttle, "alice", HOME, now)).collect();
        assert!(turn(&throttle, "alice", HOME, now).is_none());
        in_browsers.iter_mut().for_each(Turn::give_up_place);
        assert!(turn(&throttle, "alice", HOME, now).is_some());
        drop(in_browsers);
        assert!(throttle.under_way().is_empty());
        let nameless: Vec<_> = (0..100).map_while(|_| turn(&throttle, "", HOME, now)).collect();
        assert_eq!(nameless.len(), 100);
    }

    #[tokio::test]
    async fn sec_auth_8_who_waits_for_others_is_heard_when_one_of_them_leaves() {
        let throttle = Arc::new(Throttle::default());
        let mut judged = Vec::new();
        for _ in 0..5 {
            judged.push(throttle.admit("alice", HOME).await.expect("nobody failed"));
        }
        let waiting = tokio::spawn({
            let throttle = Arc::clone(&throttle);
            async move { throttle.admit("alice", HOME).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(judged.pop());
        assert!(waiting.await.unwrap());
    }

    #[test]
    fn whoever_would_wait_too_long_is_refused() {
        let now = Instant::now();
        let throttle = after(20, now);
        let admitted = (0..50).map_while(|_| wait(&throttle, "alice", HOME, now)).count();
        assert!(admitted < 5, "{admitted} guesses at once");
    }

    #[test]
    fn others_are_not_slowed_down_and_the_network_is_one_subject() {
        let now = Instant::now();
        let throttle = after(20, now);
        assert_eq!(wait(&throttle, "bob", ELSEWHERE, now), Some(Duration::ZERO), "another network");
        let neighbour = IpAddr::from([192, 0, 2, 8]);
        assert!(wait(&throttle, "bob", neighbour, now).is_none_or(|wait| wait > Duration::ZERO));
        let mapped = "::ffff:192.0.2.8".parse().unwrap();
        assert!(wait(&throttle, "bob", mapped, now).is_none_or(|wait| wait > Duration::ZERO));
    }

    #[test]
    fn nobody_locks_a_user_out_from_elsewhere() {
        let now = Instant::now();
        let throttle = after(1000, now);
        for _ in 0..1000 {
            let wait = wait(&throttle, "alice", ELSEWHERE, now).expect("never refused");
            assert!(wait <= FOREIGN, "{wait:?}");
        }
    }

    #[test]
    fn guesses_from_many_networks_are_delayed_in_the_end() {
        let now = Instant::now();
        let throttle = Arc::new(Throttle::default());
        for network in 0..60 {
            throttle.failed("alice", IpAddr::from([10, 0, network, 1]), now);
        }
        assert!(wait(&throttle, "alice", ELSEWHERE, now).unwrap() > Duration::ZERO);
        assert_eq!(wait(&throttle, "bob", ELSEWHERE, now), Some(Duration::ZERO));
    }

    #[test]
    fn logins_that_succeed_cost_nobody_anything() {
        let now = Instant::now();
        let throttle = after(5, now);
        let later = now + LONGEST;
        for _ in 0..100 {
            let turn = turn(&throttle, "bob", HOME, later).unwrap();
            assert_eq!(turn.wait, Duration::ZERO);
            throttle.succeeded("bob", HOME);
            throttle.give_back(&turn, later);
        }
    }

    #[test]
    fn failures_are_forgotten_in_time() {
        let now = Instant::now();
        let throttle = after(20, now);
        let later = now + MEMORY;
        assert_eq!(wait(&throttle, "alice", HOME, later), Some(Duration::ZERO));
        let throttle = after(20, now);
        throttle.failed("alice", HOME, later);
        assert_eq!(wait(&throttle, "alice", HOME, later), Some(Duration::ZERO), "the first of a new count");
    }

    #[test]
    fn a_success_lets_a_user_start_over() {
        let now = Instant::now();
        let throttle = after(20, now);
        throttle.succeeded("alice", HOME);
        let records = throttle.records();
        assert_eq!(records.keys().filter(|subject| !matches!(subject, Subject::Network(_))).count(), 0);
        assert_eq!(records.len(), 1, "the network's count stays");
    }

    #[test]
    fn the_table_is_bounded_and_keeps_the_worst() {
        let now = Instant::now();
        let throttle = after(20, now);
        for number in 0..ENTRIES {
            throttle.failed(&number.to_string(), ELSEWHERE, now);
        }
        assert!(throttle.records().len() <= ENTRIES);
        assert!(throttle.records().contains_key(&throttle.subjects("alice", HOME)[0]));
    }
}
