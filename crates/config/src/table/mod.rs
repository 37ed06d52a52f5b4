//! The option table: the one place where options are named.
//!
//! A row knows its option's arguments, where it may stand, what it does, which data planes can honour it, and how it is
//! read. Parser, help, reference page, push filter, files per client and the verdict are made from the rows; none of
//! them names an option by itself. The rows are grouped by consumer, one file each.

mod client;
mod crypto;
mod daemon;
mod effect;
mod general;
mod legacy;
mod link;
mod log;
mod management;
mod mtu;
mod offload;
mod proxy;
mod read;
mod route;
mod script;
mod server;
mod server_clients;
mod standalone;
mod system;
mod tls;
mod tls_peer;
mod tunnel;

use std::fmt;

use crate::{
    args::{Args, Set},
    ccd::ClientOverrides,
    draft::Draft,
    profile::Profile,
    push::{PushTarget, Pushed},
};

use effect::{KERNEL, LINUX, WINDOWS, blocks, ignores, kept, per_peer};

pub use effect::{Condition, Effect, Extent, Note, Presence};
pub(crate) use read::Source;
pub(crate) use route::WINDOWS_ALONE;
pub use script::TRACKED;
pub(crate) use server::pool_range;

/// Everything that is known about one option.
#[derive(Clone, Copy)]
pub struct OptionRow {
    /// The name, without `--`.
    pub name: &'static str,
    /// The arguments: capitals are values, `[…]` may be left out, `…` repeats, `|` separates choices.
    pub args: &'static str,
    /// What it is about.
    pub group: Group,
    /// Where it may stand.
    pub contexts: Contexts,
    /// For whom it means something.
    pub roles: Roles,
    /// The value when it is not written; empty when there is none to speak of.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// How much of it there is.
    pub status: Status,
    /// What data planes have to do with it.
    pub offload: &'static [Effect],
    /// What it demands of the mode.
    pub rules: &'static [Rule],
    pub(crate) arity: (usize, usize),
    pub(crate) set: Option<for<'a, 'd> fn(&'d mut Draft, &Args<'a>) -> Set>,
    pub(crate) pushed: Option<for<'a, 'd, 't> fn(&'d mut PushTarget<'t>, &Args<'a>) -> Set>,
    pub(crate) client: Option<for<'a, 'd> fn(&'d mut ClientOverrides, &Args<'a>) -> Set>,
    pub(crate) reset: Option<fn(&mut Pushed)>,
    pub(crate) pull: Pull,
    pub(crate) reload: Reload,
    /// Its arguments are never shown.
    pub(crate) secret: bool,
}

/// What a server that runs makes of another value, when its configuration is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Only a restart brings it into force.
    #[default]
    Restart,
    /// It is taken while clients stay connected.
    Live,
    /// The same, when TLS can be made anew from its files ([`crate::Reread::keep_tls`] where it cannot).
    Tls,
    /// It has no value of its own, but decides which lines are read, and how.
    Frame,
}

/// How a client takes a pushed option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pull {
    /// `route-nopull` keeps it out.
    pub(crate) unless_nopull: bool,
    /// Another value needs no other device.
    pub(crate) passing: bool,
}

