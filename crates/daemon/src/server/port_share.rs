//! `port-share`: one TCP port for a VPN and a web server.
//!
//! The first bytes of a connection tell who it is for: OpenVPN's are two bytes of length and the opcode of a client's
//! first packet, TLS and HTTP begin otherwise. They are looked at without being taken, so that whoever gets the stream
//! finds all of it. What is not ours is carried to the other server and back until either end is done.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use culvert_config::{Profile, value::Family};
use culvert_wire::Opcode;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    address::AfAddress,
    link, ovlog,
    places::{Places, WhenFull},
};

/// How long the first bytes of a connection may take: both kinds of client send them at once.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// How long the other server may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Looking at bytes does not wait for more of them: a pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a connection is carried over which nothing goes, in either direction. Web servers wait a minute or two for
/// the next request; what talks over an open one (web sockets) asks for a sign of life about as often.
const IDLE: Duration = Duration::from_secs(300);
/// Connections that are sorted at a time. The oldest gives way: its first bytes are overdue.
const SORTED: usize = 256;
/// Connections that are carried at a time.
const CARRIED: usize = 1024;
/// Bytes that are carried at a time.
const READ: usize = 8192;

/// Length of a client's first packet: without wrapping or with the longest one, and with a wrapped client key
/// (tls-crypt-v2: 290 bytes at least, 1024 of metadata and framing at most). Source: OpenVPN, `ps.c`.
const PLAIN: std::ops::RangeInclusive<u16> = 14..=255;
const WITH_CLIENT_KEY: std::ops::RangeInclusive<u16> = 336..=1359;

/// Where connections go that are not for the VPN.
#[derive(Clone)]
pub(super) struct PortShare {
    servers: Arc<[SocketAddr]>,
    /// Tells the other server whom it really talks to: a file per connection.
    journal: Option<PathBuf>,
    /// Who has not said yet what it wants takes no place from those who have.
    sorted: Arc<Places>,
    carried: Arc<Places>,
}

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Vpn,
    Other,
    /// The bytes so far fit both.
    Unclear,
}

/// Looks at the beginning of a stream.
fn caller(bytes: &[u8]) -> Caller {
    let Some((&[high, low], rest)) = bytes.split_first_chunk() else {
        // No client's first packet is longer than that.
        return if bytes.first().is_some_and(|&high| high > 5) { Caller::Other } else { Caller::Unclear };
    };
    let len = u16::from_be_bytes([high, low]);
    let Some(&first) = rest.first() else {
        let fits = PLAIN.contains(&len) || WITH_CLIENT_KEY.contains(&len);
        return if fits { Caller::Unclear } else { Caller::Other };
    };
    let fits = match Opcode::from_header(first) {
        // A first packet has key id 0.
        Some(Opcode::HardResetClientV2) => PLAIN.contains(&len) && first & 7 == 0,
        Some(Opcode::HardResetClientV3) => WITH_CLIENT_KEY.contains(&len) && first & 7 == 0,
        _ => false,
    };
    if fits { Caller::Vpn } else { Caller::Other }
}

impl PortShare {
    /// Looks the other server up, if there is one.
    pub(super) async fn of(profile: &Profile) -> Result<Option<Self>, String> {
        let Some(share) = &profile.server.port_share else { return Ok(None) };
        let port = link::port_number(&share.port)?;
        let servers = link::resolve(&share.host, port, Family::Any)
            .await
            .map_err(|failure| format!("--port-share: {failure}"))?;
        Ok(Some(Self::new(servers, share.journal.clone())))
    }

    fn new(servers: Vec<SocketAddr>, journal: Option<PathBuf>) -> Self {
        Self {
            servers: servers.into(),
            journal,
            sorted: Places::new(SORTED, WhenFull::OldestLeaves),
            carried: Places::new(CARRIED, WhenFull::NewcomerLeaves),
        }
    }

    /// Sorts a connection on a task of its own: it goes to the server of this process, or to the other one.
    pub(super) fn sort(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        streams: mpsc::Sender<(TcpStream, SocketAddr)>,
    ) {
        let Some(place) = self.sorted.take(remote.ip()) else { return };
        let share = self.clone();
        tokio::spawn(async move {
            let looked = tokio::select! {
                looked = timeout(FIRST_BYTES, look(&stream)) => looked,
                () = place.lost() => return debug!("--port-share: {remote} gives way to others"),
            };
            drop(place);
            match looked {
                Ok(Ok(Caller::Vpn)) => drop(streams.send((stream, remote)).await),
                Ok(Ok(Caller::Other)) => share.carry(stream, remote).await,
                Ok(Ok(Caller::Unclear)) => {} // closed by the peer
                Ok(Err(failure)) => debug!("--port-share: {remote}: {failure}"),
                Err(_elapsed) => debug!("--port-share: {remote} says nothing"),
            }
        });
    }

