//! Profiles as generators, products and providers write them: every one is understood.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{io, path::Path, time::Duration};

use culvert_config::{
    Access, Checked, Files, Parsed, Role, parse,
    profile::{AuthUserPass, Bind, DigestName, MssFix, PoolPersist, TlsRole, VerifyVia},
    render_all,
    value::{
        Compression, Family, FileOrInline, Ifconfig, KeyDirection, PingAction, Port, RouteHost, Topology,
        Transport,
    },
    verdict,
};

/// The profiles of the test's directory; every other file that they name exists.
struct Everything;

impl Files for Everything {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles")).join(path))
    }

    fn read_stdin(&self) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn probe(&self, _path: &Path, _access: Access) -> io::Result<()> {
        Ok(())
    }
}

fn parsed(name: &str) -> Parsed {
    parse(&["--config".to_owned(), name.to_owned()], &Everything)
}

fn load(name: &str) -> Checked {
    let parsed = parsed(name);
    assert!(parsed.errors.is_empty(), "{name}:\n{}", render_all(&parsed.errors));
    let checked = parsed.check(&Everything);
    assert!(checked.errors.is_empty(), "{name}:\n{}", render_all(&checked.errors));
    checked
}

fn names() -> Vec<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles");
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_profile_is_understood() {
    let names = names();
    assert!(names.len() >= 25, "{} profiles", names.len());
    for name in names {
        load(&name);
    }
}

#[test]
fn a_server_is_expanded() {
    let profile = load("angristan-server.conf").profile;
    assert_eq!(profile.role(), Role::Server);
    assert_eq!(profile.tls.role, Some(TlsRole::Server));
    let ifconfig = Ifconfig { local: [10, 8, 0, 1].into(), second: [255, 255, 255, 0].into() };
    assert_eq!(profile.device.ifconfig, Some(ifconfig));
    let pool = profile.server.pool.unwrap();
    assert_eq!((pool.start, pool.end), ([10, 8, 0, 2].into(), [10, 8, 0, 254].into()));
    assert_eq!(profile.server.pool6.unwrap().base.address.to_string(), "fd42:42:42:42::2");
    assert_eq!(
        profile.server.push,
        [
            "dhcp-option DNS 94.140.14.14",
            "dhcp-option DNS 94.140.15.15",
            "redirect-gateway def1 bypass-dhcp",
            "tun-ipv6",
            "route-ipv6 2000::/3",
            "redirect-gateway ipv6",
            "tun-ipv6",
            "route-gateway 10.8.0.1",
            "topology subnet",
            "ping 10",
            "ping-restart 120",
        ]
    );
    assert_eq!(profile.keepalive.ping, Some(Duration::from_secs(10)));
    assert_eq!(profile.keepalive.timeout, Some((Duration::from_secs(240), PingAction::Restart)));
    let [entry] = &profile.connections[..] else { panic!("one listener") };
    assert_eq!((entry.proto.transport, entry.proto.family), (Transport::Udp, Family::V6));
    assert_eq!(entry.bind, Bind::Bind { ipv6_only: false });
    assert_eq!(entry.local_port, Some(Port::Number(1194)));
    assert!(entry.tls_crypt.is_some() && entry.tls_auth.is_none());
    assert_eq!(profile.data.auth, DigestName::Sha256);
    assert_eq!(profile.log.status.unwrap().interval, Duration::from_secs(60));
}

#[test]
fn an_ipv6_only_server_has_no_ipv4() {
    let profile = load("ipv6-only-server.conf").profile;
    assert_eq!(profile.device.ifconfig, None);
    assert_eq!(profile.server.pool, None);
    let own = profile.device.ifconfig_ipv6.unwrap();
    assert_eq!((own.local.address.to_string(), own.local.bits), ("fd00:6::1".to_owned(), 64));
    assert_eq!(profile.server.pool6.unwrap().base.address.to_string(), "fd00:6::1000");
    assert_eq!(profile.device.topology, Some(Topology::Subnet));
    assert_eq!(profile.connections[0].bind, Bind::Bind { ipv6_only: true });
}

#[test]
fn fingerprints_replace_the_authority() {
    let profile = load("angristan-new-server.conf").profile;
    assert_eq!(profile.tls.peer_fingerprints.len(), 2);
    assert!(profile.tls.ca.is_none());
    assert!(profile.server.duplicate_cn);
}

#[test]
fn a_client_takes_keys_from_its_blocks() {
    let parsed = parsed("angristan-client.ovpn");
    // `setenv opt` makes of an unknown option a warning.
    assert_eq!(parsed.warnings.len(), 1);
    let profile = load("angristan-client.ovpn").profile;
    assert_eq!(profile.role(), Role::Client);
    let Some(FileOrInline::Inline(cert)) = &profile.tls.cert else { panic!("inline") };
    assert!(cert.expose().starts_with("Certificate:\n    Data: # not a comment\n"));
    let [entry] = &profile.connections[..] else { panic!("one remote") };
    assert_eq!(entry.bind, Bind::NoBind);
    assert_eq!(entry.explicit_exit_notify, 1);
    assert_eq!(format!("{:?}", entry.tls_crypt), "Some(Inline([111 bytes]))");
}

