use std::sync::Arc;

/// Where revocations come from (`crl-verify`). Asked once per connection, so that changes take effect without restart.
#[derive(Clone)]
pub enum Revocation {
    /// PEM text of one or more CRLs.
    Lists(Arc<dyn CrlSource>),
    /// `crl-verify DIR dir`: whether a file is named as this decimal serial number. An error means deny.
    Serials(SerialLookup),
}

/// Tells whether a certificate with this decimal serial number is revoked.
pub type SerialLookup = Arc<dyn Fn(&str) -> Result<bool, String> + Send + Sync>;

/// Gives the current CRL file.
pub trait CrlSource: Send + Sync {
    /// Returns the file's bytes. The *same* `Arc` while nothing changed, which spares parsing.
    ///
    /// # Errors
    /// A sentence; nobody is let in then (SEC-AUTH-6).
    fn current(&self) -> Result<Arc<[u8]>, String>;
}

/// A list that never changes (`<crl-verify>` inline).
impl CrlSource for Arc<[u8]> {
    fn current(&self) -> Result<Self, String> {
        Ok(Self::clone(self))
    }
}