    /// Carries a connection to the other server until it ends.
    async fn carry(&self, stream: TcpStream, remote: SocketAddr) {
        let Some(place) = self.carried.take(remote.ip()) else {
            return debug!("--port-share: too many connections; the one from {remote} is closed");
        };
        tokio::select! {
            () = self.carry_in_place(stream, remote) => {}
            () = place.lost() => debug!("--port-share: {remote} gives way to others"),
        }
    }

    async fn carry_in_place(&self, stream: TcpStream, remote: SocketAddr) {
        let connect = timeout(CONNECT, TcpStream::connect(&self.servers[..])).await;
        let connected = connect.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        let server = match connected {
            Ok(server) => server,
            Err(failure) => {
                let to: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
                return ovlog!(warn 1, "--port-share: cannot connect to {}: {failure}", to.join(", "));
            }
        };
        let _entry = self.journal.as_deref().and_then(|directory| {
            let own = server.local_addr().ok()?;
            JournalEntry::write(directory, own, remote)
                .inspect_err(|failure| {
                    warn!("--port-share: cannot write into {}: {failure}", directory.display());
                })
                .ok()
        });
        debug!("--port-share: the connection from {remote} is for the other server");
        if let Err(failure) = carry_both_ways(stream, server, IDLE).await {
            debug!("--port-share: {remote}: {failure}");
        }
    }
}

/// Carries bytes both ways until both are done, one fails, or nothing moves for so long.
async fn carry_both_ways(
    one: impl AsyncRead + AsyncWrite,
    other: impl AsyncRead + AsyncWrite,
    idle: Duration,
) -> io::Result<()> {
    let moved = Notify::new();
    let (one_reads, one_writes) = tokio::io::split(one);
    let (other_reads, other_writes) = tokio::io::split(other);
    let both = async {
        tokio::try_join!(
            carry_one_way(one_reads, other_writes, &moved),
            carry_one_way(other_reads, one_writes, &moved)
        )
    };
    let nothing_moves = async { while timeout(idle, moved.notified()).await.is_ok() {} };
    tokio::select! {
        ended = both => ended.map(drop),
        () = nothing_moves => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn carry_one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Notify,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..len).unwrap_or_default()).await?;
        moved.notify_one();
    }
}

/// Waits until the beginning of a stream tells whom it is for.
async fn look(stream: &TcpStream) -> io::Result<Caller> {
    let mut bytes = [0; 3];
    let mut seen = 0;
    loop {
        let len = stream.peek(&mut bytes).await?;
        match caller(bytes.get(..len).unwrap_or_default()) {
            Caller::Unclear if len == 0 => return Ok(Caller::Unclear),
            Caller::Unclear => {}
            decided => return Ok(decided),
        }
        if len == seen {
            sleep(PAUSE).await;
        }
        seen = len;
    }
}

/// A file that lasts as long as its connection: named by the address that the other server sees, it holds the
/// caller's.
struct JournalEntry(PathBuf);

impl JournalEntry {
    fn write(directory: &Path, seen: SocketAddr, caller: SocketAddr) -> io::Result<Self> {
        let path = directory.join(AfAddress(seen).to_string());
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o640).open(&path)?;
        let entry = Self(path);
        file.write_all(AfAddress(caller).to_string().as_bytes())?;
        Ok(entry)
    }
}

