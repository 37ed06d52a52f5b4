//! Devices whose packets are Ethernet frames: engines as server and clients, devices in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::time::Duration;

use culvert_crypto::AuthDigest;
use culvert_engine::EngineConfig;
use culvert_offload::{
    DeviceMode, DeviceSpec, Ethernet, Learned, NatEnd, NatRule, OffloadEvent, PeerSpec, Port, Shape, Station,
};
use culvert_wire::{CipherName, PeerId, VlanAccept, Vlans};
use support::{End, Side, classic, device, ipv4, loopback, old, peer};

/// What the host of the server has.
const HOST: u8 = 1;
const ALL: [u8; 6] = [0xFF; 6];

fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

fn station(number: u8, vlan: u16) -> Station {
    Station { mac: mac(number), vlan }
}

fn frame(to: [u8; 6], from: u8, text: &str) -> Vec<u8> {
    [&to[..], &mac(from), &[0x88, 0xB5], text.as_bytes()].concat()
}

fn tagged(vlan: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat()
}

fn server(ethernet: Ethernet, client_to_client: bool) -> End {
    let ethernet = Some(ethernet);
    let spec = DeviceSpec { client_to_client, ethernet, ..device(DeviceMode::MultiPeer) };
    End::open(&spec, EngineConfig::default(), loopback())
}

fn point() -> End {
    let spec = DeviceSpec { ethernet: Some(Ethernet::default()), ..device(DeviceMode::PointToPoint) };
    End::open(&spec, EngineConfig::default(), loopback())
}

fn client(server: &End, number: u8, port: Port) -> End {
    let end = point();
    let key = |side| classic(CipherName::Aes256Gcm, 0, number, side);
    let id = u32::from(number);
    end.add_peer(peer(id, end.transport, server.address()), key(Side::A));
    server.add_peer(PeerSpec { port, ..peer(id, server.transport, end.address()) }, key(Side::B));
    end
}

fn id(number: u8) -> PeerId {
    PeerId::new(number.into()).unwrap()
}

/// A client sends a frame that reaches the server's host, which shows that it was learned.
fn speak(server: &End, client: &End, number: u8) {
    let hello = frame(mac(HOST), number, "hello");
    client.host.send(&hello);
    assert_eq!(server.packet(), hello);
    let (peer, station) = (id(number), station(number, 0));
    assert_eq!(server.event(), OffloadEvent::Learned { peer, station, moved: false });
}

#[test]
fn two_ends_pass_frames_of_every_kind_and_tell_them_from_pings() {
    let (a, b) = (point(), point());
    a.add_peer(peer(7, a.transport, b.address()), classic(CipherName::Aes256Gcm, 0, 1, Side::A));
    b.add_peer(peer(7, b.transport, a.address()), classic(CipherName::Aes256Gcm, 0, 1, Side::B));
    // The first begins as a ping does, and another as IPv4 does.
    let like_a_ping = [&[0x2A, 0x18, 0x7B, 0xF3, 0x64, 0x1E][..], &mac(1), &[8, 6, 1, 2]].concat();
    let like_ip = [&[0x45; 6][..], &[0x60; 6], &[8, 0], &[0x45; 30]].concat();
    for frame in [like_a_ping, like_ip, tagged(5, &frame(ALL, 1, "tagged")), frame(mac(2), 1, "")] {
        a.host.send(&frame);
        assert_eq!(b.packet(), frame);
    }
    b.host.send(&[1; 13]);
    let whole = frame(ALL, 2, "the short one is dropped");
    b.host.send(&whole);
    assert_eq!(a.packet(), whole);
}

