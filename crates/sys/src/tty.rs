//! Questions to the person at the controlling terminal.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios};

/// Longest answer.
const MAX_ANSWER: usize = 4096;

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

    /// Prints `prompt`, reads one line into `answer` (without its end); with `hidden`, what is typed is not shown.
    ///
    /// # Errors
    /// As the system says; `UnexpectedEof` when the terminal was closed.
    pub fn ask(&mut self, prompt: &str, hidden: bool, answer: &mut Vec<u8>) -> io::Result<()> {
        self.device.write_all(prompt.as_bytes())?;
        let silence = if hidden { Some(Hidden::start(&self.device)?) } else { None };
        let result = read_line(&self.device, answer);
        drop(silence);
        if hidden {
            // The line end that was typed was not shown either.
            let _ = self.device.write_all(b"\n");
        }
        result
    }
}

/// Byte by byte: no buffer keeps a copy of a password.
fn read_line(mut device: &File, answer: &mut Vec<u8>) -> io::Result<()> {
    answer.clear();
    answer.reserve_exact(MAX_ANSWER);
    let mut byte = [0_u8];
    loop {
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
