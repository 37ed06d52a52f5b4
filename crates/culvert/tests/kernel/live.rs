//! What changes in place while the kernel carries the data.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use culvert_testkit::{Offload, Role, Signal, TempDir, Tunnel, TunnelSpec, eventually, traffic};

use crate::{SOON, World, assert_no_panic};

/// The client's address at first.
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 50));

#[test]
#[ignore = "needs a kernel with ovpn: run ./test kernel"]
fn a_reload_moves_a_client_to_another_address_in_place() {
    let world = World::new();
    let ccd = TempDir::new().unwrap();
    let file = ccd.write("client", "ifconfig-push 10.8.0.50 255.255.255.0\n").unwrap();
    let spec = TunnelSpec {
        offload: Offload::Both,
        server_extra: format!("client-config-dir {}\nmax-clients 20", ccd.path().display()),
        ..TunnelSpec::default()
    };
    let tunnel = Tunnel::start_up(&spec, &world.subject, &world.subject, &world.materials).unwrap();
    tunnel.prove_offload().unwrap();
    let server = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    let carries = |own: IpAddr| {
        let proof = traffic::echo((&tunnel.lab.client, own), server, SOON);
        proof.map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    };
    carries(FIRST);
    // The numbers of all devices.
    let devices = || -> Vec<String> {
        let links = tunnel.lab.client.ip(&["-o", "link"]).unwrap();
        links.lines().filter_map(|line| line.split(": ").next().map(str::to_owned)).collect()
    };
    let before = devices();

    let lines = "ifconfig-push 10.8.0.2 255.255.255.0\npush \"route 10.71.0.0 255.255.0.0\"\n";
    fs::write(&file, lines).unwrap();
    tunnel.edit_config(Role::Server, |text| text.replace("keepalive 10 60", "keepalive 5 30")).unwrap();
    tunnel.server.signal(Signal::Reload).unwrap();
    eventually(SOON, || {
        let routes = tunnel.lab.client.ip(&["route"]).unwrap();
        if routes.contains("10.71.0.0/16") { Ok(()) } else { Err(tunnel.client.tail()) }
    });
    carries(TunnelSpec::CLIENT_V4);
    assert!(!tunnel.server.has_logged("client-instance"), "{}", tunnel.server.tail());
    assert_eq!(before, devices(), "no device was opened anew");
    assert_no_panic(&tunnel);
}
