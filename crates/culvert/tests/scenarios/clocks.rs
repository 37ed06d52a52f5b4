//! A clock that is wrong: to it, certificates have expired or are yet to begin. Certificates of another time stand for
//! the clock.

use culvert_testkit::{Algorithm, Daemon, Identity, Pki, Release, Role, Tunnel, TunnelSpec};

use crate::{SOON, World, assert_no_panic};

/// Starts a tunnel with this certificate at one end of it.
fn with_certificate(
    world: &World,
    release: Release,
    subject: Role,
    at: Role,
    issue: impl Fn(&Pki) -> Identity,
) -> Tunnel {
    let own = issue(&world.materials.certificates(Algorithm::Ec).pki);
    let lines = format!("cert {}\nkey {}", own.cert.display(), own.key.display());
    let spec = match at {
        Role::Server => TunnelSpec { server_extra: lines, ..TunnelSpec::default() },
        // A server that refuses it may not say so: then the end of this window tells.
        Role::Client => {
            TunnelSpec { client_extra: format!("{lines}\nhand-window 5"), ..TunnelSpec::default() }
        }
    };
    world.start(subject, release, &spec)
}

fn end(tunnel: &Tunnel, role: Role) -> &Daemon {
    if role == Role::Server { &tunnel.server } else { &tunnel.client }
}

/// culvert's clock is wrong, so that its peer's certificate is of another time.
fn names_its_own_clock(subject: Role, peer: Role, issue: impl Fn(&Pki) -> Identity, expected: &[&str]) {
    let world = World::new();
    let tunnel = with_certificate(&world, Release::V2_6, subject, peer, issue);
    for text in expected {
        end(&tunnel, subject).wait_for(text, SOON).unwrap();
    }
    assert!(!tunnel.client.has_logged("Initialization Sequence Completed"), "{}", tunnel.client.tail());
    assert_no_panic(&tunnel);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_whose_clock_is_wrong_names_it() {
    let future = |pki: &Pki| pki.future_client().unwrap();
    let expected = [
        "VERIFY ERROR: depth=0, error=certificate is not yet valid: CN=client",
        "check the clock of this machine",
        "the certificate begins Jan  1 00:00:00 2047",
    ];
    names_its_own_clock(Role::Server, Role::Client, future, &expected);
    let expired = |pki: &Pki| pki.expired_client().unwrap();
    let expected = [
        "VERIFY ERROR: depth=0, error=certificate has expired: CN=client",
        "check this machine's clock: it says ",
        "the certificate ended Jan  1 00:00:00 2002",
    ];
    names_its_own_clock(Role::Server, Role::Client, expired, &expected);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_whose_clock_is_wrong_names_it() {
    let future = |pki: &Pki| pki.future_server().unwrap();
    let expected = [
        "VERIFY ERROR: depth=0, error=certificate is not yet valid: CN=server",
        "check the clock of this machine",
        "the certificate begins Jan  1 00:00:00 2047",
    ];
    names_its_own_clock(Role::Client, Role::Server, future, &expected);
    let expired = |pki: &Pki| pki.expired_server().unwrap();
    let expected = [
        "VERIFY ERROR: depth=0, error=certificate has expired: CN=server",
        "check this machine's clock: it says ",
        "the certificate ended Jan  1 00:00:00 2002",
    ];
    names_its_own_clock(Role::Client, Role::Server, expired, &expected);
}

/// The peer's clock is wrong, so that culvert's own certificate is of another time to it: culvert explains what the peer
/// answers, if it does, or that it does not. (That its own clock disagrees with the certificate is said at the start.)
fn suspects_the_other_clock(role: Role, issue: impl Fn(&Pki) -> Identity, own: &str, answer: &str) {
    let world = World::new();
    let tunnel = with_certificate(&world, Release::V2_7, role, role, issue);
    let subject = end(&tunnel, role);
    subject.wait_for(own, SOON).unwrap();
    let line = subject.wait_for(answer, SOON).unwrap();
    assert!(line.contains("clock"), "{line}");
    assert_no_panic(&tunnel);
}

const BEGINS: &str = "WARNING: Your certificate is not yet valid!";
const ENDED: &str = "WARNING: Your certificate has expired!";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_server_suspects_the_clock_of_a_client_that_refuses_it() {
    let bad = "the peer sent the TLS alert bad certificate";
    suspects_the_other_clock(Role::Server, |pki| pki.future_server().unwrap(), BEGINS, bad);
    let expired = "the peer sent the TLS alert certificate expired";
    suspects_the_other_clock(Role::Server, |pki| pki.expired_server().unwrap(), ENDED, expired);
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_suspects_the_clock_of_a_server_that_refuses_it_and_says_nothing() {
    let silence = "TLS is up, but 10.99.0.1:1194 did not send its part of the key exchange";
    suspects_the_other_clock(Role::Client, |pki| pki.future_client().unwrap(), BEGINS, silence);
    suspects_the_other_clock(Role::Client, |pki| pki.expired_client().unwrap(), ENDED, silence);
}
