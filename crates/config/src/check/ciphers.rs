//! Which data channel ciphers may be negotiated, which digest, and what `compat-mode` relaxes.

use culvert_wire::CipherName;

use super::Findings;
use crate::{
    cipher_list::{self, CipherListError},
    diagnostic::Severity,
    draft::Draft,
    profile::{DigestName, Mode, TlsVersion},
    value::Compression,
};

/// Decides all of it.
pub(super) fn decide(d: &mut Draft, f: &mut Findings) {
    data_ciphers(d, f);
    let written = d.cipher.clone();
    let mut cipher = written.as_deref().and_then(|name| name.parse::<CipherName>().ok());
    if let (Some(name), None) = (&written, cipher) {
        unknown_cipher(d, f, name);
    }
    if let Some(name) = written.as_deref().filter(|name| d.fallback && is_left_out(d, name)) {
        f.error("data-ciphers-fallback", format!("Unsupported cipher: {name}"), LEGACY);
    }
    let before = |version| d.profile.compat_mode.is_some_and(|mode| mode < version);
    if d.profile.tls.version_min.is_none() {
        let max = d.profile.tls.version_max;
        let min = if before((2, 3, 7)) {
            TlsVersion::V1_0
        } else {
            max.map_or(TlsVersion::V1_2, |max| max.min(TlsVersion::V1_2))
        };
        d.profile.tls.version_min = Some(min);
    }
    let mut fallback = d.fallback;
    if before((2, 4, 0)) {
        cipher = cipher.or(Some(CipherName::BfCbc));
        fallback = true;
    }
    if let (Some(cipher), true) = (cipher, before((2, 5, 0)))
        && !d.profile.data.ciphers.list.contains(&cipher)
    {
        d.profile.data.ciphers.list.push(cipher);
    }
    let negotiating = d.profile.client.pull || d.profile.mode == Mode::Server;
    if !negotiating && written.is_some() {
        // One of two ends: `cipher` is what remains when the other cannot negotiate.
        fallback = true;
    }
    if negotiating && !fallback {
        hint(d, f, written.as_deref(), cipher);
    }
    d.profile.data.ciphers.cipher = cipher;
    d.profile.data.ciphers.fallback = cipher.filter(|_| fallback);
    digest(d, f);
    compression(d, f);
}

fn data_ciphers(d: &mut Draft, f: &mut Findings) {
    let culprit = if f.has("data-ciphers") { "data-ciphers" } else { "ncp-ciphers" };
    let Some(text) = &d.data_ciphers else { return };
    let legacy = d.profile.data.legacy_provider;
    match cipher_list::parse_available(text, |cipher| legacy || !cipher.needs_opt_in()) {
        Ok(list) => d.profile.data.ciphers.list = list,
        Err(error) => {
            let remedy = match &error {
                CipherListError::Unsupported(name) if is_left_out(d, name) => LEGACY,
                CipherListError::Unsupported(_) => {
                    "write `?` before a cipher that may be missing, or remove it"
                }
                _ => "write `data-ciphers DEFAULT`",
            };
            f.error(culprit, "--data-ciphers list contains unsupported ciphers or is too long.", remedy);
            f.explain(error.to_string());
        }
    }
    if d.profile.data.ciphers.list.contains(&CipherName::None) {
        let line = "WARNING: cipher 'none' specified for --data-ciphers. This allows negotiation of NO encryption and \
                    tunnelled data WILL then be transmitted in clear text over the network! PLEASE DO RECONSIDER THIS SETTING!";
        f.note(Severity::Warning, culprit, line, "remove `none`");
    }
}

/// What brings back the ciphers that OpenSSL 3 put aside.
const LEGACY: &str = "choose another cipher, or add `providers legacy default`";

/// Whether a cipher is known, and left out unless asked for.
fn is_left_out(d: &Draft, name: &str) -> bool {
    !d.profile.data.legacy_provider && name.parse().is_ok_and(CipherName::needs_opt_in)
}

