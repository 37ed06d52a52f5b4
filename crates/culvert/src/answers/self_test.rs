//! `--test-crypto`: seals and opens packets of every size with `--cipher`.

use culvert_crypto::{DataFormat, DataKey, KeyMaterial, Opener, Sealer, TlsRole, random_bytes};
use culvert_wire::{CipherName, KeyId, PacketId};

/// Sizes from 1 byte up to this one.
const LARGEST: usize = 1500;

const TAG_LEN: usize = 16;

/// Runs the test; returns what OpenVPN prints when it went well.
pub(super) fn run(cipher: Option<&str>) -> Result<String, String> {
    let cipher = match cipher {
        Some(name) => name.parse().map_err(|_| format!("Cipher {name} not supported"))?,
        None => CipherName::Aes256Gcm,
    };
    if cipher != CipherName::None {
        if !is_usable(cipher) {
            return Err(format!("Cipher {cipher} not supported\nhint: `--show-ciphers` lists what is"));
        }
        round_trips(cipher)
            .map_err(|error| format!("OpenVPN crypto self-test mode FAILED: {cipher}: {error}"))?;
    }
    Ok(format!(
        "{}\nEntering OpenVPN crypto self-test mode.\nOpenVPN crypto self-test mode SUCCEEDED.\n",
        culvert_config::title()
    ))
}

/// Returns whether data can be carried with it: whether there are keys for both ends, and what seals with them.
pub(super) fn is_usable(cipher: CipherName) -> bool {
    ends(cipher).is_ok()
}

/// What one end seals with, and what the other opens with.
fn ends(cipher: CipherName) -> Result<(Sealer, Opener), String> {
    let said = |error: culvert_crypto::CryptoError| error.to_string();
    let mut material = KeyMaterial::zeroed();
    random_bytes(material.as_mut_bytes()).map_err(said)?;
    let keys = [TlsRole::Client, TlsRole::Server]
        .map(|role| material.data_key(role, cipher, DataFormat::Classic, KeyId::FIRST));
    match keys {
        [Ok(DataKey::Classic { send, .. }), Ok(DataKey::Classic { recv, .. })] => {
            Ok((Sealer::new(cipher, &send).map_err(said)?, Opener::new(cipher, &recv).map_err(said)?))
        }
        _ => Err("no keys".to_owned()),
    }
}

/// One end seals, the other opens; then a changed tag must be refused.
fn round_trips(cipher: CipherName) -> Result<(), String> {
    let said = |error: culvert_crypto::CryptoError| error.to_string();
    let (sealer, opener) = ends(cipher)?;
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
