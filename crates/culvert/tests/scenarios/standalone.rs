//! Answers that depend on the machine: beside OpenVPN's, word for word.

use culvert_testkit::{NetnsLab, Release};

use crate::World;

/// Prints a line per answer, and nothing that only one of two programs would print.
fn answer(lab: &NetnsLab, program: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.client.command(program).arg("--suppress-timestamps").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // OpenVPN tells which family an address is not of; culvert's hints are its own.
    let lines = text.lines().filter(|line| !line.starts_with("Can't parse ") && !line.starts_with("hint: "));
    (output.status.code(), lines.collect::<Vec<_>>().join("\n"))
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn show_gateway_prints_what_openvpn_prints() {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    lab.client.ip(&["route", "add", "default", "via", &NetnsLab::SERVER_V4.to_string()]).unwrap();
    lab.client.ip(&["-6", "route", "add", "default", "via", &NetnsLab::SERVER_V6.to_string()]).unwrap();
    let link = lab.client.ip(&["-o", "route", "get", &NetnsLab::SERVER_V4.to_string()]).unwrap();
    let device = link.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap();
    lab.client.ip(&["-6", "route", "add", "2001:db8:77::/48", "dev", device]).unwrap();
    let peer = world.peers.get(Release::V2_7).unwrap();
    let server = NetnsLab::SERVER_V4.to_string();
    for address in [None, Some("192.0.2.77"), Some(&*server), Some("2001:db8:77::1"), Some("2001:db8:66::1")]
    {
        let arguments: Vec<&str> = std::iter::once("--show-gateway").chain(address).collect();
        let expected = answer(&lab, peer.program(), &arguments);
        assert!(expected.1.contains("ROUTE_GATEWAY"), "{expected:?}");
        assert_eq!(answer(&lab, world.subject.program(), &arguments), expected, "{address:?}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn devices_are_made_and_removed_as_openvpn_does_it() {
    let world = World::new();
    let lab = NetnsLab::new().unwrap();
    let peer = world.peers.get(Release::V2_7).unwrap();
    for (arguments, name) in [
        (&["--dev", "tun7"][..], "tun7"),
        (&["--dev", "tap"], "tap0"),
        (&["--dev", "office", "--dev-type", "tap", "--user", "nobody", "--group", "nogroup"], "office"),
    ] {
        let mut seen = Vec::new();
        for program in [peer.program(), world.subject.program()] {
            let made = answer(&lab, program, &[&["--mktun"], arguments].concat());
            let device = lab.client.ip(&["-details", "-o", "tuntap", "show"]).unwrap();
            assert!(device.contains(name), "{made:?}: {device}");
            // A device that culvert made is removed by OpenVPN, and the other way round.
            let other = if program == peer.program() { world.subject.program() } else { peer.program() };
            let kind = if name == "tun7" { "tun" } else { "tap" };
            let removed = answer(&lab, other, &["--rmtun", "--dev", name, "--dev-type", kind]);
            assert!(!lab.client.ip(&["-o", "tuntap", "show"]).unwrap().contains(name), "{removed:?}");
            let flags: Vec<String> = device
                .split_whitespace()
                .filter(|word| {
                    *word == "tun" || *word == "tap" || *word == "persist" || word.parse::<u32>().is_ok()
                })
                .map(str::to_owned)
                .collect();
            seen.push((made, flags));
        }
        assert_eq!(seen[0], seen[1], "{arguments:?}");
    }
    for arguments in [&["--mktun", "--dev", "foo"][..], &["--mktun", "--dev", "tun9", "--user", "nosuchuser"]]
    {
        let (code, text) = answer(&lab, peer.program(), arguments);
        let (own_code, own) = answer(&lab, world.subject.program(), arguments);
        assert_eq!(own_code, code);
        assert_eq!(own.lines().last(), text.lines().last(), "{own}\n{text}");
    }
}
