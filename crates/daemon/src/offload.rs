//! The choice of a data plane, and its device.

use std::sync::Arc;

use culvert_config::{Profile, Role};
use culvert_engine::EngineBackend;
use culvert_offload::{Backend, DeviceMode, DeviceSpec, Offload, OffloadError, Support};
use culvert_wire::CipherName;

use crate::{ovlog, threads::ThreadBudget};

/// Opens the best data plane for a profile, and says in one line which one it is and why.
pub(crate) fn open(profile: &Profile, threads: ThreadBudget) -> Result<Arc<dyn Offload>, OffloadError> {
    let engine = EngineBackend::new();
    match engine.probe() {
        Support::Present(what) => ovlog!(2, "offload: {what}"),
        Support::Absent(why) => ovlog!(warn 1, "offload: engine, although {why}"),
    }
    let offload = engine.open(device_spec(profile, threads))?;
    ovlog!(1, "TUN/TAP device {} opened", offload.device().name);
    for cipher in not_carried(profile, &*offload) {
        ovlog!(
            warn 1,
            "WARNING: cipher '{cipher}' is configured, but not yet supported: it is never negotiated. Peers that know nothing else are refused."
        );
    }
    Ok(offload)
}

/// Configured ciphers that are left out of every negotiation.
fn not_carried(profile: &Profile, offload: &dyn Offload) -> Vec<CipherName> {
    let policy = &profile.data.ciphers;
    let mut left_out: Vec<_> = policy
        .list
        .iter()
        .chain(&policy.fallback)
        .copied()
        .filter(|cipher| !offload.capabilities().ciphers.contains(cipher))
        .collect();
    left_out.dedup();
    left_out
}

fn device_spec(profile: &Profile, threads: ThreadBudget) -> DeviceSpec {
    let server = profile.role() == Role::Server;
    let device = &profile.device;
    let mtu = profile.connections.first().map_or(1500, |entry| entry.mtu.tun_mtu);
    DeviceSpec {
        // `tun` alone: the system chooses the number.
        name: (device.dev != "tun").then(|| device.dev.clone()),
        node: device.dev_node.clone(),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        tx_queue_len: device.txqueuelen,
        mode: if server { DeviceMode::MultiPeer } else { DeviceMode::PointToPoint },
        max_peers: if server { profile.server.max_clients } else { 2 },
        client_to_client: profile.server.client_to_client,
        replay_window: profile.data.replay_window.unwrap_or(DEFAULT_REPLAY_WINDOW),
        threads: Some(threads.engine),
    }
}

/// Packets and seconds, as the kernel module's: more than OpenVPN's 64, which loses packets to mild reordering.
const DEFAULT_REPLAY_WINDOW: (u32, u32) = (2048, 15);
