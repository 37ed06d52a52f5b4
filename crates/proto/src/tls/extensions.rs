//! Extensions of certificates as OpenSSL 3 prints them on one line, for scripts that follow them (`x509-track`).
//!
//! Only those whose text is a list of words; a line end inside of one is a `?`, as OpenVPN makes it.

use x509_parser::{
    asn1_rs::{Any, FromDer as _, Oid, Tag},
    certificate::X509Certificate,
    extensions::{AuthorityKeyIdentifier, BasicConstraints, GeneralName, ParsedExtension, X509Extension},
    x509::X509Name,
};

use super::{certificate::colons, distinguished_name, usage::PURPOSES};

/// Returns the extensions that are understood, by OpenSSL's short names; the first of each name.
pub(super) fn shown(x509: &X509Certificate<'_>) -> Vec<(String, String)> {
    let mut shown: Vec<(String, String)> = Vec::new();
    for (name, text) in x509.extensions().iter().filter_map(show) {
        if shown.iter().all(|(known, _)| *known != name) {
            let text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            shown.push((name.to_owned(), text));
        }
    }
    shown
}

fn show(extension: &X509Extension<'_>) -> Option<(&'static str, String)> {
    Some(match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            ("subjectAltName", general_names(&names.general_names)?)
        }
        ParsedExtension::IssuerAlternativeName(names) => {
            ("issuerAltName", general_names(&names.general_names)?)
        }
        ParsedExtension::KeyUsage(usage) => ("keyUsage", words(usage.flags.into(), KEY_USAGES)),
        ParsedExtension::ExtendedKeyUsage(_) => ("extendedKeyUsage", purposes(extension.value)?),
        ParsedExtension::BasicConstraints(constraints) => {
            ("basicConstraints", of_basic_constraints(constraints))
        }
        ParsedExtension::SubjectKeyIdentifier(id) => ("subjectKeyIdentifier", upper(id.0)),
        ParsedExtension::AuthorityKeyIdentifier(id) => ("authorityKeyIdentifier", of_authority(id)?),
        ParsedExtension::NsCertComment(text) => ("nsComment", (*text).to_owned()),
        ParsedExtension::NSCertType(_) => ("nsCertType", words(bits(extension.value)?, NETSCAPE_TYPES)),
        _ => return None,
    })
}

fn upper(bytes: &[u8]) -> String {
    colons(bytes).to_uppercase()
}

/// The words whose bits are set, from bit 0 on.
fn words(flags: u32, names: &[&str]) -> String {
    let set = names.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// A bit string's bits, the first one as bit 0.
fn bits(der: &[u8]) -> Option<u32> {
    let (_, any) = Any::from_der(der).ok()?;
    let (_unused, bytes) = any.data.split_first().filter(|_| any.tag() == Tag::BitString)?;
    let first = bytes.first().copied().unwrap_or_default();
    Some(u32::from(first.reverse_bits()))
}

fn purposes(der: &[u8]) -> Option<String> {
    let (_, purposes) = Vec::<Oid<'_>>::from_der(der).ok()?;
    let named = purposes.iter().map(|oid| {
        let oid = oid.to_id_string();
        PURPOSES.iter().find(|(known, _)| *known == oid).map_or(oid.clone(), |(_, name)| (*name).to_owned())
    });
    Some(named.collect::<Vec<_>>().join(", "))
}

fn of_basic_constraints(constraints: &BasicConstraints) -> String {
    let authority = if constraints.ca { "CA:TRUE" } else { "CA:FALSE" };
    let length = constraints.path_len_constraint.map(|length| format!(", pathlen:{length}"));
    authority.to_owned() + &length.unwrap_or_default()
}

fn of_authority(id: &AuthorityKeyIdentifier<'_>) -> Option<String> {
    let key = id.key_identifier.as_ref().map(|key| upper(key.0));
    if id.authority_cert_issuer.is_none() && id.authority_cert_serial.is_none() {
        return key;
    }
    let mut lines: Vec<_> = key.map(|key| format!("keyid:{key}")).into_iter().collect();
    for name in id.authority_cert_issuer.iter().flatten() {
        lines.push(general_name(name)?);
    }
    lines.extend(id.authority_cert_serial.map(|serial| format!("serial:{}", upper(serial))));
    Some(lines.join("\n"))
}

fn general_names(names: &[GeneralName<'_>]) -> Option<String> {
    Some(names.iter().map(general_name).collect::<Option<Vec<_>>>()?.join(", "))
}

/// `None` for what cannot be read: then nothing of the extension is shown.
fn general_name(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::URI(name) => format!("URI:{name}"),
        GeneralName::IPAddress(bytes) => format!("IP Address:{}", address(bytes)),
        GeneralName::RegisteredID(oid) => format!("Registered ID:{}", oid.to_id_string()),
        GeneralName::DirectoryName(name) => format!("DirName:{}", slashes(name)?),
        GeneralName::OtherName(kind, value) => other_name(&kind.to_id_string(), value)?,
        GeneralName::X400Address(_) => "X400Name:<unsupported>".to_owned(),
        GeneralName::EDIPartyName(_) => "EdiPartyName:<unsupported>".to_owned(),
        GeneralName::Invalid(..) => return None,
    })
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        // All eight groups, none shortened.
        Ok(v6) => {
            let groups = std::net::Ipv6Addr::from(v6).segments();
            groups.map(|group| format!("{group:X}")).join(":")
        }
        Err(_) => "<invalid>".to_owned(),
    }
}

