//! Where lines go.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use culvert_config::LogDestination;
use culvert_sys::LocalDatagram;
use jiff::{Timestamp, tz::TimeZone};

use super::{LogError, line::Severity};

/// The facility of daemons.
const LOG_DAEMON: u32 = 3 << 3;

/// An open destination. Errors of writing are lost: there is nobody to tell (SEC-LOG-2: a full disk changes nothing).
#[derive(Debug)]
pub(super) enum Sink {
    Stdout {
        /// `errors-to-stderr`.
        split: bool,
    },
    File(File),
    Syslog(Syslog),
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<String>>>),
}

impl Sink {
    pub(super) fn open(destination: &LogDestination, split: bool, zone: &TimeZone) -> Result<Self, LogError> {
        match destination {
            LogDestination::Stdout => Ok(Self::Stdout { split }),
            LogDestination::Syslog(name) => Ok(Self::Syslog(Syslog::new(name, zone.clone()))),
            LogDestination::File { path, append } => open_file(path, *append).map(Self::File),
        }
    }

    /// Writes one line.
    pub(super) fn write(&mut self, severity: Severity, line: &str) {
        match self {
            Self::Stdout { split: true } if severity >= Severity::Error => {
                let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
            }
            Self::Stdout { .. } => {
                let mut out = io::stdout().lock();
                let _ = out.write_all(format!("{line}\n").as_bytes());
                let _ = out.flush();
            }
            // One call per line: programs that follow the file see whole lines, and several processes may append.
            Self::File(file) => {
                let _ = file.write_all(format!("{line}\n").as_bytes());
            }
            Self::Syslog(syslog) => syslog.write(severity, line),
            #[cfg(test)]
            Self::Memory(lines) => lines.lock().expect("not poisoned").push(line.to_owned()),
        }
    }
}

fn open_file(path: &Path, append: bool) -> Result<File, LogError> {
    let mut options = OpenOptions::new();
    options.create(true);
    if append {
        options.append(true);
    } else {
        options.write(true).truncate(true);
    }
    options.open(path).map_err(|source| LogError::File { path: path.to_owned(), source })
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

    fn write(&mut self, severity: Severity, line: &str) {
        let message = self.message(severity, line, Timestamp::now());
        let sent = self.socket.as_ref().is_some_and(|socket| socket.send(message.as_bytes()).is_ok());
        if !sent {
            self.socket = LocalDatagram::connect("/dev/log").ok();
            if let Some(socket) = &self.socket {
                let _ = socket.send(message.as_bytes());
            }
        }
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
