//! `culvert doctor`: set-ups that are broken in one way each, and the name of the cause.

use std::path::Path;

use culvert_testkit::{Algorithm, Daemon, Namespace, NetnsLab, Pki, Release, static_key};
use serde_json::Value;

use crate::{
    SOON, World,
    proxies::{BASIC, Proxy},
};

/// A network, certificates, and files of both ends.
struct Ward {
    world: World,
    lab: NetnsLab,
    pki: Pki,
}

impl Ward {
    fn new() -> Self {
        let pki = Pki::new(Algorithm::Ec).unwrap();
        pki.folder().write("tc.key", &static_key().unwrap()).unwrap();
        pki.folder().write("other.key", &static_key().unwrap()).unwrap();
        Self { world: World::new(), lab: NetnsLab::new().unwrap(), pki }
    }

    fn folder(&self) -> &Path {
        self.pki.folder().path()
    }

    /// Starts a real OpenVPN server.
    fn server(&self, extra: &str) -> Daemon {
        let text = format!(
            "cd {}\ndev tun\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert server.crt\nkey \
             server.key\ndh none\n{extra}\n",
            self.folder().display()
        );
        let config = self.pki.folder().write("server.conf", &text).unwrap();
        let peer = self.world.peers.get(Release::V2_6).unwrap();
        let daemon = Daemon::start(&self.lab.server, &peer, "server", &config).unwrap();
        daemon.wait_for("Initialization Sequence Completed", SOON).unwrap();
        daemon
    }

    /// Examines a client's file.
    fn client(&self, extra: &str) -> Diagnosis {
        let text = format!(
            "client\ndev tun\nremote-cert-tls server\nca ca.crt\ncert client.crt\nkey client.key\n{extra}\n"
        );
        self.examine(&self.lab.client, &text)
    }

    /// The server's address, as `remote`.
    fn remote() -> String {
        format!("remote {}", NetnsLab::SERVER_V4)
    }

    fn examine(&self, namespace: &Namespace, text: &str) -> Diagnosis {
        self.pki.folder().write("examined.conf", text).unwrap();
        let mut command = namespace.command(self.world.subject.program());
        let output =
            command.args(["doctor", "--json", "examined.conf"]).current_dir(self.folder()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        Diagnosis { code: output.status.code(), findings: json["findings"].as_array().unwrap().clone(), text }
    }
}

struct Diagnosis {
    code: Option<i32>,
    findings: Vec<Value>,
    text: String,
}

impl Diagnosis {
    fn names(&self, level: &str) -> Vec<&str> {
        let of_level = self.findings.iter().filter(|finding| finding["level"] == level);
        of_level.map(|finding| finding["name"].as_str().unwrap()).collect()
    }

    /// One cause keeps the tunnel from working, and there is something to do about it.
    fn assert_cause(&self, name: &str) {
        assert_eq!((self.code, self.names("error")), (Some(1), vec![name]), "{}", self.text);
        let finding = self.findings.iter().find(|finding| finding["level"] == "error").unwrap();
        assert!(!finding["remedy"].as_str().unwrap().is_empty(), "{finding}");
    }

