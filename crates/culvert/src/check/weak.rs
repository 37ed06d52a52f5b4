//! Settings that work and are weaker than they need to be, each with its reason; and what a start, or a tunnel, fails over.

use std::net::IpAddr;

use culvert_config::{
    Profile, Role,
    profile::{
        AllowCompression, AuthUserPass, CertPolicy, CertProfile, DigestName, ManagementAddress,
        ScriptSecurity, TlsRole, TlsVersion,
    },
};
use culvert_wire::CipherName;

use crate::finding::Finding;

/// Returns what is weak, worst first.
pub(crate) fn inspect(profile: &Profile) -> Vec<Finding> {
    let mut findings = Vec::new();
    callee(profile, &mut findings);
    management(profile, &mut findings);
    ciphers(profile, &mut findings);
    control_channel(profile, &mut findings);
    peer(profile, &mut findings);
    logins(profile, &mut findings);
    process(profile, &mut findings);
    findings
}

/// OpenVPN starts without one, and waits for ever for a server that calls its client.
fn callee(profile: &Profile, findings: &mut Vec<Finding>) {
    let is_client = profile.tls.role == Some(TlsRole::Client);
    if is_client && profile.connections.iter().any(|entry| entry.remote.is_none()) {
        findings.push(Finding::error(
            "no-remote",
            "a TLS client without `remote` has nobody to call",
            "add `remote HOST`, or write `tls-server`",
        ));
    }
}

/// A start ends over it.
fn management(profile: &Profile, findings: &mut Vec<Finding>) {
    let management = &profile.management;
    let Some(ManagementAddress::Tcp { host, .. }) = &management.at else { return };
    let is_exposed = host.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback());
    if is_exposed && management.password.is_none() && !management.insecure && !management.connects {
        findings.push(Finding::error(
            "open-management",
            format!(
                "management on {host} without a password: whoever reaches the port would control the process"
            ),
            "name a password file as third argument, listen on 127.0.0.1, or set `management-insecure`",
        ));
    }
}

fn ciphers(profile: &Profile, findings: &mut Vec<Finding>) {
    let policy = &profile.data.ciphers;
    let offered = policy.list.iter().map(|cipher| ("data-ciphers", *cipher));
    for (option, cipher) in offered.chain(policy.fallback.map(|cipher| ("data-ciphers-fallback", cipher))) {
        if cipher == CipherName::None {
            findings.push(Finding::warning(
                "no-encryption",
                format!("{option} none: data of such a peer can be read and changed on the way"),
                "remove it",
            ));
        } else if cipher.block_bits() == Some(64) {
            findings.push(Finding::warning(
                "small-block",
                format!("{option} {cipher}: blocks of 64 bits repeat after some gigabytes, and tell about the text (SWEET32)"),
                "use AES-256-GCM or CHACHA20-POLY1305; keep it only as long as a peer needs it",
            ));
        } else if !cipher.is_aead() {
            findings.push(Finding::note(
                "old-cipher",
                format!("{option} {cipher}: no kernel offload carries it, and it needs an HMAC beside it"),
                "use AES-256-GCM; keep it only as long as a peer needs it",
            ));
        }
    }
    if profile.data.allow_compression != AllowCompression::No {
        findings.push(Finding::warning(
            "compression",
            "allow-compression: the length of compressed packets tells about their text (VORACLE)",
            "remove it; where old clients need the framing, use `compress migrate` on the server",
        ));
    }
    if profile.session.reneg.is_none() && profile.session.reneg_bytes.is_none() {
        findings.push(Finding::note(
            "no-renegotiation",
            "reneg-sec 0: a key that was stolen opens everything until the tunnel ends, unless the other end renegotiates",
            "remove it; one-time codes need `auth-gen-token` on the server instead",
        ));
    }
}

