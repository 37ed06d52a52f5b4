//! Status files, and the same text for the management interface and SIGUSR2.
//!
//! The text is a value ([`ServerStatus::render`], [`ClientStatistics::render`]); [`StatusFile`] puts it where it is
//! read. Times are local: pass the zone of [`crate::log::Logger::zone`], which was read before the root directory
//! changed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use culvert_config::Profile;
use jiff::{Timestamp, tz::TimeZone};

use crate::{file_writer::Writer, ovlog};

/// The forms of a server's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusVersion {
    /// Headings and commas.
    #[default]
    V1,
    /// A keyword in front of each line, commas.
    V2,
    /// As 2, with tabs.
    V3,
}

impl StatusVersion {
    /// Returns the version of `status-version N`.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }
}

/// One client of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// Common name; empty is printed `UNDEF`.
    pub common_name: String,
    /// With the transport word: `udp4:192.0.2.1:1194`.
    pub real_address: String,
    /// Its IPv4 address in the tunnel.
    pub virtual_v4: Option<IpAddr>,
    /// Its IPv6 address in the tunnel.
    pub virtual_v6: Option<IpAddr>,
    /// Bytes received from it on the transport.
    pub bytes_received: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Since when.
    pub connected_since: SystemTime,
    /// User name; empty is printed `UNDEF`.
    pub username: String,
    /// The client id of the management interface.
    pub client_id: u64,
    /// The peer id.
    pub peer_id: u32,
    /// Cipher of the data channel.
    pub cipher: String,
}

/// One address or network behind a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// `10.8.0.2`, `192.168.55.0/24`; learned ones end with `C`.
    pub virtual_address: String,
    /// Its client.
    pub common_name: String,
    /// Its client's address.
    pub real_address: String,
    /// When it was used last.
    pub last_ref: SystemTime,
}

/// What a server's status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// The title line.
    pub title: String,
    /// Now.
    pub now: SystemTime,
    /// Clients in order.
    pub clients: Vec<ClientRow>,
    /// Addresses in order.
    pub routes: Vec<RouteRow>,
    /// `Max bcast/mcast queue length`.
    pub max_broadcast_queue: u64,
    /// Whether a kernel or driver offload runs.
    pub dco_enabled: bool,
}

/// What a client's or a point-to-point end's status shows, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the lines")]
pub struct ClientStatistics {
    pub now: SystemTime,
    pub tun_read: u64,
    pub tun_write: u64,
    pub link_read: u64,
    pub link_write: u64,
    pub auth_read: u64,
}

impl ServerStatus {
    /// Returns the whole text, `END` included.
    #[must_use]
    pub fn render(&self, version: StatusVersion, zone: &TimeZone) -> String {
        let text = match version {
            StatusVersion::V1 => self.with_headings(zone),
            StatusVersion::V2 => self.with_keywords(zone, ','),
            StatusVersion::V3 => self.with_keywords(zone, '\t'),
        };
        text.lines
    }

    fn with_headings(&self, zone: &TimeZone) -> Rows {
        let time = |at| local(at, zone);
        let mut rows = Rows::new(',');
        rows.row(&["OpenVPN CLIENT LIST"]);
        rows.row(&["Updated", &time(self.now)]);
        rows.row(&["Common Name", "Real Address", "Bytes Received", "Bytes Sent", "Connected Since"]);
        for client in &self.clients {
            rows.row(&[
                named(&client.common_name),
                &client.real_address,
                &client.bytes_received.to_string(),
                &client.bytes_sent.to_string(),
                &time(client.connected_since),
            ]);
        }
        rows.row(&["ROUTING TABLE"]);
        rows.row(&["Virtual Address", "Common Name", "Real Address", "Last Ref"]);
        for route in &self.routes {
            let name = named(&route.common_name);
            rows.row(&[&route.virtual_address, name, &route.real_address, &time(route.last_ref)]);
        }
        rows.row(&["GLOBAL STATS"]);
        rows.row(&["Max bcast/mcast queue length", &self.max_broadcast_queue.to_string()]);
        rows.row(&["END"]);
        rows
    }