/// A cipher that nobody knows: only a fallback is really used, elsewhere it is a hint.
fn unknown_cipher(d: &Draft, f: &mut Findings, name: &str) {
    if d.fallback {
        f.error(
            "data-ciphers-fallback",
            format!("Unsupported cipher: {name}"),
            "write the name of a known cipher",
        );
    } else if !d.profile.client.pull && d.profile.mode == Mode::P2p {
        f.error("cipher", format!("Unsupported cipher: {name}"), "write the name of a known cipher");
    }
}

/// Tells what becomes of `cipher` where ciphers are negotiated.
fn hint(d: &Draft, f: &mut Findings, written: Option<&str>, cipher: Option<CipherName>) {
    let list = d.data_ciphers.as_deref().unwrap_or("DEFAULT");
    match written {
        None => {
            let line = format!(
                "Note: --cipher is not set. OpenVPN versions before 2.5 defaulted to BF-CBC as fallback when cipher negotiation \
                 failed in this case. If you need this fallback please add '--data-ciphers-fallback BF-CBC' to your \
                 configuration and/or add BF-CBC to --data-ciphers. E.g. --data-ciphers {list}:BF-CBC"
            );
            f.note(Severity::Note, "", line, "");
        }
        Some(name) if !cipher.is_some_and(|cipher| d.profile.data.ciphers.list.contains(&cipher)) => {
            let line = format!(
                "DEPRECATED OPTION: --cipher set to '{name}' but missing in --data-ciphers ({list}). OpenVPN ignores --cipher \
                 for cipher negotiations. "
            );
            f.note(Severity::Warning, "cipher", line, "remove `cipher`, or list it in `data-ciphers`");
        }
        Some(_) => {}
    }
}

fn digest(d: &mut Draft, f: &mut Findings) {
    let Some(name) = d.auth.clone() else { return };
    match parse_digest(&name) {
        Some(digest) => d.profile.data.auth = digest,
        None => f.error(
            "auth",
            format!("Message hash algorithm '{name}' not found"),
            "write SHA256, SHA512, SHA384, SHA224, SHA1, MD5 or none",
        ),
    }
}

fn parse_digest(name: &str) -> Option<DigestName> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("RSA-").unwrap_or(&upper);
    Some(match bare {
        "SHA1" | "SHA" | "SHA-1" => DigestName::Sha1,
        "MD5" => DigestName::Md5,
        "SHA224" | "SHA2-224" | "SHA-224" => DigestName::Sha224,
        "SHA256" | "SHA2-256" | "SHA-256" => DigestName::Sha256,
        "SHA384" | "SHA2-384" | "SHA-384" => DigestName::Sha384,
        "SHA512" | "SHA2-512" | "SHA-512" => DigestName::Sha512,
        "NONE" if name == "none" => DigestName::None,
        _ => return None,
    })
}

fn compression(d: &mut Draft, f: &mut Findings) {
    let before_2_6 = d.profile.compat_mode.is_some_and(|mode| mode < (2, 6, 0));
    let data = &mut d.profile.data;
    // `comp-lzo no` is a stub that, unlike the others, leaves the default as it is.
    let silent = matches!(data.compression, Compression::Off | Compression::LzoStub);
    data.accepts_compression = d.allow_compression.map_or(before_2_6 || !silent, |word| word != "no");
    data.advertises_decompression =
        data.accepts_compression && !matches!(data.compression, Compression::Stub | Compression::StubV2);
    if d.allow_compression == Some("no") && d.profile.data.compression.expects_compressed() {
        let text = "Compression is not allowed since allow-compression is set to 'stub-only'";
        f.error("allow-compression", text, "remove the compression option");
    }
    if d.profile.data.compression == Compression::Migrate && d.profile.mode != Mode::Server {
        let line = "Note: --compress migrate has an effect on servers only";
        f.note(Severity::Note, "compress", line, "remove it");
    }
}
