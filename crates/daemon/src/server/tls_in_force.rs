//! The TLS of the newest reload, for sessions that live longer than it.

use std::sync::{Arc, PoisonError, RwLock};

use culvert_proto::tls::{Expiries, PeerIdentity, Standing, TlsError, TlsFactory, TlsSession};

/// Hands every key negotiation, the first as a later one, to the TLS that is in force when it begins: a session meets new
/// certificates and CAs at its next renegotiation.
pub(super) struct TlsInForce(RwLock<Arc<dyn TlsFactory>>);

impl TlsInForce {
    pub(super) fn new(tls: Arc<dyn TlsFactory>) -> Self {
        Self(RwLock::new(tls))
    }

    /// Another one comes into force.
    pub(super) fn replace(&self, tls: Arc<dyn TlsFactory>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// What is in force.
    pub(super) fn current(&self) -> Arc<dyn TlsFactory> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TlsFactory for TlsInForce {
    fn open(&self) -> Result<Box<dyn TlsSession>, TlsError> {
        self.current().open()
    }

    fn judge_again(&self, identity: &PeerIdentity) -> Standing {
        self.current().judge_again(identity)
    }

    fn expiries(&self) -> Expiries {
        self.current().expiries()
    }
}
