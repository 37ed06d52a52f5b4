//! Who a certificate says its holder is: `x509-username-field` and `verify-x509-name`.

use rustls::CertificateError;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::{
    NameKind, NameRule,
    certificate::Certificate,
    distinguished_name::{self, Field},
    refusal::Refusal,
};

/// Longest name, in bytes.
const MAX_NAME: usize = 64;

/// Takes the name out of the configured fields, joined by `_`. `CN` where none is configured.
pub(super) fn common_name(
    username_fields: &[String],
    leaf: &Certificate<'_>,
    fields: &[Field],
) -> Result<String, Refusal> {
    let default = [String::from("CN")];
    let wanted = if username_fields.is_empty() { &default[..] } else { username_fields };
    let mut name = String::new();
    for (index, field) in wanted.iter().enumerate() {
        if index > 0 {
            name.push('_');
        }
        name.push_str(&one_field(field, leaf, fields)?);
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(not_extracted(&wanted.join(" "), fields));
    }
    Ok(name)
}

/// Applies `verify-x509-name`; the line is the same for all kinds.
pub(super) fn check(
    rule: &NameRule,
    name: &str,
    subject: &str,
    log: &mut Vec<String>,
) -> Result<(), Refusal> {
    let fits = match rule.kind {
        NameKind::Subject => subject == rule.name,
        NameKind::Name => name == rule.name,
        NameKind::NamePrefix => name.starts_with(&rule.name),
    };
    if fits {
        log.push(format!("VERIFY X509NAME OK: {subject}"));
        return Ok(());
    }
    let line = format!("VERIFY X509NAME ERROR: {subject}, must be {}", rule.name);
    Err(Refusal::new(line, CertificateError::ApplicationVerificationFailure).hint(
        "another host answered, or `verify-x509-name` expects another name (kinds: subject, name, name-prefix)",
    ))
}

fn one_field(field: &str, leaf: &Certificate<'_>, fields: &[Field]) -> Result<String, Refusal> {
    if let Some(extension) = field.strip_prefix("ext:") {
        return alternative_email(extension, leaf).ok_or_else(|| not_extracted(field, fields));
    }
    if field == "serialNumber" {
        let digits: String = leaf.serial_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        return Ok(format!("0x{digits}"));
    }
    let upper = field.to_ascii_uppercase();
    let oid = distinguished_name::oid_of(field).or_else(|| distinguished_name::oid_of(&upper));
    let mut values = fields.iter().filter(|candidate| Some(candidate.oid.as_str()) == oid);
    let value = values.next().ok_or_else(|| not_extracted(field, fields))?;
    if values.next().is_some() {
        // SEC-AUTH-4: OpenVPN takes the last, a script may take the first.
        let line = format!(
            "VERIFY ERROR: depth=0, the field {field} occurs twice in '{}'",
            distinguished_name::one_line(fields)
        );
        return Err(Refusal::new(line, CertificateError::BadEncoding)
            .hint("re-issue the certificate with one such field, or choose another `x509-username-field`"));
    }
    Ok(value.value.clone())
}

/// The one e-mail address of the subject's or issuer's alternative names.
fn alternative_email(extension: &str, leaf: &Certificate<'_>) -> Option<String> {
    let names = leaf.x509.extensions().iter().find_map(|candidate| match candidate.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) if extension == "subjectAltName" => {
            Some(&names.general_names)
        }
        ParsedExtension::IssuerAlternativeName(names) if extension == "issuerAltName" => {
            Some(&names.general_names)
        }
        _ => None,
    })?;
    let mut addresses = names.iter().filter_map(|name| match name {
        GeneralName::RFC822Name(address) => Some(*address),
        _ => None,
    });
    let address = addresses.next()?;
    let alone = addresses.next().is_none() && !address.chars().any(char::is_control);
    alone.then(|| address.to_owned())
}

fn not_extracted(field: &str, fields: &[Field]) -> Refusal {
    let line = format!(
        "VERIFY ERROR: could not extract {field} from X509 subject string ('{}') -- note that the field length is \
         limited to {MAX_NAME} characters",
        distinguished_name::one_line(fields)
    );
    Refusal::new(line, CertificateError::ApplicationVerificationFailure)
        .hint("issue the certificate with that field, or name another in `x509-username-field`")
}
