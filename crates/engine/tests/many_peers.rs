//! A device with many peers: an engine as server, engines as clients.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use culvert_engine::EngineConfig;
use culvert_offload::{DeviceMode, DeviceSpec, Framing, PeerChange, PeerSpec, Shape};
use culvert_wire::{CipherName, PeerId};
use support::{End, Side, classic, device, epoch, ipv4, loopback, peer, vpn};

const SERVER: [u8; 4] = [10, 8, 0, 1];

fn address(number: u8) -> [u8; 4] {
    [10, 8, 0, number]
}

fn server(client_to_client: bool) -> End {
    server_with(client_to_client, EngineConfig::default())
}

fn server_with(client_to_client: bool, config: EngineConfig) -> End {
    let spec = DeviceSpec { client_to_client, ..device(DeviceMode::MultiPeer) };
    End::open(&spec, config, loopback())
}

/// Client `number`, 10.8.0.number, with a key and a shape of its own.
fn client(server: &End, number: u8, shape: Shape) -> End {
    let end = End::udp(DeviceMode::PointToPoint);
    let key = |side| {
        if number.is_multiple_of(2) || shape.data_v1 {
            classic(CipherName::Aes256Gcm, 0, number, side)
        } else {
            epoch(CipherName::ChaCha20Poly1305, 0, number, side)
        }
    };
    let id = u32::from(number);
    end.add_peer(PeerSpec { shape, ..peer(id, end.transport, server.address()) }, key(Side::A));
    let spec = PeerSpec { vpn: vpn(address(number)), shape, ..peer(id, server.transport, end.address()) };
    server.add_peer(spec, key(Side::B));
    end
}

fn packet(from: [u8; 4], to: [u8; 4], number: u32) -> Vec<u8> {
    ipv4(from, to, &number.to_be_bytes())
}

#[test]
fn each_client_gets_its_own_packets() {
    let server = server(false);
    let clients: Vec<End> = (2..12).map(|number| client(&server, number, Shape::PLAIN)).collect();
    for number in 0..2000 {
        server.host.send(&packet(SERVER, address(2 + u8::try_from(number % 10).unwrap()), number));
    }
    for (index, client) in (0_u32..).zip(&clients) {
        for number in (0..200).map(|n| n * 10 + index) {
            let to = address(2 + u8::try_from(index).unwrap());
            assert_eq!(client.packet(), packet(SERVER, to, number));
        }
    }
}

#[test]
fn clients_without_peer_ids_are_told_apart_by_address() {
    let server = server(false);
    let shape = Shape { data_v1: true, framing: Framing::Lzo, ..Shape::PLAIN };
    let (a, b) = (client(&server, 2, shape), client(&server, 3, shape));
    a.host.send(&packet(address(2), SERVER, 1));
    assert_eq!(server.packet(), packet(address(2), SERVER, 1));
    b.host.send(&packet(address(3), SERVER, 2));
    assert_eq!(server.packet(), packet(address(3), SERVER, 2));
}

#[test]
fn clients_reach_each_other_where_that_is_switched_on() {
    let server = server(true);
    let (a, b) = (client(&server, 2, Shape::PLAIN), client(&server, 3, Shape::PLAIN));
    for number in 0..300 {
        a.host.send(&packet(address(2), address(3), number));
    }
    for number in 0..300 {
        assert_eq!(b.packet(), packet(address(2), address(3), number));
    }
    a.host.send(&packet(address(2), SERVER, 1));
    assert_eq!(server.packet(), packet(address(2), SERVER, 1), "the server's own address is the device's");
}

#[test]
fn clients_reach_each_other_through_the_host_otherwise() {
    let server = server(false);
    let (a, _b) = (client(&server, 2, Shape::PLAIN), client(&server, 3, Shape::PLAIN));
    a.host.send(&packet(address(2), address(3), 1));
    assert_eq!(server.packet(), packet(address(2), address(3), 1));
}

#[test]
fn a_source_that_is_not_the_clients_is_counted_and_dropped() {
    let server = server(true);
    let (a, b) = (client(&server, 2, Shape::PLAIN), client(&server, 3, Shape::PLAIN));
    a.host.send(&packet(address(3), address(3), 1));
    a.host.send(&packet(address(3), SERVER, 2));
    a.host.send(b"not an IP packet at all");
    a.host.send(&packet(address(2), address(3), 3));
    assert_eq!(b.packet(), packet(address(2), address(3), 3));
    let stats = server.stats(PeerId::new(2).unwrap());
    assert_eq!((stats.drops.source, stats.drops.malformed), (2, 1));
}

#[test]
fn a_clients_networks_can_be_changed_while_it_is_there() {
    let server = server(false);
    let a = client(&server, 2, Shape::PLAIN);
    let id = PeerId::new(2).unwrap();
    let change = PeerChange {
        vpn: Some((vpn(address(2)), vec![([192, 168, 7, 99].into(), 24)])),
        ..PeerChange::default()
    };
    server.offload.peer_set(id, &change).unwrap();
    a.host.send(&packet([192, 168, 7, 5], SERVER, 1));
    assert_eq!(server.packet(), packet([192, 168, 7, 5], SERVER, 1));
    server.host.send(&packet(SERVER, [192, 168, 7, 200], 2));
    assert_eq!(a.packet(), packet(SERVER, [192, 168, 7, 200], 2));
}

#[test]
fn a_peer_cannot_float_onto_anothers_address() {
    let server = server(false);
    let (a, b) = (client(&server, 2, Shape::PLAIN), client(&server, 3, Shape::PLAIN));
    // The key of client 2 from the socket of client 3: authentic, and still refused as an address.
    let thief = End::open(
        &device(DeviceMode::PointToPoint),
        EngineConfig::default(),
        b.offload.close_transport(b.transport).unwrap().unwrap(),
    );
    let key = classic(CipherName::Aes256Gcm, 0, 2, Side::A);
    thief.add_peer(peer(2, thief.transport, server.address()), key);
    thief.host.send(&packet(address(2), SERVER, 1));
    assert_eq!(server.packet(), packet(address(2), SERVER, 1));
    assert_eq!(server.stats(PeerId::new(2).unwrap()).remote, a.address());
}

#[test]
fn several_workers_share_a_port_and_keep_the_order_of_each_client() {
    let server = server_with(true, EngineConfig { workers: Some(3), ..EngineConfig::default() });
    let clients: Vec<End> = (2..10).map(|number| client(&server, number, Shape::PLAIN)).collect();
    // From the host to every client, and at the same time from every client to its neighbour.
    for number in 0..400 {
        for (own, client) in (2_u8..).zip(&clients) {
            server.host.send(&packet(SERVER, address(own), number));
            let neighbour = if own == 9 { 2 } else { own + 1 };
            client.host.send(&packet(address(own), address(neighbour), number));
        }
    }
    for (own, client) in (2_u8..).zip(&clients) {
        let neighbour = if own == 2 { 9 } else { own - 1 };
        let (mut from_server, mut from_neighbour) = (0, 0);
        for _ in 0..800 {
            let got = client.packet();
            if got == packet(SERVER, address(own), from_server) {
                from_server += 1;
            } else {
                assert_eq!(got, packet(address(neighbour), address(own), from_neighbour));
                from_neighbour += 1;
            }
        }
        assert_eq!((from_server, from_neighbour), (400, 400));
    }
}
