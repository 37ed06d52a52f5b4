//! Whom to take for the right peer.

use super::*;
use crate::{
    args::{Args, Problem, problem},
    profile::{CrlSource, KeyUsage, NameCheck, NameCheckKind, RemoteRole},
};

pub(super) const ROWS: &[OptionRow] = &[
row("crl-verify", "FILE|DIR [dir]", "refuse revoked certificates; file is re-read when it changes").live_tls()
.group(Group::Tls)
.also(INLINE)
.set(|d, a| {
    d.profile.tls.crl = Some(match a.get(1) {
        None => CrlSource::Pem(a.material()),
        Some("dir") => CrlSource::Directory(a.path(0)),
        Some(word) => return Err(Problem::unrecognized().at(1).explain(format!("`{word}` is not `dir`"))),
    });
    Ok(())
}),
row("peer-fingerprint", "HASH...", "accept these SHA-256 leaf fingerprints; CA optional").live_tls()
.group(Group::Tls)
.also(INLINE)
.arity(1, 1)
.set(|d, a| {
    if !d.profile.tls.verify_hash.is_empty() {
        return Err(exclusive_hashes(a.name));
    }
    let hashes = read::fingerprints(a, 32)?.into_iter().filter_map(|hash| <[u8; 32]>::try_from(hash).ok());
    d.profile.tls.peer_fingerprints.extend(hashes);
    Ok(())
}),
row("verify-x509-name", "NAME [subject|name|name-prefix]", "check the peer name").live_tls()
.group(Group::Tls)
.default("subject")
.set(|d, a| {
    let choices = [
        ("subject", NameCheckKind::Subject),
        ("name", NameCheckKind::Name),
        ("name-prefix", NameCheckKind::NamePrefix),
    ];
    if a.str(0).is_empty() {
        return Err(Problem::unrecognized().at(0).explain("the name is empty"));
    }
    let kind = match a.get(1) {
        None => NameCheckKind::Subject,
        Some(_) => a.one_of(1, &choices, |word| format!("unknown X.509 name type: {word}"))?,
    };
    d.profile.tls.verify_x509_name = Some(NameCheck { name: a.string(0), kind });
    Ok(())
}),
row("x509-username-field", "FIELD...", "which certificate field is the common name").live_tls()
.group(Group::Tls)
.default("CN")
.set(|d, a| {
    if let Some(index) = a.words.iter().position(|word| unsupported_extension(&word.text)) {
        let text = format!("Unsupported x509-username-field extension: {}", a.str(index));
        return Err(problem(text).at(index).remedy("write ext:subjectAltName or ext:issuerAltName"));
    }
    d.profile.tls.username_fields = a.rest(0);
    Ok(())
}),
row("remote-cert-tls", "client|server|none", "require the usual usages of a client or server certificate").live_tls()
.group(Group::Tls)
.set(|d, a| {
    // culvert's own: takes back that a certificate for the other side only is refused.
    d.profile.tls.any_usage = a.str(0) == "none";
    if d.profile.tls.any_usage {
        d.profile.tls.remote_cert_tls = None;
        return Ok(());
    }
    let role = role(a, "--remote-cert-tls must be 'client' or 'server'")?;
    d.profile.tls.remote_cert_tls = Some(role);
    Ok(())
}),
row("remote-cert-eku", "OID", "require extended key usage").live_tls()
.group(Group::Tls)
.set(|d, a| {
    d.profile.tls.remote_cert_eku = Some(a.string(0));
    Ok(())
}),
row("remote-cert-ku", "[HEX...]", "require key usage").live_tls()
.group(Group::Tls)
.set(|d, a| {
    let mut sets = Vec::new();
    for (index, word) in a.words.iter().enumerate() {
        let digits = word.text.trim_start_matches("0x");
        let bits = u16::from_str_radix(digits, 16).map_err(|_| {
            problem(format!("remote-cert-ku: '{}' is not a hexadecimal number", word.text)).at(index).late()
        })?;
        sets.push(bits);
    }
    d.profile.tls.remote_cert_ku = Some(if sets.is_empty() { KeyUsage::Present } else { KeyUsage::AnyOf(sets) });
    Ok(())
}),
row("verify-hash", "HASH [SHA1|SHA256]", "pin the level-1 certificate").live_tls()
.group(Group::Tls)
.also(INLINE)
.default("SHA1; inline SHA256")
.set(|d, a| {
    d.warn(
        "DEPRECATED OPTION: The option --verify-hash is deprecated. You should switch to the either use the level 1 \
         certificate as --ca option, use --tls-verify or use --peer-fingerprint",
    );
    if !d.profile.tls.peer_fingerprints.is_empty() {
        return Err(exclusive_hashes(a.name));
    }
    let len = match (a.get(1), a.inline) {
        (None, None) | (Some("SHA1"), _) => 20,
        (None, Some(_)) | (Some("SHA256"), _) => 32,
        (Some(word), _) => {
            let text = format!("invalid or unsupported hashing algorithm: {word} (only SHA1 and SHA256 are supported)");
            return Err(problem(text).at(1));
        }
    };
    d.profile.tls.verify_hash.extend(read::fingerprints(a, len)?);
    Ok(())
}),
row("ns-cert-type", "client|server", "check the old Netscape extension").live_tls()
.group(Group::Tls)
.set(|d, a| {
    let role = role(a, "--ns-cert-type must be 'client' or 'server'")?;
    d.profile.tls.ns_cert_type = Some(role);
    Ok(())
}),
];

fn role(a: &Args<'_>, wrong: &str) -> Result<RemoteRole, Problem> {
    a.one_of(0, &[("client", RemoteRole::Client), ("server", RemoteRole::Server)], |_| wrong.to_owned())
}

fn exclusive_hashes(name: &str) -> Problem {
    problem(format!(
        "ERROR: Setting {name} not allowed. --verify-hash and --peer-fingerprint are \
                mutually exclusive"
    ))
}

fn unsupported_extension(field: &str) -> bool {
    field.strip_prefix("ext:").is_some_and(|name| name != "subjectAltName" && name != "issuerAltName")
}
