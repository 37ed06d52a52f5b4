//! The option table of OpenVPN, and everything that is generated from it.
//!
//! The walk: [`parse`] reads a command line and the files it names into [`Parsed`] (stage 1, *syntax*); what has to
//! happen at once is in [`Parsed::effects`]. [`Parsed::question`] tells whether the command line only asks something
//! (stage 2). [`Parsed::check`] expands helpers and finds contradictions (stage 3, *meaning*), and gives a [`Profile`].
//! The order is that of OpenVPN, because wrappers rely on it.
//!
//! A client's pushed options go through [`PushFilter`] into [`Pushed`], a server's files per client through
//! [`parse_ccd`] into [`ClientOverrides`]; both use the same rows of the same table.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod args;
mod ccd;
mod check;
pub mod cipher_list;
mod compatibility;
mod completion;
mod diagnostic;
mod draft;
mod effect;
mod files;
mod help;
pub mod lexer;
mod man;
mod origin;
pub mod profile;
mod push;
mod reader;
mod reload;
mod report;
mod suggest;
pub mod table;
mod title;
mod update;
pub mod value;
mod verdict;

pub use ccd::{ClientOverrides, PushEdit, parse_ccd};
pub use compatibility::compatibility;
pub use completion::{Shell, completion};
pub use culvert_wire::ProtocolFlags;
pub use diagnostic::{Diagnostic, Severity, render_all};
pub use effect::{LogDestination, ParseEffect, ParseEffects};
pub use files::{Access, Disk, Files, MemoryFiles};
pub use help::{explain, help, reference};
pub use man::{Subcommand, man};
pub use origin::{COMMAND_LINE, Origin};
pub use profile::{Mode, Profile, Role, Setting};
pub use push::{PushFilter, PushNote, PushReason, PushRejected, Pushed};
pub use reload::{Changed, Changes, Configuration, Reread};
pub use report::{Report, report};
pub use table::{Contexts, Effect, Extent, Group, OptionRow, Roles, Rule, Status, find, table};
pub use title::{CULVERT_VERSION, OPENVPN_VERSION, title};
pub use update::{UpdateError, UpdateSequence, Updated};
pub use verdict::{Remark, Verdict, verdict};

/// A configuration that was read but not yet understood as a whole.
#[derive(Debug)]
pub struct Parsed {
    /// What has to happen before anything is printed.
    pub effects: ParseEffects,
    /// Stage 1: what is wrong with the syntax; not empty means: print, exit with 1.
    pub errors: Vec<Diagnostic>,
    /// Stage 1: what was ignored on request.
    pub warnings: Vec<Diagnostic>,
    /// Stage 2: what is asked.
    pub question: Option<Question>,
    draft: draft::Draft,
}

/// Something that is answered instead of running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `help`: print, exit with 1.
    Help,
    /// `version`: print, exit with 0.
    Version,
    /// `show-ciphers`.
    ShowCiphers,
    /// `show-digests`.
    ShowDigests,
    /// `show-tls`.
    ShowTls,
    /// `show-curves`, `show-groups`.
    ShowGroups,
    /// `show-engines`.
    ShowEngines,
    /// `show-gateway [ADDR]`.
    ShowGateway(Option<std::net::IpAddr>),
    /// `genkey`.
    GenKey(GenKey),
    /// `mktun`.
    MkTun,
    /// `rmtun`.
    RmTun,
    /// `test-crypto`.
    TestCrypto,
    /// `show-pkcs11-ids [MODULE] [LOGIN]`.
    ShowPkcs11Ids {
        /// The module; `None` is p11-kit's.
        module: Option<std::path::PathBuf>,
        /// Whether private certificates are shown, after a login.
        login: bool,
    },
}

impl Question {
    /// `help` and `version` act while options are read: what stands after them is not even looked at.
    pub(crate) const fn is_answered_at_once(&self) -> bool {
        matches!(self, Self::Help | Self::Version)
    }
}

/// `genkey [KIND] [FILE] [METADATA]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenKey {
    /// What to make.
    pub kind: GenKeyKind,
    /// Where to; `None` is standard output.
    pub path: Option<std::path::PathBuf>,
    /// Metadata of a client key, in base64.
    pub metadata: Option<String>,
}

/// What `genkey` makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GenKeyKind {
    /// A static key: `secret`, `tls-auth`, `tls-crypt`.
    #[default]
    Static,
    /// `tls-crypt-v2-server`.
    TlsCryptV2Server,
    /// `tls-crypt-v2-client`; the server's key is the profile's `tls-crypt-v2`.
    TlsCryptV2Client,
    /// `auth-token`.
    AuthToken,
}

/// A configuration that was understood, as far as it could be.
#[derive(Debug)]
pub struct Checked {
    /// What is asked for. With errors it is only good for messages.
    pub profile: Profile,
    /// Stage 3: contradictions, missing files; not empty means: print, exit with 1.
    pub errors: Vec<Diagnostic>,
    /// Stage 3: notes and warnings, to print before the version line.
    pub notes: Vec<Diagnostic>,
}

/// Reads a command line (without the program's name) and the files it names.
///
/// An empty command line asks for help.
pub fn parse(args: &[String], files: &dyn Files) -> Parsed {
    let mut reader = reader::Reader::new(files);
    if args.is_empty() {
        reader.draft.ask(Question::Help);
    }
    reader.command_line(args);
    parsed_of(reader)
}

/// Takes what was read.
fn parsed_of(reader: reader::Reader<'_>) -> Parsed {
    let mut draft = reader.draft;
    draft.profile.log.destination = draft.effects.log();
    Parsed {
        effects: std::mem::take(&mut draft.effects),
        errors: reader.errors,
        warnings: reader.warnings,
        question: draft.question.take(),
        draft,
    }
}

impl Parsed {
    /// Returns what is known before stage 3: enough to answer a [`Question`].
    pub fn profile(&self) -> &Profile {
        &self.draft.profile
    }

    /// Returns `cipher` as written, for `test-crypto`.
    pub fn cipher(&self) -> Option<&str> {
        self.draft.cipher.as_deref()
    }

    /// Returns whether `providers` names OpenSSL's `legacy`, for `show-ciphers` and `test-crypto`.
    pub fn legacy_provider(&self) -> bool {
        self.draft.profile.data.legacy_provider
    }

    /// Returns `tls-crypt-v2` as written, for `genkey`: the server's key.
    pub fn tls_crypt_v2(&self) -> Option<&value::FileOrInline> {
        self.draft.wrap.tls_crypt_v2.as_ref().map(|wrap| &wrap.key)
    }

    /// Returns the word that tells what `mktun` and `rmtun` are about: `dev-type`, else `dev`.
    pub fn device_kind(&self) -> &str {
        self.draft.dev_type.as_deref().unwrap_or(&self.draft.profile.device.dev)
    }

    /// Returns the file of `secret`, for `genkey` in its old form.
    pub fn secret_file(&self) -> Option<&std::path::Path> {
        self.draft.secret_file.as_deref()
    }

    /// Expands helpers, finds contradictions and missing files.
    pub fn check(self, files: &dyn Files) -> Checked {
        check::check(self.draft, files)
    }
}
