//! One suite for all implementations of [`Offload`].
//!
//! An implementation's tests provide a [`Lab`] and name the groups that they run: [`calls`] needs an offload only, the
//! others also the host's side of its device. Sockets play the peers ([`wire_peer`]); most behaviours begin with a
//! [`server`].
//!
//! ```ignore
//! culvert_offload::conformance_tests!(calls, MyLab::new());
//! culvert_offload::conformance_tests!(#[ignore = "needs my machine"] data, MyLab::new());
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a library of tests")]
#![allow(
    clippy::missing_panics_doc,
    reason = "each function is a test: it panics when the behaviour is missing"
)]

pub mod addresses;
pub mod calls;
pub mod data;
pub mod ends;
pub mod keys;
pub mod server;
pub mod tcp;
pub mod wire_peer;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use culvert_crypto::{DataKey, DirectionKey};
use culvert_wire::{CipherName, KeyId, PeerId};

use crate::{
    DeviceMode, DeviceSpec, Offload, OffloadEvent, PeerSpec, PeerStats, Port, Shape, TransportId,
    TransportSpec, UdpOptions, VpnAddresses,
};

/// How long a behaviour may take to show. Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where an implementation is tried.
pub trait Lab {
    /// Opens a device.
    fn open(&self, device: DeviceSpec) -> Arc<dyn Offload>;

    /// The host's side of the device opened last.
    fn tunnel(&self) -> Box<dyn Tunnel> {
        panic!("this implementation carries no data: run the group `calls` only")
    }

    /// Has the machine send a network to a peer, where the implementation asks the machine's routes.
    fn route(&self, network: (IpAddr, u8), via: IpAddr) {
        let _ = (network, via);
    }
}

/// The host's side of a device: what goes in leaves through the tunnel.
pub trait Tunnel: Send + Sync {
    /// Sends an IP packet into the tunnel.
    fn send(&self, packet: &[u8]);
    /// Waits for an IP packet out of the tunnel.
    fn recv(&self, timeout: Duration) -> Option<Vec<u8>>;
}

/// Makes one `#[test]` of each behaviour of a group.
#[macro_export]
macro_rules! conformance_tests {
    ($(#[$attribute:meta])* calls, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] calls, $lab;
            a_peer_exists_from_new_to_del
            calls_for_an_unknown_peer_say_so
            a_peer_needs_a_transport
            a_vpn_address_belongs_to_one_peer
            an_address_that_no_host_can_have_is_refused
            an_ipv6_address_belongs_to_one_peer
            a_removed_peers_addresses_are_free_again
            a_point_to_point_device_takes_one_peer
            a_swap_needs_a_secondary_key
            a_swap_can_be_undone_by_another
            a_deleted_slot_is_empty
            a_cipher_that_is_not_offered_is_refused
            statistics_name_every_peer
            a_closed_transport_is_unknown
            a_closed_port_says_so
        );
    };
    ($(#[$attribute:meta])* data, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] data, $lab;
            packets_go_both_ways
            a_replayed_packet_is_dropped
            a_removed_peer_gets_and_sends_nothing
            packets_find_their_peer_by_destination
            a_packet_with_a_foreign_source_is_dropped
            control_packets_come_out_of_the_port
            packets_carry_the_ids_of_peer_and_key
            a_peer_may_be_sent_another_id_than_its_own
            the_lowest_and_the_highest_id_are_usable
            packets_of_every_size_go_both_ways
            a_packet_larger_than_the_mtu_breaks_nothing
            what_is_no_packet_goes_nowhere
            an_unknown_peers_packets_go_nowhere
            a_peer_deleted_under_traffic_takes_nobody_along
        );
    };
    ($(#[$attribute:meta])* keys, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] keys, $lab;
            both_slots_decrypt_and_the_primary_encrypts
            a_swap_while_receiving_loses_nothing
            a_deleted_key_decrypts_no_more
            a_peer_without_keys_carries_nothing_until_the_next_one
            a_key_in_an_occupied_slot_replaces_the_old_one
            an_unknown_key_id_opens_nothing
            counters_equal_what_was_sent
            the_counters_of_a_key_begin_anew_at_a_swap
        );
    };
    ($(#[$attribute:meta])* ends, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] ends, $lab;
            a_silent_peer_expires
            an_expired_peer_can_come_back
            a_quiet_tunnel_is_pinged
            a_ping_comes_out_nowhere
            a_peer_with_an_interval_only_is_pinged_and_stays
            a_peer_with_a_timeout_only_is_not_pinged
            a_peer_without_times_is_left_alone
            keepalive_can_be_changed
            a_deletion_of_ones_own_is_no_event
        );
    };
    ($(#[$attribute:meta])* addresses, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] addresses, $lab;
            data_leaves_from_the_bound_address
            data_leaves_from_the_local_address_of_the_peer
            a_peer_that_moves_is_followed
            a_peer_that_moves_is_answered_from_the_same_address
            a_replayed_packet_moves_nobody
            a_peer_that_may_not_move_stays_where_it_was
            a_peer_cannot_move_to_where_another_is
            a_call_moves_a_peer
            a_call_moves_no_peer_to_where_another_is
            a_peer_can_be_reached_over_ipv6
            a_socket_of_both_families_carries_both
            every_transport_carries_its_peers
            ipv6_goes_both_ways_between_its_owners
            a_network_behind_a_peer_is_its_own
            a_changed_vpn_address_is_the_peers_from_then_on
        );
    };
    ($(#[$attribute:meta])* tcp, $lab:expr) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] tcp, $lab;
            packets_go_both_ways_over_a_stream
            control_goes_both_ways_before_and_after_the_peer_exists
            frames_may_come_in_any_pieces
            frames_that_wait_when_the_peer_is_added_are_not_lost
            a_frame_may_be_under_way_when_the_peer_is_added
            control_goes_both_ways_while_data_flows
            a_stream_outlives_its_peer
            a_silent_peer_expires_over_a_stream
            a_port_ends_with_its_stream
            a_stream_out_of_step_ends_its_peer
        );
    };
    (@each $attributes:tt $group:ident, $lab:expr; $($name:ident)*) => {
        $($crate::conformance_tests!(@one $attributes $group, $lab, $name);)*
    };
    (@one [$($attribute:tt)*] $group:ident, $lab:expr, $name:ident) => {
        #[test]
        $($attribute)*
        fn $name() {
            $crate::conformance::$group::$name(&$lab);
        }
    };
}