/// How much of an option there is.
#[derive(Clone, Copy)]
pub enum Status {
    /// It does what OpenVPN's does.
    Works,
    /// It is accepted and does nothing; the text is the reason.
    NoEffect(&'static str),
    /// It is refused with OpenVPN's text; the second text is the remedy.
    Refused(&'static str, &'static str),
    /// It is read, for a command needs it, and refused by the check of the whole; the text is the remedy.
    RefusedLater(&'static str),
    /// OpenVPN does not know it (any more); the text is the remedy.
    Gone(&'static str),
    /// OpenVPN knows it on another system only.
    WindowsOnly,
}

/// A rule between an option and the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It needs `mode server`.
    ServerOnly,
    /// It contradicts `mode server`.
    NotOnServer,
}

/// A group of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the titles are their documentation")]
pub enum Group {
    General,
    Offload,
    Link,
    Mtu,
    Proxy,
    Tunnel,
    Route,
    Client,
    Server,
    Tls,
    Crypto,
    Script,
    Log,
    Daemon,
    Management,
    Windows,
    Standalone,
    Legacy,
}

impl Group {
    /// All of them, in the order of the manual.
    pub const ALL: [Self; 18] = [
        Self::General,
        Self::Offload,
        Self::Link,
        Self::Mtu,
        Self::Proxy,
        Self::Tunnel,
        Self::Route,
        Self::Client,
        Self::Server,
        Self::Tls,
        Self::Crypto,
        Self::Script,
        Self::Log,
        Self::Daemon,
        Self::Management,
        Self::Windows,
        Self::Standalone,
        Self::Legacy,
    ];

    /// Returns whether its options are culvert's own: OpenVPN refuses a configuration that has them.
    pub fn is_culverts_own(self) -> bool {
        self == Self::Offload
    }

    /// Returns the heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Offload => "culvert's own options, unknown to OpenVPN",
            Self::Link => "Connections",
            Self::Mtu => "Packet sizes",
            Self::Proxy => "Proxies",
            Self::Tunnel => "Device, addresses and keepalive",
            Self::Route => "Routes and DNS",
            Self::Client => "Client",
            Self::Server => "Server",
            Self::Tls => "TLS and certificates",
            Self::Crypto => "Data channel",
            Self::Script => "External programs",
            Self::Log => "Log and status",
            Self::Daemon => "Process",
            Self::Management => "Management interface and plug-ins",
            Self::Windows => "Windows",
            Self::Standalone => "Commands",
            Self::Legacy => "Removed, renamed and foreign",
        }
    }
}

/// A set of places where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contexts(u8);

/// The command line and configuration files.
pub const CONFIG: Contexts = Contexts(1);
/// Inside of `<connection>`.
pub const CONNECTION: Contexts = Contexts(2);
/// As a block `<name>…</name>`.
pub const INLINE: Contexts = Contexts(4);
/// Pushed by a server.
pub const PUSH: Contexts = Contexts(8);
/// Changed by a server while the tunnel is up.
pub const UPDATE: Contexts = Contexts(16);
/// In files per client.
pub const CCD: Contexts = Contexts(32);
/// Inside of `<connection>`, where OpenVPN takes it and forgets it.
pub const FORGOTTEN: Contexts = Contexts(64);

impl Contexts {
    /// Returns whether all of `other` are in the set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

/// A server with many clients.
pub const SERVER: Roles = Roles(1);
/// A client that pulls.
pub const CLIENT: Roles = Roles(2);
/// One of two equal ends.
pub const P2P: Roles = Roles(4);
/// A client or one of two ends: who has a peer to call.
pub const CALLER: Roles = Roles(6);
/// Everyone.
pub const ANY: Roles = Roles(7);
/// A command of its own.
pub const COMMAND: Roles = Roles(0);

impl Roles {
    /// Returns whether all of `other` are in the set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The table: every option, by group.
pub fn table() -> impl Iterator<Item = &'static OptionRow> {
    GROUPS.iter().copied().flatten()
}

/// Returns the row of an option.
pub fn find(name: &str) -> Option<&'static OptionRow> {
    table().find(|row| row.name == name)
}

const GROUPS: &[&[OptionRow]] = &[
    general::ROWS,
    offload::ROWS,
    link::ROWS,
    mtu::ROWS,
    proxy::ROWS,
    tunnel::ROWS,
    route::ROWS,
    client::ROWS,
    server::ROWS,
    server_clients::ROWS,
    tls::ROWS,
    tls_peer::ROWS,
    crypto::ROWS,
    script::ROWS,
    log::ROWS,
    daemon::ROWS,
    management::ROWS,
    management::OWN_ROWS,
    system::ROWS,
    standalone::ROWS,
    legacy::ROWS,
];

/// Begins a row: an option of every role that may stand in files and on the command line.
const fn row(name: &'static str, args: &'static str, help: &'static str) -> OptionRow {
    OptionRow {
        name,
        args,
        group: Group::General,
        contexts: CONFIG,
        roles: ANY,
        default: "",
        help,
        status: Status::Works,
        offload: &[],
        rules: &[],
        arity: arity(args),
        set: None,
        pushed: None,
        client: None,
        reset: None,
        pull: Pull { unless_nopull: false, passing: false },
        reload: Reload::Restart,
        secret: false,
    }
}

impl OptionRow {
    const fn group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    const fn roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// Says where it may stand, besides files and the command line.
    const fn also(mut self, contexts: Contexts) -> Self {
        self.contexts = Contexts(self.contexts.0 | contexts.0);
        self
    }

