//! What a client logs in with, and what it does when that is refused: tokens, challenges, `auth-retry`.

use std::pin::Pin;

use culvert_config::{
    Profile, Pushed,
    profile::{AuthRetry, AuthUserPass, StaticChallenge},
};
use culvert_proto::Credentials;
use zeroize::Zeroizing;

use super::{Advance, Outcome, Restart};
use crate::{
    auth::challenge::DynamicChallenge,
    credentials::{self, Echo, Prompter},
    exit::Ended,
    life::Secrets,
    ovlog, question,
    signals::Request,
};

/// The login of a client, over all its attempts.
pub(super) struct Login {
    /// What to log in with next: as configured, or with a token in place of the password. `None`: it is to be asked for.
    next: Option<Credentials>,
    token_in_use: bool,
    /// What a token took the place of, where it can be used again.
    typed: Option<Credentials>,
    /// What the server wants forgotten, until there is another.
    outdated: Option<Credentials>,
    /// The name that was used last: a token goes with it.
    username: String,
    /// The answer that the server wants before anything else.
    challenge: Option<DynamicChallenge>,
    /// [`Self::next`] holds the answer to a challenge, which is good once.
    is_once: bool,
    /// `auth-nocache`.
    forgets: bool,
}

/// Somebody is asked for a login; dropping it withdraws the question.
pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Answered, String>>>>;

/// A login that was asked for.
pub(super) struct Answered {
    pub(super) login: Credentials,
    /// It holds the response to a challenge, and is good once.
    pub(super) is_once: bool,
}

/// What the management interface is asked.
pub(super) struct Question {
    /// A file that may hold all of it.
    pub(super) stored: Option<AuthUserPass>,
    pub(super) name_only: bool,
    /// Goes with the question.
    pub(super) challenge: Option<StaticChallenge>,
    /// The answer holds the response to a challenge.
    pub(super) wants_response: bool,
}

impl Login {
    pub(super) fn new(profile: &Profile, secrets: &mut Secrets) -> Self {
        let is_once = profile.client.static_challenge.is_some();
        let next = if is_once { secrets.login.take() } else { secrets.login.clone() };
        Self {
            next,
            token_in_use: false,
            typed: None,
            outdated: None,
            username: String::new(),
            challenge: None,
            is_once,
            forgets: profile.client.auth_nocache,
        }
    }

