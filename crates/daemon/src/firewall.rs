//! Rules of the machine's packet filter around a device of the kernel.
//!
//! Two things that OpenVPN does to packets on their way through its process, and that a kernel which carries them itself
//! leaves to the machine: clients of a server are kept apart (without `client-to-client`), and the MSS of TCP connections
//! is clamped (`mssfix`). The engine does both by itself.

use culvert_config::{
    Profile, Role,
    profile::{ConnectionEntry, Local},
    value::Family,
};
use culvert_host::{Firewall, FirewallRules, MssClamp};
use culvert_offload::{Device, Offload};

use crate::{offload::is_kernel, ovlog, settings::mss};

/// The rules, as long as they are needed: they go with this value, and with the process.
pub(crate) struct Guard {
    firewall: Option<Firewall>,
    rules: FirewallRules,
}

impl Guard {
    /// Sets no rules.
    pub(crate) const fn none() -> Self {
        Self { firewall: None, rules: FirewallRules { isolated: Vec::new(), mss: Vec::new() } }
    }

    /// Sets the rules of a server.
    pub(crate) fn of_server(profile: &Profile, offload: &dyn Offload) -> Self {
        if !is_kernel(offload) {
            return Self::none();
        }
        let device = offload.device();
        let isolated = profile.role() == Role::Server && !profile.server.client_to_client;
        let clamp = profile.connections.first().and_then(|entry| server_clamp(entry, &device));
        let rules = FirewallRules {
            isolated: isolated.then(|| device.name.clone()).into_iter().collect(),
            mss: clamp.into_iter().collect(),
        };
        Self::with(&device, rules)
    }

    /// Sets the rules of a client, or of one of two ends.
    pub(crate) fn of_client(device: &Device, mss: Option<u16>) -> Self {
        let clamp = mss.and_then(|v4| clamp(device, v4));
        Self::with(device, FirewallRules { isolated: Vec::new(), mss: clamp.into_iter().collect() })
    }

    /// Keeps the clients behind another device apart from the others too.
    pub(crate) fn cover(&mut self, device: &Device) {
        if self.rules.isolated.is_empty() || self.rules.isolated.contains(&device.name) {
            return;
        }
        self.rules.isolated.push(device.name.clone());
        self.apply();
    }

    fn with(device: &Device, rules: FirewallRules) -> Self {
        let mut guard = Self { firewall: None, rules };
        if guard.rules.is_empty() {
            return guard;
        }
        match Firewall::open(&device.name) {
            Ok(firewall) => {
                guard.firewall = Some(firewall);
                guard.apply();
            }
            Err(failure) => guard.say_what_is_missing(&failure),
        }
        guard
    }

    fn apply(&mut self) {
        let Some(firewall) = &mut self.firewall else { return };
        if let Err(failure) = firewall.set(&self.rules) {
            self.say_what_is_missing(&failure);
        }
    }

    /// Nothing is without effect in silence.
    fn say_what_is_missing(&self, failure: &culvert_host::HostError) {
        let because = failure.to_string();
        if !self.rules.isolated.is_empty() {
            ovlog!(
                warn 1,
                "WARNING: clients are NOT kept apart: if this machine forwards packets, they reach each other. {because}. Forbid it in the firewall (iifname {0} oifname {0} drop), or write --offload engine.",
                self.rules.isolated.join(",")
            );
        }
        if !self.rules.mss.is_empty() {
            ovlog!(
                warn 1,
                "WARNING: --mssfix has no effect: {because}. Lower --tun-mtu if TCP connections through the tunnel stall."
            );
        }
    }
}

/// One clamp for all clients: what fits the one whose packets have the largest headers.
fn server_clamp(entry: &ConnectionEntry, device: &Device) -> Option<MssClamp> {
    let everywhere = [Local {
        host: None,
        port: entry.local_port.clone().unwrap_or(culvert_config::value::Port::OPENVPN),
        proto: entry.proto,
    }];
    let locals = if entry.locals.is_empty() { &everywhere[..] } else { &entry.locals[..] };
    let is_v6 = |local: &Local| match local.proto.family {
        Family::V4 => false,
        Family::V6 => true,
        Family::Any => local.host.as_ref().is_none_or(|host| host.contains(':')),
    };
    let encapsulation = mss::Encapsulation {
        tcp: locals.iter().any(|local| local.proto.transport.is_tcp()),
        ipv6: locals.iter().any(is_v6),
        data_v2: true,
        epoch: false,
        framing_byte: false,
    };
    clamp(device, mss::clamp(&entry.mtu, &encapsulation)?)
}

/// Over IPv6, headers are 20 bytes longer.
fn clamp(device: &Device, v4: u16) -> Option<MssClamp> {
    const LONGER: u16 = 20;
    Some(MssClamp { device: device.name.clone(), v4, v6: v4.checked_sub(LONGER).filter(|mss| *mss > 0)? })
}
