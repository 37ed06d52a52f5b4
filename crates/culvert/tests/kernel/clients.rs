//! A server with many clients in the module.
//!
//! The clients are OpenVPN 2.7 with `dev null`: they negotiate, get an address and send keepalives, but have no
//! device, so they need no namespaces of their own and little of an emulated machine.

use std::time::Duration;

use culvert_testkit::{Daemon, NetnsLab, Role, TunnelSpec, eventually};

use crate::{RECOVERY, World, assert_no_panic};

/// Clients beside the one that carries traffic.
const CROWD: u8 = 40;

/// So many handshakes take a while in an emulated machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn a_server_carries_many_clients_and_forgets_the_silent_half() {
    let spec =
        TunnelSpec { server_extra: "duplicate-cn\nkeepalive 2 10".to_owned(), ..TunnelSpec::default() };
    let tunnel = World::new().tunnel(Role::Server, spec);
    let mut crowd: Vec<Daemon> = (1..=CROWD)
        .map(|number| {
            let way = (&tunnel.lab.client, NetnsLab::SERVER_V4);
            tunnel.start_another_client(number, way, "dev null\ndisable-dco").unwrap()
        })
        .collect();
    for client in &crowd {
        client.wait_up(LONG).unwrap();
    }
    let connected = || {
        let status = tunnel.status(Role::Server);
        // "client,10.99.0.2:47110,1234,...": one line of the list of clients each.
        status.lines().filter(|line| line.starts_with("client,")).count()
    };
    let expect = |wanted: usize| {
        eventually(RECOVERY, || {
            let seen = connected();
            if seen == wanted { Ok(()) } else { Err(format!("{seen} clients, not {wanted}")) }
        });
    };
    expect(usize::from(CROWD) + 1);
    tunnel.wait_traffic(RECOVERY).unwrap();
    crowd.truncate(usize::from(CROWD) / 2); // a dropped client is a killed one
    expect(usize::from(CROWD) / 2 + 1);
    tunnel.wait_traffic(RECOVERY).unwrap();
    tunnel.prove_offload().unwrap();
    assert_no_panic(&tunnel);
}
