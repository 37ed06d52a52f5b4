//! What starts culvert in openvpn's place: systemd's units, Debian's and those of packaging/, and NetworkManager.

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use culvert_testkit::{Algorithm, Daemon, Management, Namespace, NetnsLab, Pki, Release, patient};

use crate::{SOON, World};

/// A network, certificates, and a real server in it.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) lab: NetnsLab,
    pub(crate) pki: Pki,
    pub(crate) server: Option<Daemon>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(),
            lab: NetnsLab::new().unwrap(),
            pki: Pki::new(Algorithm::Ec).unwrap(),
            server: None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.pki.folder().path()
    }

    /// Starts an OpenVPN server, with more options.
    pub(crate) fn with_server(mut self, more: &str) -> Self {
        let text = format!("{}\ncd {}\n{more}\n", server_config(), self.folder().display());
        let config = self.pki.folder().write("peer.conf", &text).unwrap();
        let peer = self.world.peers.get(Release::V2_6).unwrap();
        let server = Daemon::start(&self.lab.server, &peer, "server", &config).unwrap();
        server.wait_for("Initialization Sequence Completed", SOON).unwrap();
        self.server = Some(server);
        self
    }
}

fn server_config() -> &'static str {
    "dev tun\ntopology subnet\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert server.crt\nkey server.key\ndh none\nkeepalive 10 60"
}

pub(crate) fn client_config() -> String {
    format!("client\ndev tun\nremote {}\nca ca.crt\ncert client.crt\nkey client.key\n", NetnsLab::SERVER_V4)
}

/// Starts a command line as a unit does: its directories are folders of the test's own. Returns the process, and what the service
/// manager is told.
fn start_unit(
    site: &Site,
    namespace: &Namespace,
    directory: &str,
    words: &[String],
) -> (Daemon, UnixDatagram) {
    let at = site.folder().join("notify");
    let manager = UnixDatagram::bind(&at).unwrap();
    manager.set_read_timeout(Some(patient(SOON))).unwrap();
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/openvpn /run/openvpn-server /run/openvpn-client && mount --bind {folder} \
         /etc/openvpn && cd {directory} && NOTIFY_SOCKET={notify} exec \"$@\"",
        folder = site.folder().display(),
        notify = at.display(),
    );
    let subject = site.world.subject.program().display().to_string();
    let arguments: Vec<&str> =
        ["-c", &script, "sh", &subject].into_iter().chain(words.iter().map(String::as_str)).collect();
    // The namespace's command has mounts of its own already.
    let daemon = Daemon::start_with(namespace, Path::new("sh"), "unit", &arguments).unwrap();
    (daemon, manager)
}

/// Waits until a message has this line.
fn told(manager: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 1024];
    loop {
        let len = manager.recv(&mut buffer).unwrap_or_else(|failure| panic!("not told `{line}`: {failure}"));
        let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if message.lines().any(|told| told.starts_with(line)) {
            return message;
        }
    }
}

/// Directory and words of a unit's start.
fn start_of(unit: &Path) -> (String, Vec<String>) {
    let text = fs::read_to_string(unit).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let words = value("ExecStart=").replace("%i", "work").replace("%t", "/run");
    (value("WorkingDirectory="), words.split(' ').skip(1).map(str::to_owned).collect())
}

