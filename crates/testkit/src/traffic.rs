//! Proof that a tunnel carries packets.
//!
//! Sockets are opened inside the namespaces of a lab and used from threads of the test, so nothing needs to
//! be installed there, and every lost packet is counted.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::{Failure, Namespace, Result, patient};

/// Payloads of one proof: small, usual, near the tunnel's MTU, and larger than it (two IP fragments).
const PAYLOADS: [usize; 4] = [16, 512, 1372, 2400];

/// Where the echo listens.
const ECHO_PORT: u16 = 7007;

/// How long one answer may take before the question is repeated.
const PATIENCE: Duration = Duration::from_millis(150);

/// Opens a UDP socket inside a namespace; port 0 picks one.
pub fn udp_socket(namespace: &Namespace, address: SocketAddr) -> Result<UdpSocket> {
    namespace
        .enter(|| UdpSocket::bind(address))?
        .map_err(|error| Failure::new(format!("binding UDP {address} in {}: {error}", namespace.name())))
}

/// The same, for an address that the tunnel may have yet to set.
fn udp_socket_soon(namespace: &Namespace, address: SocketAddr, deadline: Instant) -> Result<UdpSocket> {
    loop {
        match udp_socket(namespace, address) {
            Err(_) if Instant::now() < deadline => thread::sleep(PATIENCE),
            result => return result,
        }
    }
}

/// Sends payloads of several sizes from `a` to `b` and back, each compared byte by byte.
///
/// Repeats unanswered ones until `timeout`, for a tunnel may take a moment to carry its first packet.
pub fn echo(
    (a, a_address): (&Namespace, IpAddr),
    (b, b_address): (&Namespace, IpAddr),
    timeout: Duration,
) -> Result<()> {
    let deadline = Instant::now() + patient(timeout);
    let answering = udp_socket_soon(b, SocketAddr::new(b_address, ECHO_PORT), deadline)?;
    let asking = udp_socket_soon(a, SocketAddr::new(a_address, 0), deadline)?;
    asking.set_read_timeout(Some(PATIENCE))?;
    asking.connect(SocketAddr::new(b_address, ECHO_PORT))?;
    answering.set_read_timeout(Some(PATIENCE))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, from)) = answering.recv_from(&mut buffer) {
                    let _ = answering.send_to(buffer.get(..len).unwrap_or_default(), from);
                }
            }
        });
        let result = PAYLOADS.iter().try_for_each(|&size| ask(&asking, size, deadline));
        stop.store(true, Ordering::Relaxed);
        result.map_err(|failure| failure.while_doing(&format!("echo from {a_address} to {b_address}")))
    })
}

fn ask(socket: &UdpSocket, size: usize, deadline: Instant) -> Result<()> {
    let payload: Vec<u8> = pattern(size).collect();
    let mut answer = vec![0; 65_536];
    while Instant::now() < deadline {
        // Sending fails while the tunnel has no route or peer yet: then the answer is missing, too.
        let _ = socket.send(&payload);
        match socket.recv(&mut answer) {
            Ok(len) if answer.get(..len) == Some(payload.as_slice()) => return Ok(()),
            // The late answer to an earlier, smaller question.
            Ok(len) if len != size && PAYLOADS.contains(&len) => {}
            Ok(len) => return Err(Failure::new(format!("{size} bytes came back as other {len} bytes"))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // Port unreachable, no route: as above.
            Err(_) => thread::sleep(PATIENCE / 10),
        }
    }
    Err(Failure::new(format!("{size} bytes were not answered in time")))
}

fn pattern(size: usize) -> impl Iterator<Item = u8> {
    (0..size).map(|n| u8::try_from((n.wrapping_mul(31) ^ (n >> 8)) & 0xff).unwrap_or_default())
}

/// Sends `size` bytes over TCP from `a` to `b` and the same back, compared byte by byte.
///
/// Unlike [`echo`] this exercises segmentation offloads of the tunnel device.
pub fn tcp(
    (a, a_address): (&Namespace, IpAddr),
    (b, b_address): (&Namespace, IpAddr),
    size: usize,
    timeout: Duration,
) -> Result<()> {
    let what = format!("{size} bytes over TCP between {a_address} and {b_address}");
    let listener = b.enter(|| TcpListener::bind(SocketAddr::new(b_address, ECHO_PORT)))??;
    let address = listener.local_addr()?;
    let timeout = patient(timeout);
    let deadline = Instant::now() + timeout;
    let work = || -> Result<()> {
        let mut stream = a.enter(|| TcpStream::connect_timeout(&address, timeout))??;
        let (mut far, _) = listener.accept()?;
        for end in [&stream, &far] {
            end.set_read_timeout(Some(timeout))?;
            end.set_write_timeout(Some(timeout))?;
        }
        transfer(&mut stream, &mut far, size, deadline)?;
        transfer(&mut far, &mut stream, size, deadline)
    };
    work().map_err(|failure| failure.while_doing(&what))
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, size: usize, deadline: Instant) -> Result<()> {
    let data: Vec<u8> = pattern(size).collect();
    let mut received = vec![0; 65_536];
    thread::scope(|scope| {
        scope.spawn(|| {
            // A failed write shows as missing bytes at the reader.
            let _ = from.write_all(&data);
            let _ = from.shutdown(Shutdown::Write);
        });
        let mut position = 0;
        while position < size {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("only {position} bytes arrived in time")));
            }
            let len = to.read(&mut received)?;
            let expected = data.get(position..position + len);
            if len == 0 || expected != received.get(..len) {
                return Err(Failure::new(format!("bytes from {position} on are wrong or missing")));
            }
            position += len;
        }
        Ok(())
    })
}

