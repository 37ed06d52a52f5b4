//! Plugins: Debian's two, and one of the test's own that hangs or refuses.

use std::fs;
use std::path::Path;

use culvert_testkit::{
    Algorithm, Daemon, NetnsLab, Release, Role, TempDir, Topology, TunnelSpec, eventually,
};

use crate::authentication::{HANDSHAKE, another, wait_handshakes};
use crate::{SOON, World};

/// Makes a service of PAM that accepts the test's user; it stands in the server's namespace alone.
pub(super) fn pam_service(folder: &TempDir, lab: &NetnsLab, name: &str) {
    let (user, password) = TunnelSpec::USER;
    let text =
        format!("#!/bin/sh\n[ \"$PAM_USER\" = '{user}' ] && [ \"$(tr -d '\\000')\" = '{password}' ]\n");
    let script = folder.write_script("pam", &text).unwrap();
    let services = Path::new("/etc/netns").join(lab.server.name()).join("pam.d");
    fs::create_dir_all(&services).unwrap();
    let service = format!(
        "auth required pam_exec.so quiet expose_authtok {}\naccount required pam_permit.so\n",
        script.display()
    );
    fs::write(services.join(name), service).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn debian_s_pam_plugin_judges_logins_at_once_and_later() {
    let world = World::new();
    for later in ["", "setenv deferred_auth_pam 1"] {
        let folder = TempDir::new().unwrap();
        let (user, password) = TunnelSpec::USER;
        let lab = NetnsLab::new().unwrap();
        pam_service(&folder, &lab, "culvert-test");
        let login = folder.write("login", &format!("{user}\n{password}\n")).unwrap();
        let spec = TunnelSpec {
            server_extra: format!("plugin openvpn-plugin-auth-pam.so culvert-test\nduplicate-cn\n{later}"),
            client_extra: format!("auth-user-pass {}", login.display()),
            ..TunnelSpec::default()
        };
        let tunnel = world.tunnel_in(lab, Role::Server, Release::V2_6, &spec);
        let (wrong, _namespace) = another(&tunnel, 2, &folder, (user, "wrong horse"));
        wrong.wait_for("AUTH: Received control message: AUTH_FAILED", SOON * 2).unwrap();
        tunnel.wait_traffic(SOON).unwrap();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_plugin_adds_to_what_a_client_gets_and_its_hanging_stops_neither_traffic_nor_tokens() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin(&folder, 3).unwrap();
    let (user, password) = TunnelSpec::USER;
    let login = folder.write("login", &format!("{user}\n{password}\n")).unwrap();
    let spec = TunnelSpec {
        server_extra: format!(
            "plugin {} check\nduplicate-cn\nkeying-material-exporter EXPORTER_test 20\nauth-gen-token 0 120\nreneg-sec 4",
            plugin.display()
        ),
        client_extra: format!("auth-user-pass {}\nreneg-sec 0", login.display()),
        ..TunnelSpec::default()
    };
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    assert!(tunnel.server.has_logged("PLUGIN TEST: begins as check with 42"), "{}", tunnel.server.tail());
    assert!(tunnel.server.has_logged("PLUGIN TEST: exported 40 digits"), "{}", tunnel.server.tail());
    let pushed = "route 192.0.2.0 255.255.255.0";
    assert!(!tunnel.client.lines_with(pushed).is_empty(), "{}", tunnel.client.tail());
    let (hanging, _namespace) = another(&tunnel, 2, &folder, (user, "hang"));
    hanging.wait_for(HANDSHAKE, SOON).unwrap();
    wait_handshakes(&tunnel, tunnel.client.mark(), 2);
    tunnel.wait_traffic(SOON).unwrap();
    assert!(!hanging.has_logged("Initialization Sequence Completed"), "{}", hanging.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn plugins_get_exported_keys_at_every_end() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin(&folder, 3).unwrap();
    let extra = format!("plugin {} keys\nkeying-material-exporter EXPORTER_test 20", plugin.display());
    for (role, topology) in [
        (Role::Client, Topology::Subnet),
        (Role::Client, Topology::PointToPoint),
        (Role::Server, Topology::PointToPoint),
    ] {
        let mut spec = TunnelSpec { topology, ..TunnelSpec::default() };
        if role == Role::Client {
            spec.client_extra.clone_from(&extra);
        } else {
            spec.server_extra.clone_from(&extra);
        }
        let tunnel = World::new().tunnel(role, Release::V2_6, &spec);
        let end = if role == Role::Client { &tunnel.client } else { &tunnel.server };
        assert!(end.has_logged("PLUGIN TEST: exported 40 digits"), "{}", end.tail());
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_plugin_that_refuses_to_begin_is_named_and_the_server_does_not_start() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin(&folder, 3).unwrap();
    let world = World::new();
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let text = format!(
        "dev tun\nserver 10.8.0.0 255.255.255.0\ntopology subnet\ndh none\nca {}\ncert {}\nkey {}\nplugin {} refuse\n",
        pki.ca.display(),
        pki.server.cert.display(),
        pki.server.key.display(),
        plugin.display()
    );
    let config = folder.write("server.conf", &text).unwrap();
    let lab = NetnsLab::new().unwrap();
    let mut server = Daemon::start(&lab.server, &world.subject, "server", &config).unwrap();
    server.wait_for("plugin initialization function failed", SOON).unwrap();
    assert!(!server.wait_exit(SOON).unwrap().success());
}

/// OpenVPN's samples `log_v3` and `keyingmaterialexporter` count on all of it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_s_plugin_hears_of_certificates_and_addresses_as_in_openvpn() {
    let folder = TempDir::new().unwrap();
    let plugin = culvert_testkit::c_plugin_with_openssl(&folder).unwrap();
    let (user, password) = TunnelSpec::USER;
    let login = folder.write("login", &format!("{user}\n{password}\n")).unwrap();
    let spec = TunnelSpec {
        server_extra: format!("plugin {} check", plugin.display()),
        client_extra: format!("auth-user-pass {}", login.display()),
        ..TunnelSpec::default()
    };
    let mut tunnel = World::new().tunnel(Role::Server, Release::V2_6, &spec);
    let address = format!("PLUGIN TEST: peer at [AF_INET]{} ", NetnsLab::CLIENT_V4);
    for line in [
        "a line of output",
        "PLUGIN TEST: certificate 1 is /",
        "VERIFY PLUGIN OK: depth=1, ",
        "PLUGIN TEST: certificate 0 is /",
        "VERIFY PLUGIN OK: depth=0, ",
        &address,
    ] {
        tunnel.server.wait_for(line, SOON).unwrap();
    }
    tunnel.server.stop(SOON).unwrap();
    assert!(
        tunnel.server.has_logged(&format!("PLUGIN_CLOSE: {}", plugin.display())),
        "{}",
        tunnel.server.tail()
    );
}

/// Debian's other plugin is one, but no judge of logins.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_whose_plugin_does_not_judge_logins_does_not_start_without_certificates() {
    let (world, folder) = (World::new(), TempDir::new().unwrap());
    let pki = &world.materials.certificates(Algorithm::Ec).pki;
    let text = format!(
        "dev tun\nserver 10.8.0.0 255.255.255.0\ntopology subnet\ndh none\nca {}\ncert {}\nkey {}\n\
         verify-client-cert none\nusername-as-common-name\nplugin openvpn-plugin-down-root.so /bin/true\n",
        pki.ca.display(),
        pki.server.cert.display(),
        pki.server.key.display(),
    );
    let config = folder.write("server.conf", &text).unwrap();
    let lab = NetnsLab::new().unwrap();
    let mut server = Daemon::start(&lab.server, &world.subject, "server", &config).unwrap();
    server.wait_for("--verify-client-cert none|optional must be used with", SOON).unwrap();
    server.wait_for("the plugins that are loaded do not judge logins", SOON).unwrap();
    assert!(!server.wait_exit(SOON).unwrap().success());
}

/// Debian's other plugin: it runs a program as root when the tunnel goes down.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn debian_s_down_root_plugin_runs_its_program_on_both_ends() {
    for role in [Role::Server, Role::Client] {
        let folder = TempDir::new().unwrap();
        let note = folder.path().join("note");
        let text = format!("#!/bin/sh\necho \"$dev $1\" >{}\n", note.display());
        let script = folder.write_script("down", &text).unwrap();
        let line = format!("plugin openvpn-plugin-down-root.so {}", script.display());
        let mut spec = TunnelSpec::default();
        match role {
            Role::Server => spec.server_extra = line,
            Role::Client => spec.client_extra = line,
        }
        let mut tunnel = World::new().tunnel(role, Release::V2_6, &spec);
        let end = if role == Role::Server { &mut tunnel.server } else { &mut tunnel.client };
        end.stop(SOON).unwrap();
        eventually(SOON, || {
            let noted = fs::read_to_string(&note).unwrap_or_default();
            if noted.starts_with("tun") { Ok(()) } else { Err(format!("{noted}{}", end.tail())) }
        });
    }
}
