/// Returns whether the PEM text holds an encrypted private key, so that a passphrase has to be asked for.
#[must_use]
pub fn needs_passphrase(pem: &[u8]) -> bool {
    let has = |needle: &[u8]| pem.windows(needle.len()).any(|window| window == needle);
    has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED")
}
