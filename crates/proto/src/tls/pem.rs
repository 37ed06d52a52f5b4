//! PEM sections, with the `Proc-Type`/`DEK-Info` headers of old encrypted keys, read as leniently as OpenSSL does:
//! text around sections, CRLF and blanks inside them are no error.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// One section of a PEM text.
pub(super) struct Section {
    /// `CERTIFICATE`, `RSA PRIVATE KEY`, …
    pub label: String,
    /// Lines `Name: value` before the first empty line.
    pub headers: Vec<(String, String)>,
    /// The decoded bytes; may be a key, hence zeroized.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Section {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Reads all sections.
///
/// # Errors
/// The number of the line where a section is broken, counted from 1, and what is wrong.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, String> {
    let mut found = Vec::new();
    let mut lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).zip(1_usize..);
    while let Some((line, number)) = lines.next() {
        let Some(label) = line.strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----"))
        else {
            continue;
        };
        let label = String::from_utf8_lossy(label).into_owned();
        let mut headers = Vec::new();
        let mut base64 = Zeroizing::new(Vec::new());
        loop {
            let Some((line, _)) = lines.next() else {
                return Err(format!("line {number}: `-----BEGIN {label}-----` has no end"));
            };
            if line.starts_with(b"-----END ") {
                break;
            }
            match line.iter().position(|&byte| byte == b':') {
                Some(colon) => headers.push((text_of(&line[..colon]), text_of(&line[colon + 1..]))),
                None => base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace())),
            }
        }
        let bytes =
            STANDARD.decode(&*base64).map_err(|_| format!("line {number}: `{label}` is not valid base64"))?;
        found.push(Section { label, headers, bytes: Zeroizing::new(bytes) });
    }
    Ok(found)
}

/// Reads the certificates of a text, in order.
///
/// # Errors
/// As [`sections`].
pub(super) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let of_certificate =
        |section: &Section| matches!(section.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE");
    Ok(sections(text)?.into_iter().filter(of_certificate).map(|section| section.bytes.to_vec()).collect())
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.trim_ascii()).into_owned()
}
