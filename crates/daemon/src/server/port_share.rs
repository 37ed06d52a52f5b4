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
    io::copy_bidirectional,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{address::AfAddress, link, ovlog};

/// How long the first bytes of a connection may take.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// How long the other server may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Looking at bytes does not wait for more of them: a pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Connections that are sorted or carried at a time.
const MOST: usize = 1024;

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
    room: Arc<Semaphore>,
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
        Ok(Some(Self {
            servers: servers.into(),
            journal: share.journal.clone(),
            room: Arc::new(Semaphore::new(MOST)),
        }))
    }

    /// Sorts a connection on a task of its own: it goes to the server of this process, or to the other one.
    pub(super) fn sort(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        streams: mpsc::Sender<(TcpStream, SocketAddr)>,
    ) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return debug!("--port-share: too many connections; the one from {remote} is closed");
        };
        let share = self.clone();
        tokio::spawn(async move {
            match timeout(FIRST_BYTES, look(&stream)).await {
                Ok(Ok(Caller::Vpn)) => drop(streams.send((stream, remote)).await),
                Ok(Ok(Caller::Other)) => share.carry(stream, remote, room).await,
                Ok(Ok(Caller::Unclear)) => {} // closed by the peer
                Ok(Err(failure)) => debug!("--port-share: {remote}: {failure}"),
                Err(_elapsed) => debug!("--port-share: {remote} says nothing"),
            }
        });
    }

    /// Carries a connection to the other server until it ends.
    async fn carry(&self, mut stream: TcpStream, remote: SocketAddr, _room: OwnedSemaphorePermit) {
        let connect = timeout(CONNECT, TcpStream::connect(&self.servers[..])).await;
        let connected = connect.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        let mut server = match connected {
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
        if let Err(failure) = copy_bidirectional(&mut stream, &mut server).await {
            debug!("--port-share: {remote}: {failure}");
        }
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