    /// Says where it may stand, when that is not in files.
    const fn only(mut self, contexts: Contexts) -> Self {
        self.contexts = contexts;
        self
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Says how many arguments there may be, where another number gives an error of the option's own.
    const fn arity(mut self, min: usize, max: usize) -> Self {
        self.arity = (min, max);
        self
    }

    const fn offload(mut self, effects: &'static [Effect]) -> Self {
        self.offload = effects;
        self
    }

    const fn rules(mut self, rules: &'static [Rule]) -> Self {
        self.rules = rules;
        self
    }

    const fn set(mut self, set: for<'a, 'd> fn(&'d mut Draft, &Args<'a>) -> Set) -> Self {
        self.set = Some(set);
        self
    }

    const fn pushed(mut self, set: for<'a, 'd, 't> fn(&'d mut PushTarget<'t>, &Args<'a>) -> Set) -> Self {
        self.pushed = Some(set);
        self.also(PUSH)
    }

    /// Says that a running server takes another value at a reload.
    const fn live(mut self) -> Self {
        self.reload = Reload::Live;
        self
    }

    /// Says that a running server takes another value at a reload, as a part of what TLS is made from.
    const fn live_tls(mut self) -> Self {
        self.reload = Reload::Tls;
        self
    }

    /// Says that it decides which lines are read.
    const fn frame(mut self) -> Self {
        self.reload = Reload::Frame;
        self
    }

    /// Says that its arguments are never shown.
    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Says how an update of the pushed options takes it away.
    const fn reset(mut self, reset: fn(&mut Pushed)) -> Self {
        self.reset = Some(reset);
        self.also(UPDATE)
    }

    /// Says that `route-nopull` keeps it out.
    const fn unless_nopull(mut self) -> Self {
        self.pull.unless_nopull = true;
        self
    }

    /// Says that another value of it does not change the device.
    const fn passing(mut self) -> Self {
        self.pull.passing = true;
        self
    }

    const fn client(mut self, set: for<'a, 'd> fn(&'d mut ClientOverrides, &Args<'a>) -> Set) -> Self {
        self.client = Some(set);
        self.also(CCD)
    }

    /// Returns the fewest and the most arguments; a block counts as one.
    pub fn arity_range(&self) -> (usize, usize) {
        self.arity
    }

    /// Returns whether a running server takes another value at a reload, without a restart.
    pub fn is_live(&self) -> bool {
        matches!(self.reload, Reload::Live | Reload::Tls)
    }

    /// Returns whether somebody reads it: a setter for files, for pushes or for clients.
    pub fn is_read(&self) -> bool {
        self.set.is_some() || self.pushed.is_some() || self.client.is_some()
    }

    /// Returns whether a client reads it when a server pushes it.
    pub fn is_read_when_pushed(&self) -> bool {
        self.pushed.is_some()
    }

    /// Returns whether OpenVPN on this system knows the name.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.status, Status::Gone(_))
            && (cfg!(windows) || !matches!(self.status, Status::WindowsOnly))
    }
}

impl fmt::Debug for OptionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The most arguments that an option can have.
pub(crate) const MOST: usize = crate::lexer::MAX_WORDS - 1;

/// Counts the arguments of a usage text.
const fn arity(usage: &str) -> (usize, usize) {
    let bytes = usage.as_bytes();
    let (mut min, mut max, mut depth, mut i, mut inside) = (0, 0, 0usize, 0, false);
    while i < bytes.len() {
        // A constant function has no iterators, and the compiler checks the bounds when it runs.
        #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
        let byte = bytes[i];
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b' ' => inside = false,
            b'.' if usage_ends_in_dots(bytes, i) => max = MOST,
            _ if !inside => {
                inside = true;
                max += 1;
                if depth == 0 {
                    min += 1;
                }
            }
            _ => {}
        }
        i += 1;
    }
    (min, max)
}

/// Returns whether three dots stand at `i`.
const fn usage_ends_in_dots(bytes: &[u8], i: usize) -> bool {
    #[expect(clippy::indexing_slicing, reason = "evaluated when compiling")]
    let dots = i + 2 < bytes.len() && bytes[i] == b'.' && bytes[i + 1] == b'.' && bytes[i + 2] == b'.';
    dots
}
