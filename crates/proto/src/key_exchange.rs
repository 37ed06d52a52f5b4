//! The key-method-2 message, and data keys out of what both ends said in it.
//!
//! First application data of each key's TLS connection, the client's first. Also the rule that a peer stays who it
//! was over renegotiations (SEC-AUTH-2). Source: protocol document, "Key-method-2 message", "Data key derivation".
//!
//! ```text
//! u32  0
//! u8   2                       low four bits: key method
//! u8   pre_master[48]          client -> server only
//! u8   random1[32]
//! u8   random2[32]
//! str  options                 str: u16 n || n bytes, n counts the NUL; empty: n = 0
//! str  username
//! str  password
//! str  peer_info               may be absent
//! ```

use std::sync::Arc;

use culvert_crypto::{KeyMaterial, TlsRole, tls1_prf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    RandomSource,
    tls::{PeerIdentity, TlsError, TlsSession},
};

/// Longest user name and password (SEC-CTL-12).
const MAX_CREDENTIAL: usize = 4096;
/// Longest options string that is read; senders use 512.
const MAX_OPTIONS: usize = 4096;
/// Longest peer info (SEC-CTL-12).
const MAX_PEER_INFO: usize = 8 * 1024;

const EXPORT_DATA_KEYS: &str = "EXPORTER-OpenVPN-datakeys";
const EXPORT_PEER_ID: &str = "EXPORTER-OpenVPN-p2p-peerid";
const EXPORT_DYNAMIC_TLS_CRYPT: &str = "EXPORTER-OpenVPN-dynamic-tls-crypt";

/// One end's random contribution.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeySource {
    pre_master: [u8; 48],
    random1: [u8; 32],
    random2: [u8; 32],
}

impl KeySource {
    /// Draws a contribution. A TLS server's has no pre-master secret.
    pub(crate) fn generate(role: TlsRole, random: &mut RandomSource) -> Self {
        let mut source = Self { pre_master: [0; 48], random1: [0; 32], random2: [0; 32] };
        if role == TlsRole::Client {
            random(&mut source.pre_master);
        }
        random(&mut source.random1);
        random(&mut source.random2);
        source
    }
}

/// A key-method-2 message.
pub(crate) struct KeyMessage {
    pub(crate) source: KeySource,
    pub(crate) options: String,
    pub(crate) username: String,
    pub(crate) password: Zeroizing<String>,
    /// `None` when the field is absent.
    pub(crate) peer_info: Option<String>,
}

/// Why bytes are not a key-method-2 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyMessageError {
    /// More bytes have to come.
    Incomplete,
    /// Another key method than 2.
    Method(u8),
    /// A field is longer than allowed.
    TooLong(&'static str),
}

impl KeyMessageError {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Incomplete => "TLS Error: truncated key exchange message".to_owned(),
            Self::Method(method) => {
                format!("TLS ERROR: Unknown key_method/flags={method} received from remote host")
            }
            Self::TooLong(field) => format!("TLS Error: {field} in the key exchange is too long"),
        }
    }
}

