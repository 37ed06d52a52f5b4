//! NetworkManager itself, with culvert where its OpenVPN plugin looks for openvpn: certificates, passwords, both.
//!
//! ```text
//!   namespace "server"      namespace "client", with mounts of its own
//!   an OpenVPN server       a system bus, NetworkManager, its plugin's service, culvert as /usr/sbin/openvpn
//! ```

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use culvert_testkit::{Daemon, eventually};

use crate::{
    SOON,
    units::{PUSHES, Site, judging},
};

/// What the private NetworkManager finds in place of the machine's state and configuration. A read-only /sys tells it
/// that no udev will announce devices here.
const STAGE: &str = "set -e
mount -t tmpfs none /run && mkdir /run/dbus /run/NetworkManager
mount -t tmpfs none /etc/NetworkManager && mkdir /etc/NetworkManager/system-connections
mount -t tmpfs none /var/lib/NetworkManager
mount -o remount,bind,ro /sys
mount --bind \"$1\" /usr/sbin/openvpn
mount -t tmpfs none /var/lib/openvpn/chroot && mkdir /var/lib/openvpn/chroot/tmp && chown -R nm-openvpn: /var/lib/openvpn/chroot
cp \"$2/NetworkManager.conf\" /etc/NetworkManager/
cp \"$2/wire.nmconnection\" /etc/NetworkManager/system-connections/
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket
dbus-daemon --system --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
exec NetworkManager --no-daemon";

const CONFIGURATION: &str = "[main]
plugins=keyfile
auth-polkit=root-only
dns=default
rc-manager=unmanaged
no-auto-default=*
[keyfile]
unmanaged-devices=interface-name:lo
";

/// A VPN needs a connection below it, with a default route.
const WIRE: &str = "[connection]
id=wire
uuid=0f6e3e4c-3c0c-4b7e-9b43-0d8a9b6f3f10
type=ethernet
interface-name=wire
[ipv4]
method=manual
address1=10.99.0.2/24,10.99.0.1
[ipv6]
method=disabled
";

/// A running NetworkManager.
struct Desktop {
    site: Site,
    manager: Daemon,
}

impl Desktop {
    fn start(site: Site) -> Self {
        site.pki.folder().write("NetworkManager.conf", CONFIGURATION).unwrap();
        site.pki.folder().write("wire.nmconnection", WIRE).unwrap();
        let (subject, folder) = (site.world.subject.program().display(), site.folder().display());
        let words = ["-c", STAGE, "sh", &subject.to_string(), &folder.to_string()];
        let manager =
            Daemon::start_with(&site.lab.client, Path::new("sh"), "NetworkManager", &words).unwrap();
        let desktop = Self { site, manager };
        eventually(SOON, || desktop.nmcli(&["general", "status"], "").map(drop));
        desktop.nmcli(&["connection", "up", "wire"], "").unwrap();
        desktop
    }

