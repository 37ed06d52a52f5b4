//! Questions that are open while a session goes on: everything else about it is served meanwhile, and they end with it.

use std::pin::Pin;

use culvert_proto::{Command, Verdict};
use culvert_wire::KeyId;
use zeroize::Zeroizing;

use super::{
    Client, Outcome,
    drive::Progress,
    login::{Answered, Asking, ask_challenge},
};
use crate::{auth::challenge::TextChallenge, exit::Ended, life::Life, ovlog};

/// The one question that is open; dropping it withdraws it.
pub(super) enum OpenQuestion {
    /// What a new key logs in with. Its server is accepted once that is known.
    Login(KeyId, Asking),
    /// What the server wants to know.
    Text(Pin<Box<dyn Future<Output = Result<Zeroizing<String>, String>>>>),
}

/// What was answered.
pub(super) enum Answer {
    Login(KeyId, Result<Answered, String>),
    Text(Result<Zeroizing<String>, String>),
}

/// Waits for the answer, if there is a question. Cancel safe.
pub(super) async fn answer(question: &mut Option<OpenQuestion>) -> Answer {
    let answer = match question {
        Some(OpenQuestion::Login(key, asking)) => Answer::Login(*key, asking.as_mut().await),
        Some(OpenQuestion::Text(asking)) => Answer::Text(asking.as_mut().await),
        None => std::future::pending().await,
    };
    *question = None;
    answer
}

impl Client {
    /// The server of a key is in order: it is accepted, and with that the key message is written, once there is a login.
    pub(super) fn accept_server(&mut self, life: &mut Life, progress: &mut Progress, key: KeyId) {
        if progress.params.is_none() {
            // Before this the login has gone nowhere.
            if self.login.forget_used() {
                life.secrets.login = None;
            }
        } else if self.profile.client.auth_nocache {
            // What a renegotiation logs in with was forgotten, unless a token took its place.
            if let Some(OpenQuestion::Login(of, _)) = &mut progress.question {
                *of = key;
                return;
            }
            if let Some(asking) = self.login_question() {
                progress.question = Some(OpenQuestion::Login(key, asking));
                return;
            }
            self.log_in_again(progress);
        }
        progress.link.session.command(Command::PeerVerdict(key, Verdict::Accept));
    }

    fn log_in_again(&mut self, progress: &Progress) {
        if let Some(login) = self.login.credentials() {
            progress.link.session.command(Command::Credentials(login.clone()));
        }
        self.login.forget_used();
    }

    /// The server tells something while a login is pending: where that is a question, whoever is at the terminal is asked.
    pub(super) fn ask_for_server(&self, progress: &mut Progress, text: &str) {
        let Some(TextChallenge { text, echo }) = TextChallenge::parse(text) else { return };
        if matches!(progress.question, Some(OpenQuestion::Login(..))) {
            ovlog!(error 1, "the server's question is not asked: the one for the login is open");
            return;
        }
        // One that is open already must be gone from the terminal first.
        progress.question = None;
        progress.question =
            Some(OpenQuestion::Text(Box::pin(async move { ask_challenge(&text, echo).await })));
    }

    /// Somebody answered, or cannot.
    pub(super) fn handle_answer(&mut self, progress: &Progress, answer: Answer) -> Option<Outcome> {
        match answer {
            Answer::Login(key, answer) => {
                if let Err(failure) = self.login.answered(answer) {
                    return Some(Outcome::Ended(Ended::Fatal(failure)));
                }
                self.log_in_again(progress);
                progress.link.session.command(Command::PeerVerdict(key, Verdict::Accept));
            }
            Answer::Text(Ok(response)) => {
                let message = TextChallenge::answer(&response).to_string();
                progress.link.session.command(Command::SendMessage(message));
            }
            Answer::Text(Err(failure)) => {
                ovlog!(error 1, "the server's question is not answered: {failure}");
            }
        }
        None
    }
}