impl KeyMessage {
    /// Encodes the message as this TLS role sends it.
    pub(crate) fn encode(&self, sender: TlsRole) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(1024));
        out.extend_from_slice(&[0, 0, 0, 0, 2]);
        if sender == TlsRole::Client {
            out.extend_from_slice(&self.source.pre_master);
        }
        out.extend_from_slice(&self.source.random1);
        out.extend_from_slice(&self.source.random2);
        let peer_info = self.peer_info.as_deref().unwrap_or_default();
        for text in [&self.options, &self.username, self.password.as_str(), peer_info] {
            put_string(&mut out, text);
        }
        out
    }

    /// Decodes a message of this TLS role. Returns it with the number of bytes it took.
    pub(crate) fn decode(sender: TlsRole, bytes: &[u8]) -> Result<(Self, usize), KeyMessageError> {
        let mut reader = Reader { rest: bytes };
        let method = reader.array::<5>()?[4];
        if method & 0x0F != 2 {
            return Err(KeyMessageError::Method(method));
        }
        let pre_master = if sender == TlsRole::Client { reader.array()? } else { [0; 48] };
        let source = KeySource { pre_master, random1: reader.array()?, random2: reader.array()? };
        let options = reader.string("the options string", MAX_OPTIONS)?;
        let username = reader.string("the user name", MAX_CREDENTIAL)?;
        let password = Zeroizing::new(reader.string("the password", MAX_CREDENTIAL)?);
        // Old peers end here; what follows then is a control message, which does not parse as a string.
        let peer_info = reader.optional_string("peer info", MAX_PEER_INFO)?;
        let taken = bytes.len().saturating_sub(reader.rest.len());
        Ok((Self { source, options, username, password, peer_info }, taken))
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    let len = if text.is_empty() { 0 } else { text.len().saturating_add(1) };
    let len = u16::try_from(len).unwrap_or(0);
    out.extend_from_slice(&len.to_be_bytes());
    if len > 0 {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyMessageError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(KeyMessageError::Incomplete)?;
        self.rest = rest;
        Ok(*head)
    }

    fn string(&mut self, field: &'static str, max: usize) -> Result<String, KeyMessageError> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        if len > max {
            return Err(KeyMessageError::TooLong(field));
        }
        let (raw, rest) = self.rest.split_at_checked(len).ok_or(KeyMessageError::Incomplete)?;
        self.rest = rest;
        let end = raw.iter().position(|&byte| byte == 0).unwrap_or(len.saturating_sub(1));
        Ok(String::from_utf8_lossy(raw.get(..end).unwrap_or_default()).into_owned())
    }

    fn optional_string(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<Option<String>, KeyMessageError> {
        let before = self.rest;
        match self.string(field, max) {
            Ok(text) => Ok(Some(text)),
            // "PU" of PUSH_REQUEST reads as a length of 20565.
            Err(_) if before.first().is_none_or(|byte| byte.is_ascii_uppercase()) => {
                self.rest = before;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the old derivation needs besides the two contributions.
pub(crate) struct Derivation<'a> {
    pub(crate) client: &'a KeySource,
    pub(crate) server: &'a KeySource,
    pub(crate) client_sid: &'a [u8; 8],
    pub(crate) server_sid: &'a [u8; 8],
}

impl Derivation<'_> {
    /// Derives the data keys by the TLS 1.0 PRF: what peers before 2.6 do.
    pub(crate) fn prf(&self) -> KeyMaterial {
        let mut master = Zeroizing::new([0; 48]);
        let seed: [&[u8]; 3] = [b"OpenVPN master secret", &self.client.random1, &self.server.random1];
        tls1_prf(&self.client.pre_master, &seed, &mut *master);
        let mut material = KeyMaterial::zeroed();
        let seed: [&[u8]; 5] = [
            b"OpenVPN key expansion",
            &self.client.random2,
            &self.server.random2,
            self.client_sid,
            self.server_sid,
        ];
        tls1_prf(&*master, &seed, material.as_mut_bytes());
        material
    }
}

/// Derives the data keys by the TLS exporter.
pub(crate) fn export_data_keys(tls: &dyn TlsSession) -> Result<KeyMaterial, TlsError> {
    let mut material = KeyMaterial::zeroed();
    tls.export(EXPORT_DATA_KEYS, material.as_mut_bytes())?;
    Ok(material)
}

/// Derives the key of dynamic tls-crypt (not yet mixed with the static one).
pub(crate) fn export_dynamic_tls_crypt(tls: &dyn TlsSession) -> Result<KeyMaterial, TlsError> {
    let mut material = KeyMaterial::zeroed();
    tls.export(EXPORT_DYNAMIC_TLS_CRYPT, material.as_mut_bytes())?;
    Ok(material)
}

/// Derives the peer id of point-to-point ends.
pub(crate) fn export_peer_id(tls: &dyn TlsSession) -> Result<[u8; 3], TlsError> {
    let mut raw = [0; 3];
    tls.export(EXPORT_PEER_ID, &mut raw)?;
    Ok(raw)
}

/// Who the peer was at the first key; it must stay that (SEC-AUTH-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) username: String,
    /// `None` for a peer without certificate.
    identity: Option<Arc<PeerIdentity>>,
}

impl Binding {
    pub(crate) fn new(username: &str, identity: Option<Arc<PeerIdentity>>) -> Self {
        Self { username: username.to_owned(), identity }
    }

    /// The common name of its certificate; empty without one.
    pub(crate) fn common_name(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.common_name)
    }

    /// The certificate itself. Those above it may change while it is valid: an authority can be renewed.
    fn leaf(&self) -> Option<&Vec<u8>> {
        self.identity.as_ref().and_then(|identity| identity.chain.first())
    }

    /// Returns OpenVPN's words for what changed of a peer with this role. A server may show a renewed certificate in the
    /// same name, as OpenVPN's clients allow.
    pub(crate) fn change(&self, later: &Self, peer: TlsRole) -> Option<String> {
        let changed = |what, a: &str, b: &str| {
            Some(format!("TLS Auth Error: {what} attempted to change from '{a}' to '{b}' -- tunnel disabled"))
        };
        if self.username != later.username {
            return changed("username", &self.username, &later.username);
        }
        if self.common_name() != later.common_name() {
            return changed("TLS object CN", self.common_name(), later.common_name());
        }
        let is_renewed = peer == TlsRole::Server && self.leaf().is_some() == later.leaf().is_some();
        (self.leaf() != later.leaf() && !is_renewed).then(|| {
            "TLS Auth Error: TLS object CN matches, but the certificate has changed during mid-session reauth \
             -- tunnel disabled"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests;