    /// Runs nmcli where NetworkManager is, with this typed; returns what it printed, also as the failure.
    fn nmcli(&self, words: &[&str], typed: &str) -> Result<String, String> {
        let mut child = Command::new("nsenter")
            .args(["--target", &self.manager.pid().as_raw_nonzero().to_string(), "--mount", "--net"])
            .args(["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket", "LC_ALL=C"])
            .args(["nmcli", "--wait", "20"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(format!("nmcli {words:?}: {text}")) }
    }

    /// Adds a connection of the plugin's: what its dialog would write.
    fn add(&self, kind: &str, more: &str) {
        let file = |name: &str| self.site.folder().join(name).display().to_string();
        let mut data = format!("connection-type={kind},remote=10.99.0.1:1194:udp,ca={}", file("ca.crt"));
        if kind != "password" {
            data += &format!(",cert={},key={},cert-pass-flags=4", file("client.crt"), file("client.key"));
        }
        data += more;
        self.nmcli(
            &[
                "connection",
                "add",
                "type",
                "vpn",
                "con-name",
                "tunnel",
                "vpn-type",
                "openvpn",
                "ifname",
                "*",
                "vpn.data",
                &data,
            ],
            "",
        )
        .unwrap();
    }

    /// The connection is up, and everything that the server pushed has arrived where NetworkManager puts it.
    fn assert_connected(&self) {
        let client = &self.site.lab.client;
        let device = client.tunnel_devices().unwrap().tun.concat();
        assert_eq!(device, "tun0");
        let addresses = client.ip(&["address", "show", "dev", &device]).unwrap();
        assert!(addresses.contains("inet 10.8.0.2/24 "), "{addresses}");
        assert!(addresses.contains("inet6 fd00:8::1000/64 "), "{addresses}");
        assert!(addresses.contains("mtu 1500 "), "{addresses}");
        let routes = client.ip(&["route"]).unwrap() + &client.ip(&["-6", "route"]).unwrap();
        for route in [
            "default via 10.8.0.1 dev tun0 ",
            "10.99.0.1 dev wire proto static ", // the way to the server
            "192.168.7.0/24 via 10.8.0.1 dev tun0 ",
            "2001:db8:7::/48 ",
        ] {
            assert!(routes.contains(route), "no {route:?} in\n{routes}");
        }
        let manager = self.manager.pid().as_raw_nonzero();
        let resolv = fs::read_to_string(format!("/proc/{manager}/root/run/NetworkManager/resolv.conf"));
        let resolv = resolv.unwrap();
        assert!(resolv.contains("nameserver 10.8.0.53\n"), "{resolv}");
        assert!(resolv.contains("search corp.example\n"), "{resolv}");
        client.run("ping", &["-c", "1", "-w", "10", "10.8.0.1"]).unwrap();
        self.assert_without_rights();
    }

    /// The plugin has it change user and root directory, which must come after its helper was called.
    fn assert_without_rights(&self) {
        let pids = Command::new("ip").args(["netns", "pids", self.site.lab.client.name()]).output().unwrap();
        let pids = String::from_utf8(pids.stdout).unwrap();
        let root = |pid: &&str| fs::read_link(format!("/proc/{pid}/root"));
        let is_inside = |pid: &&str| root(pid).is_ok_and(|root| root.ends_with("var/lib/openvpn/chroot"));
        let pid = pids.lines().find(is_inside).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(!status.contains("\nUid:\t0\t"), "{status}");
    }

    /// Takes the connection down: nothing of it stays.
    fn disconnect(&self) {
        self.nmcli(&["connection", "down", "tunnel"], "").unwrap();
        let client = &self.site.lab.client;
        eventually(SOON, || {
            let devices = client.tunnel_devices().unwrap().tun;
            let routes = client.ip(&["route"]).unwrap();
            let is_gone =
                devices.is_empty() && !routes.contains("192.168.7.0") && !routes.contains("10.8.0.");
            if is_gone { Ok(()) } else { Err(format!("{devices:?} {routes}")) }
        });
    }

    /// Connects, typing a wrong password first.
    fn connects_at_the_second_password(&self) {
        let screen = self.nmcli(&["--ask", "connection", "up", "tunnel"], "wrong\nright\n");
        let screen = screen.unwrap_or_else(|failure| panic!("{failure}\n{}", self.manager.tail()));
        assert_eq!(screen.matches("(vpn.secrets.password)").count(), 2, "{screen}");
        let server = self.site.server.as_ref().unwrap();
        assert!(server.has_logged("Auth Error"), "the wrong one was never tried:\n{}", server.tail());
        self.assert_connected();
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_itself_connects_with_a_certificate() {
    let desktop = Desktop::start(Site::new().with_server(PUSHES));
    desktop.add("tls", "");
    desktop
        .nmcli(&["connection", "up", "tunnel"], "")
        .unwrap_or_else(|failure| panic!("{failure}\n{}", desktop.manager.tail()));
    desktop.assert_connected();
    desktop.disconnect();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_itself_asks_again_for_a_wrong_password() {
    let site = Site::new();
    let judge = judging(&site);
    let desktop = Desktop::start(site.with_server(&format!("{PUSHES}\n{judge}\nverify-client-cert none")));
    desktop.add("password", ",username=alice,password-flags=2");
    desktop.connects_at_the_second_password();
    desktop.disconnect();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn network_manager_itself_connects_with_a_certificate_and_a_password() {
    let site = Site::new();
    let judge = judging(&site);
    let desktop = Desktop::start(site.with_server(&format!("{PUSHES}\n{judge}")));
    desktop.add("password-tls", ",username=alice,password-flags=2");
    desktop.connects_at_the_second_password();
    desktop.disconnect();
}
