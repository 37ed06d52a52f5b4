use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::*;

/// One test at a time: a program that is being written while another test forks cannot be started ("text file busy").
static TURN: Mutex<()> = Mutex::new(());

/// A directory that stands for `/`; removed at the end.
struct Root(PathBuf, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Root {
    fn new(name: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("culvert-dns-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("etc")).expect("a directory for the test");
        Self(path, turn)
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory for the test");
        fs::write(&path, text).expect("written");
        path
    }

    /// A program that notes its arguments and its input.
    fn program(&self, path: &str) -> PathBuf {
        let log = self.0.join("calls");
        let path = self.write(
            path,
            &format!(
                "#!/bin/sh\necho \"$*\" >> {0}\nif [ \"$1\" = -a ]; then /bin/cat >> {0}; fi\n",
                log.display()
            ),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.join("calls")).unwrap_or_default()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings() -> DnsSettings {
    let address = |text: &str, port| DnsServerAddress { address: text.parse().expect("an address"), port };
    DnsSettings {
        servers: vec![DnsServer {
            addresses: vec![address("10.8.0.1", None), address("fd00:8::1", None)],
            ..DnsServer::default()
        }],
        search_domains: vec!["example.org".to_owned(), "-evil".to_owned(), "a b".to_owned()],
    }
}

#[test]
fn resolved_comes_before_resolvconf_before_the_file() {
    let root = Root::new("detect");
    assert!(
        DnsBackend::detect_in(&root.0)
            .expect_err("nothing there")
            .to_string()
            .contains("install systemd-resolved")
    );
    let path = root.write("etc/resolv.conf", "");
    assert_eq!(DnsBackend::detect_in(&root.0).expect("found"), DnsBackend::File { path });
    let program = root.program("sbin/resolvconf");
    assert_eq!(DnsBackend::detect_in(&root.0).expect("found"), DnsBackend::Resolvconf { program });
    let program = root.program("usr/bin/resolvectl");
    assert!(
        matches!(DnsBackend::detect_in(&root.0), Ok(DnsBackend::Resolvconf { .. })),
        "resolved does not run"
    );
    fs::create_dir_all(root.0.join("run/systemd/resolve")).expect("a directory");
    assert_eq!(DnsBackend::detect_in(&root.0).expect("found"), DnsBackend::Resolved { program });
}

#[test]
fn resolved_gets_servers_and_all_names_go_to_them() {
    let root = Root::new("resolved");
    let backend = DnsBackend::Resolved { program: root.program("resolvectl") };
    let undo = backend.set("tun0", &settings()).expect("the program is content");
    assert_eq!(undo, DnsUndo::Resolved { device: "tun0".to_owned() });
    assert_eq!(
        root.calls(),
        "dns tun0 10.8.0.1 fd00:8::1\ndomain tun0 example.org ~.\ndefault-route tun0 true\n"
    );
}

#[test]
fn resolved_gets_ports_names_and_domains() {
    let root = Root::new("split");
    let mut settings = settings();
    let server = &mut settings.servers[0];
    server.addresses.iter_mut().for_each(|address| address.port = Some(853));
    server.resolve_domains = vec!["corp.example".to_owned()];
    server.sni = Some("dns.corp.example".to_owned());
    server.transport = Some(DnsTransport::DoT);
    server.dnssec = Some(Dnssec::Optional);
    let backend = DnsBackend::Resolved { program: root.program("resolvectl") };
    backend.set("tun0", &settings).expect("the program is content");
    assert_eq!(
        root.calls(),
        "dns tun0 10.8.0.1:853#dns.corp.example [fd00:8::1]:853#dns.corp.example\n\
         domain tun0 example.org ~corp.example\ndefault-route tun0 false\ndnssec tun0 allow-downgrade\ndnsovertls tun0 yes\n"
    );
}

#[test]
fn resolvconf_gets_lines() {
    let root = Root::new("resolvconf");
    let backend = DnsBackend::Resolvconf { program: root.program("resolvconf") };
    backend.set("tun0", &settings()).expect("the program is content");
    assert_eq!(root.calls(), "-a tun0\nnameserver 10.8.0.1\nnameserver fd00:8::1\nsearch example.org\n");
}

#[test]
fn a_program_that_fails_is_quoted() {
    let root = Root::new("fails");
    let program = root.write("resolvconf", "#!/bin/sh\necho 'no permission' >&2\nexit 3\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    let error = DnsBackend::Resolvconf { program }.set("tun0", &settings()).expect_err("it fails");
    assert!(error.to_string().contains("no permission"), "{error}");
}

#[test]
fn the_file_is_written_and_restored() {
    let root = Root::new("file");
    let before = "nameserver 192.0.2.1\ndomain local\noptions edns0\n";
    let path = root.write("etc/resolv.conf", before);
    let backend = DnsBackend::File { path: path.clone() };
    let undo = backend.set("tun0", &settings()).expect("written");
    let now = fs::read_to_string(&path).expect("readable");
    assert!(
        now.ends_with("nameserver 10.8.0.1\nnameserver fd00:8::1\nsearch example.org\noptions edns0\n"),
        "{now}"
    );
    // A second time, as after a crash: the first text is still the one to come back.
    assert_eq!(backend.set("tun0", &settings()).expect("written"), undo);
    undo.run().expect("restored");
    assert_eq!(fs::read_to_string(&path).expect("readable"), before);
    assert_eq!(fs::read_dir(root.0.join("etc")).expect("the directory").count(), 1, "the copy is gone");
    undo.run().expect("a second time there is nothing to do");
}

#[test]
fn the_file_is_restored_from_where_no_path_leads_to_it() {
    let root = Root::new("kept");
    let path = root.write("etc/resolv.conf", "nameserver 192.0.2.1\n");
    let undo = DnsBackend::File { path: path.clone() }.set("tun0", &settings()).expect("written");
    let kept = undo.keep();
    // As after `chroot`; with another `user` the paths are there, and refused.
    let away = root.0.join("away");
    fs::rename(root.0.join("etc"), &away).expect("moved");
    undo.run_with(kept).expect("restored");
    assert_eq!(fs::read_to_string(away.join("resolv.conf")).expect("readable"), "nameserver 192.0.2.1\n");
    // The copy stays then, and does no harm.
    fs::rename(&away, root.0.join("etc")).expect("moved back");
    let backend = DnsBackend::File { path: path.clone() };
    fs::write(&path, "nameserver 192.0.2.2\n").expect("written");
    let undo = backend.set("tun0", &settings()).expect("written");
    undo.run_with(undo.keep()).expect("restored");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 192.0.2.2\n");
    assert_eq!(fs::read_dir(root.0.join("etc")).expect("the directory").count(), 1, "the copy is gone");
}

#[test]
fn files_mounted_at_one_place_have_copies_of_their_own() {
    let root = Root::new("mounts");
    let path = root.write("etc/resolv.conf", "nameserver 192.0.2.1\n");
    let backend = DnsBackend::File { path: path.clone() };
    let first = backend.set("tun0", &settings()).expect("written");
    // Another namespace's file appears there, as a mount would have it, and goes again.
    let aside = root.0.join("first");
    fs::rename(&path, &aside).expect("moved");
    root.write("etc/resolv.conf", "nameserver 192.0.2.2\n");
    let second = backend.set("tun0", &settings()).expect("written");
    second.run().expect("restored");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 192.0.2.2\n");
    fs::rename(&aside, &path).expect("moved back");
    first.run().expect("restored");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 192.0.2.1\n");
}

#[test]
fn a_file_that_somebody_else_wrote_since_is_left_alone() {
    let root = Root::new("foreign");
    let path = root.write("etc/resolv.conf", "nameserver 192.0.2.1\n");
    let undo = DnsBackend::File { path: path.clone() }.set("tun0", &settings()).expect("written");
    fs::write(&path, "nameserver 192.0.2.2\n").expect("written");
    undo.run().expect("nothing to restore");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 192.0.2.2\n");
}

#[test]
fn what_a_plain_resolver_cannot_do_is_refused_with_a_remedy() {
    let root = Root::new("remedy");
    let path = root.write("etc/resolv.conf", "nameserver 192.0.2.1\n");
    let mut settings = settings();
    settings.servers[0].resolve_domains.push("corp.example".to_owned());
    let error = DnsBackend::File { path: path.clone() }.set("tun0", &settings).expect_err("split DNS");
    assert!(error.to_string().contains("systemd-resolved"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 192.0.2.1\n");
}

#[test]
fn who_is_asked_for_names_is_read_where_files_tell_it() {
    let root = Root::new("servers");
    let servers = || servers::name_servers_in(&root.0);
    let addresses =
        |texts: &[&str]| Some(texts.iter().map(|text| text.parse().expect("an address")).collect());
    assert_eq!(servers(), None, "without the file the C library asks this machine");
    root.write(
        "etc/resolv.conf",
        "search a\n# nameserver 192.0.2.9\nnameserver 192.0.2.53\nnameserver\tfe80::1%eth0 \nnameserver x\n",
    );
    assert_eq!(servers(), addresses(&["192.0.2.53", "fe80::1"]));
    root.write("etc/resolv.conf", "nameserver 127.0.0.53\n");
    assert_eq!(servers(), None, "a program on this machine asks others");
    root.write("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\n");
    assert_eq!(servers(), addresses(&["192.0.2.1"]), "the program's own list");
    root.write("etc/resolv.conf", "nameserver 192.0.2.53\n");
    assert_eq!(servers(), addresses(&["192.0.2.1", "192.0.2.53"]), "nsswitch.conf may put either first");
    root.write("etc/resolv.conf", "nameserver 127.0.0.1\n");
    assert_eq!(servers(), None, "not systemd-resolved's: whom it asks is not known");
}
