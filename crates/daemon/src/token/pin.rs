//! Where PINs come from: a URI, a file, the management interface, or who is at the terminal.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

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
    /// The written PIN that a token did not take. It is not tried again: tokens lock themselves.
    refused: Arc<Mutex<Option<Zeroizing<String>>>>,
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
            refused: Arc::default(),
            management: asks_management.then(|| management.clone()),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Whether another question gives another answer.
    pub(super) fn is_asked(&self) -> bool {
        self.known.is_none() && self.file.is_none()
    }

    /// Says that a PIN was wrong.
    pub(super) fn refused(&self, token: &str, pin: &Zeroizing<String>) {
        if !self.is_asked() {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(pin.clone());
            return;
        }
        if let Some(management) = &self.management {
            let kind = format!("{token} token");
            management.tell(&Notification::VerificationFailed { kind, reason: None });
        }
    }

    /// The PIN. Waits on this thread, which must not be the runtime's.
    ///
    /// # Errors
    /// When nobody tells it, or it is written and was refused already.
    pub(super) fn wait_for(&self, token: &str) -> Result<Zeroizing<String>, String> {
        if let Some(pin) = self.written()? {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            return match refused.as_ref() == Some(&pin) {
                true => Err(format!(
                    "PKCS#11: token '{token}': wrong PIN; it is not tried again, for tokens lock themselves\n\
                     hint: correct the PIN in the configuration, and restart"
                )),
                false => Ok(pin),
            };
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

    /// The PIN that is written somewhere.
    fn written(&self) -> Result<Option<Zeroizing<String>>, String> {
        let Some(file) = self.file.as_ref().filter(|_| self.known.is_none()) else {
            return Ok(self.known.clone());
        };
        let failed = |failure| format!("cannot read the PIN from '{}': {failure}", file.display());
        let text = Zeroizing::new(fs::read_to_string(file).map_err(failed)?);
        Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use culvert_testkit::TempDir;

    use super::*;

    #[tokio::test]
    async fn a_written_pin_that_was_refused_is_not_tried_again_until_it_changes() {
        let folder = TempDir::new().unwrap();
        let file = folder.write("pin", "1234\n").unwrap();
        let pins = PinSource {
            known: None,
            file: Some(file),
            refused: Arc::default(),
            management: None,
            runtime: tokio::runtime::Handle::current(),
        };
        let pin = pins.wait_for("t").unwrap();
        assert_eq!(pins.wait_for("t").as_ref(), Ok(&pin));
        pins.clone().refused("t", &pin);
        let failure = pins.wait_for("t").unwrap_err();
        assert!(
            failure.starts_with("PKCS#11: token 't': wrong PIN") && !failure.contains("1234"),
            "{failure}"
        );
        folder.write("pin", "5678\n").unwrap();
        assert_eq!(pins.wait_for("t").unwrap().as_str(), "5678");
    }
}
