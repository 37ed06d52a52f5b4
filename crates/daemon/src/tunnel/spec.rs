//! What the tunnel of this machine is to look like: the profile, with what a server pushed laid over it.

use culvert_config::{Profile, Pushed, Role, profile, value::Topology};

use culvert_offload::Offload;

use crate::{management::Addresses, network, offload::is_kernel};

/// Addresses, routes and DNS of the tunnel, from whatever source.
#[derive(Clone, Debug)]
pub(crate) struct TunnelSpec {
    /// MTU inside the tunnel.
    pub(crate) mtu: u16,
    /// How `ifconfig`'s second word is meant.
    pub(crate) topology: Topology,
    /// Addresses.
    pub(crate) device: profile::Device,
    /// Routes and DNS.
    pub(crate) routes: profile::Routes,
    /// Bytes per second into the tunnel (`shaper`).
    pub(crate) shaper: Option<u32>,
    /// Whatever the main table says, the transport's packets stay out of the tunnel: they carry a mark, and are routed by
    /// rules, or leave by a device that was chosen for them (`bind-dev`, also one that is a VRF).
    pub(crate) kept_outside: bool,
    /// The machine's routes tell which of many peers a packet is for: a `route` without a gateway leads to the device
    /// itself, not to the client that has the address of OpenVPN's usual gateway.
    pub(crate) routed_by_machine: bool,
}

impl TunnelSpec {
    /// What the profile alone says.
    pub(crate) fn from_profile(profile: &Profile) -> Self {
        let mtu = profile.connections.first().map_or(1500, |entry| entry.mtu.tun_mtu);
        Self {
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            topology: profile.device.topology.unwrap_or(match profile.role() {
                Role::Server => Topology::Subnet,
                Role::Client | Role::P2p => Topology::Net30,
            }),
            device: profile.device.clone(),
            routes: profile.routes.clone(),
            shaper: profile.link.shaper,
            kept_outside: profile.link.mark.is_some() || profile.link.bind_dev.is_some(),
            routed_by_machine: false,
        }
        .with_machine()
    }

    /// Leaves the machine's network alone where it does not know the device. Scripts are told what was meant.
    fn with_machine(mut self) -> Self {
        if self.device.is_virtual() {
            self.device.ifconfig_noexec = true;
            self.routes.noexec = true;
            self.routes.block_ipv6 = false;
            self.shaper = None;
        }
        self
    }

    /// The addresses of this end in the tunnel, for the management interface.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            tunnel4: self.device.ifconfig.map(|own| own.local),
            tunnel6: self.device.ifconfig_ipv6.map(|own| own.local.address),
            ..Addresses::default()
        }
    }

    /// Fits it to what carries the data.
    pub(crate) fn on(mut self, offload: &dyn Offload, profile: &Profile) -> Self {
        self.routed_by_machine = profile.role() == Role::Server && is_kernel(offload);
        self
    }

    /// Lays what was pushed over it.
    pub(crate) fn with_pushed(mut self, pushed: &Pushed) -> Self {
        (self.device, self.routes) = network::merge(&self.device, &self.routes, pushed);
        if let Some(topology) = pushed.topology {
            self.topology = topology;
        }
        self.shaper = pushed.shaper.or(self.shaper);
        if let Some(mtu) = pushed.tun_mtu.and_then(|mtu| u16::try_from(mtu).ok()) {
            self.mtu = mtu;
        }
        self.with_machine()
    }
}
