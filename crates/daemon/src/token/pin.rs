//! Where PINs come from: a URI, a file, the management interface, or who is at the terminal.

use std::{fs, path::PathBuf};

use culvert_mgmt::Notification;
use zeroize::Zeroizing;

use super::id::TokenId;
use crate::{
    credentials::{Echo, Prompter},
    management::Management,
};

/// Where the PIN of a token comes from.
#[derive(Clone)]
pub(super) struct PinSource {
    /// It is known: from the URI, or `askpass`.
    known: Option<Zeroizing<String>>,
    file: Option<PathBuf>,
    management: Option<Management>,
    runtime: tokio::runtime::Handle,
}

impl PinSource {
    /// Within the runtime.
    pub(super) fn new(id: &TokenId, askpass: Option<&Zeroizing<String>>, management: &Management) -> Self {
        let asks_management = management.is_configured() && management.settings().query_passwords;
        Self {
            known: id.pin.clone().or_else(|| askpass.cloned()),
            file: id.pin_file.clone(),
            management: asks_management.then(|| management.clone()),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Whether another question gives another answer.
    pub(super) fn is_asked(&self) -> bool {
        self.known.is_none() && self.file.is_none()
    }

    /// Says that a PIN was wrong.
    pub(super) fn refused(&self, token: &str) {
        if let Some(management) = &self.management {
            let kind = format!("{token} token");
            management.tell(&Notification::VerificationFailed { kind, reason: None });
        }
    }

    /// The PIN. Waits on this thread, which must not be the runtime's.
    ///
    /// # Errors
    /// When nobody tells it.
    pub(super) fn wait_for(&self, token: &str) -> Result<Zeroizing<String>, String> {
        if let Some(pin) = &self.known {
            return Ok(pin.clone());
        }
        if let Some(file) = &self.file {
            let failed = |failure| format!("cannot read the PIN from '{}': {failure}", file.display());
            let text = Zeroizing::new(fs::read_to_string(file).map_err(failed)?);
            return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
        }
        let Some(management) = self.management.clone() else {
            let question = format!("Enter {token} token Password:");
            return Prompter::detect().ask(&question, Echo::Hidden).map_err(|failure| failure.to_string());
        };
        let (tell, told) = std::sync::mpsc::channel();
        let kind = format!("{token} token");
        self.runtime.spawn(async move {
            // Nobody waits any more only where the life of this process ended.
            let _gone = tell.send(management.ask_password_of(kind).await);
        });
        told.recv().map_err(|_| "nobody is there any more who could tell the PIN".to_owned())
    }
}
