//! What a leaf certificate may be used for: key usage, extended key usage, Netscape's type. Lines as OpenVPN's.

use rustls::CertificateError;

use super::{KeyUsageRule, PeerRules, TlsRole, certificate::Certificate, refusal::Refusal};

/// Applies `ns-cert-type`, `remote-cert-ku`, `remote-cert-eku` in OpenVPN's order and appends its lines.
pub(super) fn check(rules: &PeerRules, leaf: &Certificate<'_>, log: &mut Vec<String>) -> Result<(), Refusal> {
    if let Some(role) = rules.netscape_type {
        let name = match role {
            TlsRole::Client => "CLIENT",
            TlsRole::Server => "SERVER",
        };
        if !leaf.is_netscape_type(role) && !names_role(leaf, role) {
            let line =
                format!("VERIFY nsCertType ERROR: {}, require nsCertType={name}", leaf.subject_lossy());
            return Err(Refusal::new(line, CertificateError::InvalidPurpose).hint(
                "replace `ns-cert-type` by `remote-cert-tls`: the old extension is hardly ever issued today",
            ));
        }
        log.push(format!("VERIFY OK: nsCertType={name}"));
    }
    check_key_usage(&rules.key_usage, leaf, log)?;
    if let Some(expected) = &rules.extended_key_usage {
        check_extended(expected, leaf, log)?;
    }
    Ok(())
}

/// Refuses a certificate whose extended key usage exists and lacks `role` (SEC-AUTH-5). CA certificates too: a CA that
/// may issue for one side only must not vouch for the other.
pub(super) fn check_contrary(
    role: TlsRole,
    depth: usize,
    certificate: &Certificate<'_>,
) -> Result<(), Refusal> {
    match certificate.extended_key_usage() {
        None => Ok(()),
        Some(purposes) if purposes.iter().any(|purpose| fits(purpose, role)) => Ok(()),
        Some(_) => Err(Refusal::verify(
            depth,
            "unsuitable certificate purpose",
            &certificate.subject_lossy(),
            &certificate.serial(),
            CertificateError::InvalidPurpose,
        )
        .hint(match role {
            TlsRole::Server => {
                "this is not a server's certificate: issue one with the extended key usage `serverAuth`, or accept it \
                 with `remote-cert-tls none`"
            }
            TlsRole::Client => {
                "this is not a client's certificate: issue one with the extended key usage `clientAuth`"
            }
        })),
    }
}

/// Whether the certificate says what it is for at all.
pub(super) fn is_named(certificate: &Certificate<'_>) -> bool {
    certificate.extended_key_usage().is_some()
}

/// Old OpenSSL took the extended key usage for Netscape's type where that is missing; so do its users' files.
fn names_role(leaf: &Certificate<'_>, role: TlsRole) -> bool {
    leaf.extended_key_usage().is_some_and(|purposes| purposes.iter().any(|purpose| purpose == oid_of(role)))
}

const fn oid_of(role: TlsRole) -> &'static str {
    match role {
        TlsRole::Server => "1.3.6.1.5.5.7.3.1",
        TlsRole::Client => "1.3.6.1.5.5.7.3.2",
    }
}

fn fits(purpose: &str, role: TlsRole) -> bool {
    // Any purpose is no contrary purpose. The step-up OIDs of Netscape and Microsoft count for a server, as in OpenSSL.
    purpose == oid_of(role)
        || purpose == "2.5.29.37.0"
        || (role == TlsRole::Server && matches!(purpose, "2.16.840.1.113730.4.1" | "1.3.6.1.4.1.311.10.3.3"))
}

