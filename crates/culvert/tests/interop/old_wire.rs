//! Tunnels as old profiles describe them: ciphers without tag, `fragment`, compression, and peers that do not negotiate.

use std::time::{Duration, Instant};

use culvert_testkit::{
    Cipher, Failure, Implementation, Release, Result, Role, Topology, Transport, Tunnel, TunnelSpec, patient,
    traffic::CounterStream,
};

/// A tunnel, and a word about what is special in it.
type Old = (&'static str, TunnelSpec);

/// Tunnels of a subject in this role with this peer.
pub(crate) fn specs(role: Role, peer: &Implementation) -> Vec<Old> {
    let mut specs = ciphers();
    specs.extend(digests());
    specs.extend(fragments(peer));
    specs.extend(compression(role));
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

/// Every full packet is in pieces.
fn fragments(peer: &Implementation) -> Vec<Old> {
    // 2.5 does not know the word.
    let with_headers = if peer.is_2_5() { "fragment 600" } else { "fragment 600 mtu" };
    [
        ("fragment 1200", Cipher::Aes256Gcm),
        (with_headers, Cipher::Aes256Gcm),
        ("fragment 1200", Cipher::Aes256Cbc),
        ("fragment 300", Cipher::Aes256Cfb),
    ]
    .map(|(line, cipher)| (line, both_ends(cipher, line)))
    .to_vec()
}

/// The peer compresses, where its release still does; the subject never.
fn compression(role: Role) -> Vec<Old> {
    let options = [
        "comp-lzo yes",
        "compress lzo",
        "compress lz4",
        "compress lz4-v2",
        "compress stub",
        "compress stub-v2",
    ];
    let gcm = |option: &'static str| {
        let mut spec = extra(role, "", "allow-compression yes\n");
        spec.cipher = Cipher::Aes256Gcm;
        both(&mut spec, option);
        (option, spec)
    };
    let mut specs: Vec<_> = options.into_iter().map(gcm).collect();
    let mut all = both_ends(Cipher::Aes128Cbc, "fragment 1000");
    both(&mut all, "comp-lzo");
    specs.push(("fragment 1000, comp-lzo", all));
    if role == Role::Server {
        let migrated = extra(role, "compress migrate\n", "comp-lzo no\n");
        specs.push(("compress migrate", TunnelSpec { cipher: Cipher::Aes256Gcm, ..migrated }));
    }
    specs
}

/// The peer names its cipher in the options string only, as 2.3 did, or nowhere.
fn without_negotiation(role: Role) -> Vec<Old> {
    let silent = "cipher AES-256-CBC\nncp-disable\n";
    let named = extra(role, "", silent);
    let nameless = extra(role, "data-ciphers-fallback AES-256-CBC\n", &format!("{silent}disable-occ\n"));
    let by_the_way = extra(role, "cipher AES-256-CBC\n", silent);
    vec![("ncp-disable", named), ("ncp-disable, disable-occ", nameless), ("ncp-disable, cipher", by_the_way)]
}

/// Proves that what a client of 2.5 or 2.6 compressed came through, and by its status that it did; later ones never do.
pub(crate) fn prove_compressed(tunnel: &Tunnel, client: &Implementation, note: &str) -> Result<()> {
    let compresses = ["comp-lzo yes", "compress lzo", "compress lz4", "compress lz4-v2"].contains(&note);
    let old = matches!(client, Implementation::OpenVpn(Release::V2_5 | Release::V2_6, _));
    if !compresses || !old {
        return Ok(());
    }
    let from = (&tunnel.lab.client, TunnelSpec::CLIENT_V4);
    let to = (&tunnel.lab.server, TunnelSpec::SERVER_V4);
    let stream = CounterStream::start(from, to, 1000, Duration::from_millis(2))?;
    // The status is written each second.
    let deadline = Instant::now() + patient(Duration::from_secs(10));
    while !has_shrunk(&tunnel.status(Role::Client)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    let lost = stream.stop()?.lost();
    let status = tunnel.status(Role::Client);
    if lost > 0 || !has_shrunk(&status) {
        let failure = Failure::new(format!("{lost} lost, or not compressed:\n{status}"));
        return Err(tunnel.with_logs(&failure));
    }
    Ok(())
}

/// Datagrams of one repeated byte shrink to almost nothing.
fn has_shrunk(status: &str) -> bool {
    let bytes = |name: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" bytes,")?.parse().ok())
    };
    bytes("pre-compress").zip(bytes("post-compress")).is_some_and(|(before, after)| after * 4 < before)
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
