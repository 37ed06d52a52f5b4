//! A scripted client of the management interface.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, Result, patient};

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection to the management interface of some daemon, over a unix socket (which namespaces share).
pub struct Management {
    stream: UnixStream,
    partial: Vec<u8>,
    lines: VecDeque<String>,
    /// Lines that came unasked (they begin with `>`), in order; a test takes what it looked at.
    pub notes: Vec<String>,
}

impl Management {
    /// Connects, waiting for the socket to be there.
    pub fn connect(path: &Path) -> Result<Self> {
        let deadline = Instant::now() + patient(ANSWER_WITHIN);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => return Self::over(stream),
                Err(failure) if Instant::now() > deadline => {
                    return Err(Failure::new(format!("connecting to {}: {failure}", path.display())));
                }
                Err(_not_yet) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until a daemon connects (`management-client`).
    pub fn accept(listener: &UnixListener) -> Result<Self> {
        Self::over(listener.accept()?.0)
    }

    fn over(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { stream, partial: Vec::new(), lines: VecDeque::new(), notes: Vec::new() })
    }

    /// Sends one line.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }

    /// Sends a command and returns its answer: up to `SUCCESS`, `ERROR` or `END`.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>> {
        self.send(command)?;
        let mut answer = Vec::new();
        loop {
            let line = self.line().map_err(|failure| failure.while_doing(command))?;
            if line.starts_with('>') {
                self.notes.push(line);
                continue;
            }
            let last = line == "END" || line.starts_with("SUCCESS:") || line.starts_with("ERROR:");
            answer.push(line);
            if last {
                return Ok(answer);
            }
        }
    }

    /// Waits for a line that begins so, and returns it; others that came unasked stay in `notes`.
    pub fn wait_for(&mut self, start: &str) -> Result<String> {
        if let Some(index) = self.notes.iter().position(|note| note.starts_with(start)) {
            return Ok(self.notes.remove(index));
        }
        loop {
            let line = self.line().map_err(|failure| failure.while_doing(&format!("waiting for {start}")))?;
            if line.starts_with(start) {
                return Ok(line);
            }
            self.notes.push(line);
        }
    }

    /// Waits for bytes that are no whole line: a prompt.
    pub fn wait_for_prompt(&mut self, prompt: &str) -> Result<()> {
        let deadline = Instant::now() + patient(ANSWER_WITHIN);
        while !self.partial.starts_with(prompt.as_bytes()) {
            if Instant::now() > deadline || !self.read()? {
                let seen = String::from_utf8_lossy(&self.partial).into_owned();
                return Err(Failure::new(format!("no `{prompt}`, but `{seen}`")));
            }
        }
        self.partial.drain(..prompt.len());
        Ok(())
    }

    /// Waits until the other end closes the connection.
    pub fn wait_closed(&mut self) -> Result<()> {
        let deadline = Instant::now() + patient(ANSWER_WITHIN);
        while self.read()? {
            if Instant::now() > deadline {
                return Err(Failure::new("the connection stays open"));
            }
        }
        Ok(())
    }

    /// Returns the next line.
    pub fn line(&mut self) -> Result<String> {
        let deadline = Instant::now() + patient(ANSWER_WITHIN);
        loop {
            if let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                self.lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            if !self.read()? {
                return Err(Failure::new(format!("the connection was closed; notes: {:#?}", self.notes)));
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("no answer; notes: {:#?}", self.notes)));
            }
        }
    }

    /// Reads what is there; `false` at the end.
    fn read(&mut self) -> Result<bool> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.partial.extend_from_slice(&buffer[..len]);
                Ok(true)
            }
            Err(failure)
                if matches!(
                    failure.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(true)
            }
            Err(failure) if failure.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}
