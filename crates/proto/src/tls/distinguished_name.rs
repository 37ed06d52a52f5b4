//! Names of certificates as OpenVPN prints them: OpenSSL's one line with `, ` between fields, ` + ` inside one,
//! short names, UTF-8, nothing escaped but control characters (which we refuse, SEC-AUTH-4).

use x509_parser::{
    asn1_rs::{Any, Tag},
    x509::X509Name,
};

/// A name that is not to be trusted: it holds NUL or a control character, or an unreadable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadName;

/// Gives the fields in order, name and value, and whether each begins a new relative name.
pub(super) fn fields(name: &X509Name<'_>) -> Result<Vec<Field>, BadName> {
    let mut fields = Vec::new();
    for relative in name.iter_rdn() {
        for (index, attribute) in relative.iter().enumerate() {
            let oid = attribute.attr_type().to_id_string();
            let value = text(attribute.attr_value()).filter(|value| !value.chars().any(char::is_control));
            fields.push(Field {
                name: short_name(&oid),
                oid,
                value: value.ok_or(BadName)?,
                joined: index > 0,
            });
        }
    }
    Ok(fields)
}

/// One attribute of a name.
pub(super) struct Field {
    /// `CN`, `emailAddress`, or the OID where OpenSSL has no short name.
    pub name: String,
    pub oid: String,
    pub value: String,
    /// Belongs to the same relative name as the field before.
    pub joined: bool,
}

/// `C=DE, O=Example + OU=x, CN=alice`. A leading dash becomes an underscore: the text is an argument of scripts.
pub(super) fn one_line(fields: &[Field]) -> String {
    let mut line = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            line.push_str(if field.joined { " + " } else { ", " });
        }
        line.push_str(&field.name);
        line.push('=');
        line.push_str(&field.value);
    }
    if line.starts_with('-') {
        line.replace_range(..1, "_");
    }
    line
}

/// The one line for messages about a certificate that may be hostile: what cannot be shown is shown as `?`.
pub(super) fn one_line_lossy(name: &X509Name<'_>) -> String {
    let mut all = Vec::new();
    for relative in name.iter_rdn() {
        for (index, attribute) in relative.iter().enumerate() {
            let oid = attribute.attr_type().to_id_string();
            let value = text(attribute.attr_value()).unwrap_or_else(|| "?".to_owned());
            let value = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            all.push(Field { name: short_name(&oid), oid, value, joined: index > 0 });
        }
    }
    one_line(&all)
}

/// The value of a directory string, whichever alphabet it is in.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            bytes.is_ascii().then(|| bytes.iter().map(|&byte| char::from(byte)).collect())
        }
        Tag::T61String => Some(bytes.iter().map(|&byte| char::from(byte)).collect()),
        Tag::BmpString => {
            let (units, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
        }
        Tag::UniversalString => {
            let (units, rest) = bytes.as_chunks::<4>();
            rest.is_empty()
                .then(|| units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect())
                .flatten()
        }
        _ => None,
    }
}

/// Returns the OID that a name of `x509-username-field` means: a short name, a long name, or dotted numbers.
pub(super) fn oid_of(name: &str) -> Option<&str> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some(name);
    }
    NAMES.iter().find(|(_, short, long)| *short == name || *long == name).map(|(oid, _, _)| *oid)
}

/// Returns the short name of a field of a subject that is named by its short or its long name.
pub fn field_name(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(_, short, long)| *short == name || *long == name).map(|(_, short, _)| *short)
}

fn short_name(oid: &str) -> String {
    NAMES.iter().find(|(known, _, _)| *known == oid).map_or(oid, |(_, short, _)| short).to_owned()
}

