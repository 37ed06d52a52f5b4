//! What a server may push: parsing of PUSH_REPLY with the rows of the table that permit it.

use std::{fmt, net::Ipv6Addr, time::Duration};

use culvert_wire::{CipherName, PeerId, ProtocolFlags};

use crate::{
    args::Args,
    lexer::{self, LIMIT},
    profile::{Client, PullFilter, PullVerdict},
    table::{Contexts, Group, OptionRow, PUSH, Source, Status, find},
    title::OPENVPN_VERSION,
    value::{
        ClientNat, Compression, DhcpOption, Dns, Ifconfig, Ifconfig6, PingAction, Redirect, Route, Route6,
        RouteHost, SecretText, Topology,
    },
};

/// What a server pushed and the table lets through, typed.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct Pushed {
    /// `ifconfig`.
    pub ifconfig: Option<Ifconfig>,
    /// `ifconfig-ipv6`.
    pub ifconfig_ipv6: Option<Ifconfig6>,
    /// `topology`.
    pub topology: Option<Topology>,
    /// `lladdr`.
    pub lladdr: Option<[u8; 6]>,
    /// `ifconfig-noexec`.
    pub ifconfig_noexec: bool,
    /// `route`, in order.
    pub routes: Vec<Route>,
    /// `route-ipv6`, in order.
    pub routes6: Vec<Route6>,
    /// `route-gateway`.
    pub route_gateway: Option<RouteHost>,
    /// `route-ipv6-gateway`.
    pub route_gateway6: Option<Ipv6Addr>,
    /// `route-metric`.
    pub route_metric: Option<u32>,
    /// `route-delay`.
    pub route_delay: Option<Duration>,
    /// `redirect-gateway`, `redirect-private`.
    pub redirect: Option<Redirect>,
    /// `block-ipv6`.
    pub block_ipv6: bool,
    /// `client-nat`, in order.
    pub client_nat: Vec<ClientNat>,
    /// `dns`.
    pub dns: Dns,
    /// `dhcp-option`, in order.
    pub dhcp_options: Vec<DhcpOption>,
    /// `ping`.
    pub ping: Option<Duration>,
    /// `ping-exit`, `ping-restart`.
    pub ping_timeout: Option<(Duration, PingAction)>,
    /// `inactive`.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `peer-id`.
    pub peer_id: Option<PeerId>,
    /// `cipher`.
    pub cipher: Option<CipherName>,
    /// `cipher` with a name that is unknown: the connection cannot be used.
    pub unknown_cipher: Option<String>,
    /// `protocol-flags` and `key-derivation`.
    pub protocol: ProtocolFlags,
    /// `tun-mtu`.
    pub tun_mtu: Option<u32>,
    /// `auth-token`.
    pub auth_token: Option<SecretText>,
    /// `auth-token-user`, decoded.
    pub auth_token_user: Option<String>,
    /// `explicit-exit-notify`.
    pub explicit_exit_notify: Option<u32>,
    /// `comp-lzo`, `compress`.
    pub compression: Option<Compression>,
    /// `rcvbuf` in bytes.
    pub rcvbuf: Option<u32>,
    /// `sndbuf` in bytes.
    pub sndbuf: Option<u32>,
    /// `shaper`: bytes per second into the tunnel, 100 to 100 000 000.
    pub shaper: Option<u32>,
    /// `persist-tun`.
    pub persist_tun: bool,
    /// `verb`.
    pub verb: Option<u8>,
    /// `mute`.
    pub mute: Option<u32>,
    /// `echo` and `parameter`, in order: for the management interface.
    pub echo: Vec<String>,
    /// `setenv-safe`: names already prefixed with `OPENVPN_`.
    pub setenv: Vec<(String, String)>,
    /// `push-continuation`: 2 says that another message follows.
    pub continuation: u8,
    /// What was not taken, and why: for the log.
    pub notes: Vec<PushNote>,
    /// Every option that was taken, as it came, and whether another value needs no other device.
    taken: Vec<(&'static OptionRow, String)>,
}

