//! What keys carried, told to their sessions: `reneg-bytes` and `reneg-pkts` count in the data plane, and are decided
//! by the session.

use std::time::Duration;

use culvert_config::Profile;
use culvert_offload::PeerStats;
use culvert_proto::Command;

/// How often sessions are told.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Whether the profile limits what a key may carry.
pub(crate) fn is_limited(profile: &Profile) -> bool {
    profile.session.reneg_bytes.is_some_and(|bytes| bytes > 0) || profile.session.reneg_packets > 0
}

/// The usage of a peer's sending key, in both directions.
pub(crate) fn report(stats: &PeerStats) -> Command {
    let key = &stats.key;
    Command::Usage {
        packets: key.rx_packets.saturating_add(key.tx_packets),
        bytes: key.rx_bytes.saturating_add(key.tx_bytes),
    }
}
