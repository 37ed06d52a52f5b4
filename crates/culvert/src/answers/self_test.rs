//! `--test-crypto`: seals and opens packets of every size with `--cipher`.

use culvert_crypto::{
    AuthDigest, DataFormat, DataKey, KeyMaterial, LegacyOpener, LegacySealer, Opener, Sealer, Stamp, TlsRole,
    random_bytes,
};
use culvert_wire::{CipherName, KeyId, PacketId};

use super::lists::is_there;

/// Sizes from 1 byte up to this one.
const LARGEST: usize = 1500;

const TAG_LEN: usize = 16;

/// Runs the test; returns what OpenVPN prints when it went well.
pub(super) fn run(cipher: Option<&str>, legacy: bool) -> Result<String, String> {
    let cipher = match cipher {
        Some(name) => name.parse().map_err(|_| format!("Cipher {name} not supported"))?,
        None => CipherName::Aes256Gcm,
    };
    if cipher != CipherName::None {
        if !is_there(cipher, legacy) {
            return Err(format!("Cipher {cipher} not supported\nhint: add --providers legacy default"));
        }
        let test = if cipher.is_aead() { round_trips } else { old_round_trips };
        test(cipher).map_err(|error| format!("OpenVPN crypto self-test mode FAILED: {cipher}: {error}"))?;
    }
    Ok(format!(
        "{}\nEntering OpenVPN crypto self-test mode.\nOpenVPN crypto self-test mode SUCCEEDED.\n",
        culvert_config::title()
    ))
}

/// One end seals, the other opens; then a changed tag must be refused.
fn round_trips(cipher: CipherName) -> Result<(), String> {
    let said = |error: culvert_crypto::CryptoError| error.to_string();
    let mut material = KeyMaterial::zeroed();
    random_bytes(material.as_mut_bytes()).map_err(said)?;
    let ends = [TlsRole::Client, TlsRole::Server]
        .map(|role| material.data_key(role, cipher, DataFormat::Classic, KeyId::FIRST).map_err(said));
    let [Ok(DataKey::Classic { send, .. }), Ok(DataKey::Classic { recv, .. })] = ends else {
        return Err("no keys".to_owned());
    };
    let (sealer, opener) =
        (Sealer::new(cipher, &send).map_err(said)?, Opener::new(cipher, &recv).map_err(said)?);
    let mut plaintext = [0; LARGEST];
    random_bytes(&mut plaintext).map_err(said)?;
    for (len, id) in (1..=LARGEST).zip(1_u32..) {
        let (mut packet, mut tag) = (plaintext[..len].to_vec(), [0; TAG_LEN]);
        let id = PacketId::new(id).ok_or("no packet id")?;
        sealer.seal_in_place(id, &[], &mut packet, &mut tag).map_err(said)?;
        opener.open_in_place(id, &[], &tag, &mut packet).map_err(said)?;
        if packet != plaintext[..len] {
            return Err(format!("{len} bytes did not come back"));
        }
        tag[0] ^= 1;
        sealer.seal_in_place(id, &[], &mut packet, &mut [0; TAG_LEN]).map_err(said)?;
        if opener.open_in_place(id, &[], &tag, &mut packet).is_ok() {
            return Err(format!("a wrong tag was accepted at {len} bytes"));
        }
    }
    Ok(())
}

/// The same for a cipher without tag, with an HMAC.
fn old_round_trips(cipher: CipherName) -> Result<(), String> {
    let said = |error: culvert_crypto::CryptoError| error.to_string();
    let mut material = KeyMaterial::zeroed();
    random_bytes(material.as_mut_bytes()).map_err(said)?;
    let digest = Some(AuthDigest::Sha1);
    let ends = [TlsRole::Client, TlsRole::Server]
        .map(|role| material.legacy_data_key(role, cipher, digest, KeyId::FIRST).map_err(said));
    let [Ok(DataKey::Legacy(client)), Ok(DataKey::Legacy(server))] = ends else {
        return Err("no keys".to_owned());
    };
    let sealer = LegacySealer::new(cipher, digest, &client.send).map_err(said)?;
    let opener = LegacyOpener::new(cipher, digest, &server.recv).map_err(said)?;
    let mut plaintext = [0; LARGEST];
    random_bytes(&mut plaintext).map_err(said)?;
    for (len, id) in (1..=LARGEST).zip(1_u32..) {
        let mut packet = vec![0; sealer.prefix() + len + sealer.padding()];
        packet[sealer.prefix()..][..len].copy_from_slice(&plaintext[..len]);
        let sealed = sealer.seal(Stamp { time: 1, id }, &mut packet, len).map_err(said)?;
        packet.truncate(sealed);
        let mut out = vec![0; sealed];
        let opened = opener.open(&packet, &mut out).map_err(said)?;
        if out[opened.start..][..opened.len] != plaintext[..len] || opened.stamp.id != id {
            return Err(format!("{len} bytes did not come back"));
        }
        packet[0] ^= 1;
        if opener.open(&packet, &mut out).is_ok() {
            return Err(format!("a wrong HMAC was accepted at {len} bytes"));
        }
    }
    Ok(())
}
