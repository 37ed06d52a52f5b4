//! The ledger on disk: what to undo after a process that ended without doing it (SEC-OPT-4).
//!
//! One file per process and ledger in a run directory ([`run_directory`]), named `PID-START-LABEL.journal`; START is the
//! process's start time, so that a reused id is not mistaken for its owner. One change per line; fields are separated by
//! tabs, `-` is an absent field. The descriptor stays open: the file can be emptied after privileges were dropped, when
//! the directory does not let us remove it. An empty file means that nothing is left to undo.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use crate::{Address, Change, DnsUndo, Host, HostError, Ledger, Route, RouteKind};

/// A file in a run directory that holds what must be undone after a crash.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Creates the journal of this process in `directory`, and the directory where needed. `label` tells several
    /// ledgers of one process apart.
    ///
    /// # Errors
    /// When the directory or the file cannot be created.
    pub fn create(directory: &Path, label: &str) -> Result<Self, HostError> {
        let process = std::process::id();
        let start = start_time(process).unwrap_or_default();
        let path = directory.join(format!("{process}-{start}-{label}.journal"));
        let open = || -> io::Result<File> {
            fs::create_dir_all(directory)?;
            // A leftover of a process with the same id and start time can only be our own.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).open(&path)
        };
        let file = open().map_err(|source| failed(&path, source))?;
        Ok(Self { path, file })
    }

    /// Replaces the content.
    pub(crate) fn write(&mut self, changes: &[Change]) -> Result<(), HostError> {
        let text: String = changes.iter().map(|change| encode(change) + "\n").collect();
        let mut replace = || -> io::Result<()> {
            // Longer content first, then the cut: a crash between leaves whole lines of an older state at the end,
            // which undo as "gone already".
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
        };
        replace().map_err(|source| failed(&self.path, source))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Only an emptied journal may go: a full one is needed at the next start.
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns where the journals of this network namespace lie: `/run/culvert/net-INODE`.
///
/// A file system is shared by network namespaces: what happened in one must not be undone in another.
pub fn run_directory() -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino());
    Path::new("/run/culvert").join(format!("net-{namespace}"))
}

/// Undoes what processes that are no longer alive have left behind; returns how many changes were taken back.
///
/// # Errors
/// When the directory cannot be read; a missing one is no error.
pub fn recover(directory: &Path, host: &mut dyn Host) -> Result<usize, HostError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(directory, error)),
    };
    let mut undone = 0;
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let Some(owner) = owner_of(&path) else { continue };
        if start_time(owner.0).is_some_and(|start| start == owner.1) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        let changes: Vec<Change> = text.lines().filter_map(decode).collect();
        if !changes.is_empty() {
            tracing::warn!(
                "undoing {} changes of process {}, which ended without doing so",
                changes.len(),
                owner.0
            );
        }
        undone += changes.len();
        Ledger::of(changes).undo(host);
        fs::remove_file(&path).map_err(|error| failed(&path, error))?;
    }
    Ok(undone)
}

fn failed(path: &Path, source: io::Error) -> HostError {
    HostError::Journal { path: path.display().to_string(), source }
}

/// Reads process id and start time from a journal's name.
fn owner_of(path: &Path) -> Option<(u32, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".journal")?;
    let mut fields = name.splitn(3, '-');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Field 22 of `/proc/PID/stat`: ticks since boot. `None`: there is no such process, or it is dead and nobody has asked how
/// it ended (in a container there may be nobody who does).
fn start_time(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field, the program's name in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn encode(change: &Change) -> String {
    match change {
        Change::Address { device, address } => {
            let (kind, second) = match address {
                Address::V4 { prefix, .. } => ("v4", prefix.to_string()),
                Address::V4Peer { remote, .. } => ("peer", remote.to_string()),
                Address::V6 { prefix, .. } => ("v6", prefix.to_string()),
            };
            format!("address\t{device}\t{kind}\t{}\t{second}", address.local())
        }
        Change::Route(route) => format!("route\t{}", encode_route(route)),
        Change::Displaced(route) => format!("displaced\t{}", encode_route(route)),
        Change::Shaped { device } => format!("shaped\t{device}\t"),
        Change::Dns(undo) => format!("dns\t{}", undo.words().join("\t")),
    }
}

fn encode_route(route: &Route) -> String {
    let kind = match route.kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Blackhole => "blackhole",
        RouteKind::Unreachable => "unreachable",
    };
    [
        route.network.to_string(),
        route.prefix.to_string(),
        optional(route.gateway.as_ref()),
        optional(route.device.as_ref()),
        optional(route.metric.as_ref()),
        optional(route.table.as_ref()),
        optional(route.source.as_ref()),
        kind.to_owned(),
        u8::from(route.on_link).to_string(),
        optional(route.protocol.as_ref()),
    ]
    .join("\t")
}

