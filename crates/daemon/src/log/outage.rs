//! A destination that cannot be written for a while, as when its disk is full: said once, elsewhere; what is lost is
//! counted; and told in the log itself as soon as it can be written again (SEC-LOG-2).

use std::{
    fs::File,
    io::{self, Write as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{line::Severity, sink::Sink};

/// Makes a line of ours out of a text.
pub(super) type Render<'a> = &'a dyn Fn(Severity, &str) -> String;

/// Where standard error led before it became the log.
pub(super) static STANDARD_ERROR: OnceLock<File> = OnceLock::new();

/// Where lines go, or would.
#[derive(Debug)]
pub(super) struct Destination {
    sink: Sink,
    /// Lines that are lost and not told of.
    lost: u64,
    /// Why.
    cause: String,
    /// Lost lines over the life of the process.
    total: Arc<AtomicU64>,
}

impl Destination {
    pub(super) fn new(sink: Sink, total: Arc<AtomicU64>) -> Self {
        Self { sink, lost: 0, cause: String::new(), total }
    }

    /// Writes elsewhere from here on.
    pub(super) fn switch(&mut self, sink: Sink) {
        self.sink = sink;
    }

    /// Lines are lost for another reason.
    pub(super) fn count_lost(&mut self, lines: u64, cause: &str) {
        self.lost += lines;
        self.total.fetch_add(lines, Relaxed);
        cause.clone_into(&mut self.cause);
    }

    /// Writes one line. Returns what is wrong when it is the first that could not be written.
    pub(super) fn write(&mut self, severity: Severity, line: &str, render: Render<'_>) -> Option<String> {
        let failure = self.try_write(severity, line, render).err()?;
        let is_first = self.lost == 0;
        self.count_lost(1, &failure.to_string());
        is_first.then(|| {
            let alarm = format!(
                "the log cannot be written: {failure}; lines are lost until it can, everything else goes on"
            );
            self.tell_elsewhere(&alarm);
            alarm
        })
    }

    fn try_write(&mut self, severity: Severity, line: &str, render: Render<'_>) -> io::Result<()> {
        self.tell_losses(render)?;
        self.sink.write(severity, line)
    }

    /// Tells of the lines that are missing here.
    pub(super) fn tell_losses(&mut self, render: Render<'_>) -> io::Result<()> {
        if self.lost > 0 {
            let note = format!("{} log lines lost: {}", self.lost, self.cause);
            self.sink.write(Severity::Warning, &render(Severity::Warning, &note))?;
            self.lost = 0;
        }
        Ok(())
    }

    /// The system log, where that is not what fails; else standard error. There is nobody else to tell.
    fn tell_elsewhere(&self, alarm: &str) {
        if !self.sink.tell_syslog(alarm) {
            let alarm = format!("{alarm}\n");
            let _nobody_listens = match STANDARD_ERROR.get() {
                Some(mut before) => before.write_all(alarm.as_bytes()),
                None => io::stderr().lock().write_all(alarm.as_bytes()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicBool};

    use super::*;

    #[test]
    fn what_is_lost_is_said_once_counted_and_told_when_there_is_room() {
        let (full, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let total = Arc::new(AtomicU64::new(0));
        let sink = Sink::Disk { full: Arc::clone(&full), lines: Arc::clone(&lines) };
        let mut destination = Destination::new(sink, Arc::clone(&total));
        let render = |_: Severity, text: &str| format!("TIME {text}");
        let mut write = |text: &str| destination.write(Severity::Info, text, &render).is_some();
        assert!(!write("one"));
        full.store(true, Relaxed);
        assert_eq!([write("two"), write("three")], [true, false], "one alarm");
        full.store(false, Relaxed);
        assert!(!write("four"));
        full.store(true, Relaxed);
        assert!(write("five"), "a second outage is another one");
        assert_eq!(total.load(Relaxed), 3);
        let expected = ["one", "TIME 2 log lines lost: no storage space", "four"];
        assert_eq!(*lines.lock().unwrap(), expected);
    }
}
