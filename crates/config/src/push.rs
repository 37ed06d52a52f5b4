//! What a server may push: parsing of PUSH_REPLY with the rows of the table that permit it.

use std::{net::Ipv6Addr, time::Duration};

use culvert_wire::{CipherName, PeerId};

use crate::{
    profile::{Client, PullFilter},
    value::{
        Compression, DhcpOption, Dns, Ifconfig, Ifconfig6, PingAction, Redirect, Route, Route6, RouteHost,
        SecretText, Topology,
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
    /// `dns`.
    pub dns: Dns,
    /// `dhcp-option`, in order.
    pub dhcp_options: Vec<DhcpOption>,
    /// `ping`.
    pub ping: Option<Duration>,
    /// `ping-exit`, `ping-restart`.
    pub ping_timeout: Option<(Duration, PingAction)>,
    /// `ping-timer-rem`.
    pub ping_timer_rem: bool,
    /// `inactive`.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `peer-id`.
    pub peer_id: Option<PeerId>,
    /// `cipher`.
    pub cipher: Option<CipherName>,
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
    /// `rcvbuf`.
    pub rcvbuf: Option<u32>,
    /// `sndbuf`.
    pub sndbuf: Option<u32>,
    /// `bind-dev`.
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
    /// Every option that was taken, as it came, in order: for the digest that decides about reopening the device.
    pub taken: Vec<String>,
    /// What was not taken, and why: for the log.
    pub notes: Vec<PushNote>,
}

/// Protocol features that a server turns on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent words of one option")]
pub struct ProtocolFlags {
    /// `cc-exit`: exit notification on the control channel.
    pub cc_exit: bool,
    /// `tls-ekm`: data keys by TLS export.
    pub tls_ekm: bool,
    /// `dyn-tls-crypt`: control channel keys of the session.
    pub dyn_tls_crypt: bool,
    /// `aead-epoch`: epoch data format.
    pub aead_epoch: bool,
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
        let _ = (options, pushed);
        Ok(())
    }
}
