//! `auth-gen-token`: a signed token takes the place of the password for the rest of a user's session.
//!
//! A server keeps nothing of it but the key: whoever shows a token that this key made, in time, is who it was made for.
//! What is remembered per connection ([`TokenSession`]) is the session's name and beginning, so that new tokens carry
//! them on. Source: protocol document, "auth-token"; OpenVPN's manual, "auth-gen-token".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use culvert_config::Profile;
use culvert_crypto::{AUTH_TOKEN_PREFIX, AuthToken, AuthTokenKey, TokenUser};
use culvert_proto::static_key;
use zeroize::Zeroizing;

use crate::{
    random,
    scripts::ScriptEnv,
    settings::{SettingsError, wrapping},
};

/// The reason that a client is given; clients recognise the word before the colon.
pub(crate) const EXPIRED: &str = "SESSION: token expired";

/// Makes and checks tokens.
pub(crate) struct Tokens {
    key: AuthTokenKey,
    /// Seconds; 0: without end.
    lifetime: u64,
    /// Seconds.
    renewal: u64,
    external: bool,
}

/// What a login showed in place of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// No token.
    Password,
    /// A token that is good.
    Good(AuthToken, TokenUser),
    /// A token of ours that was good once.
    Expired(TokenUser),
    /// Not made by this key for this user, or of another session than this connection's.
    Invalid,
}

/// The tokens of one connection.
#[derive(Debug, Default)]
pub(crate) struct TokenSession {
    /// The token made last: later ones carry its session on.
    last: Option<AuthToken>,
    /// The user that tokens are made for.
    user: String,
    /// The session was accepted: tokens are renewed.
    accepted: bool,
}

impl Tokens {
    /// Reads the key, or draws one; `None` where tokens are not configured.
    pub(crate) fn from_profile(profile: &Profile) -> Result<Option<Self>, SettingsError> {
        let Some(options) = &profile.server.auth_gen_token else { return Ok(None) };
        let option = "auth-gen-token-secret";
        let key = match &profile.server.auth_gen_token_secret {
            Some(source) => static_key::parse_auth_token_key(&wrapping::text(option, source)?)
                .map_err(|problem| wrapping::content(option, &problem))?,
            None => {
                let mut secret = Zeroizing::new([0; AuthTokenKey::SECRET_LEN]);
                random::fill(&mut *secret);
                AuthTokenKey::from_secret(&*secret).map_err(|problem| wrapping::content(option, &problem))?
            }
        };
        let renewal = options.renewal.filter(|renewal| !renewal.is_zero()).or(profile.session.reneg);
        Ok(Some(Self {
            key,
            lifetime: options.lifetime.as_secs(),
            renewal: renewal.unwrap_or_default().as_secs(),
            external: options.external_auth,
        }))
    }

    /// Whether the configured judges have the last word about tokens.
    pub(crate) fn is_external(&self) -> bool {
        self.external
    }

    /// Looks at what a login showed. `now` is in Unix seconds.
    pub(crate) fn examine(&self, session: &TokenSession, user: &str, password: &str, now: u64) -> Shown {
        if !password.starts_with(AUTH_TOKEN_PREFIX) || password.len() != TOKEN_LEN {
            return Shown::Password;
        }
        let Ok((token, whose)) = self.key.verify(user, password) else { return Shown::Invalid };
        if session.last.is_some_and(|last| last.session_id != token.session_id) {
            return Shown::Invalid;
        }
        if token.is_valid_at(now, self.renewal, self.lifetime) {
            Shown::Good(token, whose)
        } else {
            Shown::Expired(whose)
        }
    }

    /// Makes the next token of a session whose login was accepted.
    pub(crate) fn renew(&self, session: &mut TokenSession, now: u64) -> Zeroizing<String> {
        session.accepted = true;
        let mut token = session.current(now);
        token.renewed = now;
        session.last = Some(token);
        Zeroizing::new(self.key.issue(&session.user, &token))
    }

    /// Whether a session's token is due to be replaced.
    pub(crate) fn is_due(&self, session: &TokenSession, now: u64) -> bool {
        session.accepted && session.last.is_some_and(|last| now >= last.renewed.saturating_add(self.renewal))
    }
}

/// Length of a token's text: the prefix and 60 bytes in base64.
const TOKEN_LEN: usize = AUTH_TOKEN_PREFIX.len() + 80;

impl TokenSession {
    /// Takes up what a login showed: whose the next token is, and which session it carries on.
    pub(crate) fn begin(&mut self, user: &str, shown: Shown, now: u64) {
        match shown {
            Shown::Good(token, whose) => {
                self.last = Some(token);
                // A token for nobody in particular never becomes one for somebody.
                self.user = if whose == TokenUser::Named { user.to_owned() } else { String::new() };
            }
            Shown::Expired(TokenUser::Empty) => self.user.clear(),
            Shown::Password | Shown::Expired(TokenUser::Named) | Shown::Invalid => {
                user.clone_into(&mut self.user);
            }
        }
        self.last = Some(self.current(now));
    }