    fn with_keywords(&self, zone: &TimeZone, separator: char) -> Rows {
        let time = |at| local(at, zone);
        let mut rows = Rows::new(separator);
        rows.row(&["TITLE", &self.title]);
        rows.row(&["TIME", &time(self.now), &seconds(self.now)]);
        rows.row(&CLIENT_COLUMNS);
        for client in &self.clients {
            let address =
                |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
            rows.row(&[
                "CLIENT_LIST",
                named(&client.common_name),
                &client.real_address,
                &address(client.virtual_v4),
                &address(client.virtual_v6),
                &client.bytes_received.to_string(),
                &client.bytes_sent.to_string(),
                &time(client.connected_since),
                &seconds(client.connected_since),
                named(&client.username),
                &client.client_id.to_string(),
                &client.peer_id.to_string(),
                &client.cipher,
            ]);
        }
        rows.row(&[
            "HEADER",
            "ROUTING_TABLE",
            "Virtual Address",
            "Common Name",
            "Real Address",
            "Last Ref",
            "Last Ref (time_t)",
        ]);
        for route in &self.routes {
            rows.row(&[
                "ROUTING_TABLE",
                &route.virtual_address,
                named(&route.common_name),
                &route.real_address,
                &time(route.last_ref),
                &seconds(route.last_ref),
            ]);
        }
        rows.row(&["GLOBAL_STATS", "Max bcast/mcast queue length", &self.max_broadcast_queue.to_string()]);
        rows.row(&["GLOBAL_STATS", "dco_enabled", if self.dco_enabled { "1" } else { "0" }]);
        rows.row(&["END"]);
        rows
    }
}

const CLIENT_COLUMNS: [&str; 14] = [
    "HEADER",
    "CLIENT_LIST",
    "Common Name",
    "Real Address",
    "Virtual Address",
    "Virtual IPv6 Address",
    "Bytes Received",
    "Bytes Sent",
    "Connected Since",
    "Connected Since (time_t)",
    "Username",
    "Client ID",
    "Peer ID",
    "Data Channel Cipher",
];
/// Sums up what the offload counted.
#[must_use]
pub fn statistics(now: SystemTime, stats: &[culvert_offload::PeerStats]) -> ClientStatistics {
    let sum = |count: fn(&culvert_offload::PeerStats) -> u64| stats.iter().map(count).sum();
    ClientStatistics {
        now,
        tun_read: sum(|s| s.tunnel.tx_bytes),
        tun_write: sum(|s| s.tunnel.rx_bytes),
        link_read: sum(|s| s.link.rx_bytes),
        link_write: sum(|s| s.link.tx_bytes),
        auth_read: sum(|s| s.link.rx_bytes),
    }
}

impl ClientStatistics {
    /// Returns the whole text, `END` included. It is the same for all versions.
    #[must_use]
    pub fn render(&self, zone: &TimeZone) -> String {
        let mut rows = Rows::new(',');
        rows.row(&["OpenVPN STATISTICS"]);
        rows.row(&["Updated", &local(self.now, zone)]);
        for (name, value) in [
            ("TUN/TAP read bytes", self.tun_read),
            ("TUN/TAP write bytes", self.tun_write),
            ("TCP/UDP read bytes", self.link_read),
            ("TCP/UDP write bytes", self.link_write),
            ("Auth read bytes", self.auth_read),
        ] {
            rows.row(&[name, &value.to_string()]);
        }
        rows.row(&["END"]);
        rows.lines
    }
}

/// Lines of fields. What would end a field or a line within a name becomes `_`: a reader must be able to count on the
/// columns, and names come from peers.
struct Rows {
    lines: String,
    separator: char,
}

impl Rows {
    fn new(separator: char) -> Self {
        Self { lines: String::new(), separator }
    }

    fn row(&mut self, fields: &[&str]) {
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.lines.push(self.separator);
            }
            let unsafe_here = |c: char| c == self.separator || c.is_control();
            self.lines.extend(field.chars().map(|c| if unsafe_here(c) { '_' } else { c }));
        }
        self.lines.push('\n');
    }
}

fn named(name: &str) -> &str {
    if name.is_empty() { "UNDEF" } else { name }
}

/// `2026-11-22 12:05:24`.
fn local(at: SystemTime, zone: &TimeZone) -> String {
    let Ok(at) = Timestamp::try_from(at) else { return String::new() };
    let at = zone.to_datetime(at);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn seconds(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().to_string()
}

/// A status file, or another small file that is kept true. It is opened once, before privileges are dropped, and rewritten in place.
#[derive(Clone, Debug)]
pub struct StatusFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Mutex<File>,
    busy: AtomicBool,
    /// The last write failed: said once.
    failing: AtomicBool,
    failures: AtomicU64,
    writer: &'static Writer,
}

/// Writes what all of them hold: one disk that hangs keeps one thread, whichever files lie on it.
static WRITER: Writer = Writer::new();

/// How long the end waits for what is being written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Waits until everything is written, or for as long as the end can wait.
pub(crate) fn finish_writing() {
    WRITER.finish(LAST_WRITE);
}

