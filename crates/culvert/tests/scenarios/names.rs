//! Servers that are called by name, and what else the life of a client depends on.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use culvert_testkit::{
    Daemon, NetnsLab, Release, Role, Signal, TempDir, Tunnel, TunnelSpec, eventually, patient,
};

use crate::{
    SOON, World, assert_no_panic,
    units::{Site, client_config},
};

/// A name server on the server's machine: whatever is asked for is there.
pub(crate) struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    pub(crate) fn start(lab: &NetnsLab) -> Self {
        let socket = Self::silent(lab);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut question) {
                let (name, answer) = answer(&question[..len]);
                heard.lock().unwrap().push(name);
                let _gone = socket.send_to(&answer, from); // who asked may have left
            }
        });
        Self { asked }
    }

    /// The socket alone, of which the client's resolver knows.
    pub(crate) fn silent(lab: &NetnsLab) -> UdpSocket {
        let at = SocketAddr::from((NetnsLab::SERVER_V4, 53));
        let file = format!("/etc/netns/{}/resolv.conf", lab.client.name());
        fs::write(file, format!("nameserver {}\n", NetnsLab::SERVER_V4)).unwrap();
        lab.server.enter(|| UdpSocket::bind(at)).unwrap().unwrap()
    }
}

/// The name that is asked for, and an answer with the server's address (RFC 1035, section 4); none for IPv6.
pub(crate) fn answer(question: &[u8]) -> (String, Vec<u8>) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let len = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + len]).into_owned());
        at += len + 1;
    }
    let is_v4 = question[at + 2] == 1;
    let mut answer = question[..at + 5].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
    if is_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(NetnsLab::SERVER_V4.octets());
    }
    (labels.join("."), answer)
}