fn optional(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// Reads one line; `None` for one that was cut short by the crash.
fn decode(line: &str) -> Option<Change> {
    let mut fields = line.split('\t');
    match fields.next()? {
        "address" => {
            let device = fields.next()?.to_owned();
            let (kind, local, second) = (fields.next()?, fields.next()?, fields.next()?);
            let address = match kind {
                "v4" => Address::V4 { local: local.parse().ok()?, prefix: second.parse().ok()? },
                "peer" => Address::V4Peer { local: local.parse().ok()?, remote: second.parse().ok()? },
                "v6" => Address::V6 { local: local.parse().ok()?, prefix: second.parse().ok()? },
                _ => return None,
            };
            Some(Change::Address { device, address })
        }
        "route" => decode_route(fields).map(Change::Route),
        "displaced" => decode_route(fields).map(Change::Displaced),
        "shaped" => {
            let device = fields.next()?.to_owned();
            // The field after it is empty, and shows that the name is whole.
            fields.next()?;
            Some(Change::Shaped { device })
        }
        "dns" => {
            let words = [fields.next()?, fields.next()?];
            DnsUndo::from_words(words).map(Change::Dns)
        }
        _ => None,
    }
}

fn decode_route<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Route> {
    Some(Route {
        network: fields.next()?.parse().ok()?,
        prefix: fields.next()?.parse().ok()?,
        gateway: decode_optional(fields.next()?)?,
        device: decode_optional(fields.next()?)?,
        metric: decode_optional(fields.next()?)?,
        table: decode_optional(fields.next()?)?,
        source: decode_optional(fields.next()?)?,
        kind: match fields.next()? {
            "unicast" => RouteKind::Unicast,
            "blackhole" => RouteKind::Blackhole,
            "unreachable" => RouteKind::Unreachable,
            _ => return None,
        },
        on_link: fields.next()? == "1",
        protocol: decode_optional(fields.next()?)?,
    })
}

/// The outer `None` is a field that cannot be read, the inner one an absent value.
#[allow(clippy::option_option, reason = "see above")]
fn decode_optional<T: std::str::FromStr>(field: &str) -> Option<Option<T>> {
    if field == "-" { Some(None) } else { field.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FakeHost, Plan, Step};

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("culvert-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn plan() -> Plan {
        [
            Step::Address {
                device: "tun0".to_owned(),
                address: Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 },
            },
            Step::Displace(Route::to([0, 0, 0, 0].into(), 0).via(Some([192, 0, 2, 1].into())).dev("eth0")),
            Step::Route(
                Route::to([0, 0, 0, 0].into(), 0).via(Some([10, 8, 0, 1].into())).dev("tun0").metric(Some(5)),
            ),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn every_change_survives_being_written_and_read() {
        let route = Route {
            metric: Some(7),
            table: Some(100),
            source: Some([10, 0, 0, 1].into()),
            on_link: true,
            protocol: Some(16),
            ..Route::to_host([192, 0, 2, 9].into())
        };
        let changes = [
            Change::Address {
                device: "tun0".to_owned(),
                address: Address::V4 { local: [10, 8, 0, 2].into(), prefix: 24 },
            },
            Change::Address {
                device: "tun0".to_owned(),
                address: Address::V4Peer { local: [10, 8, 0, 6].into(), remote: [10, 8, 0, 5].into() },
            },
            Change::Address {
                device: "tun0".to_owned(),
                address: Address::V6 { local: "fd00::2".parse().expect("an address"), prefix: 64 },
            },
            Change::Route(route.clone()),
            Change::Displaced(Route {
                kind: RouteKind::Unreachable,
                ..Route::to("2000::".parse().expect("an address"), 3)
            }),
            Change::Shaped { device: "tun0".to_owned() },
            Change::Dns(DnsUndo::Resolved { device: "tun0".to_owned() }),
            Change::Dns(DnsUndo::File { backup: "/etc/resolv.conf.culvert".to_owned() }),
        ];
        for change in changes {
            assert_eq!(decode(&encode(&change)), Some(change));
        }
    }

    #[test]
    fn a_line_that_was_cut_short_is_left_out() {
        let whole = encode(&Change::Route(Route::to([10, 0, 0, 0].into(), 8)));
        for end in 0..whole.rfind('\t').expect("fields") {
            assert_eq!(decode(&whole[..end]), None, "{end}");
        }
    }

    /// SEC-OPT-4
    #[test]
    fn changes_of_a_process_that_died_are_undone_at_the_next_start() {
        let directory = directory("recover");
        let mut host = FakeHost::new();
        let before = host.routes.clone();
        let mut ledger = Ledger::with_journal(Journal::create(&directory, "test").expect("a journal"));
        assert!(ledger.apply(&mut host, &plan()).is_complete());
        assert_eq!(recover(&directory, &mut host).expect("the directory is read"), 0, "its owner is alive");

        // As if the owner had died: the name tells of another start time.
        let path = fs::read_dir(&directory)
            .expect("the directory")
            .next()
            .expect("a journal")
            .expect("its entry")
            .path();
        fs::rename(&path, directory.join("1-1-test.journal")).expect("renamed");
        assert_eq!(recover(&directory, &mut host).expect("recovers"), 3);
        let sorted = |mut routes: Vec<Route>| {
            routes.sort_by_key(ToString::to_string);
            routes
        };
        assert_eq!(sorted(host.routes.clone()), sorted(before));
        assert_eq!(host.devices["tun0"], []);
        assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0);
        fs::remove_dir_all(&directory).expect("the directory goes");
    }

    #[test]
    fn a_process_whose_end_nobody_asked_for_is_dead() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        assert!(start_time(child.id()).is_some());
        child.kill().expect("killed");
        let died = std::time::Instant::now();
        while start_time(child.id()).is_some() {
            assert!(died.elapsed().as_secs() < 10, "it still counts as alive");
            std::thread::yield_now();
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().expect("its end");
    }

    #[test]
    fn an_undone_ledger_leaves_no_journal() {
        let directory = directory("clean");
        let mut host = FakeHost::new();
        let mut ledger = Ledger::with_journal(Journal::create(&directory, "test").expect("a journal"));
        ledger.apply(&mut host, &plan());
        ledger.undo(&mut host);
        drop(ledger);
        assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0);
        fs::remove_dir_all(&directory).expect("the directory goes");
    }
}