impl StatusFile {
    /// Opens the file, or creates it for its owner alone, as OpenVPN does: it tells who is connected from where.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::written_by(&WRITER, path)
    }

    /// Opens the file of `status`, unless this is it. What is wrong with it goes to the log.
    pub(crate) fn of_profile(profile: &Profile, open: Option<&Self>) -> Option<Arc<Self>> {
        Self::unless_open("status", &profile.log.status.as_ref()?.path, open)
    }

    /// Opens the file that an option names, unless it is open. What is wrong with it goes to the log.
    pub(crate) fn unless_open(option: &str, path: &Path, open: Option<&Self>) -> Option<Arc<Self>> {
        if open.is_some_and(|open| open.inner.path == path) {
            return None;
        }
        match Self::open(path) {
            Ok(file) => Some(Arc::new(file)),
            Err(failure) => {
                ovlog!(warn 1, "cannot write --{option} {}: {failure}", path.display());
                None
            }
        }
    }

    fn written_by(writer: &'static Writer, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (busy, failing, failures) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        let (path, file) = (path.to_owned(), Mutex::new(file));
        Ok(Self { inner: Arc::new(Inner { path, file, busy, failing, failures, writer }) })
    }

    /// Replaces the content, elsewhere: the caller never waits (SEC-LOG-2). While an earlier text is still being
    /// written, this one is left out (the next comes soon).
    pub fn write(&self, text: String) {
        if self.inner.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.hand_over(text, |inner| inner.busy.store(false, Ordering::Release));
    }

    fn hand_over(&self, text: String, then: impl FnOnce(&Inner) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        let started = self.inner.writer.run(move || {
            inner.replace(&text);
            then(&inner);
        });
        if let Err(failure) = started {
            self.inner.busy.store(false, Ordering::Release);
            self.inner.tell(Err(failure));
        }
    }

    /// Returns how often the content could not be replaced.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.inner.failures.load(Ordering::Relaxed)
    }

    /// Replaces the content, after whatever is being written, and waits for it: for the end of a life. A disk that hangs
    /// holds the end up for a second, not for ever.
    pub fn write_now(&self, text: String) {
        self.hand_over(text, |_| {});
        if !self.inner.writer.finish(LAST_WRITE) {
            ovlog!(
                error 1,
                "cannot write {}: its disk does not answer; it may be incomplete",
                self.inner.path.display()
            );
        }
    }
}

impl Inner {
    /// A full disk changes nothing: neither the file nor anything else.
    fn replace(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = overwrite(&mut file, text.as_bytes());
        drop(file);
        self.tell(written);
    }

    /// Says that writing fails, and that it works again: once each, or a full disk would fill the log.
    fn tell(&self, written: io::Result<()>) {
        let failed = self.failing.swap(written.is_err(), Ordering::AcqRel);
        let path = self.path.display();
        self.failures.fetch_add(u64::from(written.is_err()), Ordering::Relaxed);
        match written {
            Err(failure) if !failed => {
                ovlog!(error 1, "cannot write {path}: {failure}; it stays as it is until there is room, everything else goes on");
            }
            Ok(()) if failed => ovlog!(1, "{path} can be written again"),
            _ => {}
        }
    }
}

