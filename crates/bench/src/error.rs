use std::{io, path::PathBuf};

use culvert_engine::parts::OffloadError;

/// Why a measurement ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The words do not make sense.
    #[error("{what}\nhint: {hint}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What would be right.
        hint: String,
    },
    /// No case of the engine has a name with this in it.
    #[error("no case of the engine contains `{0}` in its name\nhint: `culvert bench engine` runs all")]
    NoCase(String),
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] OffloadError),
    /// The user asked to end.
    #[error("interrupted")]
    Interrupted,
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of results is none.
    #[error("{}: {why}\nhint: `culvert bench path --output FILE` writes one", .path.display())]
    Results {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A program or this machine lacks something.
    #[error("{what}\nhint: {hint}")]
    Lacking {
        /// What is missing.
        what: String,
        /// How to get it.
        hint: String,
    },
    /// A step of a measurement failed.
    #[error("{step}: {why}")]
    Step {
        /// Which.
        step: String,
        /// Why.
        why: String,
    },
}
