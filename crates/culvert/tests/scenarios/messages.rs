//! The first message about a faulty configuration is OpenVPN's, word for word: wrappers and people search for it.
//!
//! Left out are faults that OpenVPN meets only while running, or tells in another form than `Options error:`.

use std::{path::Path, process::Command};

use culvert_testkit::{Release, TempDir};

use crate::World;

const SERVER: &str = "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert s.crt\nkey s.key\ndh none\n";
const CLIENT: &str = "client\ndev tun\nremote 127.0.0.1\nca ca.crt\ncert s.crt\nkey s.key\n";
const P2P: &str = "dev tun\ntls-server\nca ca.crt\ncert s.crt\nkey s.key\nifconfig 10.0.0.1 10.0.0.2\n";

/// Runs a program where it can do no harm, and returns its first error line.
fn first_error(program: &Path, folder: &Path) -> String {
    let output = Command::new("timeout")
        .args(["20", "unshare", "-n"])
        .arg(program)
        .args(["--suppress-timestamps", "--config", "a.conf"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_error = |line: &&str| {
        ["Options error:", "Options warning:", "ERROR:", "cd to"]
            .iter()
            .any(|prefix| line.starts_with(prefix))
    };
    text.lines().find(is_error).unwrap_or("(none)").to_owned()
}

#[test]
#[ignore = "needs root and scripts/peers"]
fn the_first_message_about_a_faulty_configuration_is_openvpns() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let folder = TempDir::new().unwrap();
    for name in ["ca.crt", "s.crt", "s.key", "ta.key", "dh.pem"] {
        folder.write(name, "x\n").unwrap();
    }
    let cases = [("", FAULTS), (SERVER, SERVER_FAULTS), (CLIENT, CLIENT_FAULTS), (P2P, P2P_FAULTS)];
    let mut wrong = Vec::new();
    for (base, faults) in cases {
        for fault in faults {
            folder.write("a.conf", &format!("{base}{fault}\n")).unwrap();
            let expected = first_error(openvpn.program(), folder.path());
            let found = first_error(world.subject.program(), folder.path());
            if expected != found || expected == "(none)" {
                wrong.push(format!("{fault}\n  openvpn: {expected}\n  culvert: {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a program logs about an offload that an option keeps out, less what depends on the machine.
fn notes_about_offload(program: &Path, folder: &Path) -> Vec<String> {
    let output = Command::new("timeout")
        .args(["2", "unshare", "-n"])
        .arg(program)
        .args(["--suppress-timestamps", "--verb", "3", "--config", "a.conf"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let about = |line: &&str| {
        ["data channel offload", "compress migrate"].iter().any(|words| line.to_lowercase().contains(words))
            && !line.starts_with("Note: Kernel support")
            && !line.starts_with(' ')
    };
    text.lines().filter(about).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root and scripts/peers"]
fn what_keeps_the_kernel_out_is_said_as_openvpn_says_it() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let folder = TempDir::new().unwrap();
    for name in ["ca.crt", "s.crt", "s.key"] {
        folder.write(name, "x\n").unwrap();
    }
    for (base, options) in [(SERVER, SERVER_OFFLOAD), (CLIENT, CLIENT_OFFLOAD)] {
        for option in options {
            folder.write("a.conf", &format!("{base}{option}\n")).unwrap();
            let expected = notes_about_offload(openvpn.program(), folder.path());
            assert!(!expected.is_empty(), "{option}");
            assert_eq!(notes_about_offload(world.subject.program(), folder.path()), expected, "{option}");
        }
    }
}

const SERVER_OFFLOAD: &[&str] = &["comp-lzo no", "compress lz4", "topology net30", "dev tap"];

const CLIENT_OFFLOAD: &[&str] = &[
    "fragment 1300",
    "proto tcp\nhttp-proxy 127.0.0.1 80",
    "socks-proxy 127.0.0.1",
    "management 127.0.0.1 7505\nmanagement-query-proxy",
    "dev null",
    "dev tap",
    "dev vpn\ndev-type tap",
    "dev-node unix:/bin/true",
    "comp-lzo no",
    "compress",
];

const FAULTS: &[&str] = &[
    "foo 1",
    "port",
    "port 1 2",
    "proto xyz",
    "remote a 1 xyz",
    "push \"route",
    "push 'x",
    "ca c:\\keys",
    "verb x",
    "verb -1",
    "keepalive 10",
    "keepalive a b",
    "keepalive 0 1",
    "keepalive 100000 1",
    "tun-mtu 10",
    "tun-mtu 70000",
    "fragment 10",
    "fragment 100 x",
    "mssfix 100",
    "mssfix 70000",
    "mssfix 1400 x",
    "status-version 4",
    "server 10.8.0.0",
    "server x y",
    "server 10.8.0.0 255.255.255.0 foo",
    "server-ipv6 fd00::/48",
    "server-ipv6 foo",
    "topology foo",
    "ifconfig 10.0.0.1 foo",
    "ifconfig-ipv6 fd00::1/128 fd00::2",
    "<ca>\nx",
    "<verb>\n3\n</verb>",
    "<connection>\nproto udp\n</connection>",
    "<connection>\nremote a\nverb 3\n</connection>",
    "auth-retry foo",
    "verify-client-cert foo",
    "remote-cert-tls foo",
    "ns-cert-type foo",
    "tls-version-min 1.9",
    "tls-version-max 1.9",
    "verify-x509-name a foo",
    "verify-x509-name \"\"",
    "tls-crypt-v2 x foo",
    "tls-auth ta.key 3",
    "key-direction 2",
    "key-direction foo",
    "iroute 10.0.0.0",
    "push-reset",
    "push \"a,b\"",
    "ifconfig-pool 10.0.0.9 10.0.0.1",
    "ifconfig-pool 10.0.0.0 10.2.0.0",
    "ifconfig-pool a b",
    "ifconfig-ipv6-pool fd00::/20",
    "connect-freq 0 1",
    "max-clients 0",
    "max-clients x",
    "script-security 4",
    "up a b",
    "auth-user-pass-verify a",
    "auth-user-pass-verify a foo",
    "auth-user-pass-verify a via-env x y",
    "compress foo",
    "comp-lzo foo",
    "allow-compression foo",
    "allow-compression no\nallow-compression yes",
    "compress lz4\nallow-compression no",
    "peer-fingerprint aa:bb",
    "peer-fingerprint zz",
    "compat-mode 2",
    "pull-filter foo bar",
    "redirect-gateway foo",
    "dns foo",
    "dns server 1 address foo",
    "dns server 200 address 1.1.1.1",
    "dns server 0 dnssec foo",
    "dns server 0 transport x",
    "dhcp-option DOMAIN a;b",
    "dhcp-option DNS x",
    "remap-usr1 foo",
    "multihome foo",
    "mode foo",
    "reneg-sec x",
    "reneg-bytes x",
    "hand-window x",
    "replay-window",
    "replay-window 70000",
    "replay-window 10 601",
    "setenv GENERIC_CONFIG 1",
    "setenv a b c",
    "setenv opt",
    "setenv opt foo",
    "config nonexist",
    "cd /nonexist",
    "ncp-disable",
    "keysize 256",
    "compat-names",
    "tls-remote x",
    "key-method 2",
    "block-outside-dns",
    "mtu-dynamic",
    "secret ta.key",
    "vlan-accept foo",
    "lladdr foo",
    "http-proxy a",
    "http-proxy-option FOO",
    "x509-username-field ext:foo",
    "static-challenge a 1 foo",
    "genkey foo",
    "inactive x",
    "inactive 1 x",
    "explicit-exit-notify x",
    "sndbuf x",
    "mark x",
    "nice x",
    "tls-crypt-v2-max-age 0",
    "keying-material-exporter foo 20",
    "keying-material-exporter EXPORTER-x 2",
    "tran-window -5",
    "resolv-retry x",
    "connect-retry x",
    "route-gateway foo",
    "route-metric x",
    "route-delay x",
    "shaper 10",
    "txqueuelen x",
    "bind-dev",
    "socket-flags FOO",
    "client-nat foo 1.1.1.1 2 3",
    "verify-hash aa",
    "hash-size 0 1",
    "stale-routes-check 0",
    "bcast-buffers 0",
    "push \"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"",
    "dev tun\nserver 10.8.0.1 255.255.255.0\nca ca.crt\ncert s.crt\nkey s.key\ndh none",
    "dev tun\nserver 10.8.0.0 255.0.255.0\nca ca.crt\ncert s.crt\nkey s.key\ndh none",
    "dev tun\nserver 10.8.0.0 255.0.0.0\nca ca.crt\ncert s.crt\nkey s.key\ndh none",
    "dev tun\nserver 10.8.0.0 255.255.255.252\nca ca.crt\ncert s.crt\nkey s.key\ndh none",
    "dev tun\nserver 10.8.0.0 255.255.255.0\nca no.crt\ncert s.crt\nkey no.key\ndh none",
    "client\ndev tun\nremote 127.0.0.1\nca ca.crt",
    "client\ndev tun\nremote 127.0.0.1\nca ca.crt\ncert s.crt",
    "client\ndev tun\nremote 127.0.0.1\ncert s.crt\nkey s.key",
    "client\ndev tun\nproto tcp\nca ca.crt\ncert s.crt\nkey s.key",
    "client\ndev tun\nca ca.crt\ncert s.crt\nkey s.key",
    "dev tun\ntls-server\nca ca.crt\ncert s.crt\nkey s.key\nifconfig 10.0.0.1 10.0.0.1",
    "dev tun\nca ca.crt\ncert s.crt\nkey s.key\nifconfig 10.0.0.1 10.0.0.2",
    "dev tun\ntls-server\nca ca.crt\nkey s.key\nifconfig 10.0.0.1 10.0.0.2",
    "dev tun\ntls-server\nca ca.crt\ncert s.crt\nifconfig 10.0.0.1 10.0.0.2",
];

const SERVER_FAULTS: &[&str] = &[
    "keepalive 10 15",
    "keepalive 10 60\nping 5",
    "client",
    "ifconfig-pool 10.8.0.5 10.8.0.9",
    "remote a",
    "nobind",
    "pull",
    "auth-user-pass",
    "redirect-gateway def1",
    "ccd-exclusive",
    "client-config-dir nonexist",
    "chroot .",
    "chroot /\nclient-config-dir nonexist",
    "username-as-common-name",
    "verify-client-cert none",
    "ipchange /bin/true",
    "connect-freq 1 1\nproto tcp",
    "proto tcp-client",
    "crl-verify nocrl",
    "status /nonexist/x",
    "writepid /nonexist/x",
    "up /nonexist/up",
    "data-ciphers foo",
    "data-ciphers AES-256-GCM:foo",
    "tls-auth ta.key\ntls-crypt ta.key",
    "tls-version-min 1.3\ntls-version-max 1.2",
    "route-delay 3",
    "ifconfig-ipv6-pool fd00::/64",
    "server-ipv6 fd00::/64\nifconfig-ipv6-pool fd00::/64",
    "vlan-tagging",
    "management-hold",
    "dns server 0 sni x",
    "local 1.1.1.1\nlocal 2.2.2.2\nnobind",
    "<connection>\nremote a\n</connection>",
];

const CLIENT_FAULTS: &[&str] = &[
    "bind\nnobind",
    "lport 5\nnobind",
    "local 1.1.1.1\nnobind",
    "client-to-client",
    "duplicate-cn",
    "max-clients 4\nifconfig-pool 10.0.0.1 10.0.0.2",
    "client-connect /bin/true",
    "username-as-common-name",
    "tls-server",
    "proto tcp\nfragment 1200",
    "http-proxy a 80",
    "socks-proxy a\nproto tcp-server",
    "tls-crypt-v2 ta.key\ntls-auth ta.key",
    "auth-user-pass nofile",
    "askpass nofile",
    "local 1.1.1.1\nlocal 2.2.2.2",
    "tun-mtu 1400\nlink-mtu 1500",
    "pkcs12 ta.key",
];

const P2P_FAULTS: &[&str] = &[
    "remote 10.0.0.2",
    "nobind",
    "auth-user-pass",
    "proto tcp",
    "proto tcp-server\nremote a\nremote b",
    "secret ta.key",
    "lladdr 00:11:22:33:44:55",
    "management-client-user x\nmanagement 127.0.0.1 5555",
];
