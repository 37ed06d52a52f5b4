//! A wire between two engines that loses, delays, repeats and corrupts, and counts all of it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread::JoinHandle,
    time::Duration,
};

use culvert_sys::{Epoll, Interest, MAX_SEGMENTS, Outgoing, RecvBatch, UdpSocket, sockopt};
use culvert_testkit::sim::SimRandom;

/// How many datagrams may overtake one that is delayed. With what is lost in between, that is well inside the
/// receivers' window of 64.
const MOST_DELAY: u64 = 16;
/// Silence after which delayed datagrams go on.
const SILENCE: Duration = Duration::from_millis(1);
/// Bytes of one train.
const MAX_TRAIN: usize = 65_000;
/// What is damaged lies behind headers and packet ids of every format: then it is authentication that fails.
const HEADERS: usize = 16;

/// How the wire mistreats datagrams, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub loss: u16,
    pub delay: u16,
    /// Comes twice.
    pub repeat: u16,
    /// Comes once more, damaged.
    pub damage: u16,
}

/// Two directions between two ends, each end being led to believe that the relay is the other.
pub struct Relay {
    /// From A to B, and from B to A.
    pub directions: [Arc<Direction>; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What happened in one direction.
#[derive(Default)]
pub struct Direction {
    faults: Mutex<Faults>,
    /// Datagrams that arrived here, and what became of them.
    pub seen: AtomicU64,
    pub lost: AtomicU64,
    pub repeated: AtomicU64,
    pub damaged: AtomicU64,
    /// Datagrams that left here.
    pub forwarded: AtomicU64,
}

impl Direction {
    /// Returns whether everything that arrived has left, or was lost.
    pub fn is_idle(&self) -> bool {
        let forwarded = self.forwarded.load(Acquire);
        let [seen, lost, repeated, damaged] =
            [&self.seen, &self.lost, &self.repeated, &self.damaged].map(|counter| counter.load(Acquire));
        forwarded == seen - lost + repeated + damaged
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }
}

/// The sockets of a relay, before it is known whom they are between.
pub struct Sockets {
    to_a: UdpSocket,
    to_b: UdpSocket,
}

impl Sockets {
    pub fn bind() -> Self {
        let bind = || {
            let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into(), |_| Ok(())).unwrap();
            // As much as the process may have: what is lost here would be counted as the engine's loss.
            let _ = sockopt::set_recv_buffer(&socket, 7 << 20);
            let _ = sockopt::set_udp_gro(&socket, true);
            socket
        };
        Self { to_a: bind(), to_b: bind() }
    }

    /// Where A sends what is for B.
    pub fn for_a(&self) -> SocketAddr {
        self.to_a.local_addr().unwrap()
    }

    /// Where B sends what is for A.
    pub fn for_b(&self) -> SocketAddr {
        self.to_b.local_addr().unwrap()
    }
}

impl Relay {
    pub fn start(sockets: &Sockets, a: SocketAddr, b: SocketAddr, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut start = |from: &UdpSocket, by: &UdpSocket, to, seed| {
            let direction = Arc::<Direction>::default();
            let wire = Wire {
                direction: Arc::clone(&direction),
                from: from.try_clone().unwrap(),
                by: by.try_clone().unwrap(),
                to,
                random: SimRandom::new(seed),
                delayed: VecDeque::new(),
            };
            let stop = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || wire.run(&stop)));
            direction
        };
        let directions =
            [start(&sockets.to_a, &sockets.to_b, b, seed), start(&sockets.to_b, &sockets.to_a, a, !seed)];
        Self { directions, stop, threads }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the relay failed");
        }
    }
}

/// One direction at work.
struct Wire {
    direction: Arc<Direction>,
    from: UdpSocket,
    by: UdpSocket,
    to: SocketAddr,
    random: SimRandom,
    /// Datagrams that others may overtake, and how many yet.
    delayed: VecDeque<(u64, Vec<u8>)>,
}

impl Wire {
    fn run(mut self, stop: &AtomicBool) {
        let epoll = Epoll::new().unwrap();
        epoll.add(&self.from, 0, Interest::Read).unwrap();
        let mut batch = RecvBatch::new();
        let mut ready = Vec::new();
        while !stop.load(Relaxed) {
            epoll.wait(&mut ready, Some(SILENCE)).unwrap();
            let mut leaving = Vec::new();
            if ready.is_empty() {
                leaving.extend(self.delayed.drain(..).map(|(_, datagram)| datagram));
            }
            while self.from.recv_batch(&mut batch).is_ok() {
                for message in batch.messages() {
                    let size = message.segment.max(1);
                    message.bytes.chunks(size).for_each(|datagram| self.handle(datagram, &mut leaving));
                }
            }
            self.send(&leaving);
        }
    }

    /// Decides a datagram's fate.
    fn handle(&mut self, datagram: &[u8], leaving: &mut Vec<Vec<u8>>) {
        let faults = *self.direction.faults.lock().unwrap();
        for (left, _) in &mut self.delayed {
            *left = left.saturating_sub(1);
        }
        let count = |counter: &AtomicU64| counter.fetch_add(1, Release);
        if self.random.chance(faults.loss) {
            count(&self.direction.lost);
        } else {
            let mut copies = vec![datagram.to_vec()];
            if self.random.chance(faults.repeat) {
                copies.push(datagram.to_vec());
                count(&self.direction.repeated);
            }
            if self.random.chance(faults.damage) && datagram.len() > HEADERS {
                let mut damaged = datagram.to_vec();
                let at =
                    HEADERS + usize::try_from(self.random.below((datagram.len() - HEADERS) as u64)).unwrap();
                damaged[at] ^= 1 << self.random.below(8);
                copies.push(damaged);
                count(&self.direction.damaged);
            }
            for copy in copies {
                if self.random.chance(faults.delay) {
                    self.delayed.push_back((1 + self.random.below(MOST_DELAY), copy));
                } else {
                    leaving.push(copy);
                }
            }
        }
        // Last, so that whoever sees it sees the rest.
        count(&self.direction.seen);
        while let Some(index) = self.delayed.iter().position(|(left, _)| *left == 0) {
            leaving.extend(self.delayed.remove(index).map(|(_, datagram)| datagram));
        }
    }

    /// Sends equal sizes in a row as trains, as a network card's receive offload would join them.
    fn send(&self, datagrams: &[Vec<u8>]) {
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let most = (MAX_TRAIN / first.len().max(1)).clamp(1, MAX_SEGMENTS);
            let count = rest.iter().take(most).take_while(|datagram| datagram.len() == first.len()).count();
            let (train, later) = rest.split_at(count);
            let segment = (count > 1).then(|| u16::try_from(first.len()).unwrap());
            let bytes = train.concat();
            let message = Outgoing { bytes: &bytes, segment, to: Some(self.to), from: None, tos: None };
            while self.by.send_batch(&[message]).is_err() {
                std::thread::yield_now(); // a full queue for a moment; a wire that is gone ends the test by itself
            }
            self.direction.forwarded.fetch_add(count as u64, Release);
            rest = later;
        }
    }
}
