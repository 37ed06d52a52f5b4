//! Which sizes of packets reach the peers: asks the data plane to find out, and says what it found.
//!
//! Source of the lines about `mtu-test`: OpenVPN 2.7 `occ.c`.

use std::time::Duration;

use culvert_config::{Profile, profile::Mtu};
use culvert_offload::{MeasuredSizes, Offload, OffloadError, OffloadEvent, SizeTest};
use culvert_wire::PeerId;
use tracing::debug;

use crate::ovlog;

/// Between two packets of `mtu-test`: OpenVPN's three seconds.
const PERIOD: Duration = Duration::from_secs(3);

/// Has the way to a peer tested, where `mtu` is the tunnel's. Kernels send no packets of their own; what they cannot do
/// is said at the start.
pub(crate) fn test(offload: &dyn Offload, peer: PeerId, mtu: u16, profile: &Profile) {
    let measure = profile.link.mtu_test.then_some(PERIOD);
    match offload.test_sizes(peer, SizeTest { mtu, measure }) {
        Ok(()) if measure.is_some() => {
            if profile.connections.iter().any(|entry| entry.mtu.fragment.is_some()) {
                ovlog!(
                    warn 1,
                    "WARNING: using --fragment and --mtu-test together may produce an inaccurate MTU test result"
                );
            }
            ovlog!(1, "NOTE: Beginning empirical MTU test -- results should be available in 3 to 4 minutes.");
        }
        Ok(()) | Err(OffloadError::Unsupported(_)) => {}
        Err(failure) => debug!("no test of packet sizes: {failure}"),
    }
}

/// Has the way to a peer tested anew: this end is somewhere else now.
pub(crate) fn test_again(offload: &dyn Offload, peer: PeerId, mtu: u16) {
    if let Err(failure) = offload.test_sizes(peer, SizeTest { mtu, measure: None }) {
        debug!("no test of packet sizes: {failure}");
    }
}

/// Says what was found. Other events are none of its business.
pub(crate) fn log(event: &OffloadEvent, mtu: &Mtu) {
    match event {
        OffloadEvent::PathMtu(_, Some(path)) => ovlog!(
            2,
            "Path MTU: packets of at most {path} bytes reach the peer; TCP connections through the tunnel are clamped to it"
        ),
        OffloadEvent::PathMtu(_, None) => ovlog!(2, "Path MTU: packets of all sizes reach the peer again"),
        OffloadEvent::SizesMeasured(_, measured) => log_measured(*measured, mtu),
        _ => {}
    }
}

/// Says what `mtu-test` found.
fn log_measured(measured: Option<MeasuredSizes>, mtu: &Mtu) {
    let Some(MeasuredSizes { sent, sent_arrived, returned, returned_arrived }) = measured else {
        ovlog!(
            1,
            "NOTE: failed to empirically measure MTU (requires OpenVPN 1.5 or higher at other end of connection)."
        );
        return;
    };
    ovlog!(
        1,
        "NOTE: Empirical MTU test completed [Tried,Actual] local->remote=[{sent},{sent_arrived}] \
         remote->local=[{returned},{returned_arrived}]"
    );
    if mtu.fragment.is_none() && (sent_arrived < sent || returned_arrived < returned) {
        ovlog!(
            1,
            "NOTE: This connection is unable to accommodate a UDP packet size of {sent}. Consider using --fragment or \
             --mssfix options as a workaround."
        );
    }
}
