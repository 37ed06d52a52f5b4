//! Key exchange groups: `tls-groups`, `ecdh-curve`, and the one that rustls does not bring.

use aws_lc_rs::{
    agreement::{ECDH_P521, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    rand::SystemRandom,
};
use rustls::{
    Error, NamedGroup, PeerMisbehaved,
    crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup, aws_lc_rs::kx_group},
};

type Group = &'static dyn SupportedKxGroup;

/// What is offered by default: hybrid post-quantum first, beside it X25519 in the same hello for older peers.
pub(super) static DEFAULT: &[Group] =
    &[kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1, &SECP521R1];

/// The groups that can be named, in the order of `--show-groups`.
static KNOWN: &[(&str, &[&str], Group)] = &[
    ("X25519MLKEM768", &[], kx_group::X25519MLKEM768),
    ("SecP256r1MLKEM768", &[], kx_group::SECP256R1MLKEM768),
    ("MLKEM1024", &["mlkem1024"], kx_group::MLKEM1024),
    ("MLKEM768", &["mlkem768"], kx_group::MLKEM768),
    ("X25519", &[], kx_group::X25519),
    ("prime256v1", &["secp256r1", "P-256"], kx_group::SECP256R1),
    ("secp384r1", &["P-384"], kx_group::SECP384R1),
    ("secp521r1", &["P-521"], &SECP521R1),
];

/// Returns the names of all groups, best first.
#[must_use]
pub fn group_names() -> Vec<&'static str> {
    KNOWN.iter().map(|(name, _, _)| *name).collect()
}

/// Parses a list separated by colons. Unknown names are warned about; none left is an error.
pub(super) fn parse(list: &str, warnings: &mut Vec<String>) -> Result<Vec<Group>, String> {
    let mut groups: Vec<Group> = Vec::new();
    for written in list.split([':', '/', ',']).map(str::trim).filter(|name| !name.is_empty()) {
        // OpenSSL 3.5 marks: `?` may be unknown, `*` sends a key share at once.
        let optional = written.contains('?');
        let name = written.trim_matches(['?', '*']);
        let is_it = |(own, aliases, _): &&(&str, &[&str], Group)| {
            own.eq_ignore_ascii_case(name) || aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
        };
        match KNOWN.iter().find(is_it) {
            Some((_, _, group)) if groups.iter().all(|known| known.name() != group.name()) => {
                groups.push(*group)
            }
            Some(_) => {}
            None if optional => {}
            None => warnings.push(format!("Warning: unknown curve/group specified: {name}")),
        }
    }
    if groups.is_empty() {
        return Err(format!("no known group in `{list}`; known are {}", group_names().join(":")));
    }
    Ok(groups)
}

/// Describes a group as the end of OpenVPN's `Control Channel:` line.
pub(super) fn description(group: NamedGroup) -> String {
    match group {
        NamedGroup::X25519 => ", peer temporary key: 253 bits X25519".to_owned(),
        NamedGroup::secp256r1 => ", peer temporary key: 256 bits ECprime256v1".to_owned(),
        NamedGroup::secp384r1 => ", peer temporary key: 384 bits ECsecp384r1".to_owned(),
        NamedGroup::secp521r1 => ", peer temporary key: 521 bits ECsecp521r1".to_owned(),
        NamedGroup::secp256r1MLKEM768 => ", key agreement: SecP256r1MLKEM768".to_owned(),
        other => format!(", key agreement: {other:?}"),
    }
}

/// P-521 for key exchange.
#[derive(Debug)]
struct Secp521r1;

static SECP521R1: Secp521r1 = Secp521r1;

struct Exchange {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl SupportedKxGroup for Secp521r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&ECDH_P521, &random).map_err(|_| GetRandomFailed)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?.as_ref().to_vec();
        Ok(Box::new(Exchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // RFC 8446 4.2.8.2: only uncompressed points. The library checks that the point is on the curve.
        if peer.first() != Some(&4) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let peer = UnparsedPublicKey::new(&ECDH_P521, peer);
        agree_ephemeral(self.private, peer, PeerMisbehaved::InvalidKeyShare.into(), |secret| {
            Ok(SharedSecret::from(secret))
        })
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp521r1
    }
}
