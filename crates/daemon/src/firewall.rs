//! Rules of the machine's packet filter around a tunnel device.
//!
//! Two things that OpenVPN does to packets on their way through its process, and that a kernel which carries them itself
//! leaves to the machine: clients of a server are kept apart (without `client-to-client`), and the MSS of TCP connections
//! is clamped (`mssfix`). The engine does both by itself. A third, the answers of `block-ipv6`, is given by the machine
//! for every data plane.

use culvert_config::{
    Profile, Role,
    profile::{ConnectionEntry, Local},
    value::Family,
};
use culvert_host::{Firewall, FirewallRules, Ipv6Refusal, MssClamp, Refused};
use culvert_offload::{Device, Offload};

use crate::{link, offload::is_kernel, ovlog, settings::mss};

/// The rules, as long as they are needed: they go with this value, and with the process.
pub(crate) struct Guard {
    firewall: Option<Firewall>,
    rules: FirewallRules,
}

impl Guard {
    /// Sets the rules of a server, or of the waiting one of two ends.
    pub(crate) fn of_server(profile: &Profile, offload: &dyn Offload) -> Self {
        let by_kernel = is_kernel(offload);
        if !by_kernel && profile.server.client_to_client && profile.routes.block_ipv6 {
            ovlog!(
                warn 1,
                "WARNING: --block-ipv6 does not reach packets between clients: with --client-to-client the userspace engine passes them on by itself. Give clients no IPv6 addresses, or remove --client-to-client."
            );
        }
        let device = offload.device();
        let rules = server_rules(profile, &device, by_kernel);
        Self::with(&device, rules)
    }

    /// Clamps the MSS of a client's connections to another value from here on.
    pub(crate) fn clamp_to(&mut self, device: &Device, mss: Option<u16>) {
        let wanted: Vec<_> = mss.and_then(|v4| clamp(device, v4)).into_iter().collect();
        if self.rules.mss != wanted {
            self.rules.mss = wanted;
            self.apply_anew(device);
        }
    }

    /// Refuses IPv6 that leaves through a client's tunnel, or no longer.
    pub(crate) fn refuse_ipv6(&mut self, device: &Device, refuses: bool) {
        let wanted: Vec<_> = refuses.then(|| refusal(device, Refused::Leaving)).into_iter().collect();
        if self.rules.refused_ipv6 != wanted {
            self.rules.refused_ipv6 = wanted;
            self.apply_anew(device);
        }
    }

    fn apply_anew(&mut self, device: &Device) {
        if self.firewall.is_some() {
            self.apply();
        } else {
            *self = Self::with(device, std::mem::take(&mut self.rules));
        }
    }

    /// Sets the rules of a client, or of the calling one of two ends.
    pub(crate) fn of_client(device: &Device, mss: Option<u16>, block_ipv6: bool) -> Self {
        let rules = FirewallRules {
            isolated: Vec::new(),
            mss: mss.and_then(|v4| clamp(device, v4)).into_iter().collect(),
            refused_ipv6: block_ipv6.then(|| refusal(device, Refused::Leaving)).into_iter().collect(),
        };
        Self::with(device, rules)
    }

    /// Extends what holds for all clients to those behind another device.
    pub(crate) fn cover(&mut self, device: &Device) {
        if extend(&mut self.rules, device) {
            self.apply();
        }
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
        for refusal in &self.rules.refused_ipv6 {
            ovlog!(
                warn 1,
                "WARNING: --block-ipv6 has no effect: IPv6 passes through {0}. {because}. Block it in the firewall (ip6tables -I OUTPUT -o {0} -j REJECT), or set net.ipv6.conf.{0}.disable_ipv6=1.",
                refusal.device
            );
        }
    }
}

fn server_rules(profile: &Profile, device: &Device, by_kernel: bool) -> FirewallRules {
    let server = profile.role() == Role::Server;
    let isolated = by_kernel && server && !profile.server.client_to_client;
    let clamp = profile.connections.first().filter(|_| by_kernel);
    let direction = if server { Refused::BothWays } else { Refused::Leaving };
    FirewallRules {
        isolated: isolated.then(|| device.name.clone()).into_iter().collect(),
        mss: clamp.and_then(|entry| server_clamp(entry, device)).into_iter().collect(),
        refused_ipv6: profile.routes.block_ipv6.then(|| refusal(device, direction)).into_iter().collect(),
    }
}

/// Makes another device of the same tunnel subject to the rules about clients; returns whether they are others now. The
/// engine behind it clamps by itself.
fn extend(rules: &mut FirewallRules, device: &Device) -> bool {
    let mut changed = false;
    if !rules.isolated.is_empty() && !rules.isolated.contains(&device.name) {
        rules.isolated.push(device.name.clone());
        changed = true;
    }
    if let Some(first) = rules.refused_ipv6.first()
        && rules.refused_ipv6.iter().all(|refusal| refusal.device != device.name)
    {
        let refusal = refusal(device, first.direction);
        rules.refused_ipv6.push(refusal);
        changed = true;
    }
    changed
}

fn refusal(device: &Device, direction: Refused) -> Ipv6Refusal {
    Ipv6Refusal { device: device.name.clone(), direction }
}

