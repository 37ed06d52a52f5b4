//! Tunnels whose data packets the kernel's `ovpn` module carries.
//!
//! Needs a kernel with that module (Linux 6.16), besides root and `scripts/peers`; `./test kernel` runs it in a
//! virtual machine (`scripts/vm`), and so do `./test kernel NAME...` for single tests.
//! `CULVERT_TEST_SUBJECT=2.7` puts that OpenVPN in culvert's place, which tests this harness: it drives the
//! same module.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod clients;
mod device;
mod life;
mod live;
mod matrix;
mod server;
mod two_ends;

use std::sync::Arc;
use std::time::Duration;

use culvert_testkit::{Implementation, Materials, Offload, Peers, Release, Role, Tunnel, TunnelSpec};

/// Long enough for anything that is announced, not timed.
const SOON: Duration = Duration::from_secs(10);

/// A session that was lost without a word is noticed by `ping-restart` and made again.
const RECOVERY: Duration = Duration::from_secs(30);

/// What every test needs.
struct World {
    peer: Implementation,
    materials: Arc<Materials>,
    subject: Implementation,
}

impl World {
    fn new() -> Self {
        let peers = Peers::find().unwrap();
        let materials = Materials::new(&peers).unwrap();
        let subject = peers.subject(env!("CARGO_BIN_EXE_culvert")).unwrap();
        Self { peer: peers.get(Release::V2_7).unwrap(), materials, subject }
    }

    /// Starts a tunnel between the subject in this role and OpenVPN 2.7, both with the kernel's help, and waits
    /// until it carries traffic.
    fn tunnel(&self, role: Role, spec: TunnelSpec) -> Tunnel {
        let tunnel = self.tunnel_with(role, &TunnelSpec { offload: Offload::Both, ..spec });
        tunnel.prove_offload().unwrap();
        tunnel
    }

    /// The same, with the kernel's help where the spec says.
    fn tunnel_with(&self, role: Role, spec: &TunnelSpec) -> Tunnel {
        let (server, client) = match role {
            Role::Server => (&self.subject, &self.peer),
            Role::Client => (&self.peer, &self.subject),
        };
        let tunnel = Tunnel::start_up(spec, server, client, &self.materials).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
        tunnel
    }
}

/// Makes a test of each role of the subject.
macro_rules! in_each_role {
    ($work:ident: $server:ident, $client:ident) => {
        #[test]
        #[ignore = "needs the ovpn module: run ./test kernel"]
        fn $server() {
            $work(culvert_testkit::Role::Server);
        }

        #[test]
        #[ignore = "needs the ovpn module: run ./test kernel"]
        fn $client() {
            $work(culvert_testkit::Role::Client);
        }
    };
}
use in_each_role;

/// Fails, with both logs, when a process logged a panic.
fn assert_no_panic(tunnel: &Tunnel) {
    for end in [&tunnel.server, &tunnel.client] {
        assert!(!end.has_logged("panicked at"), "{}", end.tail());
    }
}