fn check_key_usage(
    rule: &KeyUsageRule,
    leaf: &Certificate<'_>,
    log: &mut Vec<String>,
) -> Result<(), Refusal> {
    let expected = match rule {
        KeyUsageRule::Any => return Ok(()),
        KeyUsageRule::Present => &[][..],
        KeyUsageRule::OneOf(expected) => expected,
    };
    let refuse = |mut lines: Vec<String>| {
        lines.push("VERIFY KU ERROR".to_owned());
        let mut refusal = Refusal::new("", CertificateError::InvalidPurpose).hint(
            "issue the peer's certificate with the extension `keyUsage` (digitalSignature), or drop `remote-cert-ku` \
             or `remote-cert-tls` here",
        );
        refusal.lines = lines;
        refusal
    };
    let Some(usage) = leaf.key_usage() else {
        return Err(refuse(vec!["Certificate does not have key usage extension".to_owned()]));
    };
    if *rule != KeyUsageRule::Present {
        log.push("Validating certificate key usage".to_owned());
        let usage = openvpn_number(usage);
        if !expected.iter().any(|&wanted| wanted != 0 && usage & wanted == wanted) {
            let mut lines = vec![format!("ERROR: Certificate has key usage {usage:04x}, expected one of:")];
            lines.extend(expected.iter().map(|wanted| format!(" * {wanted:04x}")));
            return Err(refuse(lines));
        }
    }
    log.push("VERIFY KU OK".to_owned());
    Ok(())
}

/// OpenVPN counts the eight usages from the left, `digitalSignature` is 0x80; `decipherOnly`, the ninth, is not seen.
const fn openvpn_number(flags: u16) -> u16 {
    (flags & 0xff).reverse_bits() >> 8
}

fn check_extended(expected: &str, leaf: &Certificate<'_>, log: &mut Vec<String>) -> Result<(), Refusal> {
    let refuse = |lines: Vec<String>| {
        let mut refusal = Refusal::new("", CertificateError::InvalidPurpose).hint(
            "issue the peer's certificate with that extended key usage (a server's: serverAuth, a client's: clientAuth)",
        );
        refusal.lines = lines;
        refusal.lines.push("VERIFY EKU ERROR".to_owned());
        refusal
    };
    let Some(purposes) = leaf.extended_key_usage() else {
        return Err(refuse(vec!["Certificate does not have extended key usage extension".to_owned()]));
    };
    let mut lines = vec!["Validating certificate extended key usage".to_owned()];
    for oid in &purposes {
        let name = PURPOSES.iter().find(|(known, _)| known == oid).map_or(oid.as_str(), |(_, name)| name);
        lines.push(format!("++ Certificate has EKU (str) {name}, expects {expected}"));
        if name != expected {
            lines.push(format!("++ Certificate has EKU (oid) {oid}, expects {expected}"));
        }
        if name == expected || oid == expected {
            log.append(&mut lines);
            log.push("VERIFY EKU OK".to_owned());
            return Ok(());
        }
    }
    Err(refuse(lines))
}

/// Purposes of an extended key usage: OID and OpenSSL's long name, which `remote-cert-eku` is compared with.
pub(super) const PURPOSES: &[(&str, &str)] = &[
    ("1.3.6.1.5.5.7.3.1", "TLS Web Server Authentication"),
    ("1.3.6.1.5.5.7.3.2", "TLS Web Client Authentication"),
    ("1.3.6.1.5.5.7.3.3", "Code Signing"),
    ("1.3.6.1.5.5.7.3.4", "E-mail Protection"),
    ("1.3.6.1.5.5.7.3.5", "IPSec End System"),
    ("1.3.6.1.5.5.7.3.6", "IPSec Tunnel"),
    ("1.3.6.1.5.5.7.3.7", "IPSec User"),
    ("1.3.6.1.5.5.7.3.8", "Time Stamping"),
    ("1.3.6.1.5.5.7.3.9", "OCSP Signing"),
    ("1.3.6.1.5.5.7.3.17", "ipsec Internet Key Exchange"),
    ("2.5.29.37.0", "Any Extended Key Usage"),
    ("1.3.6.1.4.1.311.20.2.2", "Microsoft Smartcard Login"),
];
