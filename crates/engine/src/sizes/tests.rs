use std::{
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use culvert_crypto::{DataKey, DirectionKey};
use culvert_offload::{TransportId, UdpOptions};
use culvert_sys::{Epoll, Eventfd, Interest, RecvBatch, UdpSocket, sockopt};
use culvert_wire::{CipherName, KeyId, PeerId};

use super::*;
use crate::{
    backend::EngineConfig,
    key::Key,
    packet::Joins,
    peer::Due,
    table::{Table, tests::spec},
    transport::{Train, Transport, Udp},
    turn::Held,
};

/// Only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(20);
const TEST: SizeTest = SizeTest { mtu: 1500, measure: None };

/// A device with one peer that has a key and listens nowhere.
fn tunnel() -> (Arc<Shared>, Arc<Peer>) {
    tunnel_to(([127, 0, 0, 1], 9).into())
}

fn tunnel_to(remote: SocketAddr) -> (Arc<Shared>, Arc<Peer>) {
    let joins = Joins { tcp: true, udp: true };
    let shared = Arc::new(Shared::new(Table::new(DeviceMode::PointToPoint, None), joins, None, false, 1500));
    let spec = spec(PeerId::FIRST, remote, Default::default());
    let local = SocketAddr::new(remote.ip(), 0);
    let udp = Udp::bind(local, None, UdpOptions::default(), &EngineConfig::default(), 1).unwrap();
    let transport = Arc::new(Transport::new(TransportId(0), Wire::Udp(udp)));
    let peer = Arc::new(Peer::new(&spec, transport, &shared.clock));
    shared.table.insert(&spec, Arc::clone(&peer)).unwrap();
    let half = || DirectionKey { secret: [1; 32], implicit_iv: [1; 8] };
    let cipher = CipherName::Aes256Gcm;
    let key = DataKey::Classic { id: KeyId::FIRST, cipher, send: half(), recv: half() };
    let key = Arc::new(Key::new(&key, (64, 15)).unwrap());
    let given = peer.keys.change(|slots| {
        slots.primary = Some(Arc::clone(&key));
        Ok::<_, ()>(())
    });
    assert_eq!(given, Ok(true));
    (shared, peer)
}

fn packets_sent(peer: &Peer) -> u64 {
    peer.stats().link.tx_packets
}

#[test]
fn who_has_the_turn_may_say_that_the_peer_moved_while_its_test_goes_on() {
    let (shared, peer) = tunnel();
    begin(&shared, &peer, TEST);
    let turn = Held::take(&peer);
    let tester = thread::spawn({
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        move || run(&shared, &mut Outbox::new(1), &peer, 0)
    });
    while !tester.is_finished() && !turn.is_awaited() {
        thread::yield_now();
    }
    let (done, wait) = mpsc::channel();
    thread::spawn({
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        move || {
            moved(&shared, &peer, 0);
            done.send(()).unwrap();
        }
    });
    assert_eq!(wait.recv_timeout(PATIENCE), Ok(()), "whoever has the turn waits for who waits for the turn");
    drop(turn);
    tester.join().unwrap();
    assert_eq!(peer.activity.due(BUSY), Due::Test);
}

#[test]
fn a_test_does_not_wait_for_a_turn_and_goes_on_soon() {
    let (shared, peer) = tunnel();
    begin(&shared, &peer, TEST);
    let now = shared.clock.millis();
    let mut outbox = Outbox::new(0);
    let turn = Held::take(&peer);
    run(&shared, &mut outbox, &peer, now);
    assert_eq!(packets_sent(&peer), 0);
    drop(turn);
    assert_eq!((peer.activity.due(now), peer.activity.due(now + BUSY)), (Due::Nothing, Due::Test));
    run(&shared, &mut outbox, &peer, now + BUSY);
    assert_eq!(packets_sent(&peer), 2, "a packet of the whole size, and what came of it?");
    assert!(Held::try_take(&peer).is_some(), "the turn is free again");
}

#[test]
fn a_peer_that_moved_is_tested_anew() {
    let (shared, peer) = tunnel();
    begin(&shared, &peer, TEST);
    let now = shared.clock.millis();
    let mut outbox = Outbox::new(0);
    for round in 1..=2 {
        run(&shared, &mut outbox, &peer, now);
        assert_eq!(peer.activity.due(now), Due::Nothing, "an answer is awaited");
        let tries = peer.sizes.lock().as_ref().and_then(|tests| tests.path.as_ref()).map(PathTest::tries);
        assert_eq!(tries, Some(1), "{round}");
        moved(&shared, &peer, now);
        assert_eq!(peer.activity.due(now), Due::Test);
    }
}

/// The worker that tests sleeps as long as the first deadline allows. Who gets the answer may be another one.
#[test]
fn whatever_happens_to_a_test_wakes_the_worker_that_runs_it() {
    let (shared, peer) = tunnel();
    let wake = Arc::new(Eventfd::new().unwrap());
    shared.set_timer(&wake);
    let epoll = Epoll::new().unwrap();
    epoll.add(&*wake, 0, Interest::Read).unwrap();
    let mut outbox = Outbox::new(0);
    // What is due next is due long after whatever comes meanwhile.
    let later = shared.clock.millis() + 3_600_000;
    let mut wakes = |what: &dyn Fn(u64)| {
        what(shared.clock.millis());
        let mut ready = Vec::new();
        epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        wake.lower();
        assert_eq!(shared.table.take_due(later, 1).len(), 1);
        run(&shared, &mut outbox, &peer, later);
        shared.table.look_by(peer.id, peer.activity.next());
        !ready.is_empty()
    };
    assert!(wakes(&|_| begin(&shared, &peer, TEST)));
    assert!(wakes(&|now| probe::note_answer(&shared, &peer, Largest::default(), now)));
    assert!(wakes(&|now| moved(&shared, &peer, now)));
    assert!(wakes(&|_| can_send(&shared, &peer)));
}

/// Over IPv6 the kernel is told how narrow the path is, and then refuses trains of larger packets.
#[test]
fn a_path_that_is_wide_again_carries_trains_again() {
    let receiver = UdpSocket::bind("[::1]:0".parse().unwrap(), |_| Ok(())).unwrap();
    sockopt::set_udp_gro(&receiver, true).unwrap();
    let to = receiver.local_addr().unwrap();
    let (shared, peer) = tunnel_to(to);
    let arrived = || {
        let (mut batch, mut segments) = (RecvBatch::new(), Vec::new());
        let patience = Instant::now() + PATIENCE;
        while segments.iter().map(|(len, _)| *len).sum::<usize>() < 4200 && Instant::now() < patience {
            if receiver.recv_batch(&mut batch).is_err() {
                thread::yield_now();
                continue;
            }
            // Packets of a test have other sizes.
            let trains = batch.messages().filter(|message| message.segment == 1400);
            segments.extend(trains.map(|message| (message.bytes.len(), message.segment)));
        }
        segments
    };
    let send = || {
        let (bytes, segment) = ([7; 4200], 1400);
        let train = Train { bytes: &bytes, segment, to, from: None, tos: None, cut: peer.cut(to) };
        peer.transport.send(0, &[train], Backpressure::Drop);
        arrived()
    };
    let (joined, single) = ([(4200, 1400)], [(1400, 1400); 3]);
    assert_eq!(send(), joined);
    apply(&shared, &peer, Verdict::Narrow(1280 - 48));
    assert_eq!(send(), single);
    apply(&shared, &peer, Verdict::Wide);
    assert_eq!(send(), joined);

    apply(&shared, &peer, Verdict::Narrow(1280 - 48));
    assert_eq!(send(), single);
    peer.path.mtu.store(0, Relaxed);
    assert_eq!(send(), single, "the refusal is remembered");
    begin(&shared, &peer, TEST);
    moved(&shared, &peer, shared.clock.millis());
    run(&shared, &mut Outbox::new(0), &peer, shared.clock.millis());
    assert_eq!(send(), joined);
}
