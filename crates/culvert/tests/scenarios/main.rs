//! What happens to a tunnel in its life, with real peers: see the modules.
//!
//! Needs root and `scripts/peers`; `./test` runs it. `CULVERT_TEST_SUBJECT=2.6` puts that OpenVPN in culvert's
//! place, which shows whether an expectation is OpenVPN's behaviour or only ours.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod address_rewriting;
mod attempts;
mod authentication;
#[cfg(feature = "bench")]
mod bench;
mod bridging;
mod causes;
mod challenges;
mod clocks;
mod continuity;
mod corpus;
mod devices;
mod doctor;
mod example_files;
mod examples;
mod first;
mod flood;
mod full_disk;
mod hostile;
mod keys;
mod kill_switch;
mod listening;
mod live;
mod logins;
mod machine;
mod machine_rules;
mod management;
mod management_answers;
mod management_client;
mod management_keys;
mod management_logins;
mod messages;
mod metrics;
mod names;
mod network_change;
mod network_manager;
mod null_clients;
mod openvpn_examples;
mod options;
mod path_mtu;
mod plugins;
mod policy;
mod proxies;
mod questions;
mod refusal;
mod relays;
mod reload;
mod rows;
#[path = "../../../config/tests/samples/mod.rs"]
mod samples;
mod scripts;
mod settings;
mod side_by_side;
mod standalone;
mod system_log;
mod units;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use culvert_testkit::{Implementation, Materials, NetnsLab, Peers, Release, Role, Tunnel, TunnelSpec};

/// Long enough for anything that is announced, not timed.
const SOON: Duration = Duration::from_secs(10);

/// What every scenario needs.
struct World {
    peers: Peers,
    materials: Arc<Materials>,
    subject: Implementation,
}

impl World {
    fn new() -> Self {
        let peers = Peers::find().unwrap();
        let materials = Materials::new(&peers).unwrap();
        let subject = peers.subject(env!("CARGO_BIN_EXE_culvert")).unwrap();
        Self { peers, materials, subject }
    }

    /// Returns (server, client) when the subject has this role.
    fn ends(&self, role: Role, release: Release) -> (Implementation, Implementation) {
        let peer = self.peers.get(release).unwrap();
        match role {
            Role::Server => (self.subject.clone(), peer),
            Role::Client => (peer, self.subject.clone()),
        }
    }

    /// Starts a tunnel between the subject in this role and a peer, and waits until it carries traffic.
    fn tunnel(&self, role: Role, release: Release, spec: &TunnelSpec) -> Tunnel {
        let (server, client) = self.ends(role, release);
        let tunnel = Tunnel::start_up(spec, &server, &client, &self.materials).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
        tunnel
    }

    /// Starts a tunnel that is not expected to come up.
    fn start(&self, role: Role, release: Release, spec: &TunnelSpec) -> Tunnel {
        let (server, client) = self.ends(role, release);
        Tunnel::start(spec, &server, &client, &self.materials).unwrap()
    }

    /// Starts a tunnel in a prepared network, and waits until it carries traffic.
    fn tunnel_in(&self, lab: NetnsLab, role: Role, release: Release, spec: &TunnelSpec) -> Tunnel {
        let (server, client) = self.ends(role, release);
        let tunnel = Tunnel::start_in(lab, spec, &server, &client, &self.materials).unwrap();
        tunnel.wait_up().unwrap();
        tunnel.wait_traffic(SOON).unwrap();
        tunnel
    }
}

/// Fails, with both logs, when the subject's process logged a panic.
fn assert_no_panic(tunnel: &Tunnel) {
    for end in [&tunnel.server, &tunnel.client] {
        assert!(!end.has_logged("panicked at"), "{}", end.tail());
    }
}
