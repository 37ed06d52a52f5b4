//! Certificates and keys on tokens (PKCS #11): `pkcs11-id` and its kin, and `cert`/`key` as `pkcs11:` URI.
//!
//! [`open`] finds the certificate, logs in and gives both to TLS, which signs through [`key::TokenKey`] as it does with
//! `management-external-key`. Modules are foreign code in this process, as they are in OpenVPN's. They are loaded after
//! `daemon` forked, and block: everything here runs on threads that may wait.

mod id;
mod key;
mod list;
mod module;
mod pin;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cryptoki::session::Session;
use culvert_config::{
    Profile,
    profile::{Pkcs11, Tls},
    value::FileOrInline,
};
use culvert_proto::tls::ExternalSigner;
use zeroize::Zeroizing;

use crate::{life::Life, management::Management, ovlog};
use id::TokenId;
use key::TokenKey;
pub use list::show_ids;
use module::{Found, LoginError, Module, Token, log_in};
use pin::PinSource;

/// What p11-kit installs; it knows all tokens of a machine.
const DEFAULT_MODULE: &str = "p11-kit-proxy.so";

/// A certificate on a token, and its key.
pub(crate) struct OnToken {
    /// PEM; of no meaning where the profile has a certificate of its own.
    pub(crate) certificate: Vec<u8>,
    /// What messages call it.
    pub(crate) origin: String,
    pub(crate) key: Arc<dyn ExternalSigner>,
}

/// Opens what the profile names on a token; `None`: nothing.
///
/// # Errors
/// A sentence for the log.
pub(crate) async fn open(life: &Life, profile: &Profile) -> Result<Option<OnToken>, String> {
    let settings = &profile.tls.pkcs11;
    let named = match named(&profile.tls) {
        Some(named) => named.to_owned(),
        None if settings.id_management => {
            let all = settings.clone();
            let listing = tokio::task::spawn_blocking(move || every_certificate(&all));
            let ids = listing.await.map_err(|failure| failure.to_string())??;
            life.management.set_token_ids(ids);
            life.management.ask_token_id().await
        }
        None => return Ok(None),
    };
    let id = TokenId::parse(&named)?;
    let askpass = life.secrets.passphrase.as_ref().filter(|_| profile.tls.askpass.is_some());
    let pins = PinSource::new(&id, askpass, &life.management);
    let settings = settings.clone();
    // A certificate in a file may go with a key on a token.
    let key_only = profile.tls.cert.as_ref().is_some_and(|cert| uri(cert).is_none());
    let opening = tokio::task::spawn_blocking(move || find(&settings, &id, &pins, key_only));
    let (found, key) = opening.await.map_err(|failure| failure.to_string())??;
    ovlog!(3, "PKCS#11: using '{}'", found.token.serialized(&found.id));
    Ok(Some(OnToken {
        certificate: pem(&found.certificate),
        origin: format!("token '{}'", found.token.label),
        key: Arc::new(key),
    }))
}

/// Whether `cert` and `key` have their place on a token.
pub(crate) fn is_wanted(tls: &Tls) -> bool {
    named(tls).is_some() || tls.pkcs11.id_management
}

/// The certificate or key that the profile names on a token.
fn named(tls: &Tls) -> Option<&str> {
    tls.pkcs11
        .id
        .as_deref()
        .or_else(|| [&tls.key, &tls.cert].into_iter().find_map(|file| uri(file.as_ref()?)))
}

/// Whether a file of the profile is none, but a name on a token.
pub(crate) fn uri(file: &FileOrInline) -> Option<&str> {
    file.path().and_then(Path::to_str).filter(|text| text.starts_with("pkcs11:"))
}

/// A file's name as messages show it: of a URI without its query, which may hold the PIN.
pub(crate) fn shown(path: &Path) -> String {
    without_query(&path.to_string_lossy()).to_owned()
}

/// A name on a token without the query of a URI.
fn without_query(text: &str) -> &str {
    match text.starts_with("pkcs11:") {
        true => text.split_once('?').map_or(text, |(path, _)| path),
        false => text,
    }
}

