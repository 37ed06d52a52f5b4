//! Threads for the steps of a handshake that cost a millisecond: signatures, key agreement, certificate chains.
//!
//! The control plane's one thread hands a session over together with the step, and gets both back. A step waits in one
//! of two queues: those of established sessions, which renegotiate, are taken before those of newcomers, of whom there
//! may be a flood. The threads yield to all others of the machine ([`YIELDING`]): where cores are idle, handshakes run at
//! full speed; where the data plane needs them, it hardly notices (SEC-CTL-5).

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::Builder,
};

use tokio::sync::oneshot;
use tracing::debug;

/// Added to the nice value of these threads. At 10 a busy thread gets a tenth of what the data plane's gets where both
/// want the same core: about a hundred handshakes a second even then.
const YIELDING: i32 = 10;

/// Steps of newcomers that may wait (SEC-CTL-5). Each session has one step at a time, so the limits on unfinished
/// sessions are usually met before.
const NEWCOMERS: usize = 1024;

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// A session whose data flows, and stops flowing if its renegotiation fails.
    Established,
    /// Anybody else.
    Newcomer,
}

/// What became of a step.
pub(crate) enum Outcome<S> {
    /// The session, after the step.
    Done(Box<S>),
    /// The session as it was: too many wait. The peer will repeat its packet.
    Busy(Box<S>),
    /// The step panicked; what it worked on is gone.
    Panicked(Box<dyn Any + Send>),
}

/// A bounded set of threads for handshake steps of sessions `S`. They are started when they are needed.
pub(crate) struct Handshakes<S> {
    shared: Arc<Shared<S>>,
    most_threads: usize,
}

struct Shared<S> {
    queues: Mutex<Queues<S>>,
    filled: Condvar,
}

struct Queues<S> {
    established: VecDeque<Job<S>>,
    newcomers: VecDeque<Job<S>>,
    threads: usize,
    idle: usize,
    over: bool,
}

type Step<S> = Box<dyn FnOnce(&mut S) + Send>;

struct Job<S> {
    session: Box<S>,
    step: Step<S>,
    done: oneshot::Sender<Outcome<S>>,
}

impl<S: Send + 'static> Handshakes<S> {
    /// At most `threads` of them, one at least.
    pub(crate) fn new(threads: usize) -> Self {
        let queues = Queues {
            established: VecDeque::new(),
            newcomers: VecDeque::new(),
            threads: 0,
            idle: 0,
            over: false,
        };
        let shared = Shared { queues: Mutex::new(queues), filled: Condvar::new() };
        Self { shared: Arc::new(shared), most_threads: threads.max(1) }
    }

    /// Runs a step of a session on one of the threads.
    pub(crate) async fn run(
        &self,
        rank: Rank,
        session: Box<S>,
        step: impl FnOnce(&mut S) + Send + 'static,
    ) -> Outcome<S> {
        let (done, outcome) = oneshot::channel();
        if let Err(job) = self.enqueue(rank, Job { session, step: Box::new(step), done }) {
            return Outcome::Busy(job.session);
        }
        // A thread always answers, and the queues are emptied only by threads.
        outcome.await.unwrap_or_else(|gone| Outcome::Panicked(Box::new(gone)))
    }

    fn enqueue(&self, rank: Rank, job: Job<S>) -> Result<(), Job<S>> {
        let mut queues = self.shared.lock();
        match rank {
            Rank::Established => queues.established.push_back(job),
            Rank::Newcomer if queues.newcomers.len() < NEWCOMERS => queues.newcomers.push_back(job),
            Rank::Newcomer => return Err(job),
        }
        if queues.idle > 0 {
            self.shared.filled.notify_one();
        } else if queues.threads < self.most_threads {
            self.start_thread(&mut queues);
        }
        Ok(())
    }

    fn start_thread(&self, queues: &mut Queues<S>) {
        let shared = Arc::clone(&self.shared);
        match Builder::new().name("culvert-tls".to_owned()).spawn(move || shared.work()) {
            Ok(_runs_until_dropped) => queues.threads += 1,
            Err(failure) if queues.threads > 0 => debug!("no more threads for handshakes: {failure}"),
            // The unit's limit leaves none at all: slow is better than never.
            Err(failure) => {
                debug!("no thread for handshakes: {failure}");
                while let Some(job) = queues.next() {
                    job.run();
                }
            }
        }
    }
}

