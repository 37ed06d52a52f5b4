//! `management-external-key`: signatures come from the client of the management interface.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use culvert_config::profile::ExternalKey;
use culvert_mgmt::SignatureAlgorithm;
use culvert_proto::tls::{ExternalSigner, SignRequest, SignScheme, TlsRole};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::Management;

/// How long a client may take to sign: no handshake waits longer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A private key that a client of the management interface has.
pub(crate) struct ManagementKey {
    management: Management,
    abilities: ExternalKey,
    runtime: tokio::runtime::Handle,
    /// What a client's only session waits for: a later one makes it pointless. `None` for a server, which has many.
    latest: Option<Mutex<Option<AbortHandle>>>,
}

impl ManagementKey {
    /// Within the runtime.
    pub(crate) fn new(management: Management, abilities: ExternalKey, role: TlsRole) -> Self {
        let latest = (role == TlsRole::Client).then(Mutex::default);
        Self { management, abilities, runtime: tokio::runtime::Handle::current(), latest }
    }

    /// Asks on the runtime and waits here: this is a thread of its own, see `Handshakes`. When the runtime ends, so does
    /// the wait.
    fn ask(&self, data: String, algorithm: SignatureAlgorithm) -> Result<Zeroizing<String>, String> {
        let (tell, told) = std::sync::mpsc::channel();
        let management = self.management.clone();
        let task = self.runtime.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, management.ask_signature(data, algorithm)).await;
            // Nobody waits any more only where a panic ended the handshake.
            let _gone = tell.send(answer.ok());
        });
        if let Some(latest) = &self.latest {
            let former = latest.lock().unwrap_or_else(PoisonError::into_inner).replace(task.abort_handle());
            if let Some(former) = former {
                former.abort();
            }
        }
        match told.recv() {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err("the management client did not sign in time".to_owned()),
            Err(_dropped) => Err("nobody waits for the signature any more".to_owned()),
        }
    }

    /// What is sent, and how it is to be signed, by what the client can do.
    fn question(&self, request: &SignRequest<'_>) -> Result<(Vec<u8>, SignatureAlgorithm), String> {
        let hash = request.scheme.hash().name();
        let can = self.abilities;
        Ok(match request.scheme {
            SignScheme::Ecdsa(_) if can.digest => {
                (request.message.to_vec(), SignatureAlgorithm::EcdsaMessage(hash))
            }
            SignScheme::Ecdsa(_) => (request.digest(), SignatureAlgorithm::Ecdsa),
            SignScheme::RsaPss(_) if can.pss && can.digest => {
                (request.message.to_vec(), SignatureAlgorithm::RsaPss(hash, true))
            }
            SignScheme::RsaPss(_) if can.pss => (request.digest(), SignatureAlgorithm::RsaPss(hash, false)),
            SignScheme::RsaPkcs1(_) if can.pkcs1 && can.digest => {
                (request.message.to_vec(), SignatureAlgorithm::RsaPkcs1Message(hash))
            }
            SignScheme::RsaPkcs1(_) if can.pkcs1 => (request.digest_info(), SignatureAlgorithm::RsaPkcs1),
            SignScheme::RsaPss(_) => (request.padded_pss()?, SignatureAlgorithm::RsaNoPadding),
            SignScheme::RsaPkcs1(_) => (request.padded_pkcs1()?, SignatureAlgorithm::RsaNoPadding),
        })
    }
}

impl ExternalSigner for ManagementKey {
    fn can(&self, scheme: SignScheme) -> bool {
        match scheme {
            SignScheme::Ecdsa(_) => true,
            SignScheme::RsaPss(_) => self.abilities.pss || self.abilities.nopadding,
            SignScheme::RsaPkcs1(_) => self.abilities.pkcs1 || self.abilities.nopadding,
        }
    }

    fn sign(&self, request: &SignRequest<'_>) -> Result<Vec<u8>, String> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err("internal error: a signature was wanted where nothing may wait".to_owned());
        }
        let (data, algorithm) = self.question(request)?;
        let base64 = base64::prelude::BASE64_STANDARD;
        let answer = self.ask(base64.encode(data), algorithm)?;
        base64.decode(answer.trim()).map_err(|_| "the management client's signature is no base64".to_owned())
    }
}