/// Loads the modules.
fn modules(settings: &Pkcs11, id: &TokenId) -> Result<Vec<Module>, String> {
    if let Some(path) = &id.module {
        return Ok(vec![Module::load(path, false, false)?]);
    }
    if let Some(name) = &id.module_name {
        return module_named(name).map(|module| vec![module]);
    }
    if settings.providers.is_empty() {
        return Ok(vec![Module::load(Path::new(DEFAULT_MODULE), false, false)?]);
    }
    let flag = |flags: &[bool], index: usize| flags.get(index).copied().unwrap_or(false);
    let load = |(index, path): (usize, &PathBuf)| {
        ovlog!(1, "PKCS#11: Adding PKCS#11 provider '{}'", path.display());
        Module::load(path, flag(&settings.protected, index), flag(&settings.cert_private, index))
    };
    settings.providers.iter().enumerate().map(load).collect()
}

/// Loads the module of a `module-name`.
fn module_named(name: &str) -> Result<Module, String> {
    let mut failures = Vec::new();
    for path in files_of_module(name) {
        match Module::load(&path, false, false) {
            Ok(module) => return Ok(module),
            Err(failure) => failures.push(failure),
        }
    }
    Err(format!("{}\nhint: write `module-path=/…` in place of `module-name={name}`", failures.join("\n")))
}

/// The files that a module's name may mean: it is the file's without what systems add (RFC 7512, 2.3). The loader looks for
/// them where it looks for libraries; beside that, distributions have a directory for modules.
fn files_of_module(name: &str) -> Vec<PathBuf> {
    let files = [format!("{name}.so"), format!("lib{name}.so")];
    let multiarch = format!("/usr/lib/{}-linux-gnu/pkcs11", std::env::consts::ARCH);
    let directories = ["/usr/lib64/pkcs11", "/usr/lib/pkcs11", &multiarch];
    let there = directories
        .iter()
        .flat_map(|directory| files.iter().map(|file| Path::new(directory).join(file)))
        .filter(|path| path.exists());
    there.chain(files.iter().map(PathBuf::from)).collect()
}

/// Names and certificates (base64) of all tokens, as far as they show them to who is not logged in.
fn every_certificate(settings: &Pkcs11) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for module in modules(settings, &TokenId::default())? {
        for token in module.tokens()? {
            for found in token.certificates(&token.session()?, &TokenId::default())? {
                let blob = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &found.certificate);
                all.push((token.name.serialized(&found.id), blob));
            }
        }
    }
    Ok(all)
}

/// Finds the one certificate that is meant, and logs in to its token. No other token is logged in to where that can be
/// avoided: a PIN that is not its own brings it nearer to locking itself.
fn find(
    settings: &Pkcs11,
    id: &TokenId,
    pins: &PinSource,
    key_only: bool,
) -> Result<(Found, TokenKey), String> {
    let (mut tokens, mut failures) = (Vec::new(), Vec::new());
    for module in modules(settings, id)? {
        match module.tokens() {
            Ok(found) => tokens.extend(found),
            Err(failure) => failures.push(failure),
        }
    }
    let seen: Vec<String> = tokens.iter().map(|token| token.name.label.clone()).collect();
    tokens.retain(|token| id.is_on(&token.name));
    let mut hidden = Vec::new();
    let alone = tokens.len() == 1;
    for token in tokens {
        match shows(&token, id) {
            Ok((session, Some(found))) if !key_only => return key_of(&token, session, found, settings, pins),
            // The key has the certificate's id: it is here, and nowhere else.
            Ok((session, Some(_))) if id.id.is_some() => {
                hidden = vec![(token, session)];
                break;
            }
            Ok((session, _)) if key_only || token.module.private || alone => hidden.push((token, session)),
            Ok(_) => {}
            Err(failure) => failures.push(failure),
        }
    }
    if hidden.len() > 1 && !pins.is_asked() {
        let labels: Vec<&str> = hidden.iter().map(|(token, _)| token.name.label.as_str()).collect();
        return Err(format!(
            "PKCS#11: what is named may be on any of several tokens, and the PIN is tried on none ({})\n\
             hint: name one: `pkcs11:token=…`",
            labels.join(", ")
        ));
    }
    // These show nothing to who is not logged in.
    for (token, session) in hidden {
        match behind_login(&token, session, id, settings, pins, key_only) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(failure) => failures.push(failure),
        }
    }
    let seen =
        if seen.is_empty() { "there is no token".to_owned() } else { format!("tokens: {}", seen.join(", ")) };
    failures.push(format!("PKCS#11: no token has what is named ({seen})\nhint: see --show-pkcs11-ids"));
    Err(failures.join("\n"))
}