/// Numbered datagrams at a steady rate, and what became of them.
pub struct CounterStream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Received>,
}

#[derive(Default)]
struct Received {
    numbers: HashSet<u64>,
    duplicates: u64,
    longest_silence: Duration,
}

/// What became of a [`CounterStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Different datagrams received.
    pub received: u64,
    /// Datagrams received again.
    pub duplicates: u64,
    /// The numbers of those that never arrived, in order (at most 20 of them).
    pub first_lost: Vec<u64>,
    /// The longest time between two arrivals.
    pub longest_silence: Duration,
}

impl StreamReport {
    /// Returns how many were lost.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

impl CounterStream {
    /// Starts sending datagrams of `size` bytes (at least 8) from `a` to `b`, one each `interval`.
    pub fn start(
        (a, a_address): (&Namespace, IpAddr),
        (b, b_address): (&Namespace, IpAddr),
        size: usize,
        interval: Duration,
    ) -> Result<Self> {
        let receiving = udp_socket(b, SocketAddr::new(b_address, 0))?;
        receiving.set_read_timeout(Some(Duration::from_millis(100)))?;
        // What a test that is slow for a moment leaves lying is not the tunnel's loss.
        set_socket_recv_buffer_size_force(&receiving, 4 << 20)
            .map_err(|error| Failure::new(format!("enlarging a receive buffer: {error}")))?;
        let sending = udp_socket(a, SocketAddr::new(a_address, 0))?;
        sending.connect(receiving.local_addr()?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (count, end) = (Arc::clone(&sent), Arc::clone(&stop));
        let sender = thread::spawn(move || send_numbers(&sending, size, interval, &count, &end));
        let (count, end) = (Arc::clone(&sent), Arc::clone(&stop));
        let receiver = thread::spawn(move || receive_numbers(&receiving, &count, &end));
        Ok(Self { stop, sent, sender, receiver })
    }

    /// Returns how many datagrams were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending, gives the last datagrams time to arrive, and reports.
    pub fn stop(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::SeqCst);
        let gone = |_| Failure::new("a thread of the counter stream panicked");
        self.sender.join().map_err(gone)?;
        let received = self.receiver.join().map_err(gone)?;
        let sent = self.sent.load(Ordering::SeqCst);
        let arrived = |number: &u64| received.numbers.contains(number);
        Ok(StreamReport {
            sent,
            received: u64::try_from((0..sent).filter(arrived).count()).unwrap_or(u64::MAX),
            duplicates: received.duplicates,
            first_lost: (0..sent).filter(|number| !arrived(number)).take(20).collect(),
            longest_silence: received.longest_silence,
        })
    }
}

fn send_numbers(socket: &UdpSocket, size: usize, interval: Duration, sent: &AtomicU64, stop: &AtomicBool) {
    let mut payload = vec![0x5a; size.max(8)];
    let start = Instant::now();
    let mut number = 0_u64;
    while !stop.load(Ordering::SeqCst) {
        if let Some(head) = payload.first_chunk_mut() {
            *head = number.to_be_bytes();
        }
        // A refused datagram counts as lost: that is what it is to an application.
        let _ = socket.send(&payload);
        number += 1;
        sent.store(number, Ordering::SeqCst);
        let due = start + interval.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn receive_numbers(socket: &UdpSocket, sent: &AtomicU64, stop: &AtomicBool) -> Received {
    let last_call = patient(Duration::from_secs(1));
    let mut received = Received::default();
    let mut buffer = [0; 2048];
    let mut last = None::<Instant>;
    let mut ending = None::<Instant>;
    loop {
        if let Ok(len) = socket.recv(&mut buffer)
            && let Some(number) = buffer.get(..len).and_then(|bytes| bytes.first_chunk())
        {
            let now = Instant::now();
            let silence = last.map_or(Duration::ZERO, |last| now - last);
            received.longest_silence = received.longest_silence.max(silence);
            last = Some(now);
            if !received.numbers.insert(u64::from_be_bytes(*number)) {
                received.duplicates += 1;
            }
        }
        if stop.load(Ordering::SeqCst) {
            let since = *ending.get_or_insert_with(Instant::now);
            let complete = received.numbers.len() as u64 == sent.load(Ordering::SeqCst);
            if since.elapsed() > last_call || (complete && since.elapsed() > last_call / 10) {
                return received;
            }
        }
    }
}