    fn assert_warning(&self, name: &str) {
        assert!(self.names("warning").contains(&name), "{}", self.text);
        assert_eq!((self.code, self.names("error")), (Some(2), vec![]), "{}", self.text);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_that_would_work_is_found_healthy() {
    let ward = Ward::new();
    for (server, client) in [
        ("tls-crypt tc.key", "tls-crypt tc.key"),
        ("tls-auth tc.key 0", "tls-auth tc.key 1"),
        ("proto tcp-server\ntls-crypt tc.key", "proto tcp\ntls-crypt tc.key"),
        ("", ""),
    ] {
        let _server = ward.server(server);
        let found = ward.client(&format!("{}\n{client}", Ward::remote()));
        assert_eq!(
            (found.code, found.names("error"), found.names("warning")),
            (Some(0), vec![], vec![]),
            "{}",
            found.text
        );
        assert!(found.names("good").contains(&"reachability"), "{}", found.text);
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_that_does_not_run_is_told_from_one_that_is_silent() {
    let ward = Ward::new();
    ward.client(&Ward::remote()).assert_cause("nothing-listens");
    ward.client(&format!("{}\nproto tcp", Ward::remote())).assert_cause("nothing-listens");
    let _server = ward.server("tls-crypt tc.key");
    ward.client(&format!("{}\ntls-crypt other.key", Ward::remote())).assert_cause("no-answer");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn another_key_over_tcp_is_named() {
    let ward = Ward::new();
    let _server = ward.server("proto tcp-server\ntls-crypt tc.key");
    ward.client(&format!("{}\nproto tcp\ntls-crypt other.key", Ward::remote()))
        .assert_cause("control-channel-key");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_is_wrong_on_the_way_out_is_named() {
    let ward = Ward::new();
    ward.client("remote 203.0.113.9").assert_cause("no-route");
    ward.client("remote no-such-host.invalid").assert_cause("name-resolution");
    ward.lab.client.run("nft", &["add", "table", "inet", "f"]).unwrap();
    let chain = "{ type filter hook output priority 0; policy drop; }";
    ward.lab.client.run("nft", &["add", "chain", "inet", "f", "o", chain]).unwrap();
    ward.client(&Ward::remote()).assert_cause("local-firewall");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_kill_switch_that_was_left_over_is_named_and_does_not_stop_who_has_one() {
    let ward = Ward::new();
    let _server = ward.server("");
    ward.lab.client.run("nft", &["add", "table", "inet", "culvert-kill-switch"]).unwrap();
    let chain = ["add", "chain", "inet", "culvert-kill-switch", "output"];
    let hook = "{ type filter hook output priority 0; policy accept; }";
    ward.lab.client.run("nft", &[&chain[..], &[hook]].concat()).unwrap();
    let rule = "add rule inet culvert-kill-switch output meta mark != 0x6376 drop";
    ward.lab.client.run("nft", &rule.split(' ').collect::<Vec<_>>()).unwrap();
    let found = ward.client(&Ward::remote());
    assert_eq!(found.names("error"), ["kill-switch", "local-firewall"], "{}", found.text);
    assert!(found.text.contains("culvert unblock"), "{}", found.text);
    let found = ward.client(&format!("{}\nkill-switch", Ward::remote()));
    found.assert_warning("kill-switch");
    assert!(found.names("good").contains(&"reachability"), "{}", found.text);
    let found = ward.client("remote no-such-host.invalid\nkill-switch");
    assert!(found.names("note").contains(&"name-resolution"), "{}", found.text);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_proxy_is_tried_and_what_is_behind_it() {
    let ward = Ward::new();
    let lines = format!("remote 203.0.113.9\nproto tcp\nhttp-proxy {} 8080", NetnsLab::SERVER_V4);
    ward.client(&lines).assert_cause("proxy");
    let through = |proxy: &str| format!("{}\ntls-crypt tc.key\n{proxy}", Ward::remote());
    let _proxy = Proxy::tinyproxy(&ward.lab, "");
    // It reaches no server yet.
    let tcp = through("proto tcp\nhttp-proxy 10.99.0.1 8888");
    ward.client(&tcp).assert_cause("proxy");
    {
        let _server = ward.server("proto tcp-server\ntls-crypt tc.key");
        let found = ward.client(&tcp);
        assert_eq!((found.code, found.names("error")), (Some(0), vec![]), "{}", found.text);
        assert!(found.names("good").contains(&"reachability"), "{}", found.text);
        ward.client(&tcp.replace("tc.key", "other.key")).assert_cause("control-channel-key");
    }
    let _squid = Proxy::squid(&ward.lab, BASIC);
    let wants_login = ward.client(&through("proto tcp\nhttp-proxy 10.99.0.1 3128 auto"));
    assert_eq!((wants_login.code, wants_login.names("error")), (Some(0), vec![]), "{}", wants_login.text);
    assert!(wants_login.text.contains("wants a login"), "{}", wants_login.text);
    let _dante = Proxy::dante(&ward.lab);
    let _server = ward.server("tls-crypt tc.key");
    let udp = through("socks-proxy 10.99.0.1 1080");
    let found = ward.client(&udp);
    assert_eq!((found.code, found.names("error")), (Some(0), vec![]), "{}", found.text);
    assert!(found.names("good").contains(&"reachability"), "{}", found.text);
    ward.client(&udp.replace("tc.key", "other.key")).assert_cause("no-answer");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_silent_server_is_asked_with_other_readings_of_the_key() {
    let ward = Ward::new();
    for (server, client, expected) in [
        ("tls-auth tc.key 0", "tls-auth tc.key 0", "answers to tls-auth with direction 1"),
        ("tls-auth tc.key 0\nauth SHA512", "tls-auth tc.key 1", "answers to tls-auth with `auth SHA512`"),
        ("tls-crypt tc.key", "tls-auth tc.key 1", "answers to tls-crypt with the same key"),
        ("tls-auth tc.key 0", "tls-crypt tc.key", "answers to tls-auth with the same key with direction 1"),
        ("", "tls-crypt tc.key", "answers, but not with the key that this end has"),
    ] {
        let _server = ward.server(server);
        let found = ward.client(&format!("{}\n{client}", Ward::remote()));
        found.assert_cause("control-channel-key");
        assert!(found.text.contains(expected), "{expected}\n{}", found.text);
    }
    // Facts about the machine, where the key cannot be told from a firewall.
    let _server = ward.server("tls-crypt tc.key");
    let other_key = ward.client(&format!("{}\ntls-crypt other.key", Ward::remote()));
    other_key.assert_cause("no-answer");
    assert!(other_key.text.contains("The machine is there: it refuses the TCP port"), "{}", other_key.text);
    ward.lab.server.run("nft", &["add", "table", "inet", "f"]).unwrap();
    let chain = "{ type filter hook input priority 0; policy drop; }";
    ward.lab.server.run("nft", &["add", "chain", "inet", "f", "i", chain]).unwrap();
    let blocked = ward.client(&format!("{}\ntls-crypt tc.key", Ward::remote()));
    blocked.assert_cause("no-answer");
    assert!(blocked.text.contains("the machine may be down, or hidden by a firewall"), "{}", blocked.text);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_narrow_path_is_warned_about_with_the_size_to_write() {
    let ward = Ward::new();
    let _server = ward.server("");
    let link = ward.lab.client.ip(&["-o", "route", "get", &NetnsLab::SERVER_V4.to_string()]).unwrap();
    let device = link.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap();
    ward.lab.client.ip(&["link", "set", device, "mtu", "1400"]).unwrap();
    let found = ward.client(&Ward::remote());
    found.assert_warning("path-mtu");
    assert!(found.text.contains("mssfix 1400 mtu"), "{}", found.text);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_has_ended_and_what_is_missing_is_named() {
    let ward = Ward::new();
    ward.pki.expired_client().unwrap();
    let _server = ward.server("");
    let expired = ward.examine(
        &ward.lab.client,
        &format!(
            "client\ndev tun\nremote-cert-tls server\nca ca.crt\ncert expired-client.crt\nkey expired-client.key\n{}\n",
            Ward::remote()
        ),
    );
    expired.assert_cause("certificate-expiry");
    ward.client(&format!("{}\ndev-node /nonexistent/tun", Ward::remote())).assert_cause("device-node");
    ward.client(&format!("{}\nverb many", Ward::remote())).assert_cause("configuration");
}

const SERVER: &str =
    "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert server.crt\nkey server.key\ndh none\n";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_port_that_is_taken_is_named_with_its_holder() {
    let ward = Ward::new();
    let server = ward.server("");
    let found = ward.examine(&ward.lab.server, SERVER);
    found.assert_cause("port");
    assert!(found.text.contains(&format!("process {}", server.pid().as_raw_nonzero())), "{}", found.text);
    ward.examine(&ward.lab.server, &format!("{SERVER}port 1195\nlocal 203.0.113.1\n"))
        .assert_cause("local-address");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_process_that_runs_here_is_asked() {
    let ward = Ward::new();
    let text = format!("cd {}\n{SERVER}", ward.folder().display());
    let config = ward.pki.folder().write("running.conf", &text).unwrap();
    let server = Daemon::start(&ward.lab.server, &ward.world.subject, "server", &config).unwrap();
    server.wait_for("Initialization Sequence Completed", SOON).unwrap();
    // Its own port is not taken by somebody else.
    let found = ward.examine(&ward.lab.server, SERVER);
    assert!(
        found.names("good").contains(&"running") && found.names("note").contains(&"port"),
        "{}",
        found.text
    );
    assert!(found.text.contains("running runs, a server with 0 clients"), "{}", found.text);
    assert_eq!(found.code, Some(0), "{}", found.text);
    // One that gets no answer has no tunnel.
    let text = format!(
        "cd {}\nclient\ndev tun\nca ca.crt\ncert client.crt\nkey client.key\n{} 4\n",
        ward.folder().display(),
        Ward::remote()
    );
    let config = ward.pki.folder().write("lost.conf", &text).unwrap();
    let client = Daemon::start(&ward.lab.client, &ward.world.subject, "client", &config).unwrap();
    client.wait_for("UDPv4 link remote", SOON).unwrap();
    let found = ward.client(&Ward::remote());
    assert!(found.names("warning").contains(&"running"), "{}", found.text);
    assert!(found.text.contains("lost runs, but is not connected"), "{}", found.text);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_keeps_clients_from_what_lies_behind_a_server_is_warned_about() {
    let ward = Ward::new();
    ward.lab.server.run("sysctl", &["-qw", "net.ipv4.ip_forward=0"]).unwrap();
    let text = format!("{SERVER}push \"route 192.168.7.0 255.255.255.0\"\n");
    ward.examine(&ward.lab.server, &text).assert_warning("forwarding");
    ward.lab.server.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    assert_eq!(ward.examine(&ward.lab.server, &text).code, Some(0));
    ward.lab.server.run("nft", &["add", "table", "inet", "f"]).unwrap();
    let chain = "{ type filter hook input priority 0; policy drop; }";
    ward.lab.server.run("nft", &["add", "chain", "inet", "f", "i", chain]).unwrap();
    ward.examine(&ward.lab.server, &text).assert_warning("firewall");
    ward.lab.server.run("nft", &["add", "rule", "inet", "f", "i", "udp", "dport", "1194", "accept"]).unwrap();
    assert_eq!(ward.examine(&ward.lab.server, &text).code, Some(0));
}