/// A device with this many peers.
#[must_use]
pub fn device(mode: DeviceMode) -> DeviceSpec {
    DeviceSpec {
        name: None,
        kind: crate::DeviceKind::Tun,
        node: None,
        mtu: 1500,
        tx_queue_len: None,
        mode,
        max_peers: 16,
        client_to_client: false,
        replay_window: (64, 15),
        threads: None,
        ethernet: None,
    }
}

/// A peer id.
#[must_use]
pub fn id(raw: u32) -> PeerId {
    PeerId::new(raw).expect("a small number")
}

/// A port of 127.0.0.1.
#[must_use]
pub fn udp() -> TransportSpec {
    udp_at(Ipv4Addr::LOCALHOST.into())
}

/// A port of this address.
#[must_use]
pub fn udp_at(local: IpAddr) -> TransportSpec {
    let local = SocketAddr::new(local, 0);
    TransportSpec::BindUdp { local, remote: None, options: UdpOptions::default() }
}

/// The VPN address fd00:8::`number`.
#[must_use]
pub fn inner6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, number.into())
}

/// A peer with the VPN address 10.8.0.`number`.
#[must_use]
pub fn peer(number: u8, transport: TransportId, remote: SocketAddr) -> PeerSpec {
    PeerSpec {
        id: id(number.into()),
        tx_id: None,
        transport,
        remote,
        local: None,
        vpn: VpnAddresses { v4: Some(Ipv4Addr::new(10, 8, 0, number)), v6: None },
        iroutes: Vec::new(),
        keepalive: None,
        float: true,
        shape: Shape::PLAIN,
        cipher: CipherName::Aes256Gcm,
        mss: None,
        port: Port::default(),
        nat: Vec::new(),
    }
}

/// A key; `mirrored` is the one for the other end.
#[must_use]
pub fn key(key_id: u8, mirrored: bool) -> DataKey {
    let half = |direction: u8| DirectionKey { secret: [key_id ^ direction; 32], implicit_iv: [direction; 8] };
    let (send, recv) = if mirrored { (half(0x20), half(0x10)) } else { (half(0x10), half(0x20)) };
    DataKey::Classic { id: KeyId::new(key_id).expect("0..=7"), cipher: CipherName::Aes256Gcm, send, recv }
}

/// The counters of one peer.
#[must_use]
pub fn stats(offload: &dyn Offload, peer: PeerId) -> PeerStats {
    let mut out = Vec::new();
    offload.stats(Some(peer), &mut out).expect("the peer is known");
    out[0]
}

/// Waits for the next event.
pub fn event(offload: &dyn Offload) -> OffloadEvent {
    wait(|cx| offload.poll_event(cx)).expect("the device is still there")
}

/// Polls until ready.
pub fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let left = deadline.checked_duration_since(Instant::now()).expect("nothing happened for a long time");
        std::thread::park_timeout(left);
    }
}
