//! One thread for files that nobody waits for.
//!
//! It exists while there is something to write. What hangs in it (a network file system whose server is gone) holds up
//! what is written after it, and nothing else: threads for what logins need are others.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Enough for formatting a line of the log.
const STACK: usize = 256 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Executes jobs one after the other, elsewhere.
#[derive(Default)]
pub(crate) struct Writer {
    state: Mutex<State>,
    /// The thread has ended.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    is_running: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) const fn new() -> Self {
        let state = State { waiting: VecDeque::new(), is_running: false };
        Self { state: Mutex::new(state), idle: Condvar::new() }
    }

    /// Executes a job after those that came before. The caller bounds how many wait.
    ///
    /// # Errors
    /// There is no thread to be had; the job is dropped.
    pub(crate) fn run(&'static self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.lock();
        if !state.is_running {
            let writer = thread::Builder::new().name("culvert-write".to_owned()).stack_size(STACK);
            writer.spawn(|| self.work())?;
            state.is_running = true;
        }
        state.waiting.push_back(Box::new(job));
        Ok(())
    }

    /// Waits until nothing is left to do, or for so long; returns whether nothing is.
    pub(crate) fn finish(&self, limit: Duration) -> bool {
        let waited = self.idle.wait_timeout_while(self.lock(), limit, |state| state.is_running);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.waiting.pop_front();
        if job.is_none() {
            state.is_running = false;
            self.idle.notify_all();
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_are_executed_in_order_and_a_thread_that_ended_is_followed_by_another() {
        let writer: &Writer = Box::leak(Box::default());
        let (told, order) = mpsc::channel();
        for round in 0..2 {
            for number in 0..3 {
                let told = told.clone();
                writer.run(move || told.send((round, number)).unwrap()).unwrap();
            }
            assert!(writer.finish(Duration::MAX));
            let executed: Vec<_> = order.try_iter().collect();
            assert_eq!(executed, [(round, 0), (round, 1), (round, 2)]);
        }
    }

    #[test]
    fn whoever_waits_for_a_job_that_hangs_waits_no_longer_than_he_wants_to() {
        let writer: &Writer = Box::leak(Box::default());
        let (go_on, hangs) = mpsc::channel::<()>();
        writer.run(move || assert!(hangs.recv().is_err())).unwrap();
        assert!(!writer.finish(Duration::ZERO));
        drop(go_on);
        assert!(writer.finish(Duration::MAX));
    }
}
