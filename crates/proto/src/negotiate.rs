//! Negotiation of the data channel: cipher, packet format, key derivation, features.
//!
//! Pure functions over what both ends said. Three ways exist: a server decides and pushes; a pulling client checks
//! what was pushed; two point-to-point ends compute the same result from the same facts.
//! Source: protocol document, "Negotiation".

use culvert_wire::{CipherName, PeerId};

use crate::{
    DataConfig, PeerInfo, ProtocolFlags, PushedProtocol, options_string,
    peer_info::proto_bit::{CC_EXIT_NOTIFY, DATA_EPOCH, DATA_V2, DYN_TLS_CRYPT, NCP_P2P, TLS_KEY_EXPORT},
};

/// The peer id of point-to-point ends that cannot export one: "vpn".
const P2P_PEER_ID: u32 = 0x0076_706E;

/// What both ends agreed, before the peer id is known to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) cipher: CipherName,
    pub(crate) data_v2: bool,
    pub(crate) peer_id: Option<PeerId>,
    pub(crate) flags: ProtocolFlags,
}

/// Why there is no agreement; the text is what a refused client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disagreement {
    NoSharedCipher,
    /// The offload serves no peer without peer id.
    NeedsDataV2,
    /// The server pushed something that does not fit together.
    Contradiction(&'static str),
}

impl Disagreement {
    pub(crate) const fn text(&self) -> &'static str {
        match self {
            Self::NoSharedCipher => "Data channel cipher negotiation failed (no shared cipher)",
            Self::NeedsDataV2 => "Data channel negotiation failed (missing DATA_V2)",
            Self::Contradiction(text) => text,
        }
    }
}

/// A server's decision about a client.
pub(crate) fn server(
    own: &DataConfig,
    peer: &PeerInfo,
    peer_options: &str,
) -> Result<Agreement, Disagreement> {
    let cipher = server_cipher(own, peer, options_string::cipher(peer_options))?;
    let data_v2 = peer.has(DATA_V2);
    if !data_v2 && !own.data_v1 {
        return Err(Disagreement::NeedsDataV2);
    }
    Ok(Agreement { cipher, data_v2, peer_id: None, flags: shared_flags(own, peer, Some(cipher)) })
}

fn server_cipher(
    own: &DataConfig,
    peer: &PeerInfo,
    occ: Option<CipherName>,
) -> Result<CipherName, Disagreement> {
    // A peer that names its list means exactly that list.
    let occ = occ.filter(|_| peer.value("IV_CIPHERS").is_none());
    let list = parsed(peer);
    let chosen = own.ciphers.iter().copied().find(|cipher| list.contains(cipher) || occ == Some(*cipher));
    let silent = peer.cipher_names().is_empty() && occ.is_none();
    chosen.or(own.fallback.filter(|_| silent)).ok_or(Disagreement::NoSharedCipher)
}

/// The names of a peer's list that are known here; others cannot be chosen anyway.
fn parsed(peer: &PeerInfo) -> Vec<CipherName> {
    peer.cipher_names().iter().filter_map(|name| name.parse().ok()).collect()
}

/// Features of both ends, as far as the cipher, if there is one yet, has them.
pub(crate) fn shared_flags(own: &DataConfig, peer: &PeerInfo, cipher: Option<CipherName>) -> ProtocolFlags {
    ProtocolFlags {
        cc_exit: peer.has(CC_EXIT_NOTIFY),
        tls_ekm: peer.has(TLS_KEY_EXPORT),
        dyn_tls_crypt: peer.has(DYN_TLS_CRYPT),
        aead_epoch: own.epoch && cipher.is_some_and(CipherName::is_aead) && peer.has(DATA_EPOCH | DATA_V2),
    }
}

/// The options by which a server tells a client its decision, in OpenVPN's order. `peer_id` is the client's.
pub(crate) fn pushed_options(agreed: &Agreement, peer: &PeerInfo, peer_id: Option<PeerId>) -> Vec<String> {
    let mut options = Vec::new();
    if let Some(id) = peer_id.filter(|_| agreed.data_v2) {
        options.push(format!("peer-id {id}"));
    }
    if peer.negotiates_cipher() {
        options.push(format!("cipher {}", agreed.cipher));
    }
    let flags = agreed.flags;
    // Only a peer with CC_EXIT_NOTIFY understands `protocol-flags`; before that there was one flag with its own word.
    if flags.cc_exit {
        let words = [
            (true, "cc-exit"),
            (flags.tls_ekm, "tls-ekm"),
            (flags.dyn_tls_crypt, "dyn-tls-crypt"),
            (flags.aead_epoch, "aead-epoch"),
        ];
        let words: Vec<_> = words.iter().filter(|word| word.0).map(|word| word.1).collect();
        options.push(format!("protocol-flags {}", words.join(" ")));
    } else if flags.tls_ekm {
        options.push("key-derivation tls-ekm".to_owned());
    }
    options
}

