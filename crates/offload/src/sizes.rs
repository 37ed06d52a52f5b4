//! Tests of which sizes of packets reach a peer. Only a data plane can make them that sends packets of its own.

use std::time::Duration;

/// What to find out about the way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeTest {
    /// MTU inside the tunnel: nothing larger is ever sent.
    pub mtu: u16,
    /// Measure for the user, too (`mtu-test`): a test packet after each such period, and
    /// [`OffloadEvent::SizesMeasured`](crate::OffloadEvent::SizesMeasured) at the end.
    pub measure: Option<Duration>,
}

/// What `mtu-test` found: the largest packets that were sent, and of these the largest that came, in bytes of UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredSizes {
    /// Sent to the peer.
    pub sent: u16,
    /// Came to the peer.
    pub sent_arrived: u16,
    /// Sent by the peer.
    pub returned: u16,
    /// Came from the peer.
    pub returned_arrived: u16,
}