    /// What to log in with, once it was asked for.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.next.as_ref()
    }

    /// The token, where one is in use.
    pub(super) fn token(&self) -> Option<&Credentials> {
        self.next.as_ref().filter(|_| self.token_in_use)
    }

    /// What is to be asked of the management interface; `None`: nothing, a login is at hand. A challenge of the server needs
    /// no question of its own: whoever answers has read it with the refusal.
    pub(super) fn question(&mut self, profile: &Profile) -> Option<Question> {
        let is_challenged = self.challenge.take().is_some();
        let source = profile.client.auth_user_pass.as_ref()?;
        if self.next.is_some() && !is_challenged {
            return None;
        }
        let challenge = profile.client.static_challenge.clone().filter(|_| !is_challenged);
        let wants_response = is_challenged || challenge.is_some();
        let stored = matches!(source, AuthUserPass::Stored(_)) && !wants_response;
        Some(Question {
            stored: stored.then(|| source.clone()),
            name_only: matches!(source, AuthUserPass::UsernameOnly) && !wants_response,
            challenge,
            wants_response,
        })
    }

    /// Takes what was answered, or the login from before where there is no answer.
    pub(super) fn answered(&mut self, answer: Result<Answered, String>) -> Result<(), String> {
        match answer {
            Ok(Answered { login, is_once }) => {
                (self.next, self.outdated) = (Some(login), None);
                self.is_once = is_once;
                Ok(())
            }
            Err(failure) => self.outdated_instead(failure),
        }
    }

    /// `forget-passwords` of the management interface.
    pub(super) fn forget(&mut self) {
        (self.next, self.typed, self.outdated, self.token_in_use) = (None, None, None, false);
    }

    /// The server restarts without `P`: the login is to be had anew. A token stays.
    pub(super) fn outdate(&mut self) {
        if !self.token_in_use && self.next.is_some() {
            self.outdated = self.next.take();
        }
    }

    /// There is no other login: the one from before has to do, if there was one. OpenVPN ends here; a server that restarts
    /// should not end clients that cannot read their file any more (`user`), or have no terminal.
    fn outdated_instead(&mut self, failure: String) -> Result<(), String> {
        let Some(login) = self.outdated.take() else { return Err(failure) };
        ovlog!(warn 1, "{failure}: the login from before is used again");
        self.next = Some(login);
        Ok(())
    }

    /// Asks whoever is at the terminal for the answer to the server's challenge, else for the login where one is wanted and
    /// none is at hand. `None`: there is nothing to ask.
    pub(super) fn at_terminal(&mut self, profile: &Profile) -> Option<Asking> {
        if let Some(challenge) = self.challenge.take() {
            ovlog!(1, "CHALLENGE: {}", challenge.text);
            return Some(Box::pin(async move {
                let username = challenge.username.clone();
                let password = if challenge.wants_response {
                    challenge.answer(&ask_challenge(&challenge.text, challenge.echo).await?)
                } else {
                    challenge.answer("")
                };
                Ok(Answered { login: Credentials { username, password }, is_once: true })
            }));
        }
        let source = profile.client.auth_user_pass.clone().filter(|_| self.next.is_none())?;
        let challenge = profile.client.static_challenge.clone();
        let is_once = challenge.is_some();
        Some(Box::pin(async move {
            let ask = move |prompter: &Prompter| {
                credentials::login_with_challenge(&source, challenge.as_ref(), prompter)
            };
            let login = question::ask(ask).await.map_err(|failure| failure.to_string())?;
            Ok(Answered { login, is_once })
        }))
    }

    /// What was sent just now is forgotten where it is good once, or by `auth-nocache`; returns whether it was.
    pub(super) fn forget_used(&mut self) -> bool {
        if let Some(login) = &self.next {
            self.username.clone_from(&login.username);
        }
        let forgets = (self.forgets || self.is_once) && !self.token_in_use;
        if forgets {
            self.next = None;
        }
        forgets
    }

    /// A token takes the place of the password from here on.
    pub(super) fn take_token(&mut self, pushed: &Pushed) {
        let Some(token) = &pushed.auth_token else { return };
        if !self.token_in_use {
            self.typed = self.next.take();
        }
        self.next = Some(Credentials {
            username: pushed.auth_token_user.clone().unwrap_or_else(|| self.username.clone()),
            password: Zeroizing::new(token.expose().to_owned()),
        });
        self.token_in_use = true;
    }

    /// The server refused the login: whether and with what to try again (`auth-retry`).
    pub(super) fn refused(&mut self, retry: AuthRetry, reason: Option<&str>) -> Outcome {
        let again = |reason| Outcome::Restart(Restart { advance: Advance::Stay, ..Restart::because(reason) });
        let challenge = reason.and_then(DynamicChallenge::parse);
        if std::mem::take(&mut self.token_in_use) {
            // The token ran out; the password that was typed may still be good.
            self.next = self.typed.take();
            return again("auth-failure (auth-token)");
        }
        match retry {
            AuthRetry::None => {
                if let Some(challenge) = challenge {
                    ovlog!(
                        1,
                        "the server asks '{}'; with `auth-retry interact` it would be answered",
                        challenge.text
                    );
                }
                Outcome::Ended(Ended::Soft(Request::Terminate, "auth-failure"))
            }
            AuthRetry::NoInteract | AuthRetry::Interact if challenge.is_some() => {
                self.challenge = challenge;
                again("auth-failure")
            }
            AuthRetry::NoInteract => again("auth-failure"),
            AuthRetry::Interact => {
                self.next = None;
                again("auth-failure")
            }
        }
    }
}

