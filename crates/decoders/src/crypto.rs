use culvert_crypto::{AuthToken, AuthTokenKey, KeyMaterial, TlsCryptV2ServerKey};

use crate::as_text;

fn server_key() -> Option<TlsCryptV2ServerKey> {
    TlsCryptV2ServerKey::from_slice(&[9; 128]).ok()
}

pub(crate) fn wrapped_client_key(bytes: &[u8]) {
    let _ = TlsCryptV2ServerKey::split_packet(bytes);
    let Some(server) = server_key() else { return };
    if let Ok(client) = server.unwrap(bytes) {
        assert_eq!(server.wrap(&client.key, &client.metadata).as_deref(), Ok(bytes), "SEC-PARSE-2");
    }
}

pub(crate) fn wrapped_client_keys() -> Vec<Vec<u8>> {
    let key = KeyMaterial::from_slice(&[3; 256]);
    let wrap = |metadata: &[u8]| server_key()?.wrap(key.as_ref().ok()?, metadata).ok();
    [wrap(b""), wrap(b"\0user")].into_iter().flatten().collect()
}

pub(crate) fn auth_token(bytes: &[u8]) {
    let Ok(key) = AuthTokenKey::from_secret(&[3; 128]) else { return };
    as_text(bytes, |text| {
        if let Ok((token, _)) = key.verify("user", text) {
            assert!([key.issue("user", &token), key.issue("", &token)].iter().any(|again| again == text));
        }
    });
}

pub(crate) fn auth_tokens() -> Vec<Vec<u8>> {
    let token = AuthToken { session_id: [1; 12], initial: 5, renewed: 6 };
    let key = AuthTokenKey::from_secret(&[3; 128]);
    key.iter().flat_map(|key| ["user", ""].map(|user| key.issue(user, &token).into_bytes())).collect()
}