/// First what the file has to grow by, for which there may be no room; then the beginning, for which there is; then the
/// cut. Who reads in between sees lines after `END`, never half a line of ours.
fn overwrite(file: &mut File, text: &[u8]) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return file.write_all(text); // a pipe or a terminal
    }
    let old = metadata.len();
    file.rewind()?;
    let kept = usize::try_from(old).unwrap_or(usize::MAX).min(text.len());
    let (beginning, growth) = text.split_at(kept);
    if !growth.is_empty() {
        file.seek(SeekFrom::Start(old))?;
        if let Err(failure) = file.write_all(growth) {
            file.set_len(old)?;
            return Err(failure);
        }
        file.rewind()?;
    }
    file.write_all(beginning)?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The example recorded from OpenVPN 2.7.8.
    fn recorded() -> ServerStatus {
        let address = "udp4:10.99.0.2:57785".to_owned();
        let route = |network: &str| RouteRow {
            virtual_address: network.to_owned(),
            common_name: "alice".to_owned(),
            real_address: address.clone(),
            last_ref: at(1_795_349_119),
        };
        ServerStatus {
            title: "OpenVPN 2.7.8 x86_64-pc-linux-gnu".to_owned(),
            now: at(1_795_349_125),
            clients: vec![ClientRow {
                common_name: "alice".to_owned(),
                real_address: address.clone(),
                virtual_v4: Some([10, 8, 0, 2].into()),
                virtual_v6: "fd00:8::1000".parse().ok(),
                bytes_received: 3177,
                bytes_sent: 3302,
                connected_since: at(1_795_349_119),
                username: "bob".to_owned(),
                client_id: 0,
                peer_id: 0,
                cipher: "AES-256-GCM".to_owned(),
            }],
            routes: vec![route("192.168.55.0/24"), route("10.8.0.2")],
            max_broadcast_queue: 0,
            dco_enabled: false,
        }
    }

    #[test]
    fn version_1_is_what_openvpn_writes() {
        assert_eq!(
            recorded().render(StatusVersion::V1, &TimeZone::UTC),
            "OpenVPN CLIENT LIST\n\
             Updated,2026-11-22 12:05:25\n\
             Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since\n\
             alice,udp4:10.99.0.2:57785,3177,3302,2026-11-22 12:05:19\n\
             ROUTING TABLE\n\
             Virtual Address,Common Name,Real Address,Last Ref\n\
             192.168.55.0/24,alice,udp4:10.99.0.2:57785,2026-11-22 12:05:19\n\
             10.8.0.2,alice,udp4:10.99.0.2:57785,2026-11-22 12:05:19\n\
             GLOBAL STATS\n\
             Max bcast/mcast queue length,0\n\
             END\n"
        );
    }

    #[test]
    fn version_2_is_what_openvpn_writes_and_3_has_tabs() {
        let two = "TITLE,OpenVPN 2.7.8 x86_64-pc-linux-gnu\n\
             TIME,2026-11-22 12:05:25,1795349125\n\
             HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,Bytes Received,\
             Bytes Sent,Connected Since,Connected Since (time_t),Username,Client ID,Peer ID,Data Channel Cipher\n\
             CLIENT_LIST,alice,udp4:10.99.0.2:57785,10.8.0.2,fd00:8::1000,3177,3302,2026-11-22 12:05:19,1795349119,\
             bob,0,0,AES-256-GCM\n\
             HEADER,ROUTING_TABLE,Virtual Address,Common Name,Real Address,Last Ref,Last Ref (time_t)\n\
             ROUTING_TABLE,192.168.55.0/24,alice,udp4:10.99.0.2:57785,2026-11-22 12:05:19,1795349119\n\
             ROUTING_TABLE,10.8.0.2,alice,udp4:10.99.0.2:57785,2026-11-22 12:05:19,1795349119\n\
             GLOBAL_STATS,Max bcast/mcast queue length,0\n\
             GLOBAL_STATS,dco_enabled,0\n\
             END\n";
        assert_eq!(recorded().render(StatusVersion::V2, &TimeZone::UTC), two);
        assert_eq!(recorded().render(StatusVersion::V3, &TimeZone::UTC), two.replace(',', "\t"));
    }

    #[test]
    fn a_client_has_statistics() {
        let statistics = ClientStatistics {
            now: at(1_795_349_125),
            tun_read: 1,
            tun_write: 2,
            link_read: 3,
            link_write: 4,
            auth_read: 5,
        };
        assert_eq!(
            statistics.render(&TimeZone::UTC),
            "OpenVPN STATISTICS\nUpdated,2026-11-22 12:05:25\nTUN/TAP read bytes,1\nTUN/TAP write bytes,2\n\
             TCP/UDP read bytes,3\nTCP/UDP write bytes,4\nAuth read bytes,5\nEND\n"
        );
    }

    #[test]
    fn a_name_cannot_make_columns_or_lines() {
        let mut status = recorded();
        status.clients[0].common_name = "a,b\nEND".to_owned();
        status.clients[0].username.clear();
        let text = status.render(StatusVersion::V2, &TimeZone::UTC);
        assert!(text.contains("CLIENT_LIST,a_b_END,udp4") && text.contains(",UNDEF,0,0,"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_counted() {
        let file = StatusFile::open(Path::new("/dev/full")).expect("the device is there");
        file.write_now("text\n".to_owned());
        file.write_now("text\n".to_owned());
        assert_eq!(file.failures(), 2);
    }

    #[tokio::test]
    async fn a_shorter_text_leaves_nothing_of_the_longer() {
        let path = std::env::temp_dir().join(format!("culvert-status-{}", std::process::id()));
        let file = StatusFile::open(&path).expect("the file opens");
        file.write_now("a long text\nEND\n".to_owned());
        file.write_now("short\n".to_owned());
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "short\n");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "who is connected is not for everybody");
        std::fs::remove_file(&path).expect("the file goes");
    }

    #[test]
    fn sec_log_2_a_disk_that_hangs_holds_up_neither_a_write_nor_the_end() {
        let (reader, pipe) = std::io::pipe().expect("a pipe");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
        // A writer of its own, lest it hang for other tests.
        let file =
            StatusFile::written_by(Box::leak(Box::new(Writer::new())), Path::new(&path)).expect("it opens");
        drop(pipe);
        file.write("x".repeat(1 << 20)); // more than a pipe holds
        file.write("left out".to_owned());
        file.write_now("the last".to_owned());
        drop(reader);
        assert!(file.inner.writer.finish(Duration::MAX), "who comes back is written to");
        assert_eq!(file.failures(), 2, "the first and the last, to a pipe that nobody reads");
    }
}