/// A pushed option that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushNote {
    /// The option as it came, secrets left out.
    pub option: String,
    /// Why.
    pub reason: PushReason,
}

/// Why a pushed option was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PushReason {
    /// `pull-filter ignore`.
    Filtered,
    /// `route-nopull`.
    RouteNopull,
    /// A known option that must not be pushed.
    NotPushable,
    /// No option of this name.
    Unknown,
    /// A value that is not understood; the text is OpenVPN's, without the `Options error:`.
    Malformed(String),
    /// Understood and without effect here; the text says why.
    NoEffect(String),
}

/// A push that must not be applied at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushRejected {
    /// `pull-filter reject`.
    #[error("Pushed option rejected by filter: '{0}'.")]
    ByFilter(String),
    /// A control character or another byte that no option has (SEC-OPT-2).
    #[error("pushed options hold a byte that no option has")]
    Bytes,
}

/// The rules by which one client takes pushed options.
#[derive(Clone, Copy, Debug)]
pub struct PushFilter<'p> {
    /// `pull-filter`.
    pub filters: &'p [PullFilter],
    /// `route-nopull`.
    pub route_nopull: bool,
    /// `allow-pull-fqdn`.
    pub allow_fqdn: bool,
}

/// What setters of pushed options write into.
pub(crate) struct PushTarget<'t> {
    /// The options.
    pub(crate) pushed: &'t mut Pushed,
    /// `allow-pull-fqdn`.
    pub(crate) allow_fqdn: bool,
}

impl PushTarget<'_> {
    /// Returns how far addresses are trusted.
    pub(crate) fn source(&self) -> Source {
        Source::Pushed { allow_fqdn: self.allow_fqdn }
    }
}

impl<'p> PushFilter<'p> {
    /// Takes the rules of a profile.
    pub fn new(client: &'p Client) -> Self {
        Self {
            filters: &client.pull_filters,
            route_nopull: client.route_nopull,
            allow_fqdn: client.allow_pull_fqdn,
        }
    }

    /// Adds the options of one message to `pushed`. `options` is what follows `PUSH_REPLY,`.
    ///
    /// # Errors
    /// The push must be refused as a whole; `pushed` is then of no use.
    pub fn apply(&self, options: &str, pushed: &mut Pushed) -> Result<(), PushRejected> {
        if options.chars().any(char::is_control) {
            return Err(PushRejected::Bytes);
        }
        for option in options.split(',') {
            let option = option.trim_start_matches(lexer::is_blank);
            if self.filter(option, pushed)? {
                self.take(option, pushed, PUSH);
            }
        }
        if pushed.continuation != 2 {
            pushed.finish();
        }
        Ok(())
    }

    /// Applies `pull-filter`; `false` leaves the option out.
    pub(crate) fn filter(&self, option: &str, pushed: &mut Pushed) -> Result<bool, PushRejected> {
        let filter = self.filters.iter().find(|filter| option.starts_with(&filter.prefix));
        match filter.map(|filter| filter.verdict) {
            None | Some(PullVerdict::Accept) => Ok(true),
            Some(PullVerdict::Reject) => Err(PushRejected::ByFilter(shown(option))),
            Some(PullVerdict::Ignore) => {
                pushed.note(option, PushReason::Filtered);
                Ok(false)
            }
        }
    }

    /// Takes one option, or notes why not.
    pub(crate) fn take(&self, option: &str, pushed: &mut Pushed, context: Contexts) {
        if let Err(reason) = self.try_take(option, pushed, context) {
            pushed.note(option, reason);
        }
    }

