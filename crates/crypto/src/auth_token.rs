use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{CryptoError, Secret, constant_time_eq, kdf::hmac_sha256};

/// What a token begins with, so that it can be told from a password.
pub const AUTH_TOKEN_PREFIX: &str = "SESS_ID_AT_";

/// The key of a server's authentication tokens: bytes 64..96 of the 128-byte secret.
pub struct AuthTokenKey(Secret<[u8; 32]>);

/// The content of a token, which a server hands out in place of the password.
///
/// ```text
/// "SESS_ID_AT_" base64( session_id[12] u64 initial u64 renewed HMAC-SHA256[32] )      91 characters
/// HMAC over: username || session_id || initial || renewed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthToken {
    /// Names the user's session over reconnects.
    pub session_id: [u8; 12],
    /// When the first token of the session was made: Unix seconds.
    pub initial: u64,
    /// When this token was made: Unix seconds.
    pub renewed: u64,
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUser {
    /// The user who shows it.
    Named,
    /// Made for the empty user name: valid with any name, which then counts as empty.
    Empty,
}

impl AuthTokenKey {
    /// Length of the secret in a key file.
    pub const SECRET_LEN: usize = 128;

    /// Takes the key out of the file's secret.
    ///
    /// # Errors
    /// When there are not exactly 128 bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, CryptoError> {
        if secret.len() != Self::SECRET_LEN {
            return Err(CryptoError::KeyLength { need: Self::SECRET_LEN, have: secret.len() });
        }
        let mut key = [0; 32];
        key.copy_from_slice(&secret[64..96]);
        Ok(Self(Secret::new(key)))
    }

    /// Prints a token for a user.
    #[must_use]
    pub fn issue(&self, user: &str, token: &AuthToken) -> String {
        let mut bytes = [0; 60];
        bytes[..28].copy_from_slice(&token.to_bytes());
        bytes[28..].copy_from_slice(&*self.mac(user, token));
        format!("{AUTH_TOKEN_PREFIX}{}", STANDARD.encode(bytes))
    }

    /// Reads a token that a user shows in place of the password. Whether it is still valid is
    /// [`AuthToken::is_valid_at`].
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when it has not the form of a token, [`CryptoError::Authentication`] when this
    /// key did not make it for this user.
    pub fn verify(&self, user: &str, text: &str) -> Result<(AuthToken, TokenUser), CryptoError> {
        let encoded = text.strip_prefix(AUTH_TOKEN_PREFIX).ok_or(CryptoError::Malformed)?;
        if encoded.len() != 80 {
            return Err(CryptoError::Malformed);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| CryptoError::Malformed)?;
        let (content, mac) = bytes.split_first_chunk::<28>().ok_or(CryptoError::Malformed)?;
        let token = AuthToken::from_bytes(content);
        if constant_time_eq(&*self.mac(user, &token), mac) {
            Ok((token, TokenUser::Named))
        } else if constant_time_eq(&*self.mac("", &token), mac) {
            Ok((token, TokenUser::Empty))
        } else {
            Err(CryptoError::Authentication)
        }
    }

    fn mac(&self, user: &str, token: &AuthToken) -> zeroize::Zeroizing<[u8; 32]> {
        hmac_sha256(self.0.expose(), &[user.as_bytes(), &token.to_bytes()])
    }
}

impl AuthToken {
    /// Tells whether the token may be used at `now`. It lives for two renewal intervals, the session for `lifetime`
    /// seconds (0: without end).
    #[must_use]
    pub const fn is_valid_at(&self, now: u64, renewal: u64, lifetime: u64) -> bool {
        let fresh = self.renewed <= now && now < self.renewed.saturating_add(renewal.saturating_mul(2));
        let alive = lifetime == 0 || now <= self.initial.saturating_add(lifetime);
        fresh && alive && self.renewed >= self.initial
    }

    fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..12].copy_from_slice(&self.session_id);
        bytes[12..20].copy_from_slice(&self.initial.to_be_bytes());
        bytes[20..].copy_from_slice(&self.renewed.to_be_bytes());
        bytes
    }

    const fn from_bytes(bytes: &[u8; 28]) -> Self {
        let &[s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, ref times @ ..] = bytes;
        let &[i0, i1, i2, i3, i4, i5, i6, i7, r0, r1, r2, r3, r4, r5, r6, r7] = times;
        Self {
            session_id: [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11],
            initial: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            renewed: u64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
        }
    }
}
