//! Keys of the control wrapping: `tls-auth`, `tls-crypt`, `tls-crypt-v2`.

use std::sync::Arc;

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, DigestName},
    value::{FileOrInline, KeyDirection, SecretText},
};
use culvert_crypto::{AuthDigest, KeyDirection as Direction, TlsCryptV2ServerKey, TlsRole};
use culvert_proto::{
    static_key,
    wrap::{ReplayLimits, WrapKeys, Wrapping},
};
use zeroize::Zeroizing;

use super::SettingsError;

/// What a listener needs: the wrapping of ordinary clients, and the key that opens the keys of others.
pub(crate) struct ServerWrapping {
    /// `None` refuses clients without a key of their own.
    pub(crate) wrap: Option<Arc<WrapKeys>>,
    /// `tls-crypt-v2`.
    pub(crate) tls_crypt_v2: Option<Arc<TlsCryptV2ServerKey>>,
    /// `tls-crypt-v2 … force-cookie`.
    pub(crate) force_cookie: bool,
}

/// Reads a server's keys.
pub(crate) fn server(profile: &Profile, entry: &ConnectionEntry) -> Result<ServerWrapping, SettingsError> {
    let shared = shared(profile, entry, TlsRole::Server)?;
    let tls_crypt_v2 = entry
        .tls_crypt_v2
        .as_ref()
        .map(|v2| {
            let text = text("tls-crypt-v2", &v2.key)?;
            static_key::parse_tls_crypt_v2_server_key(&text)
                .map(Arc::new)
                .map_err(|problem| content("tls-crypt-v2", &problem))
        })
        .transpose()?;
    let wrap = match (shared, &tls_crypt_v2) {
        (Some(keys), _) => Some(Arc::new(keys)),
        (None, None) => Some(Arc::new(WrapKeys::none())),
        (None, Some(_)) => None,
    };
    let force_cookie = entry.tls_crypt_v2.as_ref().is_some_and(|v2| v2.force_cookie);
    Ok(ServerWrapping { wrap, tls_crypt_v2, force_cookie })
}

/// Reads a client's keys.
pub(crate) fn client(profile: &Profile, entry: &ConnectionEntry) -> Result<Wrapping, SettingsError> {
    let keys = match &entry.tls_crypt_v2 {
        Some(v2) => {
            let text = text("tls-crypt-v2", &v2.key)?;
            let key = static_key::parse_tls_crypt_v2_client_key(&text)
                .map_err(|problem| content("tls-crypt-v2", &problem))?;
            WrapKeys::tls_crypt_v2_client(key.key, &key.wkc)
                .map_err(|problem| content("tls-crypt-v2", &problem))?
        }
        None => shared(profile, entry, TlsRole::Client)?.unwrap_or_else(WrapKeys::none),
    };
    Ok(Wrapping::new(Arc::new(keys), replay_limits(profile)))
}

/// Puts the text of every key file in the place of its name: later attempts may lack the rights to read it (`user`), or
/// stand in another root directory (`chroot`).
pub(crate) fn preload(profile: &mut Profile) -> Result<(), SettingsError> {
    if let Some(key) = profile.server.auth_gen_token_secret.as_mut().filter(|key| key.path().is_some()) {
        *key = FileOrInline::Inline(SecretText::new(text("auth-gen-token-secret", key)?.to_string()));
    }
    for entry in &mut profile.connections {
        let v2 = entry.tls_crypt_v2.as_mut().map(|v2| ("tls-crypt-v2", &mut v2.key));
        let shared = [
            entry.tls_auth.as_mut().map(|key| ("tls-auth", key)),
            entry.tls_crypt.as_mut().map(|key| ("tls-crypt", key)),
            v2,
        ];
        for (option, key) in shared.into_iter().flatten() {
            if key.path().is_some() {
                let text = text(option, key)?.to_string();
                *key = FileOrInline::Inline(SecretText::new(text));
            }
        }
    }
    Ok(())
}

