//! Which sockets an end opens, and what it says about them: the same as OpenVPN 2.7 beside it.

use std::{fs, path::Path};

use culvert_testkit::{Algorithm, Daemon, Namespace, NetnsLab, Release, Signal};

use crate::{SOON, World};

const SERVER: &str = "--server 10.8.0.0 255.255.255.0";
const PEER: &str = "--tls-server --ifconfig 10.9.0.1 10.9.0.2";

fn start(world: &World, (namespace, program): (&Namespace, &Path), words: &str) -> Daemon {
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let words = format!(
        "--dev tun --verb 3 --ca {} --cert {} --key {} {words}",
        pki.ca.display(),
        pki.server.cert.display(),
        pki.server.key.display(),
    );
    let words: Vec<&str> = words.split_whitespace().collect();
    Daemon::start_with(namespace, program, "listener", &words).unwrap()
}

/// `udp 0.0.0.0:1194`: what is open, `*` being both families.
fn sockets(namespace: &Namespace) -> Vec<String> {
    let list = namespace.run("ss", &["-H", "-l", "-n", "-A", "udp,tcp"]).unwrap();
    let mut sockets: Vec<String> = list
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some(format!("{} {}", words.first()?, words.get(4)?))
        })
        .collect();
    sockets.sort();
    // Threads of the engine share a port.
    sockets.dedup();
    sockets
}

/// The lines about sockets, without their times.
fn told(daemon: &Daemon) -> Vec<String> {
    let about = ["Could not determine IPv4/IPv6", "link local", "Listening for incoming TCP connection on"];
    let told = daemon.lines().into_iter().filter_map(|line| {
        let at = about.iter().find_map(|text| line.find(text))?;
        let word = line[..at]
            .rsplit(' ')
            .find(|word| !word.is_empty())
            .filter(|word| word.starts_with("UDP") || word.starts_with("TCP"));
        Some(format!("{} {}", word.unwrap_or_default(), &line[at..]).trim().to_owned())
    });
    told.collect()
}

/// Starts both programs with the same words, and returns what both opened.
fn opened_alike(world: &World, lab: &NetnsLab, words: &str, until: &str) -> Vec<String> {
    let reference = world.peers.get(Release::V2_7).unwrap();
    let ends = [(&lab.server, reference.program()), (&lab.client, world.subject.program())];
    let daemons = ends.map(|end| start(world, end, words));
    for daemon in &daemons {
        daemon.wait_for(until, SOON).unwrap();
    }
    let [theirs, ours] = [&daemons[0], &daemons[1]].map(told);
    assert_eq!(ours, theirs, "{words}");
    assert!(!ours.is_empty(), "{words}");
    let [theirs, ours] = ends.map(|(namespace, _)| sockets(namespace));
    assert_eq!(ours, theirs, "{words}");
    ours
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_takes_ipv6_only_where_it_is_told_to() {
    let (world, lab) = (World::new(), NetnsLab::new().unwrap());
    for (words, expected) in [
        ("", &["udp 0.0.0.0:1194"][..]),
        ("--proto tcp-server", &["tcp 0.0.0.0:1194"]),
        ("--multihome", &["udp 0.0.0.0:1194"]),
        ("--bind ipv6only", &["udp 0.0.0.0:1194"]),
        ("--proto udp6", &["udp *:1194"]),
        ("--proto tcp6-server", &["tcp *:1194"]),
        ("--proto udp6 --bind ipv6only", &["udp [::]:1194"]),
        ("--proto tcp6-server --bind ipv6only", &["tcp [::]:1194"]),
        ("--proto tcp-server --port-share 127.0.0.1 443", &["tcp 0.0.0.0:1194"]),
        ("--local localhost", &["udp 127.0.0.1:1194"]),
        ("--local ::", &["udp *:1194"]),
        ("--proto udp6 --local 127.0.0.1", &["udp 127.0.0.1:1194"]),
        ("--proto udp4 --local ::1", &["udp [::1]:1194"]),
        ("--local * 1195 udp --local * 1196 tcp-server", &["tcp 0.0.0.0:1196", "udp 0.0.0.0:1195"]),
        ("--proto udp6 --local * 1195 udp --local * 1196 tcp-server", &["tcp *:1196", "udp *:1195"]),
    ] {
        let words = format!("{SERVER} --dh none {words}");
        assert_eq!(
            opened_alike(&world, &lab, &words, "Initialization Sequence Completed"),
            expected,
            "{words}"
        );
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_end_with_a_remote_listens_in_its_family() {
    let (world, lab) = (World::new(), NetnsLab::new().unwrap());
    for (words, until, expected) in [
        ("", "link remote", "udp 0.0.0.0:1194"),
        ("--remote 127.0.0.1 9", "link remote", "udp 0.0.0.0:1194"),
        ("--remote ::1 9", "link remote", "udp *:1194"),
        ("--proto udp6 --remote ::1 9", "link remote", "udp *:1194"),
        ("--proto tcp-server", "Listening for", "tcp 0.0.0.0:1194"),
    ] {
        let words = format!("{PEER} --dh none {words}");
        assert_eq!(opened_alike(&world, &lab, &words, until), [expected], "{words}");
    }
    for end in [&lab.server, &lab.client] {
        fs::write(format!("/etc/netns/{}/hosts", end.name()), "::1 both.example\n127.0.0.1 both.example\n")
            .unwrap();
    }
    for (words, expected) in [
        ("--bind --remote 127.0.0.1 9", "udp 0.0.0.0:1194"),
        ("--bind --remote ::1 9", "udp *:1194"),
        ("--bind --remote both.example 9", "udp *:1194"),
        ("--local 127.0.0.1 --remote both.example 9", "udp 127.0.0.1:1194"),
    ] {
        let words = format!("--client {words}");
        assert_eq!(opened_alike(&world, &lab, &words, "link remote"), [expected], "{words}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_machine_without_ipv4_listens_over_ipv6() {
    let (world, lab) = (World::new(), NetnsLab::new().unwrap());
    for end in [&lab.server, &lab.client] {
        end.ip(&["-4", "address", "flush", "dev", "lo"]).unwrap();
        end.ip(&["-4", "address", "flush", "dev", "wire"]).unwrap();
    }
    for (words, expected) in [("", "udp *:1194"), ("--proto tcp-server", "tcp *:1194")] {
        let words = format!("{SERVER} --dh none {words}");
        assert_eq!(
            opened_alike(&world, &lab, &words, "Initialization Sequence Completed"),
            [expected],
            "{words}"
        );
    }
}

/// Nothing is opened before the family is known; a signal ends the wait.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_end_whose_remote_has_no_address_yet_waits_for_it() {
    let (world, lab) = (World::new(), NetnsLab::new().unwrap());
    let words = format!("{PEER} --dh none --remote nowhere.invalid 9");
    let mut daemon = start(&world, (&lab.client, world.subject.program()), &words);
    daemon.wait_for("RESOLVE: Cannot resolve host address: nowhere.invalid:9", SOON).unwrap();
    assert_eq!(sockets(&lab.client), Vec::<String>::new());
    daemon.signal(Signal::Terminate).unwrap();
    assert!(daemon.wait_exit(SOON).unwrap().success(), "{}", daemon.tail());
}
