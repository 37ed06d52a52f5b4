//! Programs that are started, watched and ended.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use culvert_sys::{
    process::{KillSignal, kill_group},
    signal::termination_asked,
};

use super::machine;
use crate::BenchError;

/// How often waiting looks.
const PAUSE: Duration = Duration::from_millis(5);
/// What a program gets to put its things away.
const GRACE: Duration = Duration::from_secs(5);

/// A running program with its helpers, ended when dropped.
pub(super) struct Running {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// Starts a program, in a process group of its own: keys pressed at the terminal are not for it.
    pub(super) fn start(command: &mut Command, name: &str, folder: &Path) -> Result<Self, BenchError> {
        use std::os::unix::process::CommandExt as _;
        let [out, err] = ["out", "err"].map(|kind| folder.join(format!("{name}.{kind}")));
        let create = |path: &PathBuf| {
            File::create(path).map_err(|source| BenchError::File { path: path.clone(), source })
        };
        let command =
            command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?).process_group(0);
        let child = command.spawn().map_err(|error| step(name, &format!("starting it: {error}")))?;
        Ok(Self { name: name.to_owned(), child, out, err })
    }

    /// The process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds that the program and its helpers used so far.
    pub(super) fn cpu(&self) -> f64 {
        machine::group_cpu(self.id())
    }

    /// Waits until the program has printed `text`.
    pub(super) fn wait_for(&mut self, text: &str, limit: Duration) -> Result<(), BenchError> {
        self.wait_until(limit, &format!("did not say `{text}`"), |running| running.printed().contains(text))
    }

    /// Waits until `done` says so.
    pub(super) fn wait_until(
        &mut self,
        limit: Duration,
        otherwise: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), BenchError> {
        let deadline = Instant::now() + limit;
        while !done(self) {
            check_interrupt()?;
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() > deadline {
                let printed = self.printed();
                let lines: Vec<&str> = printed.lines().collect();
                let tail = lines[lines.len().saturating_sub(12)..].join("\n");
                return Err(step(&self.name, &format!("{otherwise}; its last lines:\n{tail}")));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Waits for its end; returns its standard output, whatever its status.
    pub(super) fn wait_end(mut self, limit: Duration) -> Result<String, BenchError> {
        let deadline = Instant::now() + limit;
        loop {
            check_interrupt()?;
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(fs::read_to_string(&self.out).unwrap_or_default()),
                Ok(None) if Instant::now() < deadline => thread::sleep(PAUSE),
                _ => return Err(step(&self.name, "did not come to its end")),
            }
        }
    }

    fn printed(&self) -> String {
        [&self.out, &self.err]
            .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned())
            .concat()
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended_within(Duration::ZERO) {
            return;
        }
        let _ = kill_group(self.id(), KillSignal::Term);
        if !self.ended_within(GRACE) {
            let _ = kill_group(self.id(), KillSignal::Kill);
            let _ = self.child.wait();
        }
    }
}

/// Runs a short program to its end and returns what it printed.
pub(super) fn output(command: &mut Command) -> Result<String, BenchError> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let shown = format!("{shown} {}", words.join(" "));
    let output = command.stdin(Stdio::null()).output().map_err(|error| step(&shown, &error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(step(&shown, String::from_utf8_lossy(&output.stderr).trim()))
}

/// Sleeps, unless the user wants to end.
pub(super) fn pause(time: Duration) -> Result<(), BenchError> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        check_interrupt()?;
        thread::sleep(PAUSE.min(time));
    }
    Ok(())
}

pub(super) fn check_interrupt() -> Result<(), BenchError> {
    if termination_asked() { Err(BenchError::Interrupted) } else { Ok(()) }
}

pub(super) fn step(step: &str, why: &str) -> BenchError {
    BenchError::Step { step: step.to_owned(), why: why.to_owned() }
}