fn slashes(name: &X509Name<'_>) -> Option<String> {
    let fields = distinguished_name::fields(name).ok()?;
    Some(fields.iter().map(|field| format!("/{}={}", field.name, field.value)).collect())
}

fn other_name(kind: &str, value: &[u8]) -> Option<String> {
    let name = OTHER_NAMES.iter().find(|(known, _)| *known == kind).map_or(kind, |(_, name)| name);
    let (_, wrapped) = Any::from_der(value).ok()?;
    let (_, inner) = Any::from_der(wrapped.data).ok()?;
    let text = match inner.tag() {
        Tag::Utf8String => String::from_utf8(inner.data.to_vec()).ok()?,
        _ => "<unsupported>".to_owned(),
    };
    Some(format!("othername: {name}::{text}"))
}

/// RFC 5280, 4.2.1.3, in its order.
const KEY_USAGES: &[&str] = &[
    "Digital Signature",
    "Non Repudiation",
    "Key Encipherment",
    "Data Encipherment",
    "Key Agreement",
    "Certificate Sign",
    "CRL Sign",
    "Encipher Only",
    "Decipher Only",
];

const NETSCAPE_TYPES: &[&str] = &[
    "SSL Client",
    "SSL Server",
    "S/MIME",
    "Object Signing",
    "Unused",
    "SSL CA",
    "S/MIME CA",
    "Object Signing CA",
];

const OTHER_NAMES: &[(&str, &str)] = &[
    ("1.3.6.1.4.1.311.20.2.3", "UPN"),
    ("1.3.6.1.5.5.7.8.5", "XmppAddr"),
    ("1.3.6.1.5.5.7.8.9", "SmtpUTF8Mailbox"),
];

#[cfg(test)]
mod tests {
    use super::{super::certificate::Certificate, *};

    fn fixture() -> Vec<u8> {
        let pem = include_bytes!("../../tests/fixtures/tls/extensions.crt.pem");
        super::super::pem::certificates(pem).unwrap().remove(0)
    }

    /// Whatever stands in a certificate, looking at it harms nobody.
    #[test]
    fn damaged_extensions_make_nothing_panic() {
        let good = fixture();
        for at in 0..good.len() {
            for flip in [1, 0x20, 0x80, 0xFF] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                if let Some(certificate) = Certificate::parse(&bad) {
                    let texts = shown(&certificate.x509);
                    assert!(texts.iter().all(|(_, text)| !text.contains(char::is_control)), "{at} {flip}");
                }
            }
        }
    }

    /// A certificate that OpenSSL 3.0 made, with what its own `X509V3_EXT_print` says of it.
    #[test]
    fn extensions_are_shown_as_openssl_shows_them() {
        let der = fixture();
        let certificate = Certificate::parse(&der).unwrap();
        let key = "0A:BE:0A:A1:03:BE:37:BB:CA:B9:1B:C5:E9:1F:32:50:DE:47:B6:8E";
        let expected = [
            ("basicConstraints", "CA:TRUE, pathlen:3".to_owned()),
            (
                "keyUsage",
                "Digital Signature, Non Repudiation, Key Encipherment, Certificate Sign, CRL Sign".to_owned(),
            ),
            (
                "extendedKeyUsage",
                "TLS Web Client Authentication, TLS Web Server Authentication, 1.2.3.4, E-mail Protection, Code Signing, \
                 Time Stamping, OCSP Signing, Any Extended Key Usage, Microsoft Smartcard Login, ipsec Internet Key Exchange"
                    .to_owned(),
            ),
            ("subjectKeyIdentifier", key.to_owned()),
            ("authorityKeyIdentifier", format!("keyid:{key}?DirName:/CN=test?serial:0D:68")),
            (
                "subjectAltName",
                "DNS:a.example, DNS:*.b.example, email:x@y.z, IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, \
                 URI:http://u/, Registered ID:1.2.3.4, DirName:/C=DE/CN=dir name, othername: UPN::upn@example.org"
                    .to_owned(),
            ),
            ("nsComment", "hello there".to_owned()),
            ("nsCertType", "SSL Client, SSL Server".to_owned()),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        assert_eq!(shown(&certificate.x509), expected);
    }
}
