//! Readers of foreign bytes survive any bytes (SEC-PARSE-1).

use proptest::prelude::*;

use super::{certificate::Certificate, der, encrypted_key, pem, revocation::RevocationLists};

const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/tls/ec.crt.pem");
const CRL: &[u8] = include_bytes!("../../tests/fixtures/tls/v1.crl.pem");

fn read_certificate(bytes: &[u8]) {
    if let Some(certificate) = Certificate::parse(bytes) {
        let _ = certificate.info(0);
        let _ = certificate.subject_lossy();
        let _ = certificate.key_description();
        let _ = certificate.extended_key_usage();
        let _ = certificate.validity(0);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_certificate(&bytes);
        let _ = RevocationLists::parse(&bytes);
        let _ = pem::sections(&bytes);
        let _ = encrypted_key::old_pem(&bytes, "AES-256-CBC,00112233445566778899AABBCCDDEEFF", "x");
        let mut rest = &bytes[..];
        while let Some((element, after)) = der::split(rest) {
            prop_assert_eq!(element.whole.len() + after.len(), rest.len());
            rest = after;
        }
    }

    #[test]
    fn any_text_around_pem_marks_is_survived(lines in proptest::collection::vec("(-----(BEGIN|END) [A-Z ]{0,12}-----|[A-Za-z0-9+/=:, ]{0,20})", 0..20)) {
        let _ = pem::sections(lines.join("\n").as_bytes());
    }

    #[test]
    fn damaged_certificates_and_lists_are_survived(at in any::<prop::sample::Index>(), value in any::<u8>(), len in any::<prop::sample::Index>()) {
        for file in [CERTIFICATE, CRL] {
            let mut bytes = pem::sections(file).unwrap().remove(0).bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = value;
            read_certificate(&bytes);
            let _ = RevocationLists::parse(&bytes);
            bytes.truncate(len.index(bytes.len()));
            read_certificate(&bytes);
            let _ = RevocationLists::parse(&bytes);
        }
    }
}