/// What a token shows to everybody.
fn shows(token: &Token, id: &TokenId) -> Result<(Session, Option<Found>), String> {
    let session = token.session()?;
    let found = match token.module.private {
        true => None,
        false => token.certificates(&session, id)?.into_iter().next(),
    };
    Ok((session, found))
}

/// Logs in to where the certificate is.
fn key_of(
    token: &Token,
    session: Session,
    found: Found,
    settings: &Pkcs11,
    pins: &PinSource,
) -> Result<(Found, TokenKey), String> {
    let pin = enter(token, &session, pins)?;
    let key = TokenKey::new(found.clone(), pins.clone(), settings.pin_cache, Some((session, pin)))?;
    Ok((found, key))
}

/// Logs in, and looks then.
fn behind_login(
    token: &Token,
    session: Session,
    id: &TokenId,
    settings: &Pkcs11,
    pins: &PinSource,
    key_only: bool,
) -> Result<Option<(Found, TokenKey)>, String> {
    let pin = enter(token, &session, pins)?;
    let found = if key_only { token.keys(&session, id) } else { token.certificates(&session, id) }?;
    let Some(found) = found.into_iter().next() else {
        let _logged_out = session.logout();
        return Ok(None);
    };
    let key = TokenKey::new(found.clone(), pins.clone(), settings.pin_cache, Some((session, pin)))?;
    Ok(Some((found, key)))
}

/// Logs in. Who can be asked is asked again after a wrong PIN; a PIN that is written somewhere is tried once, for tokens
/// lock themselves.
fn enter(token: &Token, session: &Session, pins: &PinSource) -> Result<Option<Zeroizing<String>>, String> {
    loop {
        let label = &token.name.label;
        let pin = if token.module.protected { None } else { Some(pins.wait_for(label)?) };
        match log_in(session, label, pin.as_ref().map(|pin| pin.as_str())) {
            Ok(()) => return Ok(pin),
            Err(LoginError::WrongPin(text)) if pins.is_asked() && !token.module.protected => {
                ovlog!(error 1, "{text}");
                pin.iter().for_each(|pin| pins.refused(label, pin));
            }
            Err(LoginError::WrongPin(text) | LoginError::Other(text)) => return Err(text),
        }
    }
}

fn pem(der: &[u8]) -> Vec<u8> {
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
    format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n").into_bytes()
}

impl Management {
    /// Asks which certificate to use (`pkcs11-id-management`).
    async fn ask_token_id(&self) -> String {
        self.ask_text("pkcs11-id-request", "Please specify PKCS#11 id to use").await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_uri_holds_no_pin() {
        assert_eq!(shown(Path::new("pkcs11:token=a;id=%01?pin-value=1234")), "pkcs11:token=a;id=%01");
        assert_eq!(shown(Path::new("pkcs11:token=a")), "pkcs11:token=a");
        assert_eq!(shown(Path::new("what?.pem")), "what?.pem");
    }

    #[test]
    fn a_modules_name_is_its_files_without_additions() {
        let files = files_of_module("softhsm2");
        assert!(files.ends_with(&["softhsm2.so".into(), "libsofthsm2.so".into()]), "{files:?}");
    }
}