/// A pulling client's check of what was pushed.
pub(crate) fn client(
    own: &DataConfig,
    pushed: &PushedProtocol,
    peer_options: &str,
) -> Result<Agreement, Disagreement> {
    let cipher = client_cipher(own, pushed.cipher, peer_options)?;
    let data_v2 = pushed.peer_id.is_some();
    if pushed.flags.aead_epoch && !data_v2 {
        return Err(Disagreement::Contradiction("the server pushed aead-epoch without a peer-id"));
    }
    if pushed.flags.aead_epoch && !(cipher.is_aead() && own.epoch) {
        return Err(Disagreement::Contradiction(
            "the server pushed aead-epoch, which this client did not offer",
        ));
    }
    if !data_v2 && !own.data_v1 {
        return Err(Disagreement::NeedsDataV2);
    }
    Ok(Agreement { cipher, data_v2, peer_id: pushed.peer_id, flags: pushed.flags })
}

fn client_cipher(
    own: &DataConfig,
    pushed: Option<CipherName>,
    peer_options: &str,
) -> Result<CipherName, Disagreement> {
    let named = options_string::value(peer_options, "cipher");
    let chosen = match (pushed, named) {
        (Some(cipher), _) => Some(cipher).filter(|c| own.ciphers.contains(c) || own.fallback == Some(*c)),
        (None, Some(_)) => options_string::cipher(peer_options).filter(|c| own.ciphers.contains(c)),
        (None, None) => own.fallback,
    };
    chosen.ok_or(Disagreement::NoSharedCipher)
}

/// Point-to-point: both ends come to the same result. `exported` are three bytes of the TLS exporter.
pub(crate) fn point_to_point(
    own: &DataConfig,
    tls_server: bool,
    peer: &PeerInfo,
    exported: [u8; 3],
) -> Result<Agreement, Disagreement> {
    let list = parsed(peer);
    let shared = if tls_server {
        own.ciphers.iter().copied().find(|cipher| list.contains(cipher))
    } else {
        list.iter().copied().find(|cipher| own.ciphers.contains(cipher))
    };
    let cipher = shared.or(own.fallback).ok_or(Disagreement::NoSharedCipher)?;
    let negotiates = peer.has(NCP_P2P);
    let flags = if negotiates { shared_flags(own, peer, Some(cipher)) } else { ProtocolFlags::default() };
    let data_v2 = negotiates && peer.has(DATA_V2);
    if !data_v2 && !own.data_v1 {
        return Err(Disagreement::NeedsDataV2);
    }
    let [a, b, c] = exported;
    let exported = u32::from_be_bytes([0, a, b, c]);
    let raw = if flags.tls_ekm { exported } else { P2P_PEER_ID };
    let peer_id = if data_v2 { PeerId::new(raw) } else { None };
    Ok(Agreement { cipher, data_v2, peer_id, flags })
}

/// The line by which OpenVPN shows the result of a point-to-point negotiation; tools and people compare both ends'.
pub(crate) fn p2p_line(agreed: &Agreement, shared_cipher: bool) -> String {
    let flags = agreed.flags;
    let cipher = if shared_cipher {
        agreed.cipher.to_string()
    } else {
        format!("(not negotiated, fallback-cipher: {})", agreed.cipher)
    };
    format!(
        "P2P mode NCP negotiation result: TLS_export={}, DATA_v2={}, peer-id {}, epoch={}, cipher={cipher}",
        u8::from(flags.tls_ekm),
        u8::from(agreed.data_v2),
        agreed.peer_id.map_or(0, PeerId::get),
        u8::from(flags.aead_epoch),
    )
}

/// Whether the cipher of a point-to-point agreement was found in both lists.
pub(crate) fn is_shared(agreed: &Agreement, own: &DataConfig, peer: &PeerInfo) -> bool {
    own.ciphers.contains(&agreed.cipher) && parsed(peer).contains(&agreed.cipher)
}

#[cfg(test)]
mod tests;
