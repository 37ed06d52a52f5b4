//! The matrix of the offload: culvert against OpenVPN 2.7 in both roles and against itself, over every
//! transport, with every cipher that it has, and the module at the server, at the client, at both.
//!
//! A case starts both ends in namespaces of their own, waits until both say that they are up, looks at the
//! kind of each end's device, compares what both logs say was negotiated, and moves datagrams and a TCP transfer
//! both ways. `CULVERT_MATRIX_ONLY` and `CULVERT_MATRIX_JOBS`: see `culvert_testkit::matrix`.

use culvert_testkit::matrix::{self, Verdict};
use culvert_testkit::{
    Cipher, Implementation, Materials, Offload, Peers, Release, Transport, Tunnel, TunnelSpec,
};

/// One row of the table.
struct Case {
    server: Implementation,
    client: Implementation,
    spec: TunnelSpec,
}

impl Case {
    fn row(&self) -> String {
        let Self { server, client, spec } = self;
        let TunnelSpec { transport, cipher, offload, .. } = spec;
        format!("server {server:<7} client {client:<7} {transport} {cipher:<17} kernel at {offload:<6}")
    }
}

/// Every combination, for each pair of ends.
fn all_cases(subject: &Implementation, peer: &Implementation) -> Vec<Case> {
    let mut pairs = vec![(subject, peer), (peer, subject), (subject, subject)];
    pairs.dedup(); // they are one when OpenVPN 2.7 is the subject
    let mut cases = Vec::new();
    for (server, client) in pairs {
        for &transport in Transport::ALL {
            for &cipher in Cipher::WITH_TAG {
                for offload in [Offload::Server, Offload::Client, Offload::Both] {
                    let spec = TunnelSpec { transport, cipher, offload, ..TunnelSpec::default() };
                    cases.push(Case { server: server.clone(), client: client.clone(), spec });
                }
            }
        }
    }
    cases
}

#[test]
#[ignore = "needs the ovpn module: run ./test kernel"]
fn the_module_carries_every_cipher_over_every_transport_at_each_end() {
    let peers = Peers::find().unwrap();
    let subject = peers.subject(env!("CARGO_BIN_EXE_culvert")).unwrap();
    let materials = Materials::new(&peers).unwrap();
    let cases = all_cases(&subject, &peers.get(Release::V2_7).unwrap());
    println!("kernel matrix: {subject}");
    matrix::run("kernel matrix", cases, Case::row, |case| {
        let Case { server, client, spec } = case;
        let prove = || {
            let tunnel = Tunnel::start_up(spec, server, client, &materials)?;
            tunnel.prove_offload()?;
            tunnel.prove_negotiated()?;
            tunnel.prove_traffic()
        };
        Verdict::from(prove())
    });
}