    /// Whether a token was made on this connection.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// Sets `session_id`.
    pub(crate) fn export(&self, env: &mut ScriptEnv) {
        env.set_opt("session_id", self.last.map(|token| STANDARD.encode(token.session_id)));
    }

    /// The token made last, or the first of a new session.
    fn current(&self, now: u64) -> AuthToken {
        self.last.unwrap_or_else(|| {
            let mut session_id = [0; 12];
            random::fill(&mut session_id);
            AuthToken { session_id, initial: now, renewed: now }
        })
    }
}

impl Shown {
    /// Returns the value of `session_state`.
    pub(crate) fn session_state(self) -> &'static str {
        match self {
            Self::Password => "Initial",
            Self::Good(_, TokenUser::Named) => "Authenticated",
            Self::Good(_, TokenUser::Empty) => "AuthenticatedEmptyUser",
            Self::Expired(TokenUser::Named) => "Expired",
            Self::Expired(TokenUser::Empty) => "ExpiredEmptyUser",
            Self::Invalid => "Invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEWAL: u64 = 100;

    fn tokens(lifetime: u64) -> Tokens {
        let key = AuthTokenKey::from_secret(&[7; AuthTokenKey::SECRET_LEN]).unwrap();
        Tokens { key, lifetime, renewal: RENEWAL, external: false }
    }

    fn login(tokens: &Tokens, user: &str, now: u64) -> (TokenSession, Zeroizing<String>) {
        let mut session = TokenSession::default();
        session.begin(user, Shown::Password, now);
        let token = tokens.renew(&mut session, now);
        (session, token)
    }

    #[test]
    fn a_token_is_good_on_another_connection_of_a_server_with_the_same_key() {
        let (session, token) = login(&tokens(0), "alice", 1000);
        let shown = tokens(0).examine(&TokenSession::default(), "alice", &token, 1100);
        assert_eq!(shown, Shown::Good(session.last.unwrap(), TokenUser::Named));
        assert_eq!(shown.session_state(), "Authenticated");
    }

    #[test]
    fn a_token_of_somebody_else_or_made_by_another_key_is_invalid() {
        let (_, token) = login(&tokens(0), "alice", 1000);
        let nothing = TokenSession::default();
        assert_eq!(tokens(0).examine(&nothing, "bob", &token, 1000), Shown::Invalid);
        let key = AuthTokenKey::from_secret(&[8; AuthTokenKey::SECRET_LEN]).unwrap();
        let other = Tokens { key, lifetime: 0, renewal: RENEWAL, external: false };
        assert_eq!(other.examine(&nothing, "alice", &token, 1000), Shown::Invalid);
    }

    #[test]
    fn a_token_runs_out_when_it_is_not_renewed_and_when_the_session_ends() {
        let tokens = tokens(350);
        let (mut session, token) = login(&tokens, "alice", 1000);
        let nothing = TokenSession::default();
        assert_eq!(tokens.examine(&nothing, "alice", &token, 1200), Shown::Expired(TokenUser::Named));
        let renewed = tokens.renew(&mut session, 1190);
        assert!(matches!(tokens.examine(&nothing, "alice", &renewed, 1300), Shown::Good(..)));
        let last = tokens.renew(&mut session, 1300);
        let shown = tokens.examine(&nothing, "alice", &last, 1351);
        assert_eq!(shown, Shown::Expired(TokenUser::Named), "350 s after the first login");
    }

    #[test]
    fn a_token_of_another_session_is_refused_on_a_connection_that_has_one() {
        let tokens = tokens(0);
        let (session, _) = login(&tokens, "alice", 1000);
        let (_, foreign) = login(&tokens, "alice", 1000);
        assert_eq!(tokens.examine(&session, "alice", &foreign, 1000), Shown::Invalid);
    }

    #[test]
    fn tokens_of_one_session_carry_its_name_and_beginning_on() {
        let tokens = tokens(0);
        let (first, token) = login(&tokens, "alice", 1000);
        let mut second = TokenSession::default();
        let shown = tokens.examine(&second, "alice", &token, 1050);
        second.begin("alice", shown, 1050);
        let _renewed = tokens.renew(&mut second, 1050);
        let (first, second) = (first.last.unwrap(), second.last.unwrap());
        assert_eq!((second.session_id, second.initial, second.renewed), (first.session_id, 1000, 1050));
    }

    #[test]
    fn a_token_for_the_empty_name_stays_one() {
        let tokens = tokens(0);
        let (_, token) = login(&tokens, "", 1000);
        let mut session = TokenSession::default();
        let shown = tokens.examine(&session, "mallory", &token, 1001);
        assert_eq!(shown.session_state(), "AuthenticatedEmptyUser");
        session.begin("mallory", shown, 1001);
        let renewed = tokens.renew(&mut session, 1001);
        let shown = tokens.examine(&TokenSession::default(), "mallory", &renewed, 1001);
        assert_eq!(shown.session_state(), "AuthenticatedEmptyUser");
    }

    #[test]
    fn what_merely_looks_like_a_token_is_a_password() {
        let shown = tokens(0).examine(&TokenSession::default(), "alice", "SESS_ID_AT_short", 1);
        assert_eq!(shown, Shown::Password);
    }
}
