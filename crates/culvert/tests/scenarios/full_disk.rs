//! The disk of the log and of the files that a server keeps is full for a while.

use std::{fs, os::unix::fs::FileExt as _, path::PathBuf};

use culvert_testkit::{Daemon, NetnsLab, Role, TempDir, TunnelSpec, eventually};

use crate::{SOON, World};

/// A server whose files are on a disk of 64 KiB, and what it says on its standard error.
struct Small {
    server: Daemon,
    folder: TempDir,
    _lab: NetnsLab,
    _world: World,
    /// The disk, as others see it.
    disk: PathBuf,
}

impl Small {
    fn start() -> Self {
        let (world, folder, lab) = (World::new(), TempDir::new().unwrap(), NetnsLab::new().unwrap());
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let at = disk.display();
        let server_extra = format!(
            "status {at}/status 1\nstatus-version 2\nifconfig-pool-persist {at}/pool 1\n\
             management {}/socket unix\nmetrics {}/metrics unix\n",
            folder.path().display(),
            folder.path().display()
        );
        let spec = TunnelSpec { server_extra, ..TunnelSpec::default() };
        let text = spec.config(Role::Server, &world.subject, &world.materials, &folder).unwrap();
        // The log of the testkit's own choice would come first.
        let config = folder.write("server.conf", &format!("log {at}/log\n{text}")).unwrap();
        let script = "mount -t tmpfs -o size=64k none \"$1\" && exec \"$2\" --config \"$3\"";
        let words = ["-m", "sh", "-c", script, "sh"].map(str::to_owned).into_iter();
        let words: Vec<_> = words
            .chain([&disk, world.subject.program(), &config].map(|path| path.display().to_string()))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let unshare = std::path::Path::new("unshare");
        let server = Daemon::start_with(&lab.server, unshare, "server", &words).unwrap();
        let disk = PathBuf::from(format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), disk.display()));
        Self { server, folder, _lab: lab, _world: world, disk }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.disk.join(name)).unwrap_or_default()
    }

    /// Waits until a file on the disk has a text in it.
    fn wait_in(&self, name: &str, text: &str) {
        eventually(SOON, || {
            let seen = self.read(name);
            let found = seen.contains(text);
            if found {
                Ok(())
            } else {
                Err(format!("no `{text}` in {name}:\n{seen}\n{}", self.server.tail()))
            }
        });
    }

    /// Leaves no room.
    fn fill(&self) {
        let filler = fs::File::create(self.disk.join("filler")).unwrap();
        let (mut at, mut len) = (0, 4096);
        while len > 0 {
            match filler.write_at(&vec![0; len], at) {
                Ok(written) if written > 0 => at += written as u64,
                _full => len /= 2,
            }
        }
    }
}

/// SEC-LOG-2
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_is_lost_is_said_once_and_files_are_whole_again_when_there_is_room() {
    let small = Small::start();
    small.wait_in("log", "Initialization Sequence Completed");
    small.wait_in("status", "END");
    let mut management = culvert_testkit::Management::connect(&small.folder.path().join("socket")).unwrap();
    management.wait_for(">INFO:").unwrap();
    management.command("log on").unwrap();
    small.fill();
    // Each command is a line of the log.
    for _ in 0..300 {
        management.command("verb 4").unwrap();
    }
    small.server.wait_for("the log cannot be written: No space left on device", SOON).unwrap();
    let alarms = small.server.lines_with("the log cannot be written").len();
    assert_eq!(alarms, 1, "{}", small.server.tail());
    while !management.wait_for(">LOG:").unwrap().contains("the log cannot be written") {}
    assert_eq!(management.command("nclients").unwrap(), ["SUCCESS: nclients=0"]);

    let status = small.read("status");
    assert!(status.starts_with("TITLE,") && status.ends_with("END\n"), "it is what it was: {status}");

    fs::remove_file(small.disk.join("filler")).unwrap();
    management.command("verb 4").unwrap();
    small.wait_in("log", "log lines lost: No space left on device");
    let log = small.read("log");
    let note = log.lines().find(|line| line.contains("log lines lost")).unwrap();
    assert!(note.starts_with("20") && log.ends_with('\n'), "a line like others: {note}");
}
