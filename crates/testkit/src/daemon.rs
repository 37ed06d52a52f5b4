//! One running VPN process.
//!
//! Its output is read by two threads into a list of lines, on which a test waits with a deadline. The
//! process dies with the test: by `Drop`, and, should the test itself be killed, by the kernel's
//! parent-death signal.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

use crate::{Failure, Implementation, Namespace, Result, patient};

/// The line that OpenVPN logs when a tunnel is up.
const UP: &str = "Initialization Sequence Completed";

/// How many lines of the log a failure shows.
const TAIL: usize = 40;

/// A signal with a meaning to OpenVPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: leave, with exit notification.
    Terminate,
    /// SIGINT: the same.
    Interrupt,
    /// SIGHUP: restart and read the configuration again.
    Reload,
    /// SIGUSR1: restart.
    Restart,
    /// SIGUSR2: statistics.
    Statistics,
    /// SIGKILL: no time for a last word.
    Kill,
}

/// A running (or ended) process with its log.
pub struct Daemon {
    label: String,
    child: Child,
    log: Arc<Log>,
    status: Option<ExitStatus>,
}

#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    ended_readers: u32,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Starts `implementation --config CONFIG` in a namespace; `label` names it in failures.
    pub fn start(
        namespace: &Namespace,
        implementation: &Implementation,
        label: &str,
        config: &Path,
    ) -> Result<Self> {
        let config = config.display().to_string();
        Self::start_with(namespace, implementation.program(), label, &["--config", &config])
    }

    /// Starts any program with any arguments in a namespace.
    pub fn start_with(
        namespace: &Namespace,
        program: &Path,
        label: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = namespace.command("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments);
        Self::spawn(command, Stdio::null(), label)
    }

    /// Starts a command whose output is to be its log.
    pub(crate) fn spawn(mut command: Command, stdin: Stdio, label: &str) -> Result<Self> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| Failure::new(format!("starting {command:?}: {error}")))?;
        let log = Arc::new(Log::default());
        read_lines(child.stdout.take(), &log);
        read_lines(child.stderr.take(), &log);
        Ok(Self { label: label.to_owned(), child, log, status: None })
    }

    /// Waits until the tunnel is up.
    pub fn wait_up(&self, timeout: Duration) -> Result<()> {
        self.wait_for(UP, timeout).map(drop)
    }

    /// Waits for the next time that the tunnel is up, after `mark`.
    pub fn wait_up_after(&self, mark: usize, timeout: Duration) -> Result<()> {
        self.wait_for_after(mark, UP, timeout).map(drop)
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Errors
    ///
    /// The time is over, or the process ended without logging it; with the end of the log.
    pub fn wait_for(&self, text: &str, timeout: Duration) -> Result<String> {
        self.wait_for_after(0, text, timeout)
    }

    /// The same, but only looks at lines after the first `mark` ones.
    pub fn wait_for_after(&self, mark: usize, text: &str, timeout: Duration) -> Result<String> {
        let timeout = patient(timeout);
        let deadline = Instant::now() + timeout;
        let mut state = self.log.lock();
        loop {
            if let Some(line) = state.lines.iter().skip(mark).find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = state.ended_readers == 2;
            if left.is_zero() || ended {
                let why = if ended { "ended" } else { "is still running" };
                let (label, secs) = (&self.label, timeout.as_secs());
                let tail = tail(&state.lines);
                return Err(Failure::new(format!(
                    "no `{text}` from {label} within {secs} s (it {why}); its log ends with:\n{tail}"
                )));
            }
            let waited = self.log.changed.wait_timeout(state, left);
            state = waited.map(|(state, _)| state).unwrap_or_else(|poisoned| poisoned.into_inner().0);
        }
    }

    /// Returns the number of lines so far: a place in the log.
    pub fn mark(&self) -> usize {
        self.log.lock().lines.len()
    }

    /// Returns the log.
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().lines.clone()
    }

    /// Returns the lines that contain `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        self.log.lock().lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Tells whether a line contains `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().lines.iter().any(|line| line.contains(text))
    }

    /// Returns the end of the log, to be printed with a failure.
    pub fn tail(&self) -> String {
        tail(&self.log.lock().lines)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_process(self.pid(), signal)
            .map_err(|failure| failure.while_doing(&format!("{signal:?} to {}", self.label)))
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let timeout = patient(timeout);
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.poll_exit()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let (label, secs, tail) = (&self.label, timeout.as_secs(), self.tail());
                return Err(Failure::new(format!(
                    "{label} did not end within {secs} s; its log ends with:\n{tail}"
                )));
            }
            // There is no wait with a deadline in the standard library.
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns how the process ended, if it has.
    pub fn poll_exit(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Asks the process to end, and kills it after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.poll_exit()? {
            return Ok(status);
        }
        self.signal(Signal::Terminate)?;
        self.wait_exit(timeout)
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill(); // it may have ended meanwhile
            self.status = self.child.wait().ok();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that a [`Daemon`] started and left behind, as `daemon` does.
pub fn signal_process(pid: Pid, signal: Signal) -> Result<()> {
    use rustix::process::Signal as Raw;
    let raw = match signal {
        Signal::Terminate => Raw::TERM,
        Signal::Interrupt => Raw::INT,
        Signal::Reload => Raw::HUP,
        Signal::Restart => Raw::USR1,
        Signal::Statistics => Raw::USR2,
        Signal::Kill => Raw::KILL,
    };
    kill_process(pid, raw).map_err(|error| Failure::new(error.to_string()))
}

/// Reads a process id from the file that `writepid` wrote.
pub fn read_pid(file: &Path) -> Result<Pid> {
    let text = std::fs::read_to_string(file)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Failure::new(format!("{} holds {text:?}", file.display())))
}

fn read_lines(stream: Option<impl Read + Send + 'static>, log: &Arc<Log>) {
    let log = Arc::clone(log);
    let Some(stream) = stream else { return };
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        // An error means the same as the end: nothing more to read.
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            log.lock().lines.push(line);
            log.changed.notify_all();
        }
        log.lock().ended_readers += 1;
        log.changed.notify_all();
    });
}

fn tail(lines: &[String]) -> String {
    let start = lines.len().saturating_sub(TAIL);
    lines.iter().skip(start).map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}