#[test]
fn the_mss_is_lowered_in_both_directions() {
    // A SYN with an MSS of 1460.
    let tcp = [0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 6 << 4, 2, 1, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xB4];
    let mut syn = ipv4([10, 8, 0, 1], [10, 8, 0, 2], &tcp);
    syn[9] = 6;
    let frame = [&ALL[..], &mac(1), &[8, 0], &syn].concat();
    let server = server(Ethernet::default(), false);
    let end = point();
    let mss = Some(1300);
    let key = |side| classic(CipherName::Aes256Gcm, 0, 9, side);
    end.add_peer(peer(9, end.transport, server.address()), key(Side::A));
    server.add_peer(PeerSpec { mss, ..peer(9, server.transport, end.address()) }, key(Side::B));
    server.host.send(&frame);
    let out = end.packet();
    assert_eq!((out.len(), &out[out.len() - 2..]), (frame.len(), &1300_u16.to_be_bytes()[..]));
    end.host.send(&frame);
    let back = server.packet();
    assert_eq!(&back[back.len() - 2..], 1300_u16.to_be_bytes());
}

/// On the old wire and on the fast path, in both directions; what is around the packet stays.
#[test]
fn packets_in_frames_are_changed_where_the_options_of_the_peer_want_it() {
    let rule = NatRule {
        end: NatEnd::Source,
        network: [10, 8, 0, 0].into(),
        netmask: [255, 255, 255, 0].into(),
        alias: [10, 9, 0, 0].into(),
    };
    let frame = |from, to, mss: u16| {
        let tcp = [0, 80, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 6 << 4, 2, 1, 0, 0, 0, 0, 0, 2, 4];
        let mut syn = ipv4(from, to, &[&tcp[..], &mss.to_be_bytes()].concat());
        syn[9] = 6;
        [&ALL[..], &mac(1), &[8, 0], &syn].concat()
    };
    // Addresses and the MSS; corrected checksums are a matter of the packet's own tests.
    let seen =
        |frame: &[u8]| (frame[..14].to_vec(), frame[26..34].to_vec(), frame[frame.len() - 2..].to_vec());
    for (cipher, pass_tos) in
        [(CipherName::Aes256Gcm, false), (CipherName::Aes256Gcm, true), (CipherName::Aes128Cbc, true)]
    {
        let key = |side| match cipher.is_aead() {
            true => classic(cipher, 0, 9, side),
            false => old(cipher, Some(AuthDigest::Sha1), 9, side),
        };
        let shape = Shape { pass_tos, ..Shape::PLAIN };
        let (end, other) = (point(), point());
        let changed = PeerSpec {
            mss: Some(1300),
            nat: vec![rule],
            shape,
            cipher,
            ..peer(7, end.transport, other.address())
        };
        end.add_peer(changed, key(Side::A));
        other.add_peer(PeerSpec { shape, cipher, ..peer(7, other.transport, end.address()) }, key(Side::B));
        end.host.send(&frame([10, 8, 0, 1], [10, 7, 0, 2], 1460));
        assert_eq!(seen(&other.packet()), seen(&frame([10, 9, 0, 1], [10, 7, 0, 2], 1300)), "{cipher:?}");
        other.host.send(&frame([10, 7, 0, 2], [10, 9, 0, 1], 1460));
        assert_eq!(seen(&end.packet()), seen(&frame([10, 7, 0, 2], [10, 8, 0, 1], 1300)), "{cipher:?}");
    }
}

#[test]
fn a_frame_goes_to_who_has_its_address_and_broadcasts_to_all() {
    let server = server(Ethernet::default(), false);
    let clients = [2, 3].map(|number| (number, client(&server, number, Port::default())));
    for (number, client) in &clients {
        speak(&server, client, *number);
    }
    server.host.send(&frame(mac(99), HOST, "nobody knows 99"));
    server.host.send(&frame(mac(3), HOST, "for 3"));
    server.host.send(&frame(ALL, HOST, "for all"));
    assert_eq!(clients[1].1.packet(), frame(mac(3), HOST, "for 3"));
    for (_, client) in &clients {
        assert_eq!(client.packet(), frame(ALL, HOST, "for all"));
    }
    let mut known = Vec::new();
    server.offload.stations(&mut known);
    known.sort_unstable_by_key(|learned: &Learned| learned.station);
    let owners: Vec<_> = known.iter().map(|learned| (learned.station, learned.peer)).collect();
    assert_eq!(owners, [(station(2, 0), id(2)), (station(3, 0), id(3))]);
    server.offload.peer_del(id(2)).unwrap();
    assert_eq!(server.offload.station_owner(station(2, 0)), None);
}