impl<S> Drop for Handshakes<S> {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.filled.notify_all();
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Queues<S>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread's life.
    fn work(&self) {
        if let Err(failure) = culvert_sys::process::yield_priority(YIELDING) {
            debug!("handshakes run as urgently as data: {failure}");
        }
        let mut queues = self.lock();
        while !queues.over {
            if let Some(job) = queues.next() {
                drop(queues);
                job.run();
                queues = self.lock();
            } else {
                queues.idle += 1;
                queues = self.filled.wait(queues).unwrap_or_else(PoisonError::into_inner);
                queues.idle -= 1;
            }
        }
    }
}

impl<S> Queues<S> {
    /// Who renegotiates comes first.
    fn next(&mut self) -> Option<Job<S>> {
        self.established.pop_front().or_else(|| self.newcomers.pop_front())
    }
}

impl<S> Job<S> {
    fn run(self) {
        let Self { mut session, step, done } = self;
        let stepped = catch_unwind(AssertUnwindSafe(move || {
            step(&mut session);
            session
        }));
        // Whoever asked may be gone: its session goes with it.
        let _gone = done.send(match stepped {
            Ok(session) => Outcome::Done(session),
            Err(panic) => Outcome::Panicked(panic),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Answer = oneshot::Receiver<Outcome<u32>>;

    /// A step that says whose it was.
    fn job(number: u32, seen: &mpsc::Sender<u32>) -> (Job<u32>, Answer) {
        let (done, answer) = oneshot::channel();
        let seen = seen.clone();
        let step: Step<u32> = Box::new(move |number| seen.send(*number).unwrap());
        (Job { session: Box::new(number), step, done }, answer)
    }

    /// Occupies the only thread until the sender is dropped.
    fn occupy(pool: &Handshakes<u32>) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let (done, _) = oneshot::channel();
        let step: Step<u32> = Box::new(move |_| {
            begun.send(()).unwrap();
            let _opened = gate.recv();
        });
        assert!(pool.enqueue(Rank::Newcomer, Job { session: Box::new(0), step, done }).is_ok());
        has_begun.recv().unwrap();
        open
    }

    #[test]
    fn who_renegotiates_comes_before_newcomers() {
        let pool = Handshakes::new(1);
        let (seen, order) = mpsc::channel();
        let gate = occupy(&pool);
        for (number, rank) in [(1, Rank::Newcomer), (2, Rank::Newcomer), (3, Rank::Established)] {
            assert!(pool.enqueue(rank, job(number, &seen).0).is_ok());
        }
        drop((gate, seen));
        assert_eq!(order.iter().collect::<Vec<_>>(), [3, 1, 2]);
    }

    #[test]
    fn sec_ctl_5_a_crowd_of_newcomers_is_bounded_and_keeps_nobody_from_renegotiating() {
        let pool = Handshakes::new(1);
        let (seen, _order) = mpsc::channel();
        let _gate = occupy(&pool);
        for number in 0..NEWCOMERS {
            assert!(pool.enqueue(Rank::Newcomer, job(u32::try_from(number).unwrap(), &seen).0).is_ok());
        }
        assert!(pool.enqueue(Rank::Newcomer, job(0, &seen).0).is_err());
        assert!(pool.enqueue(Rank::Established, job(0, &seen).0).is_ok());
    }

    #[tokio::test]
    async fn a_step_that_panics_takes_its_session_and_no_thread_with_it() {
        let pool = Handshakes::new(1);
        let outcome = pool.run(Rank::Newcomer, Box::new(1), |_: &mut u32| panic!("a test")).await;
        assert!(matches!(outcome, Outcome::Panicked(_)));
        let outcome = pool.run(Rank::Newcomer, Box::new(1), |number| *number += 1).await;
        assert!(matches!(outcome, Outcome::Done(number) if *number == 2));
    }
}
