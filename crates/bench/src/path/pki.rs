//! Certificates for one measurement: a throw-away authority, a server and a client on P-256.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::process::step;
use crate::BenchError;

/// Files of the authority and of both ends.
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes them in a folder.
    pub(super) fn new(folder: &Path) -> Result<Self, BenchError> {
        let pki = Self { folder: folder.to_owned() };
        pki.make().map_err(|error| step("make certificates", &error))?;
        Ok(pki)
    }

    fn make(&self) -> Result<(), String> {
        let said = |error: rcgen::Error| error.to_string();
        let key = KeyPair::generate().map_err(said)?;
        let mut params = params("culvert bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.write("ca.crt", &params.self_signed(&key).map_err(said)?.pem())?;
        let issuer = Issuer::new(params, key);
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let key = KeyPair::generate().map_err(said)?;
            let mut params = self::params(name);
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            self.write(&format!("{name}.crt"), &params.signed_by(&key, &issuer).map_err(said)?.pem())?;
            self.write(&format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        super::write(&self.folder.join(name), text).map_err(|error| error.to_string())
    }

    /// The lines of a configuration that name the files of an end, `server` or `client`.
    pub(super) fn lines(&self, end: &str) -> String {
        let folder = self.folder.display();
        format!("ca {folder}/ca.crt\ncert {folder}/{end}.crt\nkey {folder}/{end}.key\n")
    }
}

/// Valid from 1975 to 4096, as the library has it: clocks of test machines are what they are.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
