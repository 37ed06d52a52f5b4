//! Tunnels as old profiles describe them: ciphers without tag, and peers that do not negotiate.

use culvert_testkit::{Cipher, Implementation, Role, Topology, Transport, TunnelSpec};

/// A tunnel, and a word about what is special in it.
type Old = (&'static str, TunnelSpec);

/// Tunnels of a subject in this role with this peer.
pub(crate) fn specs(role: Role, peer: &Implementation) -> Vec<Old> {
    let mut specs = ciphers();
    specs.extend(digests());
    if peer.is_2_5() {
        specs.extend(without_negotiation(role));
    }
    if role == Role::Client && peer.is_2_5() {
        // 2.5 as server forgets the peer id when it computes what it may send: three bytes are missing with CBC.
        specs.iter_mut().for_each(|(_, spec)| both(spec, "tun-mtu 1499"));
    }
    specs
}

fn ciphers() -> Vec<Old> {
    let mut specs: Vec<_> = Cipher::WITHOUT_TAG.iter().map(|cipher| ("", with(*cipher))).collect();
    let cipher = Cipher::Aes256Cbc;
    specs.push(("", TunnelSpec { transport: Transport::Tcp4, ..with(cipher) }));
    specs.push(("", TunnelSpec { topology: Topology::PointToPoint, ..with(cipher) }));
    specs
}

fn digests() -> Vec<Old> {
    ["auth SHA256", "auth SHA384", "auth SHA512", "auth SHA224", "auth MD5", "auth none"]
        .map(|line| (line, both_ends(Cipher::Aes128Cbc, line)))
        .to_vec()
}

/// The peer names its cipher in the options string only, as 2.3 did, or nowhere.
fn without_negotiation(role: Role) -> Vec<Old> {
    let silent = "cipher AES-256-CBC\nncp-disable\n";
    let named = extra(role, "", silent);
    let nameless = extra(role, "data-ciphers-fallback AES-256-CBC\n", &format!("{silent}disable-occ\n"));
    let by_the_way = extra(role, "cipher AES-256-CBC\n", silent);
    vec![("ncp-disable", named), ("ncp-disable, disable-occ", nameless), ("ncp-disable, cipher", by_the_way)]
}

fn with(cipher: Cipher) -> TunnelSpec {
    TunnelSpec { cipher, ..TunnelSpec::default() }
}

/// AES-256-CBC with lines of the subject and of its peer.
fn extra(role: Role, subject: &str, peer: &str) -> TunnelSpec {
    let (server_extra, client_extra) = match role {
        Role::Server => (subject, peer),
        Role::Client => (peer, subject),
    };
    let (server_extra, client_extra) = (server_extra.to_owned(), client_extra.to_owned());
    TunnelSpec { server_extra, client_extra, ..with(Cipher::Aes256Cbc) }
}

/// A tunnel with the same line at both ends.
fn both_ends(cipher: Cipher, line: &str) -> TunnelSpec {
    let mut spec = with(cipher);
    both(&mut spec, line);
    spec
}

fn both(spec: &mut TunnelSpec, line: &str) {
    for extra in [&mut spec.server_extra, &mut spec.client_extra] {
        extra.push_str(line);
        extra.push('\n');
    }
}
