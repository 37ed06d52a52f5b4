//! Options that act while they are read: what has to happen before the first message is printed.

use std::path::PathBuf;

/// What parsing asks to happen at once, in the order of the options.
///
/// They hold also when parsing failed: the messages about that go to [`ParseEffects::log`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParseEffects {
    /// All of them, in order.
    pub effects: Vec<ParseEffect>,
}

/// One option that acts while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseEffect {
    /// `cd`: the directory, all earlier ones joined in front.
    ChangeDirectory(PathBuf),
    /// `log` and `log-append`; the path is already joined with the `cd` that stands before it.
    Log {
        /// The file.
        path: PathBuf,
        /// Whether what is there stays.
        append: bool,
    },
    /// `syslog [NAME]`.
    Syslog(String),
    /// `daemon [NAME]`: the log goes to syslog from here on, unless a file was named before.
    Daemon(String),
    /// `suppress-timestamps`.
    SuppressTimestamps,
    /// `machine-readable-output`.
    MachineReadable,
    /// `errors-to-stderr`.
    ErrorsToStderr,
    /// `echo`: a line for the log and the management interface.
    Echo(String),
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard output.
    #[default]
    Stdout,
    /// A file.
    File {
        /// The file, absolute or relative to the directory of the start.
        path: PathBuf,
        /// Whether what is there stays.
        append: bool,
    },
    /// The system's log, with this name in front.
    Syslog(String),
}

impl ParseEffects {
    /// Returns where the log goes: the first `log` or `log-append` wins over all others, wherever they stand; among
    /// `syslog` and `daemon` the first one wins.
    pub fn log(&self) -> LogDestination {
        let file = self.effects.iter().find_map(|effect| match effect {
            ParseEffect::Log { path, append } => {
                Some(LogDestination::File { path: path.clone(), append: *append })
            }
            _ => None,
        });
        let system = || {
            self.effects.iter().find_map(|effect| match effect {
                ParseEffect::Syslog(name) | ParseEffect::Daemon(name) => {
                    Some(LogDestination::Syslog(name.clone()))
                }
                _ => None,
            })
        };
        file.or_else(system).unwrap_or_default()
    }

    /// Returns the directory to change into.
    pub fn directory(&self) -> Option<&PathBuf> {
        self.effects.iter().rev().find_map(|effect| match effect {
            ParseEffect::ChangeDirectory(path) => Some(path),
            _ => None,
        })
    }
}