/// Has each unit of a directory start a server or a client, and waits until it says that it is ready.
fn units_start_culvert(units: &Path) {
    for (name, is_server) in
        [("openvpn@.service", true), ("openvpn-server@.service", true), ("openvpn-client@.service", false)]
    {
        let site = if is_server { Site::new() } else { Site::new().with_server("") };
        let (directory, words) = start_of(&units.join(name));
        // The files of Debian's three directories are those of the test.
        for inner in ["server", "client"] {
            fs::create_dir_all(site.folder().join(inner)).unwrap();
            for file in ["ca.crt", "server.crt", "server.key", "client.crt", "client.key"] {
                fs::copy(site.folder().join(file), site.folder().join(inner).join(file)).unwrap();
            }
        }
        let config = if is_server { server_config().to_owned() } else { client_config() };
        for place in ["", "server/", "client/"] {
            site.pki.folder().write(&format!("{place}work.conf"), &config).unwrap();
        }
        let namespace = if is_server { &site.lab.server } else { &site.lab.client };
        let (mut daemon, manager) = start_unit(&site, namespace, &directory, &words);
        let ready = told(&manager, "READY=1");
        assert!(ready.contains(&format!("MAINPID={}", daemon.pid().as_raw_nonzero())), "{name}: {ready}");
        told(&manager, "STATUS=Initialization Sequence Completed");
        assert_eq!(daemon.stop(SOON).unwrap().code(), Some(0), "{name}: {}", daemon.tail());
        told(&manager, "STOPPING=1");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn our_units_start_culvert() {
    units_start_culvert(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd")));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn debians_units_start_culvert() {
    units_start_culvert(Path::new("/lib/systemd/system"));
}

/// The command line of NetworkManager's plugin, with more words where it has them.
fn network_manager(site: &Site, before: &[&str], after: &[&str]) -> (Vec<String>, PathBuf, PathBuf) {
    let socket = site.folder().join("nm-openvpn");
    let seen = site.folder().join("helper.seen");
    // In the place of nm-openvpn-service-openvpn-helper: it keeps what it got, and does what NetworkManager does with it.
    let helper = site
        .pki
        .folder()
        .write_script(
            "helper",
            &format!(
                "#!/bin/sh\n{{ for word in \"$@\"; do echo \"argument=$word\"; done; env; }} >{seen}.part\n\
                 ip address add \"$ifconfig_local/24\" dev \"$dev\" && ip link set \"$dev\" up mtu \"$tun_mtu\"\n\
                 mv {seen}.part {seen}\n",
                seen = seen.display()
            ),
        )
        .unwrap();
    let up = format!(
        "{} --debug 0 4711 --bus-name org.freedesktop.NetworkManager.openvpn.Connection_7 --tun --",
        helper.display()
    );
    let (remote, at) = (NetnsLab::SERVER_V4.to_string(), socket.display().to_string());
    let words = [
        &[
            "--remote",
            &remote,
            "1194",
            "udp",
            "--explicit-exit-notify",
            "--connect-timeout",
            "120",
            "--nobind",
            "--dev",
            "tun",
        ],
        before,
        &[
            "--auth-nocache",
            "--reneg-sec",
            "0",
            "--verb",
            "3",
            "--suppress-timestamps",
            "--script-security",
            "2",
            "--up",
            &up,
        ],
        &["--up-restart", "--persist-key", "--persist-tun", "--management", &at, "unix"],
        &["--management-client-user", "root", "--management-client-group", "root"],
        &[
            "--management-query-passwords",
            "--auth-retry",
            "interact",
            "--route-noexec",
            "--ifconfig-noexec",
            "--client",
        ],
        after,
    ];
    (words.concat().into_iter().map(str::to_owned).collect(), socket, seen)
}

fn start(site: &Site, words: &[String]) -> Daemon {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Daemon::start_with(&site.lab.client, site.world.subject.program(), "client", &words).unwrap()
}

/// What the helper got: variables, and the words after its own.
fn helper_saw(seen: &Path) -> (HashMap<String, String>, Vec<String>) {
    culvert_testkit::eventually(Duration::from_secs(10), || match seen.exists() {
        true => Ok(()),
        false => Err("the helper was not called".to_owned()),
    });
    let text = fs::read_to_string(seen).unwrap();
    let pairs: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let arguments =
        pairs.iter().filter(|(name, _)| *name == "argument").map(|(_, word)| (*word).to_owned()).collect();
    (pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), arguments)
}

/// Everything that the helper reads is there, and the tunnel carries data once it has configured the device.
fn assert_helper_content(site: &Site, seen: &Path) {
    let (env, arguments) = helper_saw(seen);
    let get = |name: &str| env.get(name).map_or("(missing)", String::as_str);
    for (name, value) in [
        ("ifconfig_local", "10.8.0.2"),
        ("ifconfig_netmask", "255.255.255.0"),
        ("route_vpn_gateway", "10.8.0.1"),
        ("trusted_ip", "10.99.0.1"),
        ("remote_1", "10.99.0.1"),
        ("tun_mtu", "1500"),
        ("ifconfig_ipv6_local", "fd00:8::1000"),
        ("ifconfig_ipv6_netbits", "64"),
        ("ifconfig_ipv6_remote", "fd00:8::1"),
        ("route_network_1", "192.168.7.0"),
        ("route_netmask_1", "255.255.255.0"),
        ("route_gateway_1", "10.8.0.1"),
        ("route_metric_1", "42"),
        ("route_ipv6_network_1", "2001:db8:7::/48"),
        ("route_ipv6_gateway_1", "fd00:8::1"),
        ("foreign_option_1", "dhcp-option DNS 10.8.0.53"),
        ("foreign_option_2", "dhcp-option DOMAIN corp.example"),
    ] {
        assert_eq!(get(name), value, "{name} in {env:#?}");
    }
    let (own, of_openvpn) = arguments.split_at(7);
    assert_eq!(own.last().unwrap(), "--");
    let device = get("dev");
    assert_eq!(
        [&of_openvpn[0], &of_openvpn[1], &of_openvpn[3], &of_openvpn[5]],
        [device, "1500", "10.8.0.2", "init"]
    );
    let ping = site.lab.client.run("ping", &["-c", "1", "-W", "5", "10.8.0.1"]).unwrap();
    assert!(ping.contains(" 0% packet loss"), "{ping}");
    // `route-noexec`: routes are left to NetworkManager.
    assert!(!site.lab.client.ip(&["route"]).unwrap().contains("192.168.7.0"));
}

/// What the server pushes: addresses, routes and DNS of both families.
pub(crate) const PUSHES: &str = "server-ipv6 fd00:8::/64\npush \"route 192.168.7.0 255.255.255.0 vpn_gateway 42\"\npush \"route-ipv6 \
                      2001:db8:7::/48\"\npush \"dhcp-option DNS 10.8.0.53\"\npush \"dhcp-option DOMAIN corp.example\"";

/// Lets alice in with the right password.
pub(crate) fn judging(site: &Site) -> String {
    let check = "#!/bin/sh\n[ \"$(tr '\\n' : <\"$1\")\" = alice:right: ]\n";
    let script = site.pki.folder().write_script("check", check).unwrap();
    format!("script-security 2\nauth-user-pass-verify {} via-file\nusername-as-common-name", script.display())
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_connects_with_a_certificate() {
    let site = Site::new().with_server(PUSHES);
    let folder = site.folder().display().to_string();
    let file = |name: &str| format!("{folder}/{name}");
    let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let (words, socket, seen) = network_manager(&site, &[], &["--ca", &ca, "--cert", &cert, "--key", &key]);
    let mut daemon = start(&site, &words);
    let mut plugin = Management::connect(&socket).unwrap();
    assert_helper_content(&site, &seen);
    daemon.wait_for("Initialization Sequence Completed", SOON).unwrap();
    // `persist-tun` and `up-restart`: the device stays, and the helper hears that the tunnel is there again.
    fs::remove_file(&seen).unwrap();
    plugin.command("signal SIGUSR1").unwrap();
    let (env, arguments) = helper_saw(&seen);
    assert_eq!((arguments.last().unwrap().as_str(), env["script_context"].as_str()), ("restart", "restart"));
    assert_eq!(env["ifconfig_local"], "10.8.0.2");
    daemon.wait_for("Preserving previous TUN/TAP instance", SOON).unwrap();
    assert_eq!(daemon.stop(SOON).unwrap().code(), Some(0), "{}", daemon.tail());
}

/// Answers as the plugin does: both lines at once, each word in quotes.
fn answer(plugin: &mut Management, password: &str) {
    plugin.wait_for(">PASSWORD:Need 'Auth' username/password").unwrap();
    plugin.send(&format!("username \"Auth\" \"alice\"\npassword \"Auth\" \"{password}\"")).unwrap();
}

/// Connects with a password, the first one being wrong.
fn connects_at_the_second_password(site: &Site, after: &[&str]) {
    let (words, socket, seen) = network_manager(site, &[], after);
    let mut daemon = start(site, &words);
    let mut plugin = Management::connect(&socket).unwrap();
    answer(&mut plugin, "wrong");
    plugin.wait_for(">PASSWORD:Verification Failed: 'Auth'").unwrap();
    assert!(!seen.exists(), "the helper was called without a tunnel");
    answer(&mut plugin, "right");
    assert_helper_content(site, &seen);
    daemon.wait_for("Initialization Sequence Completed", SOON).unwrap();
    assert_eq!(daemon.stop(SOON).unwrap().code(), Some(0), "{}", daemon.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_connects_with_a_password_and_asks_again_for_a_wrong_one() {
    let site = Site::new();
    let judge = judging(&site);
    let site = site.with_server(&format!("{PUSHES}\n{judge}\nverify-client-cert none"));
    let ca = site.folder().join("ca.crt").display().to_string();
    connects_at_the_second_password(&site, &["--auth-user-pass", "--ca", &ca]);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_connects_with_both() {
    let site = Site::new();
    let judge = judging(&site);
    let site = site.with_server(&format!("{PUSHES}\n{judge}"));
    let file = |name: &str| site.folder().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    connects_at_the_second_password(
        &site,
        &["--ca", &ca, "--cert", &cert, "--key", &key, "--auth-user-pass"],
    );
}
