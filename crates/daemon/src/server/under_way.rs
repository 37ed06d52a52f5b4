//! What is under way for a session, so that it ends with it.
//!
//! A judgement may wait long: for a program, a plugin, an answer through files. It waits for a client, and has no reason to
//! go on without one: what is asked through [`UnderWay::while_there`] is dropped when its session is removed, and files
//! and programs go with it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use culvert_wire::KeyId;
use tokio::sync::watch;

use crate::{scripts::ScriptEnv, session_task::SessionKey};

/// What is under way, by session. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashMap<SessionKey, Session>>>);

#[derive(Debug)]
struct Session {
    /// Nothing is sent: that it is dropped is the message.
    there: watch::Sender<()>,
    /// The login whose answer comes later.
    login: Option<PendingLogin>,
}

/// A login whose answer comes later: what programs see of it until it does.
#[derive(Clone, Debug)]
pub(super) struct PendingLogin {
    pub(super) key: KeyId,
    /// What the plugin sees, if it is the plugin that answers later.
    pub(super) plugin: Option<ScriptEnv>,
    /// The same of the script.
    pub(super) script: Option<ScriptEnv>,
    /// An answer of the client is on its way to them; others are dropped meanwhile.
    is_answered: Arc<AtomicBool>,
}

impl PendingLogin {
    pub(super) fn new(key: KeyId, plugin: Option<ScriptEnv>, script: Option<ScriptEnv>) -> Self {
        Self { key, plugin, script, is_answered: Arc::default() }
    }

    /// Marks an answer as being on its way; returns whether another was.
    pub(super) fn begin_answer(&self) -> bool {
        self.is_answered.swap(true, Relaxed)
    }

    /// The answer was heard: the next may come.
    pub(super) fn end_answer(&self) {
        self.is_answered.store(false, Relaxed);
    }
}

impl UnderWay {
    /// A session begins.
    pub(super) fn begin(&self, session: SessionKey) {
        self.sessions().insert(session, Session { there: watch::Sender::new(()), login: None });
    }

    /// A session is over, and with it everything that is asked on its behalf.
    pub(super) fn end(&self, session: SessionKey) {
        self.sessions().remove(&session);
    }

    /// Waits for an answer about a session; `None` when the session ends first, or is over already.
    pub(super) async fn while_there<T>(
        &self,
        session: SessionKey,
        asked: impl Future<Output = T>,
    ) -> Option<T> {
        let mut there = self.sessions().get(&session)?.there.subscribe();
        tokio::select! {
            // First of all: who is gone must not be asked about once more.
            biased;
            _ = there.changed() => None,
            answer = asked => Some(answer),
        }
    }

    /// The answer to a login comes later.
    pub(super) fn defer_login(&self, session: SessionKey, login: PendingLogin) {
        if let Some(session) = self.sessions().get_mut(&session) {
            session.login = Some(login);
        }
    }

    /// The login whose answer comes later, if there is one.
    pub(super) fn deferred_login(&self, session: SessionKey) -> Option<PendingLogin> {
        self.sessions().get(&session)?.login.clone()
    }

    /// The login of this key is decided.
    pub(super) fn login_decided(&self, session: SessionKey, key: KeyId) {
        if let Some(session) = self.sessions().get_mut(&session) {
            session.login.take_if(|login| login.key == key);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const ONE: SessionKey = SessionKey(1);

    #[tokio::test]
    async fn what_is_asked_ends_with_its_session() {
        let under_way = UnderWay::default();
        under_way.begin(ONE);
        let held = Arc::new(());
        let (there, holds) = (under_way.clone(), Arc::clone(&held));
        let asked = tokio::spawn(async move {
            let asked = async move {
                let _files = holds;
                pending::<()>().await;
            };
            there.while_there(ONE, asked).await
        });
        tokio::task::yield_now().await;
        under_way.end(ONE);
        assert_eq!(asked.await.unwrap(), None);
        assert_eq!(Arc::strong_count(&held), 1, "what it held is gone");
        assert_eq!(under_way.while_there(ONE, ready(())).await, None, "over already");
    }

    #[tokio::test]
    async fn an_answer_in_time_is_heard() {
        let under_way = UnderWay::default();
        under_way.begin(ONE);
        assert_eq!(under_way.while_there(ONE, ready(7)).await, Some(7));
    }

    #[test]
    fn a_decision_ends_the_login_that_it_is_about_and_no_later_one() {
        let under_way = UnderWay::default();
        under_way.begin(ONE);
        let key = |raw| KeyId::new(raw).unwrap();
        under_way.defer_login(ONE, PendingLogin::new(key(1), None, None));
        under_way.login_decided(ONE, key(0));
        assert!(under_way.deferred_login(ONE).is_some());
        under_way.login_decided(ONE, key(1));
        assert!(under_way.deferred_login(ONE).is_none());
    }
}