/// Asks the question of a challenge.
pub(super) async fn ask_challenge(text: &str, echo: bool) -> Result<Zeroizing<String>, String> {
    let echo = if echo { Echo::Shown } else { Echo::Hidden };
    let asked = format!("CHALLENGE: {text}");
    question::ask(move |prompter| prompter.ask(&asked, echo)).await.map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests {
    use culvert_config::value::SecretText;

    use super::*;

    fn login(password: &str) -> Login {
        Login {
            next: Some(Credentials {
                username: "alice".to_owned(),
                password: Zeroizing::new(password.to_owned()),
            }),
            token_in_use: false,
            typed: None,
            outdated: None,
            username: String::new(),
            challenge: None,
            is_once: false,
            forgets: false,
        }
    }

    fn pushed() -> Pushed {
        let mut pushed = Pushed::default();
        pushed.auth_token = Some(SecretText::new("TOKEN".to_owned()));
        pushed
    }

    fn sent(login: &Login) -> Option<(&str, &str)> {
        login.credentials().map(|login| (login.username.as_str(), login.password.as_str()))
    }

    #[test]
    fn a_refused_token_gives_way_to_the_password_it_replaced() {
        let mut login = login("secret");
        login.forget_used();
        login.take_token(&pushed());
        assert_eq!(sent(&login), Some(("alice", "TOKEN")));
        let outcome = login.refused(AuthRetry::None, Some("SESSION: token expired"));
        // Also where a wrong password would end the process.
        assert!(matches!(outcome, Outcome::Restart(Restart { reason: "auth-failure (auth-token)", .. })));
        assert_eq!(sent(&login), Some(("alice", "secret")));
    }

    #[test]
    fn a_token_keeps_its_name_where_the_login_is_forgotten() {
        let mut login = login("secret");
        login.forgets = true;
        assert!(login.forget_used());
        assert_eq!(sent(&login), None);
        login.take_token(&pushed());
        assert_eq!(sent(&login), Some(("alice", "TOKEN")));
        assert!(!login.forget_used(), "a token is kept");
    }

    #[test]
    fn an_answer_to_a_challenge_is_not_sent_twice() {
        let mut login = login("SCRV1:cGFzcw==:MTIzNDU2");
        login.is_once = true;
        login.forget_used();
        login.take_token(&pushed());
        login.refused(AuthRetry::NoInteract, None);
        assert_eq!(sent(&login), None, "it is asked for again");
    }

    #[test]
    fn what_a_server_wants_forgotten_is_used_only_where_there_is_nothing_else() {
        let mut login = login("secret");
        login.outdate();
        assert_eq!(sent(&login), None);
        assert!(login.outdated_instead("the file is gone".to_owned()).is_ok());
        assert_eq!(sent(&login), Some(("alice", "secret")));
        assert!(login.outdated_instead("the file is gone".to_owned()).is_err());
        login.forget_used();
        login.take_token(&pushed());
        login.outdate();
        assert_eq!(sent(&login), Some(("alice", "TOKEN")), "a token is the server's own");
    }

    #[test]
    fn a_challenge_is_answered_unless_nothing_is_to_be_tried_again() {
        let reason = Some("CRV1:R:state:YWxpY2U=:Code?");
        let mut patient = login("secret");
        assert!(matches!(patient.refused(AuthRetry::Interact, reason), Outcome::Restart(_)));
        assert_eq!(patient.challenge.unwrap().state, "state");
        assert!(matches!(login("secret").refused(AuthRetry::None, reason), Outcome::Ended(_)));
    }

    fn profile(source: AuthUserPass, challenge: bool) -> Profile {
        let mut profile = Profile::default();
        profile.client.auth_user_pass = Some(source);
        profile.client.static_challenge =
            challenge.then(|| StaticChallenge { text: "Code?".to_owned(), echo: true, concat: false });
        profile
    }

    #[test]
    fn the_management_interface_is_asked_for_what_is_not_at_hand() {
        let mut login = login("secret");
        assert!(login.question(&profile(AuthUserPass::Ask, false)).is_none());
        login.forget();
        let question = login.question(&profile(AuthUserPass::UsernameOnly, false)).unwrap();
        assert!(question.name_only && question.challenge.is_none() && !question.wants_response);
        assert!(login.question(&Profile::default()).is_none(), "no login is wanted");
    }

    #[test]
    fn a_stored_login_is_no_answer_to_a_challenge() {
        let stored = || {
            let text = SecretText::new("alice\nsecret\n".to_owned());
            AuthUserPass::Stored(culvert_config::value::FileOrInline::Inline(text))
        };
        let mut login = login("secret");
        login.forget();
        assert!(login.question(&profile(stored(), false)).unwrap().stored.is_some());
        let asked = login.question(&profile(stored(), true)).unwrap();
        assert!(asked.stored.is_none() && asked.challenge.is_some() && asked.wants_response);
        login.refused(AuthRetry::Interact, Some("CRV1:R:state:YWxpY2U=:Code?"));
        let asked = login.question(&profile(stored(), true)).unwrap();
        assert!(asked.stored.is_none() && asked.wants_response);
        assert!(asked.challenge.is_none(), "the answer to the other challenge is what is wanted");
    }
}
