//! From a [`culvert_config::Profile`] to the typed settings of the parts that run: nobody below reads a profile.

pub(crate) mod capath;
mod crl_file;
pub(crate) mod mss;
pub(crate) mod own_files;
pub(crate) mod session;
pub(crate) mod shape;
pub(crate) mod tls;
pub(crate) mod wrapping;

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a profile that passed all checks cannot be used after all.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    /// A file cannot be read.
    #[error("--{option} fails with '{}': {source}", crate::token::shown(path))]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content is not what the option wants.
    #[error("--{option}: {problem}")]
    Content {
        /// The option.
        option: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// TLS refused its settings.
    #[error(transparent)]
    Tls(#[from] culvert_proto::tls::TlsError),
}