    fn try_take(&self, option: &str, pushed: &mut Pushed, context: Contexts) -> Result<(), PushReason> {
        if option.len() >= LIMIT {
            return Err(PushReason::Malformed(format!("the option has more than {} bytes", LIMIT - 1)));
        }
        let words = lexer::split(option)
            .map_err(|_| PushReason::Malformed("quotes or backslashes are wrong".to_owned()))?;
        let Some((name, arguments)) = words.split_first() else { return Ok(()) };
        let row = find(&name.text).filter(|row| row.is_known()).ok_or(PushReason::Unknown)?;
        if !row.contexts.has(context) {
            return Err(PushReason::NotPushable);
        }
        if self.route_nopull && row.pull.unless_nopull {
            return Err(PushReason::RouteNopull);
        }
        let (min, max) = row.arity;
        if !(min..=max).contains(&arguments.len()) {
            return Err(PushReason::Malformed(format!("`{}` takes {}", row.name, row.args)));
        }
        let Some(set) = row.pushed else {
            // The others that a server may push have a setter: a test of the table sees to it.
            let Status::NoEffect(why) = row.status else { return Err(PushReason::NotPushable) };
            return Err(PushReason::NoEffect(why.to_owned()));
        };
        let args = Args { name: row.name, words: arguments, inline: None };
        let mut target = PushTarget { pushed, allow_fqdn: self.allow_fqdn };
        set(&mut target, &args).map_err(|problem| PushReason::Malformed(problem.text))?;
        pushed.taken.push((row, shown(option)));
        Ok(())
    }
}

impl Pushed {
    /// Returns the options that decide whether the device has to be opened anew: when their text is the same as
    /// before, it need not. Those left out change nothing about the device (protocol, section 5.2).
    pub fn lasting(&self) -> impl Iterator<Item = &str> {
        let mtu = self.tun_mtu.is_some();
        self.taken
            .iter()
            // The cipher changes the room that a packet has, unless the server says how large the device is.
            .filter(move |(row, _)| !(row.pull.passing || mtu && row.group == Group::Crypto))
            .map(|(_, text)| text.as_str())
    }

    /// Forgets that an option was taken.
    pub(crate) fn forget(&mut self, option: &OptionRow) {
        self.taken.retain(|(row, _)| row.name != option.name);
    }

    pub(crate) fn note(&mut self, option: &str, reason: PushReason) {
        self.notes.push(PushNote { option: shown(option), reason });
    }

    /// Looks at the whole once the last message is there.
    pub(crate) fn finish(&mut self) {
        let servers = std::mem::take(&mut self.dns.servers);
        for server in servers {
            if server.addresses.is_empty() {
                let text = format!("dns server {} does not have an address assigned", server.priority);
                self.note(&format!("dns server {}", server.priority), PushReason::Malformed(text));
            } else {
                self.dns.servers.push(server);
            }
        }
    }
}

/// Returns an option for the log: without secrets, not longer than a line.
fn shown(option: &str) -> String {
    let name = option.split(lexer::is_blank).next().unwrap_or_default();
    match find(name) {
        Some(row) if row.secret => format!("{name} [secret]"),
        _ => option.chars().take(LIMIT).collect(),
    }
}

impl fmt::Display for PushNote {
    /// Prints a line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = &self.option;
        let name = option.split(lexer::is_blank).next().unwrap_or_default();
        match &self.reason {
            PushReason::Filtered => write!(f, "Pushed option removed by filter: '{option}'"),
            PushReason::RouteNopull | PushReason::NotPushable => {
                write!(f, "Options error: option '{name}' cannot be used in this context ([PUSH-OPTIONS])")
            }
            PushReason::Unknown => write!(
                f,
                "Options error: Unrecognized option or missing or extra parameter(s) in [PUSH-OPTIONS]:1: {name} \
                 ({OPENVPN_VERSION})"
            ),
            PushReason::Malformed(text) => {
                write!(f, "Options error: {text} (pushed option '{option}' ignored)")
            }
            PushReason::NoEffect(why) => write!(f, "Note: pushed option '{name}' has no effect: {why}"),
        }
    }
}
