//! A private key on a token, as TLS signs with it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cryptoki::{
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, ObjectClass},
    session::Session,
};
use culvert_proto::tls::{ExternalSigner, HashName, SignRequest, SignScheme};
use zeroize::Zeroizing;

use super::{
    module::{Found, LoginError, log_in},
    pin::PinSource,
};

/// A key, with the login that opens it.
pub(super) struct TokenKey {
    found: Found,
    mechanisms: Vec<MechanismType>,
    pins: PinSource,
    /// `pkcs11-pin-cache`; `None`: as long as the token stays.
    cache: Option<Duration>,
    login: Mutex<Login>,
}

/// The session that is logged in, and the PIN for the next one.
#[derive(Default)]
struct Login {
    session: Option<Session>,
    pin: Option<Zeroizing<String>>,
    since: Option<Instant>,
}

impl TokenKey {
    /// Takes the key of a certificate over, with a session that is logged in and its PIN.
    pub(super) fn new(
        found: Found,
        pins: PinSource,
        cache: Option<Duration>,
        logged_in: Option<(Session, Option<Zeroizing<String>>)>,
    ) -> Result<Self, String> {
        let mechanisms = found
            .module
            .pkcs11
            .get_mechanism_list(found.slot)
            .map_err(|failure| format!("PKCS#11: token '{}': {failure}", found.token.label))?;
        let login = logged_in.map_or_else(Login::default, |(session, pin)| Login {
            session: Some(session),
            pin,
            since: Some(Instant::now()),
        });
        Ok(Self { found, mechanisms, pins, cache, login: Mutex::new(login) })
    }

    /// Signs within the session that there is.
    fn sign_now(&self, session: &Session, request: &SignRequest<'_>) -> Result<Vec<u8>, Error> {
        let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(self.found.id.clone())];
        let keys = session.find_objects(&template)?;
        // A token shows no private key to who is not logged in.
        let key = *keys
            .first()
            .ok_or(Error::Pkcs11(RvError::UserNotLoggedIn, cryptoki::context::Function::Sign))?;
        let has = |mechanism| self.mechanisms.contains(&mechanism);
        let bare = |block: Result<Vec<u8>, String>| block.map_err(|_| Error::InvalidValue);
        match request.scheme {
            SignScheme::Ecdsa(_) => {
                let raw = session.sign(&Mechanism::Ecdsa, key, &request.digest())?;
                ecdsa_der(&raw).ok_or(Error::InvalidValue)
            }
            SignScheme::RsaPkcs1(_) if has(MechanismType::RSA_PKCS) => {
                session.sign(&Mechanism::RsaPkcs, key, &request.digest_info())
            }
            SignScheme::RsaPkcs1(_) => session.sign(&Mechanism::RsaX509, key, &bare(request.padded_pkcs1())?),
            SignScheme::RsaPss(hash) if has(MechanismType::RSA_PKCS_PSS) => {
                session.sign(&Mechanism::RsaPkcsPss(pss(hash)), key, &request.digest())
            }
            SignScheme::RsaPss(_) => session.sign(&Mechanism::RsaX509, key, &bare(request.padded_pss())?),
        }
    }

    /// A new session, logged in; asks for the PIN where it is not at hand.
    fn log_in(&self, login: &mut Login) -> Result<(), String> {
        let (module, label) = (&self.found.module, &self.found.token.label);
        // The former one may hold a login that the token has forgotten.
        login.session = None;
        let session = module
            .pkcs11
            .open_ro_session(self.found.slot)
            .map_err(|failure| format!("PKCS#11: token '{label}': {failure}"))?;
        let pin = match (module.protected, login.pin.take()) {
            (true, _) => None,
            (false, Some(pin)) => Some(pin),
            (false, None) => Some(self.pins.wait_for(label)?),
        };
        match log_in(&session, label, pin.as_ref().map(|pin| pin.as_str())) {
            Ok(()) => {}
            Err(LoginError::WrongPin(text)) => {
                pin.iter().for_each(|pin| self.pins.refused(label, pin));
                return Err(text);
            }
            Err(LoginError::Other(text)) => return Err(text),
        }
        *login = Login { session: Some(session), pin, since: Some(Instant::now()) };
        Ok(())
    }
}

impl ExternalSigner for TokenKey {
    fn can(&self, scheme: SignScheme) -> bool {
        let has = |mechanism| self.mechanisms.contains(&mechanism);
        match scheme {
            SignScheme::Ecdsa(_) => has(MechanismType::ECDSA),
            SignScheme::RsaPkcs1(_) => has(MechanismType::RSA_PKCS) || has(MechanismType::RSA_X_509),
            SignScheme::RsaPss(_) => has(MechanismType::RSA_PKCS_PSS) || has(MechanismType::RSA_X_509),
        }
    }

    fn sign(&self, request: &SignRequest<'_>) -> Result<Vec<u8>, String> {
        let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |since: Instant| self.cache.is_some_and(|cache| since.elapsed() >= cache);
        if login.since.is_some_and(is_old) {
            if let Some(session) = login.session.take() {
                let _logged_out = session.logout(); // it may have ended by itself
            }
            *login = Login::default();
        }
        let label = &self.found.token.label;
        if let Some(session) = &login.session {
            match self.sign_now(session, request) {
                Ok(signature) => return Ok(signature),
                // The token was taken out and put in again, or somebody else logged out.
                Err(failure) => tracing::debug!("token '{label}': {failure}; logging in again"),
            }
        }
        self.log_in(&mut login)?;
        let session = login.session.as_ref().ok_or("internal error: no session")?;
        self.sign_now(session, request).map_err(|failure| format!("PKCS#11: token '{label}': {failure}"))
    }
}

fn pss(hash: HashName) -> PkcsPssParams {
    let (hash_alg, mgf, len) = match hash {
        HashName::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32_u64),
        HashName::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
        HashName::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
    };
    PkcsPssParams { hash_alg, mgf, s_len: len.into() }
}

/// Two numbers one behind the other, as tokens give them, in the DER that TLS carries.
fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = raw.split_at_checked(raw.len() / 2)?;
    if r.len() != s.len() || r.is_empty() || r.len() > 66 {
        return None;
    }
    let content = [integer(r)?, integer(s)?].concat();
    let len = u8::try_from(content.len()).ok()?;
    let head = if len < 0x80 { vec![0x30, len] } else { vec![0x30, 0x81, len] };
    Some([head, content].concat())
}

/// An unsigned number: no needless zeros in front, and one where it would be negative.
fn integer(number: &[u8]) -> Option<Vec<u8>> {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len().checked_sub(1)?);
    let digits = number.get(first..)?;
    let sign: &[u8] = if digits.first()? & 0x80 == 0 { &[] } else { &[0] };
    let len = u8::try_from(digits.len() + sign.len()).ok()?;
    Some([&[2, len], sign, digits].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_tokens_become_der() {
        assert_eq!(ecdsa_der(&[0, 1, 0x80, 2]), Some(vec![0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2]));
        assert_eq!(ecdsa_der(&[0, 0, 0, 0]), Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0]));
        let long = ecdsa_der(&[0xff; 132]).unwrap();
        assert_eq!(long[..3], [0x30, 0x81, 138], "P-521 needs a length of two bytes");
        assert_eq!(ecdsa_der(&[1, 2, 3]), None);
        assert_eq!(ecdsa_der(&[]), None);
    }
}
