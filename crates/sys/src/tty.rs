//! Questions to the person at the controlling terminal.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    time::Duration,
};

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios};

use crate::{Eventfd, Woken, signal::Held, wait_readable};

/// Longest answer.
const MAX_ANSWER: usize = 4096;

/// How long a signal may have to wait: a held one wakes nobody.
const STEP: Duration = Duration::from_millis(200);

/// The controlling terminal of the process.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

impl Terminal {
    /// Opens `/dev/tty`.
    ///
    /// # Errors
    /// When the process has no terminal.
    pub fn open() -> io::Result<Self> {
        Ok(Self { device: OpenOptions::new().read(true).write(true).open("/dev/tty")? })
    }

    /// Prints `prompt`, reads one line into `answer` (without its end); with `hidden`, what is typed is not shown. Until the
    /// terminal is as before, signals that end the process wait. Raising `withdrawn` takes the question back, with what was
    /// typed so far.
    ///
    /// # Errors
    /// As the system says; `UnexpectedEof` when the terminal was closed, `Interrupted` when nobody waits for the answer.
    pub fn ask(
        &mut self,
        prompt: &str,
        hidden: bool,
        withdrawn: Option<&Eventfd>,
        answer: &mut Vec<u8>,
    ) -> io::Result<()> {
        let held = if hidden { Some(Held::start()?) } else { None };
        let silence = if hidden { Some(Hidden::start(&self.device)?) } else { None };
        let mut screen = &self.device;
        let result = screen
            .write_all(prompt.as_bytes())
            .and_then(|()| read_line(&self.device, held.as_ref(), withdrawn, answer));
        let is_withdrawn = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted);
        if is_withdrawn {
            // The beginning of a line is no answer to the next question.
            let _ = rustix::termios::tcflush(&self.device, QueueSelector::IFlush);
        }
        drop(silence);
        if hidden || is_withdrawn {
            // The line end that was typed was not shown either.
            let _ = self.device.write_all(b"\n");
        }
        drop(held);
        result
    }
}

/// Byte by byte: no buffer keeps a copy of a password.
fn read_line(
    mut device: &File,
    held: Option<&Held>,
    withdrawn: Option<&Eventfd>,
    answer: &mut Vec<u8>,
) -> io::Result<()> {
    answer.clear();
    answer.reserve_exact(MAX_ANSWER);
    let mut byte = [0_u8];
    loop {
        match wait_readable(device, withdrawn, STEP)? {
            Woken::Readable => {}
            Woken::Neither if !held.is_some_and(Held::is_waiting) => continue,
            Woken::Neither | Woken::Stopped => return Err(io::ErrorKind::Interrupted.into()),
        }
        if device.read(&mut byte)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if byte[0] == b'\n' {
            return Ok(());
        }
        if answer.len() < MAX_ANSWER {
            answer.push(byte[0]);
        }
    }
}

/// The terminal without echo, until dropped.
struct Hidden<'t> {
    device: &'t File,
    before: Termios,
}

impl<'t> Hidden<'t> {
    fn start(device: &'t File) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(device)?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        rustix::termios::tcsetattr(device, OptionalActions::Flush, &without)?;
        Ok(Self { device, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(self.device, OptionalActions::Now, &self.before);
    }
}
