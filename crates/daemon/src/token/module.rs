//! Modules of tokens: loading them, and finding certificates on their tokens.

use std::path::{Path, PathBuf};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    object::{Attribute, AttributeType, CertificateType, ObjectClass},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};

use super::id::{TokenId, TokenName};

/// A module that is loaded.
#[derive(Clone)]
pub(super) struct Module {
    pub(super) pkcs11: Pkcs11,
    path: PathBuf,
    /// The PIN is entered on the token itself.
    pub(super) protected: bool,
    /// Certificates are seen after a login only.
    pub(super) private: bool,
}

/// A certificate on a token.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) module: Module,
    pub(super) slot: Slot,
    pub(super) token: TokenName,
    /// `CKA_ID`, which the key has as well.
    pub(super) id: Vec<u8>,
    /// DER.
    pub(super) certificate: Vec<u8>,
}

/// A token that is there.
pub(super) struct Token {
    pub(super) module: Module,
    pub(super) slot: Slot,
    pub(super) name: TokenName,
}

impl Module {
    /// Loads a module.
    ///
    /// # Errors
    /// The module, and why it cannot be used.
    pub(super) fn load(path: &Path, protected: bool, private: bool) -> Result<Self, String> {
        let failed = |failure: Error| format!("PKCS#11: Cannot add provider '{}': {failure}", path.display());
        let pkcs11 = Pkcs11::new(path).map_err(failed)?;
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Loaded before: at an earlier start of this process, or named twice.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(failure) => return Err(failed(failure)),
        }
        Ok(Self { pkcs11, path: path.to_owned(), protected, private })
    }

    /// The tokens that are there.
    pub(super) fn tokens(&self) -> Result<Vec<Token>, String> {
        let failed = |failure: Error| format!("PKCS#11: {}: {failure}", self.path.display());
        let mut tokens = Vec::new();
        for slot in self.pkcs11.get_slots_with_initialized_token().map_err(failed)? {
            let info = self.pkcs11.get_token_info(slot).map_err(failed)?;
            let name = TokenName {
                manufacturer: info.manufacturer_id().to_owned(),
                model: info.model().to_owned(),
                serial: info.serial_number().to_owned(),
                label: info.label().to_owned(),
            };
            tokens.push(Token { module: self.clone(), slot, name });
        }
        Ok(tokens)
    }
}

impl Token {
    /// Opens a session.
    ///
    /// # Errors
    /// When the token refuses.
    pub(super) fn session(&self) -> Result<Session, String> {
        self.module.pkcs11.open_ro_session(self.slot).map_err(|failure| self.failed(&failure))
    }

    /// The certificates that a session sees, of those that are meant.
    ///
    /// # Errors
    /// When the token refuses.
    pub(super) fn certificates(&self, session: &Session, wanted: &TokenId) -> Result<Vec<Found>, String> {
        let failed = |failure: Error| self.failed(&failure);
        let mut template = vec![
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
        ];
        template.extend(wanted.id.clone().map(Attribute::Id));
        template.extend(wanted.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
        let mut found = Vec::new();
        for object in session.find_objects(&template).map_err(failed)? {
            let (mut id, mut certificate) = (Vec::new(), Vec::new());
            let asked = [AttributeType::Id, AttributeType::Value];
            for attribute in session.get_attributes(object, &asked).map_err(failed)? {
                match attribute {
                    Attribute::Id(value) => id = value,
                    Attribute::Value(value) => certificate = value,
                    _ => {}
                }
            }
            let (module, token) = (self.module.clone(), self.name.clone());
            found.push(Found { module, slot: self.slot, token, id, certificate });
        }
        Ok(found)
    }

    /// The private keys that a session sees, of those that are meant; without certificates.
    ///
    /// # Errors
    /// When the token refuses.
    pub(super) fn keys(&self, session: &Session, wanted: &TokenId) -> Result<Vec<Found>, String> {
        let failed = |failure: Error| self.failed(&failure);
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
        template.extend(wanted.id.clone().map(Attribute::Id));
        template.extend(wanted.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
        let mut found = Vec::new();
        for object in session.find_objects(&template).map_err(failed)? {
            for attribute in session.get_attributes(object, &[AttributeType::Id]).map_err(failed)? {
                if let Attribute::Id(id) = attribute {
                    let (module, token) = (self.module.clone(), self.name.clone());
                    found.push(Found { module, slot: self.slot, token, id, certificate: Vec::new() });
                }
            }
        }
        Ok(found)
    }

    fn failed(&self, failure: &Error) -> String {
        format!("PKCS#11: token '{}': {failure}", self.name.label)
    }
}

/// What came of a login.
pub(super) enum LoginError {
    /// Another PIN may help.
    WrongPin(String),
    /// The token is locked, gone, or broken.
    Other(String),
}

/// Logs a session in. Another session of this process may have done so already.
///
/// # Errors
/// When the PIN is wrong, or the token does not want to.
pub(super) fn log_in(session: &Session, token: &str, pin: Option<&str>) -> Result<(), LoginError> {
    // The library keeps it in a type of its own, which wipes itself as well.
    let pin = pin.map(AuthPin::from);
    match session.login(UserType::User, pin.as_ref()) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid, _)) => {
            Err(LoginError::WrongPin(format!("PKCS#11: token '{token}': wrong PIN")))
        }
        Err(failure) => Err(LoginError::Other(format!("PKCS#11: token '{token}': login failed: {failure}"))),
    }
}
