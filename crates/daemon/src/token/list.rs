//! `--show-pkcs11-ids`: the certificates of a module's tokens.

use std::{fmt::Write as _, path::Path};

use culvert_proto::tls::describe_certificate;

use super::{
    DEFAULT_MODULE,
    id::TokenId,
    module::{LoginError, Module, log_in},
};
use crate::credentials::{Echo, Prompter};

/// Returns the answer to `--show-pkcs11-ids`, in OpenVPN's form. With `login`, private certificates are shown as well: who
/// is at the terminal is asked for each token's PIN.
///
/// # Errors
/// A sentence that says what failed.
pub fn show_ids(module: Option<&Path>, login: bool) -> Result<String, String> {
    let module = Module::load(module.unwrap_or(Path::new(DEFAULT_MODULE)), false, login)?;
    let mut text = "\nThe following objects are available for use.\n\
        Each object shown below may be used as parameter to\n\
        --pkcs11-id option please remember to use single quote mark.\n"
        .to_owned();
    for token in module.tokens()? {
        let session = token.session()?;
        let label = &token.name.label;
        if login {
            let question = format!("Please enter '{label}' token PIN or 'cancel':");
            let pin =
                Prompter::detect().ask(&question, Echo::Hidden).map_err(|failure| failure.to_string())?;
            if pin.as_str() != "cancel" {
                log_in(&session, label, Some(&pin)).map_err(|failure| match failure {
                    LoginError::WrongPin(text) | LoginError::Other(text) => text,
                })?;
            }
        }
        for found in token.certificates(&session, &TokenId::default())? {
            let (subject, serial) = describe_certificate(&found.certificate).unwrap_or_default();
            let id = token.name.serialized(&found.id);
            let _ = write!(
                text,
                "\nCertificate\n       DN:             {subject}\n       Serial:         {serial}\n       Serialized id:  {id}\n"
            ); // a string takes all
        }
    }
    Ok(text)
}
