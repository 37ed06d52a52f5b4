//! Users of `auth-users` who are in: their lines are watched, and whose line is gone or another has to leave.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use culvert_proto::{AuthRequest, Authorization};

use super::{
    Server,
    admission::{Admission, Decision},
    client::State,
};
use crate::{
    auth::{
        tokens::{EXPIRED, Shown},
        users::{UserStanding, Users},
    },
    clock, ovlog,
    session_task::SessionKey,
};

/// A login that the file of users has to do with.
#[derive(Clone, Debug)]
pub(super) struct KnownUser {
    name: String,
    /// When the password was given, with which all this began.
    since: SystemTime,
}

/// What a login shows of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nothing: there is a password to judge.
    Nothing,
    /// A token that is good, of a session that began then.
    Since(SystemTime),
    /// A token that was good.
    Expired,
}

impl Earlier {
    pub(super) fn of(shown: Shown) -> Self {
        use culvert_crypto::TokenUser::Named;
        match shown {
            // Tokens know whole seconds: the benefit of the doubt.
            Shown::Good(token, Named) => {
                Self::Since(UNIX_EPOCH + Duration::from_secs(token.initial.saturating_add(1)))
            }
            Shown::Expired(Named) => Self::Expired,
            Shown::Good(..) | Shown::Expired(_) | Shown::Password | Shown::Invalid => Self::Nothing,
        }
    }
}

impl KnownUser {
    /// Whose login this is; `None` without a name.
    pub(super) fn of(request: &AuthRequest, earlier: Earlier) -> Option<Self> {
        let since = match earlier {
            Earlier::Since(since) => since,
            Earlier::Nothing | Earlier::Expired => clock::wall(),
        };
        (!request.username.is_empty()).then(|| Self { name: request.username.clone(), since })
    }
}

impl Admission {
    /// What the file of users says to a token that is good by itself. Who is in stays while it cannot tell; nobody new
    /// is let in meanwhile (SEC-AUTH-1).
    pub(super) async fn confirm_user(
        &self,
        users: &Arc<Users>,
        username: &str,
        since: SystemTime,
        is_in: bool,
    ) -> Authorization {
        match users.know(username, since).await {
            UserStanding::Known => Authorization::Accept,
            UserStanding::Gone => {
                ovlog!(1, "auth-users: '{username}' shows a token, but is no user any more");
                Authorization::Deny(None)
            }
            UserStanding::Changed => {
                ovlog!(1, "auth-users: '{username}' shows a token from before the last change of that user");
                Authorization::Deny(Some(EXPIRED.to_owned()))
            }
            UserStanding::CannotTell(problem) if is_in => {
                ovlog!(warn 1, "{problem}; '{username}' shows a good token and stays connected");
                Authorization::Accept
            }
            UserStanding::CannotTell(problem) => {
                ovlog!(error 1, "{problem}; '{username}' shows a good token, but nobody new is let in until the file can be read");
                Authorization::Deny(Some(
                    "TEMP[backoff 20,advance no]:users cannot be looked up now".to_owned(),
                ))
            }
        }
    }
}

impl Server {
    /// Looks whether the file of users changed, and has it read on another thread.
    pub(super) fn watch_users(&self) {
        let Some(users) = self.admission.users.as_ref().filter(|users| users.is_stale()) else { return };
        let (users, decisions) = (Arc::clone(users), self.admission.decisions.clone());
        tokio::task::spawn_blocking(move || {
            if let Some(outcome) = users.refresh() {
                let _gone = decisions.blocking_send(Decision::Users(outcome));
            }
        });
    }

    /// The file of users was read again.
    pub(super) fn users_seen(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.judge_users_again(),
            Err(problem) => ovlog!(
                error 1,
                "{problem}; clients that are connected stay, nobody new is let in until --auth-users can be read"
            ),
        }
    }

    fn judge_users_again(&mut self) {
        let Some(users) = self.admission.users.clone() else { return };
        let mut withdrawn = Vec::new();
        for (&key, client) in &self.clients {
            // A login that is under way is judged by the file as it is.
            let Some(KnownUser { name, since }) = &client.login.user else { continue };
            if matches!(client.state, State::Handshaking) {
                continue;
            }
            let reason = match users.standing(name, *since) {
                UserStanding::Known => continue,
                UserStanding::Gone => format!("auth-users: user '{name}' was removed or disabled"),
                UserStanding::Changed => format!("auth-users: password or second factor of '{name}' changed"),
                UserStanding::CannotTell(problem) => {
                    let _in = client.span.enter();
                    ovlog!(error 1, "{problem}; this client stays as it is");
                    continue;
                }
            };
            withdrawn.push((key, reason));
        }
        for (key, reason) in withdrawn {
            self.dismiss(key, &reason);
        }
    }

    /// Remembers who logs in.
    pub(super) fn note_user(&mut self, key: SessionKey, request: &AuthRequest, earlier: Earlier) {
        if self.admission.users.is_some()
            && let Some(client) = self.clients.get_mut(&key)
        {
            client.login.user = KnownUser::of(request, earlier);
        }
    }
}
