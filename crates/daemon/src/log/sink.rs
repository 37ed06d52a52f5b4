//! Where lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use culvert_config::LogDestination;
use culvert_sys::LocalDatagram;
use jiff::{Timestamp, tz::TimeZone};

use super::{LogError, line::Severity};

/// The facility of daemons.
const LOG_DAEMON: u32 = 3 << 3;

/// An open destination.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout {
        /// `errors-to-stderr`.
        split: bool,
    },
    File(LineFile),
    Syslog(Syslog),
    /// A disk that may be full.
    #[cfg(test)]
    Disk {
        full: std::sync::Arc<std::sync::atomic::AtomicBool>,
        lines: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    },
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<String>>>),
}

impl Sink {
    pub(super) fn open(destination: &LogDestination, split: bool, zone: &TimeZone) -> Result<Self, LogError> {
        match destination {
            LogDestination::Stdout => Ok(Self::Stdout { split }),
            LogDestination::Syslog(name) => Ok(Self::Syslog(Syslog::new(name, zone.clone()))),
            LogDestination::File { path, append } => {
                open_file(path, *append).map(|file| Self::File(LineFile { file, torn: false }))
            }
        }
    }

    /// Writes one line.
    pub(super) fn write(&mut self, severity: Severity, line: &str) -> io::Result<()> {
        match self {
            Self::Stdout { split: true } if severity >= Severity::Error => {
                io::stderr().lock().write_all(format!("{line}\n").as_bytes())
            }
            Self::Stdout { .. } => {
                let mut out = io::stdout().lock();
                out.write_all(format!("{line}\n").as_bytes())?;
                out.flush()
            }
            Self::File(file) => file.write(line),
            Self::Syslog(syslog) => syslog.write(severity, line),
            #[cfg(test)]
            Self::Disk { full, .. } if full.load(std::sync::atomic::Ordering::Relaxed) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            #[cfg(test)]
            Self::Memory(lines) | Self::Disk { lines, .. } => {
                lines.lock().expect("not poisoned").push(line.to_owned());
                Ok(())
            }
        }
    }

    /// Tells the system log of an error, unless this is the system log.
    pub(super) fn tell_syslog(&self, line: &str) -> bool {
        !matches!(self, Self::Syslog(_))
            && Syslog::new("openvpn", TimeZone::system()).write(Severity::Error, line).is_ok()
    }
}

/// A file of lines.
#[derive(Debug)]
pub(super) struct LineFile {
    file: File,
    /// It ends in the middle of a line, for which there was no room.
    torn: bool,
}

impl LineFile {
    /// One call per line: programs that follow the file see whole lines, and several processes may append.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{}{line}\n", if self.torn { "\n" } else { "" });
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    rest = rest.get(len..).unwrap_or_default();
                    self.torn = true;
                }
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(failure) => return Err(failure),
            }
        }
        self.torn = false;
        Ok(())
    }
}

/// A new file is for its owner alone, as from OpenVPN. Whoever else writes into it does so at its end, as scripts do.
pub(super) fn open_file(path: &Path, append: bool) -> Result<File, LogError> {
    let open = || {
        if !append {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    };
    open().map_err(|source| LogError::File { path: path.to_owned(), source })
}

/// The system log's socket; opened again when the log daemon was restarted.
#[derive(Debug)]
pub(super) struct Syslog {
    tag: String,
    zone: TimeZone,
    socket: Option<LocalDatagram>,
}

impl Syslog {
    fn new(name: &str, zone: TimeZone) -> Self {
        Self { tag: name.to_owned(), zone, socket: LocalDatagram::connect("/dev/log").ok() }
    }

    fn write(&mut self, severity: Severity, line: &str) -> io::Result<()> {
        let message = self.message(severity, line, Timestamp::now());
        if self.socket.as_ref().is_some_and(|socket| socket.send(message.as_bytes()).is_ok()) {
            return Ok(());
        }
        let socket = self.socket.insert(LocalDatagram::connect("/dev/log")?);
        socket.send(message.as_bytes())
    }

    /// RFC 3164 as the C library writes it: `<29>Nov 22 12:05:24 openvpn[123]: text`. The id is asked for each line:
    /// the process may have forked since.
    fn message(&self, severity: Severity, line: &str, now: Timestamp) -> String {
        let local = self.zone.to_datetime(now);
        let month = match local.month() {
            1 => "Jan",
            2 => "Feb",
            3 => "Mar",
            4 => "Apr",
            5 => "May",
            6 => "Jun",
            7 => "Jul",
            8 => "Aug",
            9 => "Sep",
            10 => "Oct",
            11 => "Nov",
            _ => "Dec",
        };
        format!(
            "<{}>{month} {:2} {:02}:{:02}:{:02} {}[{}]: {line}",
            LOG_DAEMON | severity.syslog_level(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second(),
            self.tag,
            std::process::id()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_syslog_has_facility_daemon_name_and_process_id() {
        let syslog = Syslog { tag: "ovpn-x".to_owned(), zone: TimeZone::UTC, socket: None };
        let now = Timestamp::new(1_795_349_124, 0).expect("a time of this century");
        assert_eq!(
            syslog.message(Severity::Error, "text", now),
            format!("<27>Nov 22 12:05:24 ovpn-x[{}]: text", std::process::id())
        );
    }
}
