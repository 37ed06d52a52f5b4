//! The interoperability matrix: culvert against OpenVPN 2.5, 2.6, 2.7 and itself, as server and as client.
//!
//! Three sets of cases. *Each*: every value of every dimension (transport, wrapping, cipher, ...) with the rest
//! at its default, against every peer in both roles. *Pairs*: few cases in which every pair of values
//! occurs, the peer and its role being one of the dimensions. *Old wire*: what peers of old profiles still speak, see
//! `old_wire`. A case starts both ends in namespaces of
//! their own, waits until both say that they are up, compares what they say was negotiated, and moves
//! datagrams and a TCP transfer both ways.
//!
//! Needs root and `scripts/peers`; `./test` runs it. Environment:
//!
//! - `CULVERT_TEST_SUBJECT`: `2.5`, `2.6` or `2.7` puts that OpenVPN in culvert's place, which tests this
//!   harness (and what OpenVPN releases do with each other);
//! - `CULVERT_MATRIX_ONLY`, `CULVERT_MATRIX_JOBS`: see `culvert_testkit::matrix`.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

#[path = "interop/old_wire.rs"]
mod old_wire;

use std::sync::Arc;

use culvert_testkit::matrix::{self, Verdict};
use culvert_testkit::{
    Algorithm, Cipher, Implementation, Inner, Layer, Login, Materials, Peers, Role, TlsVersion, Topology,
    Transport, Trust, Tunnel, TunnelSpec, Wrapping, pairwise,
};

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Ec, Algorithm::Rsa, Algorithm::Ed25519];

/// One row of the table.
struct Case {
    /// What the subject is in it.
    role: Role,
    peer: Implementation,
    spec: TunnelSpec,
    /// What the columns do not show.
    note: &'static str,
}

impl Case {
    fn row(&self) -> String {
        let role = match self.role {
            Role::Server => "server <- ",
            Role::Client => "client -> ",
        };
        format!("{role}{:<7} {} {}", self.peer, self.spec, self.note)
    }

    fn run(&self, subject: &Implementation, materials: &Arc<Materials>) -> Verdict {
        if let Some(why) = self.spec.not_a_feature_of(&self.peer).or(self.spec.not_a_feature_of(subject)) {
            return Verdict::NotAFeature(why);
        }
        let (server, client) = match self.role {
            Role::Server => (subject, &self.peer),
            Role::Client => (&self.peer, subject),
        };
        let prove = || {
            let tunnel = Tunnel::start_up(&self.spec, server, client, materials)?;
            tunnel.prove_traffic()?;
            old_wire::prove_compressed(&tunnel, client, self.note)?;
            tunnel.prove_negotiated()
        };
        prove().into()
    }
}

/// The values of one dimension as changes to a spec, the default first.
type Dimension = Vec<Box<dyn Fn(&mut TunnelSpec)>>;

fn dimension<T: Copy + 'static>(values: &[T], set: fn(&mut TunnelSpec, T)) -> Dimension {
    values
        .iter()
        .map(|&value| Box::new(move |spec: &mut TunnelSpec| set(spec, value)) as Box<dyn Fn(&mut TunnelSpec)>)
        .collect()
}

fn dimensions() -> Vec<Dimension> {
    vec![
        dimension(Transport::ALL, |spec, value| spec.transport = value),
        dimension(Wrapping::ALL, |spec, value| spec.wrapping = value),
        dimension(Cipher::WITH_TAG, |spec, value| spec.cipher = value),
        dimension(TlsVersion::ALL, |spec, value| spec.tls = value),
        dimension(&ALGORITHMS, |spec, value| spec.algorithm = value),
        dimension(Trust::ALL, |spec, value| spec.trust = value),
        dimension(Login::ALL, |spec, value| spec.login = value),
        dimension(Topology::ALL, |spec, value| spec.topology = value),
        dimension(Layer::ALL, |spec, value| spec.layer = value),
        dimension(Inner::ALL, |spec, value| spec.inner = value),
    ]
}

/// Every value with the rest at its default.
fn each_value() -> Vec<TunnelSpec> {
    let mut specs = vec![TunnelSpec::default()];
    for set in dimensions().iter().flat_map(|dimension| dimension.iter().skip(1)) {
        let mut spec = TunnelSpec::default();
        set(&mut spec);
        specs.push(spec);
    }
    specs
}

/// Every pair of values, among them every value with each peer in each role.
fn every_pair(ends: &[(Role, Implementation)], subject: &Implementation) -> Vec<Case> {
    let dimensions = dimensions();
    let build = |indices: &[usize]| {
        let mut spec = TunnelSpec::default();
        for (dimension, &index) in dimensions.iter().zip(indices) {
            dimension[index](&mut spec);
        }
        let (role, peer) = ends[indices[dimensions.len()]].clone();
        Case { role, peer, spec, note: "" }
    };
    let sizes: Vec<usize> = dimensions.iter().map(Vec::len).chain([ends.len()]).collect();
    let allowed = |indices: &[usize]| {
        let Case { peer, spec, .. } = build(indices);
        spec.is_possible()
            && spec.not_a_feature_of(&peer).is_none()
            && spec.not_a_feature_of(subject).is_none()
    };
    pairwise::cover(&sizes, allowed).iter().map(|indices| build(indices)).collect()
}

fn all_cases(subject: &Implementation, peers: &Peers) -> Vec<Case> {
    let mut ends: Vec<(Role, Implementation)> = Vec::new();
    for peer in peers.all() {
        ends.push((Role::Server, peer.clone()));
        ends.push((Role::Client, peer.clone()));
    }
    if matches!(subject, Implementation::Culvert(_)) {
        ends.push((Role::Server, subject.clone()));
    }
    let mut cases = Vec::new();
    for (role, peer) in &ends {
        let case = |(note, spec)| Case { role: *role, peer: peer.clone(), spec, note };
        cases.extend(each_value().into_iter().map(|spec| case(("", spec))));
        cases.extend(old_wire::specs(*role, peer).into_iter().map(case));
    }
    for case in every_pair(&ends, subject) {
        let same =
            |other: &Case| other.role == case.role && other.peer == case.peer && other.spec == case.spec;
        if !cases.iter().any(same) {
            cases.push(case);
        }
    }
    cases
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn culvert_interoperates_with_every_peer_in_both_roles() {
    let peers = Peers::find().unwrap();
    let subject = peers.subject(env!("CARGO_BIN_EXE_culvert")).unwrap();
    let materials = Materials::new(&peers).unwrap();
    for (release, why) in peers.absent() {
        println!("interop: column {} absent: {why}", release.name());
    }
    println!("interop: {subject}");
    let cases = all_cases(&subject, &peers);
    matrix::run("interop", cases, Case::row, |case| case.run(&subject, &materials));
}