/// OID, OpenSSL's short name, its long name.
const NAMES: &[(&str, &str, &str)] = &[
    ("2.5.4.3", "CN", "commonName"),
    ("2.5.4.4", "SN", "surname"),
    ("2.5.4.5", "serialNumber", "serialNumber"),
    ("2.5.4.6", "C", "countryName"),
    ("2.5.4.7", "L", "localityName"),
    ("2.5.4.8", "ST", "stateOrProvinceName"),
    ("2.5.4.9", "street", "streetAddress"),
    ("2.5.4.10", "O", "organizationName"),
    ("2.5.4.11", "OU", "organizationalUnitName"),
    ("2.5.4.12", "title", "title"),
    ("2.5.4.13", "description", "description"),
    ("2.5.4.15", "businessCategory", "businessCategory"),
    ("2.5.4.16", "postalAddress", "postalAddress"),
    ("2.5.4.17", "postalCode", "postalCode"),
    ("2.5.4.18", "postOfficeBox", "postOfficeBox"),
    ("2.5.4.19", "physicalDeliveryOfficeName", "physicalDeliveryOfficeName"),
    ("2.5.4.20", "telephoneNumber", "telephoneNumber"),
    ("2.5.4.23", "facsimileTelephoneNumber", "facsimileTelephoneNumber"),
    ("2.5.4.24", "x121Address", "x121Address"),
    ("2.5.4.25", "internationaliSDNNumber", "internationaliSDNNumber"),
    ("2.5.4.27", "destinationIndicator", "destinationIndicator"),
    ("2.5.4.41", "name", "name"),
    ("2.5.4.42", "GN", "givenName"),
    ("2.5.4.43", "initials", "initials"),
    ("2.5.4.44", "generationQualifier", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier", "dnQualifier"),
    ("2.5.4.51", "houseIdentifier", "houseIdentifier"),
    ("2.5.4.54", "dmdName", "dmdName"),
    ("2.5.4.65", "pseudonym", "pseudonym"),
    ("2.5.4.72", "role", "role"),
    ("2.5.4.97", "organizationIdentifier", "organizationIdentifier"),
    ("2.5.4.98", "c3", "countryCode3c"),
    ("2.5.4.99", "n3", "countryCode3n"),
    ("2.5.4.100", "dnsName", "dnsName"),
    ("0.9.2342.19200300.100.1.1", "UID", "userId"),
    ("0.9.2342.19200300.100.1.2", "textEncodedORAddress", "textEncodedORAddress"),
    ("0.9.2342.19200300.100.1.3", "mail", "rfc822Mailbox"),
    ("0.9.2342.19200300.100.1.4", "info", "info"),
    ("0.9.2342.19200300.100.1.5", "favouriteDrink", "favouriteDrink"),
    ("0.9.2342.19200300.100.1.6", "roomNumber", "roomNumber"),
    ("0.9.2342.19200300.100.1.8", "userClass", "userClass"),
    ("0.9.2342.19200300.100.1.9", "host", "host"),
    ("0.9.2342.19200300.100.1.20", "homeTelephoneNumber", "homeTelephoneNumber"),
    ("0.9.2342.19200300.100.1.25", "DC", "domainComponent"),
    ("0.9.2342.19200300.100.1.37", "associatedDomain", "associatedDomain"),
    ("0.9.2342.19200300.100.1.39", "homePostalAddress", "homePostalAddress"),
    ("0.9.2342.19200300.100.1.40", "personalTitle", "personalTitle"),
    ("0.9.2342.19200300.100.1.41", "mobileTelephoneNumber", "mobileTelephoneNumber"),
    ("0.9.2342.19200300.100.1.42", "pagerTelephoneNumber", "pagerTelephoneNumber"),
    ("0.9.2342.19200300.100.1.43", "friendlyCountryName", "friendlyCountryName"),
    ("0.9.2342.19200300.100.1.44", "uid", "uniqueIdentifier"),
    ("0.9.2342.19200300.100.1.45", "organizationalStatus", "organizationalStatus"),
    ("0.9.2342.19200300.100.1.48", "buildingName", "buildingName"),
    ("1.2.840.113549.1.9.1", "emailAddress", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName", "unstructuredName"),
    ("1.2.840.113549.1.9.8", "unstructuredAddress", "unstructuredAddress"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL", "jurisdictionLocalityName"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST", "jurisdictionStateOrProvinceName"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC", "jurisdictionCountryName"),
];