impl Drop for JournalEntry {
    fn drop(&mut self) {
        if let Err(failure) = fs::remove_file(&self.0) {
            debug!("--port-share: cannot remove {}: {failure}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packets_of_clients_are_told_from_web_traffic() {
        assert_eq!(caller(&[0, 14, 7 << 3]), Caller::Vpn, "no wrapping");
        assert_eq!(caller(&[0, 86, 7 << 3]), Caller::Vpn, "tls-auth with SHA512");
        assert_eq!(caller(&[1, 80, 10 << 3]), Caller::Vpn, "tls-crypt-v2");
        assert_eq!(caller(&[0, 14, 10 << 3]), Caller::Other);
        assert_eq!(caller(&[0, 13, 7 << 3]), Caller::Other);
        assert_eq!(caller(&[0, 14, 7 << 3 | 1]), Caller::Other);
        assert_eq!(caller(&[22, 3, 1]), Caller::Other, "a TLS record");
        assert_eq!(caller(b"GET"), Caller::Other);
    }

    #[test]
    fn one_byte_decides_only_what_it_can() {
        assert_eq!(caller(&[]), Caller::Unclear);
        assert_eq!(caller(&[0]), Caller::Unclear);
        assert_eq!(caller(&[5]), Caller::Unclear);
        assert_eq!(caller(b"G"), Caller::Other);
        assert_eq!(caller(&[0, 54]), Caller::Unclear);
        assert_eq!(caller(&[0, 3]), Caller::Other);
    }

    /// A web server that answers every connection with `web`, and a port that is shared with it.
    async fn shared_port() -> (SocketAddr, mpsc::Receiver<(TcpStream, SocketAddr)>) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let web = tokio::net::TcpListener::bind(any).await.unwrap();
        let mut share = PortShare::new(vec![web.local_addr().unwrap()], None);
        share.sorted = Places::new(4, WhenFull::OldestLeaves);
        share.carried = Places::new(4, WhenFull::NewcomerLeaves);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = web.accept().await.unwrap();
                tokio::spawn(async move {
                    stream.write_all(b"web").await.unwrap();
                    let _until_closed = stream.read_to_end(&mut Vec::new()).await;
                });
            }
        });
        let port = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], port.local_addr().unwrap().port()));
        let (streams, inbox) = mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let (stream, remote) = port.accept().await.unwrap();
                share.sort(stream, remote, streams.clone());
            }
        });
        (at, inbox)
    }

    /// A caller from this address of the loopback net.
    async fn call(at: SocketAddr, from: [u8; 4], says: &[u8]) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        stream.write_all(says).await.unwrap();
        stream
    }

    /// SEC-CTL-11
    #[tokio::test]
    async fn who_says_nothing_and_who_holds_all_places_shuts_nobody_out() {
        let (at, mut vpn) = shared_port().await;
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(call(at, [127, 0, 0, 1], b"").await);
        }
        // Four of them are carried, the others are told to go.
        let mut reached = 0;
        for _ in 0..8 {
            let mut stream = call(at, [127, 0, 0, 1], b"GET").await;
            reached += usize::from(stream.read_exact(&mut [0; 3]).await.is_ok());
            held.push(stream);
        }
        assert_eq!(reached, 4);

        let mut other = call(at, [127, 0, 9, 1], b"GET").await;
        let mut answer = [0; 3];
        other.read_exact(&mut answer).await.expect("another net is served");
        assert_eq!(&answer, b"web");
        let client = call(at, [127, 0, 0, 1], &[0, 14, 7 << 3]).await;
        let (_stream, remote) = vpn.recv().await.expect("a client of the VPN is let through");
        assert_eq!(remote, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_connection_over_which_nothing_goes_ends() {
        let (near, mut client) = tokio::io::duplex(16);
        let (far, mut server) = tokio::io::duplex(16);
        let carrying = tokio::spawn(carry_both_ways(near, far, Duration::from_millis(300)));
        client.write_all(b"question").await.unwrap();
        let mut bytes = [0; 8];
        server.read_exact(&mut bytes).await.unwrap();
        server.write_all(b"the answer").await.unwrap();
        let mut bytes = [0; 10];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"the answer");
        assert_eq!(carrying.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(client.read(&mut bytes).await.unwrap(), 0, "it was closed");
    }

    #[tokio::test]
    async fn a_direction_that_is_done_leaves_the_other_open() {
        let (near, mut client) = tokio::io::duplex(16);
        let (far, mut server) = tokio::io::duplex(16);
        let carrying = tokio::spawn(carry_both_ways(near, far, IDLE));
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        server.write_all(b"late").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"late");
        carrying.await.unwrap().unwrap();
    }

    #[test]
    fn an_entry_of_the_journal_names_both_addresses_and_goes_with_its_connection() {
        let directory = std::env::temp_dir().join(format!("culvert-journal-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let seen = "[::1]:40000".parse().unwrap();
        let entry = JournalEntry::write(&directory, seen, "192.0.2.1:5".parse().unwrap()).unwrap();
        let path = directory.join("[AF_INET6]::1:40000");
        assert_eq!(fs::read_to_string(&path).unwrap(), "[AF_INET]192.0.2.1:5");
        drop(entry);
        assert!(!path.exists());
        fs::remove_dir(&directory).unwrap();
    }
}
