//! The queue between those who log and the thread that writes.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{line::Severity, outage::Destination, sink::Sink};

/// Lines that may wait (SEC-LOG-2); more are dropped and counted.
const CAPACITY: usize = 8192;
/// How long [`Queue::flush`] waits for a slow disk.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// What waits to be written.
#[derive(Debug)]
pub(super) enum Entry {
    Line(Severity, String),
    /// From here on write elsewhere.
    Switch(Sink),
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    dropped: u64,
    writing: bool,
}

/// Whom the thread asks about lines of its own.
pub(super) trait Owner: Send + 'static {
    /// Makes a line of a text.
    fn render(&self, severity: Severity, text: &str) -> String;
    /// The destination failed: others who see the log are told.
    fn alarm(&self, text: &str);
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
}

impl Queue {
    /// Starts the thread that owns `destination` from here on. It ends with the process.
    pub(super) fn start(destination: Destination, owner: impl Owner) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let its = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || its.run(destination, &owner))?;
        Ok(queue)
    }

    /// Appends an entry, never waiting for the disk.
    pub(super) fn push(&self, entry: Entry) {
        let mut state = self.lock();
        if state.entries.len() >= CAPACITY && matches!(entry, Entry::Line(..)) {
            state.dropped += 1;
            return;
        }
        state.entries.push_back(entry);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until everything is written, within limits.
    pub(super) fn flush(&self) {
        let state = self.lock();
        let busy = |state: &mut State| state.writing || !state.entries.is_empty();
        let _ = self.drained.wait_timeout_while(state, FLUSH_LIMIT, busy).map_err(PoisonError::into_inner);
    }

    fn run(&self, mut destination: Destination, owner: &impl Owner) {
        let render = |severity, text: &str| owner.render(severity, text);
        loop {
            let (batch, dropped) = self.take();
            for entry in batch {
                match entry {
                    Entry::Line(severity, line) => {
                        if let Some(alarm) = destination.write(severity, &line, &render) {
                            owner.alarm(&alarm);
                        }
                    }
                    Entry::Switch(new) => destination.switch(new),
                }
            }
            if dropped > 0 {
                destination.count_lost(dropped, "the log could not be written fast enough");
                // If not now, then with the next line.
                let _not_now = destination.tell_losses(&render);
            }
            self.lock().writing = false;
            self.drained.notify_all();
        }
    }

    /// Waits for entries and takes all of them.
    fn take(&self) -> (VecDeque<Entry>, u64) {
        let mut state = self.lock();
        while state.entries.is_empty() {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        (std::mem::take(&mut state.entries), std::mem::take(&mut state.dropped))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Owner for Nobody {
        fn render(&self, _: Severity, text: &str) -> String {
            text.to_owned()
        }

        fn alarm(&self, _: &str) {}
    }

    /// SEC-LOG-2
    #[test]
    fn a_full_queue_drops_and_counts() {
        let queue = Queue::default();
        for index in 0..CAPACITY + 3 {
            queue.push(Entry::Line(Severity::Info, index.to_string()));
        }
        let (entries, dropped) = queue.take();
        assert_eq!((entries.len(), dropped), (CAPACITY, 3));
    }

    #[test]
    fn flush_returns_when_everything_is_written() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let destination = Destination::new(Sink::Memory(Arc::clone(&lines)), Arc::default());
        let queue = Queue::start(destination, Nobody).expect("a thread");
        for index in 0..1000 {
            queue.push(Entry::Line(Severity::Info, index.to_string()));
        }
        queue.flush();
        assert_eq!(lines.lock().expect("not poisoned").len(), 1000);
    }
}