fn control_channel(profile: &Profile, findings: &mut Vec<Finding>) {
    let bare = |entry: &&culvert_config::profile::ConnectionEntry| {
        entry.tls_auth.is_none() && entry.tls_crypt.is_none() && entry.tls_crypt_v2.is_none()
    };
    if profile.tls.role.is_some() && profile.connections.iter().any(|entry| bare(&entry)) {
        findings.push(match profile.role() {
            // The server decides, and most services for everybody have none.
            Role::Client => Finding::note(
                "no-control-channel-key",
                "no tls-crypt-v2, tls-crypt or tls-auth: who listens on the way sees the certificates of older TLS, and that this is OpenVPN",
                "ask for a key, if the server can be changed",
            ),
            Role::Server | Role::P2p => Finding::warning(
                "no-control-channel-key",
                "no tls-crypt-v2, tls-crypt or tls-auth: everybody can begin a TLS handshake, and see the certificates",
                "make a key (`culvert genkey tls-crypt-v2-server FILE`), if the other end can be changed too",
            ),
        });
    }
    let digest = profile.data.auth;
    if profile.connections.iter().any(|entry| entry.tls_auth.is_some()) || uses_digest(profile) {
        let weak = match digest {
            DigestName::Md5 => Some("auth MD5: MD5 is broken"),
            DigestName::None => {
                Some("auth none: packets of ciphers without a tag of their own are taken from anybody")
            }
            _ => None,
        };
        if let Some(text) = weak {
            findings.push(Finding::warning("weak-digest", text, "use `auth SHA256`, on both ends"));
        }
    }
    if profile.tls.version_min.is_some_and(|version| version < TlsVersion::V1_2) {
        findings.push(Finding::warning(
            "old-tls",
            "tls-version-min below 1.2: culvert speaks 1.2 and 1.3 only, OpenVPN with this file also what is broken",
            "remove it",
        ));
    }
    if profile.tls.cert_profile == CertProfile::Insecure {
        findings.push(Finding::warning(
            "weak-certificates-allowed",
            "tls-cert-profile insecure: certificates with SHA-1 or RSA below 2048 bits can be forged",
            "issue new ones and remove it",
        ));
    }
}

/// Whether data packets may need an HMAC.
fn uses_digest(profile: &Profile) -> bool {
    let policy = &profile.data.ciphers;
    policy.list.iter().chain(&policy.fallback).any(|cipher| !cipher.is_aead() && *cipher != CipherName::None)
}

fn peer(profile: &Profile, findings: &mut Vec<Finding>) {
    let server = &profile.server;
    match profile.role() {
        Role::Server => {
            if server.client_cert != CertPolicy::Require {
                findings.push(Finding::note(
                    "no-client-certificates",
                    "verify-client-cert none or optional: a password alone lets a client in",
                    "give clients certificates, or a second factor (`auth-users`)",
                ));
            }
            if server.duplicate_cn {
                findings.push(Finding::note(
                    "shared-certificates",
                    "duplicate-cn: a certificate that several clients share cannot be revoked for one of them",
                    "give each client its own certificate and remove it",
                ));
            }
        }
        Role::Client | Role::P2p => {
            let told = profile.tls.tells_servers_from_clients(profile.scripts.tls_verify.is_some());
            if profile.role() == Role::Client && !told {
                findings.push(Finding::warning(
                    "server-not-told-from-clients",
                    "nothing tells the server from another client that the same authority signed",
                    "add `remote-cert-tls server`, or `verify-x509-name NAME name`",
                ));
            }
        }
    }
    if profile.tls.any_usage {
        findings.push(Finding::warning(
            "any-usage",
            "remote-cert-tls none: a certificate for the other side of TLS is accepted too",
            "remove it",
        ));
    }
}

fn logins(profile: &Profile, findings: &mut Vec<Finding>) {
    if matches!(profile.client.auth_user_pass, Some(AuthUserPass::Stored(_))) {
        findings.push(Finding::note(
            "stored-password",
            "auth-user-pass with a file or a block: who reads it has the password",
            "let it be asked for, or see that only root reads it",
        ));
    }
    if profile.scripts.security == ScriptSecurity::PasswordsInEnvironment {
        findings.push(Finding::note(
            "passwords-in-environment",
            "script-security 3: programs get passwords in their environment, which others may see",
            "use `via-file` and `script-security 2`",
        ));
    }
}

fn process(profile: &Profile, findings: &mut Vec<Finding>) {
    if profile.process.user.is_none() && profile.role() == Role::Server {
        findings.push(Finding::note(
            "runs-as-root",
            "no `user`: the process keeps all rights that it was started with",
            "add `user nobody` and `group nogroup`, or start it by a unit that drops them",
        ));
    }
}
