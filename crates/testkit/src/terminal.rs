//! A terminal on which a process asks its questions.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::{Daemon, Failure, Implementation, Namespace, Result, patient};

/// The other end of a process's controlling terminal: somebody's screen and keyboard.
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    /// How much of the screen holds questions that were waited for.
    asked: usize,
}

impl Terminal {
    /// Starts `implementation --config CONFIG` in a namespace, with a terminal of its own.
    pub fn start(
        namespace: &Namespace,
        implementation: &Implementation,
        label: &str,
        config: &Path,
    ) -> Result<(Daemon, Self)> {
        let error = |error: rustix::io::Errno| Failure::new(format!("a terminal: {error}"));
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(error)?;
        grantpt(&master).map_err(error)?;
        unlockpt(&master).map_err(error)?;
        let name = ptsname(&master, Vec::new()).map_err(error)?;
        let name: &CStr = &name;
        let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let slave = OpenOptions::new().read(true).write(true).open(path)?;
        // Where systemd runs, it would be asked instead; `ip netns exec` has mounts of its own.
        let hide = "[ ! -d /run/systemd/system ] || mount -t tmpfs none /run/systemd; exec \"$@\"";
        let mut command = namespace.command("sh");
        command.args(["-c", hide, "sh", "setsid", "--ctty", "setpriv", "--pdeathsig", "KILL"]);
        command.arg(implementation.program()).arg("--config").arg(config);
        let daemon = Daemon::spawn(command, Stdio::from(slave), label)?;
        let keyboard = File::from(master);
        let (mut reader, screen) = (keyboard.try_clone()?, Arc::new(Mutex::new(String::new())));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 512];
            // An error means that the last process that had the terminal is gone.
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                shown.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok((daemon, Self { keyboard, screen, asked: 0 }))
    }

    /// Waits for a question, beyond those that were waited for.
    pub fn wait_asked(&mut self, question: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + patient(timeout);
        loop {
            let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(at) = screen.get(self.asked..).and_then(|new| new.find(question)) {
                self.asked += at + question.len();
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(format!("nobody asked `{question}`; the screen shows:\n{screen}")));
            }
            // There is no wait for a part of a stream.
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a question, beyond those that were waited for, and types the answer.
    pub fn answer(&mut self, question: &str, answer: &str, timeout: Duration) -> Result<()> {
        self.wait_asked(question, timeout)?;
        self.type_keys(&format!("{answer}\n"))
    }

    /// Types something; Ctrl-C is `\x03`.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Whether the terminal shows what is typed.
    pub fn is_echoing(&self) -> Result<bool> {
        let state = tcgetattr(&self.keyboard)
            .map_err(|error| Failure::new(format!("the state of a terminal: {error}")))?;
        Ok(state.local_modes.contains(LocalModes::ECHO))
    }
}
