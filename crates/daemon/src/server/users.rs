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
    turned_away::come_back,
};
use crate::{
    auth::{
        tokens::{EXPIRED, Shown},
        users::{UserStanding, Users},
    },
    clock, ovlog,
    session_task::SessionKey,
};

/// What a client hears whose user cannot be looked up, and when it shall come again.
const NOT_NOW: &str = "users cannot be looked up now";
const AWAY: Duration = Duration::from_secs(20);

/// A login that the file of users has to do with.
#[derive(Clone, Debug)]
pub(super) struct KnownUser {
    name: String,
    /// When the password was given, with which all this began.
    since: SystemTime,
    /// The reading of the file that was known when this login came: its judges look at the file as it is then.
    edition: u64,
}

/// Why a user may not stay, or not come in.
#[derive(Debug, PartialEq, Eq)]
enum Objection {
    /// By the file.
    Withdrawn(String),
    /// The file does not tell.
    Unknown(String),
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
    pub(super) fn of(request: &AuthRequest, earlier: Earlier, edition: u64) -> Option<Self> {
        let since = match earlier {
            Earlier::Since(since) => since,
            Earlier::Nothing | Earlier::Expired => clock::wall(),
        };
        (!request.username.is_empty()).then(|| Self { name: request.username.clone(), since, edition })
    }

    /// What the file, as it was read last, has against this user.
    fn objection(&self, users: &Users) -> Option<Objection> {
        let name = &self.name;
        match users.standing(name, self.since) {
            UserStanding::Known => None,
            UserStanding::Gone => {
                Some(Objection::Withdrawn(format!("auth-users: user '{name}' was removed or disabled")))
            }
            UserStanding::Changed => Some(Objection::Withdrawn(format!(
                "auth-users: password or second factor of '{name}' changed"
            ))),
            UserStanding::CannotTell(problem) => Some(Objection::Unknown(problem)),
        }
    }

    /// The same about a login that was accepted: nothing, unless the file was read again while other judges took their
    /// time. What its own judges read may be newer than what was read last.
    fn late_objection(&self, users: &Users) -> Option<Objection> {
        if users.edition() == self.edition { None } else { self.objection(users) }
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
        let edition = users.edition();
        let standing = users.know(username, since).await;
        if users.edition() != edition {
            // Who is in has to hear of it, too: the watch finds nothing new any more.
            self.decide(Decision::Users(Ok(())));
        }
        match standing {
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
                Authorization::Deny(Some(come_back(AWAY, NOT_NOW)))
            }
        }
    }
}

impl Server {
    /// Looks on another thread whether the file of users changed, and has it read there.
    pub(super) fn watch_users(&self) {
        let Some(look) = self.admission.users.as_ref().and_then(Users::due) else { return };
        let decisions = self.admission.decisions.clone();
        tokio::task::spawn_blocking(move || {
            if let Some(outcome) = look() {
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
            // A login that is under way is judged by the file as it is, and once more before it is let in.
            let Some(user) = &client.login.user else { continue };
            if matches!(client.state, State::Handshaking) {
                continue;
            }
            let reason = match user.objection(&users) {
                None => continue,
                Some(Objection::Withdrawn(reason)) => reason,
                Some(Objection::Unknown(problem)) => {
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

    /// Whether a client on its way is refused because the file of users changed while its login waited for other judges.
    pub(super) fn refuses_user(&mut self, key: SessionKey) -> bool {
        let (Some(users), Some(client)) = (&self.admission.users, self.clients.get(&key)) else {
            return false;
        };
        match client.login.user.as_ref().and_then(|user| user.late_objection(users)) {
            None => false,
            Some(Objection::Withdrawn(reason)) => {
                self.refuse(key, &reason);
                true
            }
            Some(Objection::Unknown(problem)) => {
                self.send_away(key, AWAY, &problem, NOT_NOW);
                true
            }
        }
    }

    /// Remembers who logs in.
    pub(super) fn note_user(&mut self, key: SessionKey, request: &AuthRequest, earlier: Earlier) {
        if let Some(users) = &self.admission.users
            && let Some(client) = self.clients.get_mut(&key)
        {
            client.login.user = KnownUser::of(request, earlier, users.edition());
        }
    }
}

#[cfg(test)]
mod tests {
    use culvert_config::Profile;
    use culvert_testkit::TempDir;
    use culvert_wire::KeyId;
    use zeroize::Zeroizing;

    use super::*;
    use crate::server::login::tests::admission;

    fn request(username: &str) -> AuthRequest {
        AuthRequest {
            key: KeyId::FIRST,
            username: username.to_owned(),
            password: Zeroizing::default(),
            peer_info: Arc::default(),
        }
    }

    fn write(path: &std::path::Path, names: &[&str]) {
        let text: String = names.iter().map(|name| format!("{name}:$2b$04${}\n", "a".repeat(53))).collect();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_user_who_goes_while_other_judges_wait_is_noticed_and_one_who_came_just_now_is_no_stranger() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users");
        write(&path, &["alice"]);
        let users = Users::of_file(path.clone());
        users.refresh();
        let note = |name| KnownUser::of(&request(name), Earlier::Nothing, users.edition()).unwrap();
        let (alice, bob) = (note("alice"), note("bob"));
        assert_eq!(alice.late_objection(&users), None);
        assert_eq!(bob.late_objection(&users), None, "the judges have just read the line that comes below");
        write(&path, &["bob"]);
        users.refresh();
        let gone = "auth-users: user 'alice' was removed or disabled".to_owned();
        assert_eq!(alice.late_objection(&users), Some(Objection::Withdrawn(gone)));
        assert_eq!(bob.late_objection(&users), None);
        let bob = note("bob");
        std::fs::remove_file(&path).unwrap();
        users.refresh();
        assert!(matches!(bob.late_objection(&users), Some(Objection::Unknown(_))));
    }

    /// A token that is judged reads the file, and the watch finds nothing new then.
    #[tokio::test]
    async fn what_a_token_s_judge_reads_counts_for_those_who_are_in() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("users");
        write(&path, &["alice"]);
        let mut profile = Profile::default();
        profile.server.auth_users = Some(path);
        let (admission, mut inbox) = admission(profile, &folder).await;
        let users = admission.users.clone().unwrap();
        let confirmed = admission.confirm_user(&users, "alice", clock::wall(), true).await;
        assert_eq!(confirmed, Authorization::Accept);
        assert!(!users.is_stale());
        assert!(matches!(inbox.try_recv(), Ok(Decision::Users(Ok(())))));
        admission.confirm_user(&users, "alice", clock::wall(), true).await;
        assert!(inbox.try_recv().is_err(), "nothing new");
    }
}