/// One clamp for all clients: what fits the one whose packets have the largest headers.
fn server_clamp(entry: &ConnectionEntry, device: &Device) -> Option<MssClamp> {
    let locals = entry.listeners();
    let is_v6 = |local: &Local| match local.proto.family {
        Family::V4 => false,
        Family::V6 => true,
        // A name, or the other end's, may turn out to be of IPv6.
        Family::Any => {
            local.host.is_some() || entry.remote.is_some() || link::everywhere(Family::Any).is_ipv6()
        }
    };
    let encapsulation = mss::Encapsulation {
        tcp: locals.iter().any(|local| local.proto.transport.is_tcp()),
        ipv6: locals.iter().any(is_v6),
        data_v2: true,
        protection: mss::Protection::Aead { epoch: false },
        framing_byte: false,
        // The kernel's devices are no TAPs.
        extra: entry.mtu.extra(false),
    };
    clamp(device, mss::clamp(&entry.mtu, &encapsulation)?)
}

/// Over IPv6, headers are 20 bytes longer.
fn clamp(device: &Device, v4: u16) -> Option<MssClamp> {
    const LONGER: u16 = 20;
    Some(MssClamp { device: device.name.clone(), v4, v6: v4.checked_sub(LONGER).filter(|mss| *mss > 0)? })
}

#[cfg(test)]
mod tests {
    use culvert_config::{
        profile::Remote,
        value::{Port, Proto, Transport},
    };

    use super::*;

    fn device(name: &str) -> Device {
        Device { name: name.to_owned(), ifindex: 7 }
    }

    fn local(host: Option<&str>, transport: Transport, family: Family) -> Local {
        let port = culvert_config::value::Port::OPENVPN;
        Local { host: host.map(str::to_owned), port, proto: Proto { transport, family } }
    }

    fn server_mss(locals: Vec<Local>) -> Option<(u16, u16)> {
        let entry = ConnectionEntry { locals, ..ConnectionEntry::default() };
        server_clamp(&entry, &device("tun0")).map(|clamp| (clamp.v4, clamp.v6))
    }

    // 1492 less 40 for the inner headers, less 24 for header, packet id and tag of DATA_V2 …
    const UDP4: u16 = 1492 - 40 - 24 - 28;

    #[test]
    fn a_server_clamps_to_what_fits_its_outer_headers() {
        let udp4 = local(None, Transport::Udp, Family::V4);
        assert_eq!(server_mss(vec![udp4]), Some((UDP4, UDP4 - 20)));
        let udp6 = local(None, Transport::Udp, Family::V6);
        assert_eq!(server_mss(vec![udp6]), Some((UDP4 - 20, UDP4 - 40)));
        let tcp4 = local(None, Transport::TcpServer, Family::V4);
        assert_eq!(server_mss(vec![tcp4]), Some((UDP4 - 14, UDP4 - 34)));
    }

    #[test]
    fn the_largest_headers_of_all_listeners_count() {
        let udp4 = local(None, Transport::Udp, Family::V4);
        let udp6 = local(None, Transport::Udp, Family::V6);
        let tcp4 = local(None, Transport::TcpServer, Family::V4);
        assert_eq!(server_mss(vec![udp4, udp6, tcp4]), Some((UDP4 - 34, UDP4 - 54)));
    }

    #[test]
    fn a_listener_of_any_family_counts_as_what_it_is_bound_to() {
        let any = local(None, Transport::Udp, Family::Any);
        let mss = if link::everywhere(Family::Any).is_ipv4() { UDP4 } else { UDP4 - 20 };
        assert_eq!(server_mss(vec![any]), Some((mss, mss - 20)));
        let proto = Proto { transport: Transport::Udp, family: Family::V4 };
        let entry = ConnectionEntry { proto, ..ConnectionEntry::default() };
        let clamp = server_clamp(&entry, &device("tun0")).unwrap();
        assert_eq!(clamp.v4, UDP4, "without `local`, the protocol of the entry counts");
        let remote = Remote { host: "peer.example".to_owned(), port: Port::Number(1194) };
        let entry = ConnectionEntry { remote: Some(remote), ..ConnectionEntry::default() };
        let clamp = server_clamp(&entry, &device("tun0")).unwrap();
        assert_eq!(clamp.v4, UDP4 - 20, "the peer's name may mean IPv6");
    }

    #[test]
    fn without_mssfix_or_room_nothing_is_clamped() {
        let mut entry = ConnectionEntry::default();
        entry.mtu.mssfix = culvert_config::profile::MssFix::Off;
        assert_eq!(server_clamp(&entry, &device("tun0")), None);
        assert_eq!(clamp(&device("tun0"), 20), None, "nothing is left for IPv6");
    }

    fn server(block_ipv6: bool) -> Profile {
        let mut profile = Profile::default();
        profile.mode = culvert_config::profile::Mode::Server;
        profile.routes.block_ipv6 = block_ipv6;
        profile
    }

    #[test]
    fn a_server_refuses_ipv6_both_ways_with_every_data_plane() {
        let expected = [refusal(&device("tun0"), Refused::BothWays)];
        for by_kernel in [false, true] {
            let rules = server_rules(&server(true), &device("tun0"), by_kernel);
            assert_eq!(rules.refused_ipv6, expected);
            assert_eq!(!rules.isolated.is_empty(), by_kernel, "the engine keeps clients apart by itself");
        }
        assert!(server_rules(&server(false), &device("tun0"), false).is_empty());
    }

    #[test]
    fn the_engines_device_beside_the_kernels_is_covered_once() {
        let mut rules = server_rules(&server(true), &device("tun0"), true);
        assert!(!extend(&mut rules, &device("tun0")));
        assert!(extend(&mut rules, &device("tun1")));
        assert!(!extend(&mut rules, &device("tun1")));
        assert_eq!(rules.isolated, ["tun0", "tun1"]);
        assert_eq!(rules.refused_ipv6[1], refusal(&device("tun1"), Refused::BothWays));
        assert!(!extend(&mut FirewallRules::default(), &device("tun1")), "nothing to extend");
    }
}