/// The options whose key files hold another text than the running profile, which has the texts in place of their names.
/// Files that cannot be read are passed over.
pub(crate) fn changed_keys(running: &Profile, reread: &Profile) -> Vec<&'static str> {
    let keys = |profile: &Profile| -> Vec<(&'static str, FileOrInline)> {
        let Some(entry) = profile.connections.first() else { return Vec::new() };
        let all = [
            ("tls-auth", entry.tls_auth.clone()),
            ("tls-crypt", entry.tls_crypt.clone()),
            ("tls-crypt-v2", entry.tls_crypt_v2.as_ref().map(|v2| v2.key.clone())),
        ];
        all.into_iter().filter_map(|(option, key)| Some((option, key?))).collect()
    };
    let running = keys(running);
    let differs = |option: &'static str, key: &FileOrInline| {
        let known = running.iter().find(|(name, _)| *name == option)?;
        Some(text(option, &known.1).ok()? != text(option, key).ok()?)
    };
    let changed = keys(reread).into_iter().filter(|(option, key)| differs(option, key) == Some(true));
    changed.map(|(option, _)| option).collect()
}

/// Reads `tls-auth` or `tls-crypt`.
fn shared(
    profile: &Profile,
    entry: &ConnectionEntry,
    role: TlsRole,
) -> Result<Option<WrapKeys>, SettingsError> {
    if let Some(source) = &entry.tls_crypt {
        let key = static_key::parse_static_key(&text("tls-crypt", source)?)
            .map_err(|problem| content("tls-crypt", &problem))?;
        return WrapKeys::tls_crypt(key, role).map(Some).map_err(|problem| content("tls-crypt", &problem));
    }
    let Some(source) = &entry.tls_auth else { return Ok(None) };
    let key = static_key::parse_static_key(&text("tls-auth", source)?)
        .map_err(|problem| content("tls-auth", &problem))?;
    let Some(digest) = digest(profile.data.auth) else {
        let problem = "needs a digest, but `auth none` is set; name one with `auth`, the same on both ends";
        return Err(SettingsError::Content { option: "tls-auth", problem: problem.to_owned() });
    };
    let direction = match entry.key_direction {
        None => Direction::Bidirectional,
        Some(KeyDirection::Normal) => Direction::Normal,
        Some(KeyDirection::Inverse) => Direction::Inverse,
    };
    Ok(Some(WrapKeys::tls_auth(key, digest, direction)))
}

/// The digest of `auth`; `None` is `auth none`.
pub(crate) const fn digest(name: DigestName) -> Option<AuthDigest> {
    Some(match name {
        DigestName::Md5 => AuthDigest::Md5,
        DigestName::Sha1 => AuthDigest::Sha1,
        DigestName::Sha224 => AuthDigest::Sha224,
        DigestName::Sha256 => AuthDigest::Sha256,
        DigestName::Sha384 => AuthDigest::Sha384,
        DigestName::Sha512 => AuthDigest::Sha512,
        DigestName::None => return None,
    })
}

/// `replay-window`, as the control channel has it.
pub(crate) fn replay_limits(profile: &Profile) -> ReplayLimits {
    profile
        .data
        .replay_window
        .map_or_else(ReplayLimits::default, |(size, backtrack)| ReplayLimits { size, backtrack })
}

pub(crate) fn text(option: &'static str, source: &FileOrInline) -> Result<Zeroizing<String>, SettingsError> {
    match source {
        FileOrInline::Inline(text) => Ok(Zeroizing::new(text.expose().to_owned())),
        FileOrInline::File(path) => {
            let bytes = Zeroizing::new(super::tls::read(option, path)?);
            Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

pub(crate) fn content(option: &'static str, problem: &dyn std::fmt::Display) -> SettingsError {
    SettingsError::Content { option, problem: problem.to_string() }
}