/// A client that calls `vpn.example`, with these options.
fn called_by_name(options: &str) -> (Tunnel, NameServer) {
    let world = World::new();
    let mut tunnel = world.start(Role::Client, Release::V2_7, &TunnelSpec::default());
    tunnel.client.kill();
    let server = NameServer::start(&tunnel.lab);
    tunnel
        .edit_config(Role::Client, |text| {
            format!("{}\n{options}\n", text.replace("remote 10.99.0.1 1194", "remote vpn.example 1194"))
        })
        .unwrap();
    tunnel.restart(Role::Client).unwrap();
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    (tunnel, server)
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn random_digits_stand_before_the_name_and_the_kill_switch_lets_it_be_looked_up() {
    let (tunnel, server) = called_by_name("remote-random-hostname\nkill-switch");
    let asked = server.asked.lock().unwrap().clone();
    let digits: Vec<_> = asked.iter().filter_map(|name| name.strip_suffix(".vpn.example")).collect();
    assert!(!digits.is_empty(), "{asked:?}");
    for digits in digits {
        assert!(digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{asked:?}");
    }
    let rules = tunnel.lab.client.run("nft", &["list", "table", "inet", "culvert-kill-switch"]).unwrap();
    assert!(!rules.contains("dport 53"), "names are looked up no more:\n{rules}");
    assert!(rules.contains("oifname \"tun0\" accept"), "{rules}");
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_works_from_within_another_root_directory() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    fs::create_dir(folder.path().join("tmp")).unwrap(); // `tmp-dir`, which is looked for inside
    let client_extra =
        format!("chroot {}\nuser nobody\npersist-tun\npersist-key\nup-delay", folder.path().display());
    let spec = TunnelSpec { client_extra, ..TunnelSpec::default() };
    let mut tunnel = world.tunnel(Role::Client, Release::V2_7, &spec);
    let root = fs::read_link(format!("/proc/{}/root", tunnel.client.pid().as_raw_nonzero())).unwrap();
    assert_eq!(root, fs::canonicalize(folder.path()).unwrap());
    let mark = tunnel.client.mark();
    tunnel.client.signal(culvert_testkit::Signal::Restart).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    tunnel.wait_traffic(SOON).unwrap();
    assert!(tunnel.client.stop(SOON).unwrap().success());
    assert_no_panic(&tunnel);
}

/// Starts a client with an /etc and a /run of its own, where no program but culvert writes resolv.conf.
const OWN_ETC: &str = "mount --bind \"$0/etc\" /etc && mount --bind \"$0/run\" /run || exit
for program in /usr/sbin/resolvconf /sbin/resolvconf /usr/bin/resolvconf /bin/resolvconf; do
    [ ! -f $program ] || mount --bind /dev/null $program || exit
done
exec \"$@\"";

/// A client that gives up its rights, and the resolv.conf that it works with; its server pushes 10.8.0.53.
struct Unprivileged {
    site: Site,
    config: String,
    resolv: PathBuf,
}

impl Unprivileged {
    const BEFORE: &str = "nameserver 192.0.2.1\n";

    fn new() -> Self {
        let site = Site::new().with_server("push \"dhcp-option DNS 10.8.0.53\"");
        let etc = site.folder().join("etc");
        for folder in [&etc, &site.folder().join("run")] {
            fs::create_dir(folder).unwrap();
        }
        for file in ["passwd", "group", "nsswitch.conf"] {
            fs::copy(Path::new("/etc").join(file), etc.join(file)).unwrap();
        }
        let resolv = etc.join("resolv.conf");
        fs::write(&resolv, Self::BEFORE).unwrap();
        let config = format!(
            "{}verb 3\nuser nobody\ngroup nogroup\npersist-tun\nconnect-retry 60\ncd {}\n",
            client_config(),
            site.folder().display()
        );
        let config = site.pki.folder().write("client.conf", &config).unwrap().display().to_string();
        Self { site, config, resolv }
    }

    fn start(&self) -> Daemon {
        let folder = self.site.folder().display().to_string();
        let subject = self.site.world.subject.program().display().to_string();
        let words = ["-c", OWN_ETC, &folder, &subject, "--config", &self.config];
        Daemon::start_with(&self.site.lab.client, Path::new("sh"), "client", &words).unwrap()
    }
}

/// As a service manager does it; nobody is left to take anything back then but the next start.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn name_servers_are_taken_back_at_the_next_start_where_all_of_a_client_was_killed() {
    let mut it = Unprivileged::new();
    let mut client = it.start();
    client.wait_up(SOON).unwrap();
    let resolv = it.resolv.clone();
    let text = || fs::read_to_string(&resolv).unwrap();
    assert!(text().contains("nameserver 10.8.0.53\n"), "{}\n{}", text(), client.tail());
    let pid = client.pid().as_raw_nonzero().to_string();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    let children: Vec<String> = children.collect::<String>().split_whitespace().map(str::to_owned).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    // The keeper first: it would take all back when its owner goes.
    it.site.lab.client.run("kill", &["-KILL", &children[0], &pid]).unwrap();
    client.wait_exit(SOON).unwrap();
    assert!(text().contains("nameserver 10.8.0.53\n"), "{}", text());
    it.site.server = None; // else it would be set again
    let client = it.start();
    eventually(SOON, || match text() {
        text if text == Unprivileged::BEFORE => Ok(()),
        text => Err(format!("{text}\n{}", client.tail())),
    });
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn name_servers_are_set_and_taken_back_by_a_client_that_gives_up_its_rights() {
    let it = Unprivileged::new();
    let (resolv, before) = (it.resolv.clone(), Unprivileged::BEFORE);
    let mut client = it.start();
    client.wait_up(SOON).unwrap();
    let text = fs::read_to_string(&resolv).unwrap();
    assert!(text.contains("nameserver 10.8.0.53\n"), "{text}\n{}", client.tail());
    let status = fs::read_to_string(format!("/proc/{}/status", client.pid().as_raw_nonzero())).unwrap();
    assert!(!status.contains("\nUid:\t0\t"), "{status}");
    // While it has no connection, what is behind the tunnel cannot be asked.
    let mark = client.mark();
    client.signal(Signal::Restart).unwrap();
    client.wait_for_after(mark, "Restart pause, 60 second", SOON).unwrap();
    assert_eq!(fs::read_to_string(&resolv).unwrap(), before, "{}", client.tail());
    client.signal(Signal::Restart).unwrap();
    client.wait_up_after(mark, SOON).unwrap();
    let text = fs::read_to_string(&resolv).unwrap();
    assert!(text.contains("nameserver 10.8.0.53\n"), "{text}\n{}", client.tail());
    assert!(client.stop(SOON).unwrap().success());
    assert_eq!(fs::read_to_string(&resolv).unwrap(), before, "{}", client.tail());
}

/// As OpenVPN's runner does it; and what a client that is killed leaves behind is taken back at once.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn dns_updown_keeps_root_s_rights_when_the_client_gives_them_up() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("calls");
    let line =
        format!("#!/bin/sh\necho $script_type $(id -u) $dev $dns_server_1_address_1 >>{}\n", log.display());
    let script = folder.write_script("updown", &line).unwrap();
    let spec = TunnelSpec {
        server_extra: "push \"dns server 1 address 10.8.0.53\"".to_owned(),
        client_extra: format!(
            "script-security 2\ndns-updown {}\nuser nobody\ngroup nogroup\npersist-tun\nconnect-retry 60 60",
            script.display()
        ),
        ..TunnelSpec::default()
    };
    let mut tunnel = World::new().tunnel(Role::Client, Release::V2_7, &spec);
    let calls =
        || fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let (up, down) = ("dns-up 0 tun0 10.8.0.53", "dns-down 0 tun0 10.8.0.53");
    assert_eq!(calls(), [up], "{}", tunnel.client.tail());
    let mark = tunnel.client.mark();
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for_after(mark, "Restart pause, 60 second", SOON).unwrap();
    assert_eq!(calls(), [up, down], "{}", tunnel.client.tail());
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_up_after(mark, SOON).unwrap();
    assert_eq!(calls(), [up, down, up], "{}", tunnel.client.tail());
    tunnel.client.signal(Signal::Kill).unwrap();
    tunnel.client.wait_exit(SOON).unwrap();
    let deadline = Instant::now() + patient(SOON);
    while calls() != [up, down, up, down] {
        assert!(Instant::now() < deadline, "{:?}", calls());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn without_selinux_a_context_is_refused_at_the_start() {
    if fs::exists("/sys/fs/selinux/policy_capabilities").unwrap() {
        return; // there it would be used
    }
    let world = World::new();
    let spec = TunnelSpec {
        client_extra: "setcon system_u:system_r:openvpn_t:s0".to_owned(),
        ..TunnelSpec::default()
    };
    let mut tunnel = world.start(Role::Client, Release::V2_7, &spec);
    assert!(!tunnel.client.wait_exit(SOON).unwrap().success());
    assert!(
        tunnel.client.has_logged("setcon: this machine has no SELinux in force"),
        "{}",
        tunnel.client.tail()
    );
}
