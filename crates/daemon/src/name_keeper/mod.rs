//! A process that keeps root's rights to tell the resolver, when the others give theirs up (`user`, `group`, `chroot`).
//!
//! OpenVPN 2.7 keeps one for `dns-updown` (dns.c, `run_updown_runner`). Here it is the same program, started with the word
//! [`WORD`] before rights are given up, over a socket at its standard input: see `request` for what passes. It does
//! three things only: it tells the resolver about name servers, or runs the program of `dns-updown` that it was started
//! with, and it takes back what it told when asked to, or when its owner is gone. Where both are killed at once, its journal
//! is left, and the next start takes back what that says.
//!
//! What it is told comes from a process with fewer rights, so nothing of it is a path or a command.

mod request;
mod serve;

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command as Process, Stdio},
};

use culvert_config::value::Command;
use culvert_host::DnsUndo;

pub use serve::serve;

use crate::scripts::ScriptEnv;
pub(crate) use request::Verb;
use request::{DONE, MAX_ANSWER};

/// The first word of its command line.
pub const WORD: &str = "name-keeper";

/// Such a process, as its owner sees it.
#[derive(Debug)]
pub(crate) struct NameKeeper {
    socket: BufReader<UnixStream>,
    process: Child,
}

impl NameKeeper {
    /// Starts it, with the rights of this process. `told`: what the resolver knows already, and it is to take back.
    pub(crate) fn start(program: Option<&Command>, told: Option<&DnsUndo>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut process = Process::new("/proc/self/exe");
        process.arg(WORD).args(told.map(DnsUndo::words).into_iter().flatten());
        if let Some(program) = program {
            process.arg(serve::PROGRAM).args(&program.argv);
        }
        // A group of its own: what is typed at a terminal is for the owner.
        let process =
            process.env_clear().stdin(Stdio::from(OwnedFd::from(theirs))).process_group(0).spawn()?;
        Ok(Self { socket: BufReader::new(ours), process })
    }

    /// Has it do something, and waits until that is done. Blocks.
    ///
    /// # Errors
    /// What it could not do, or that it is gone.
    pub(crate) fn ask(&mut self, verb: Verb, env: &ScriptEnv) -> Result<(), String> {
        let gone =
            |failure: io::Error| format!("the process that keeps the right to set DNS is gone: {failure}");
        let mut answer = String::new();
        self.socket.get_mut().write_all(request::encode(verb, env).as_bytes()).map_err(gone)?;
        let at_most = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX);
        (&mut self.socket).take(at_most).read_line(&mut answer).map_err(gone)?;
        match answer.strip_suffix('\n') {
            Some(DONE) => Ok(()),
            Some(failure) => Err(failure.to_owned()),
            None => Err(gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Drop for NameKeeper {
    fn drop(&mut self) {
        // It takes back what it told, and ends; both are bounded.
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
        let _ = self.process.wait();
    }
}
