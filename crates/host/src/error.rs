use std::io;

/// Why a change to the machine's network failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The system refused a request.
    #[error("{what}: {source}{}", detail.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was asked for: "route 10.0.0.0/8 via 10.8.0.1".
        what: String,
        /// The kernel's own words, where it gave any.
        detail: Option<String>,
        /// Its error number.
        source: io::Error,
    },
    /// The kernel lacks something that is needed.
    #[error("{what} is not available in this kernel: {remedy} ({source})")]
    Unavailable {
        /// What is missing: "nftables".
        what: String,
        /// What to do about it, as an imperative.
        remedy: &'static str,
        /// The kernel's error number.
        source: io::Error,
    },
    /// There is no device of that name.
    #[error("no network device {0}")]
    NoDevice(String),
    /// No resolver of this machine could be told about DNS servers.
    #[error("cannot set DNS: {0}")]
    Dns(String),
    /// A program that was run failed.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its path.
        program: String,
        /// What it said, or its exit status.
        reason: String,
    },
    /// A journal file cannot be read or written.
    #[error("journal {path}: {source}")]
    Journal {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl HostError {
    /// The thing to add is there already (`EEXIST`).
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(17))
    }

    /// The thing to remove is not there: `ENOENT`, `ESRCH` (route), `ENODEV`, `ENXIO`, `EADDRNOTAVAIL` (address).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NoDevice(_) => true,
            Self::Refused { source, .. } => {
                matches!(source.raw_os_error(), Some(2 | 3 | 6 | 19 | 99))
            }
            _ => false,
        }
    }
}