#[test]
fn with_client_to_client_frames_are_switched_and_the_host_hears_broadcasts_too() {
    let server = server(Ethernet::default(), true);
    let clients = [2, 3].map(|number| (number, client(&server, number, Port::default())));
    for (number, client) in &clients {
        speak(&server, client, *number);
    }
    let (a, b) = (&clients[0].1, &clients[1].1);
    a.host.send(&frame(mac(3), 2, "direct"));
    a.host.send(&frame(ALL, 2, "to all"));
    assert_eq!([b.packet(), b.packet()], [frame(mac(3), 2, "direct"), frame(ALL, 2, "to all")]);
    assert_eq!(server.packet(), frame(ALL, 2, "to all"), "the direct one is not the host's");
    b.host.send(&frame(mac(2), 3, "back"));
    assert_eq!(a.packet(), frame(mac(2), 3, "back"), "nobody hears its own broadcast");
}

#[test]
fn sec_data_5_a_peer_beyond_its_limit_or_with_an_impossible_source_is_not_heard() {
    let server = server(Ethernet::default(), false);
    let client = client(&server, 2, Port { max_stations: 1, ..Port::default() });
    speak(&server, &client, 2);
    client.host.send(&frame(mac(HOST), 4, "a second address"));
    let group = [&mac(HOST)[..], &ALL, &[0x88, 0xB5]].concat();
    client.host.send(&group);
    client.host.send(&frame(mac(HOST), 2, "the first again"));
    assert_eq!(server.packet(), frame(mac(HOST), 2, "the first again"));
    assert_eq!(server.stats(id(2)).drops.source, 2);
}

#[test]
fn an_address_that_is_to_be_judged_carries_nothing_before() {
    let server = server(Ethernet { ask: true, vlans: None }, false);
    let client = client(&server, 2, Port::default());
    client.host.send(&frame(mac(HOST), 2, "too early"));
    let (peer, at) = (id(2), station(2, 0));
    assert_eq!(server.event(), OffloadEvent::Learned { peer, station: at, moved: false });
    server.offload.judge_station(peer, at, true);
    client.host.send(&frame(mac(HOST), 2, "allowed"));
    assert_eq!(server.packet(), frame(mac(HOST), 2, "allowed"));
    server.offload.expire_stations(Duration::ZERO);
    assert_eq!(server.event(), OffloadEvent::Forgotten(peer, at));
}

#[test]
fn vlans_keep_clients_apart_and_tags_stay_at_the_device() {
    let vlans = Some(Vlans { accept: VlanAccept::All, pvid: 1 });
    let server = server(Ethernet { ask: false, vlans }, true);
    let port = |vlan| Port { vlan, ..Port::default() };
    let [one, seven] = [(2, 1), (3, 7)].map(|(number, vlan)| client(&server, number, port(vlan)));
    server.host.send(&frame(ALL, HOST, "for one"));
    server.host.send(&tagged(7, &frame(ALL, HOST, "for seven")));
    assert_eq!(one.packet(), frame(ALL, HOST, "for one"));
    assert_eq!(seven.packet(), frame(ALL, HOST, "for seven"));

    seven.host.send(&tagged(1, &frame(ALL, 3, "in a VLAN of its own choice")));
    seven.host.send(&frame(ALL, 3, "from seven"));
    assert_eq!(server.packet(), tagged(7, &frame(ALL, 3, "from seven")));
    one.host.send(&frame(ALL, 2, "from one"));
    assert_eq!(server.packet(), frame(ALL, 2, "from one"));

    server.host.send(&tagged(7, &frame(mac(3), HOST, "unicast")));
    assert_eq!(seven.packet(), frame(mac(3), HOST, "unicast"), "and no broadcast of one came before");
    server.host.send(&frame(mac(2), HOST, "unicast"));
    assert_eq!(one.packet(), frame(mac(2), HOST, "unicast"));
}