#[test]
fn connection_blocks_override_the_defaults() {
    let loaded = parsed("connection-blocks.ovpn");
    // `tls-auth` after the blocks is for those without wrapping of their own, which OpenVPN warns about.
    assert!(
        loaded.warnings[0]
            .openvpn_line
            .starts_with("Option 'tls-auth' in connection-blocks.ovpn:19 is ignored")
    );
    let profile = load("connection-blocks.ovpn").profile;
    let [udp, tcp, six] = &profile.connections[..] else { panic!("three") };
    assert_eq!(udp.remote.as_ref().unwrap().port, Port::Number(1194));
    assert_eq!((udp.connect_timeout, udp.explicit_exit_notify), (Duration::from_secs(10), 2));
    assert_eq!((tcp.proto.transport, tcp.connect_timeout), (Transport::TcpClient, Duration::from_secs(5)));
    assert!(tcp.tls_crypt.is_some() && tcp.tls_auth.is_none());
    assert_eq!(six.proto.family, Family::V6);
    assert_eq!(six.key_direction, Some(KeyDirection::Inverse));
    assert!(udp.tls_auth.is_some());
}

#[test]
fn several_remotes_are_tried_in_order() {
    let profile = load("provider-a.ovpn").profile;
    let ports: Vec<_> = profile
        .connections
        .iter()
        .filter_map(|entry| entry.remote.as_ref())
        .map(|remote| remote.port.clone())
        .collect();
    assert_eq!(ports, [Port::Number(51820), Port::Number(1194), Port::Number(443)]);
    assert!(profile.link.remote_random);
    assert_eq!(profile.session.reneg, None);
    assert_eq!(profile.connections[0].mtu.mssfix, MssFix::Payload(1450));
    assert_eq!(profile.connections[0].connect_timeout, Duration::from_secs(20));
    assert!(matches!(profile.client.auth_user_pass, Some(AuthUserPass::Ask)));
}

#[test]
fn line_ends_of_windows_and_byte_order_marks_do_no_harm() {
    let profile = load("crlf-inline-login.ovpn").profile;
    let Some(AuthUserPass::Stored(FileOrInline::Inline(login))) = &profile.client.auth_user_pass else {
        panic!("inline")
    };
    assert_eq!(login.expose(), "alice\r\nsecret\r\n");
    assert_eq!(load("bom.ovpn").profile.role(), Role::Client);
}

#[test]
fn compression_stubs_start() {
    assert_eq!(load("kylemanna-server.conf").profile.data.compression, Compression::LzoStub);
    assert_eq!(load("provider-b.ovpn").profile.data.compression, Compression::Stub);
    assert_eq!(load("scripts-server.conf").profile.data.compression, Compression::Migrate);
}

#[test]
fn programs_are_split_into_words() {
    let profile = load("scripts-server.conf").profile;
    let verify = profile.server.auth_user_pass_verify.unwrap();
    assert_eq!(verify.command.argv, ["/etc/openvpn/check.sh", "--realm", "my realm"]);
    assert_eq!(verify.via, VerifyVia::File);
    assert_eq!(profile.scripts.tls_verify.unwrap().argv, ["/etc/openvpn/tls.sh", "x", "y"]);
    assert_eq!(
        profile.setenv,
        [("REALM".to_owned(), "a b".to_owned()), ("OPENVPN_COLOUR".to_owned(), "blue".to_owned())]
    );
    let persist = PoolPersist { path: "/var/lib/pool".into(), interval: Duration::ZERO };
    assert_eq!(profile.server.pool_persist, Some(persist));
}

#[test]
fn two_equal_ends_are_neither_server_nor_client() {
    let listen = load("p2p-listen.conf").profile;
    assert_eq!((listen.role(), listen.tls.role), (Role::P2p, Some(TlsRole::Server)));
    assert_eq!(listen.device.topology, Some(Topology::Net30));
    assert_eq!(listen.keepalive.timeout, Some((Duration::from_secs(60), PingAction::Restart)));
    assert!(listen.connections[0].remote.is_none());
    assert_eq!(listen.routes.routes[0].network, RouteHost::Address([192, 168, 20, 0].into()));
    let call = load("p2p-call.conf").profile;
    assert_eq!((call.role(), call.tls.role), (Role::P2p, Some(TlsRole::Client)));
    // One of two ends binds its port, and takes `cipher` for a peer that cannot negotiate.
    assert_eq!(call.connections[0].bind, Bind::Bind { ipv6_only: false });
    assert_eq!(call.data.ciphers.fallback.unwrap().to_string(), "AES-256-CBC");
}

#[test]
fn the_verdict_names_what_keeps_the_kernel_out() {
    let accepts = |name: &str| verdict(&load(name).profile).map(|verdict| verdict.accepts());
    assert_eq!(accepts("angristan-server.conf"), [true, true, true]);
    assert_eq!(accepts("kylemanna-server.conf"), [false, false, true]);
    let [linux, ..] = verdict(&load("kylemanna-server.conf").profile);
    let refusals: Vec<_> = linux.refusals.iter().map(|remark| remark.option).collect();
    assert_eq!(refusals, ["comp-lzo"]);
    // One old cipher in the list does not slow everybody down.
    let [linux, ..] = verdict(&load("vyos-server.conf").profile);
    assert!(linux.accepts());
    assert_eq!(linux.per_peer[0].option, "data-ciphers");
}

#[test]
fn a_bridged_server_has_a_pool_and_no_address_of_its_own() {
    let profile = load("tap-bridge-server.conf").profile;
    assert!(profile.device.tap && profile.role() == Role::Server);
    assert_eq!((profile.device.ifconfig, profile.device.topology), (None, None));
    let pool = profile.server.pool.unwrap();
    assert_eq!((pool.start, pool.end), ([192, 168, 8, 128].into(), [192, 168, 8, 254].into()));
    assert_eq!(pool.netmask, Some([255, 255, 255, 0].into()));
    assert_eq!(profile.server.push, ["route-gateway 192.168.8.4", "ping 10", "ping-restart 120"]);
}
