//! Whether a peer may use the tunnel: one verdict out of all factors, deny by default (SEC-AUTH-1).
//!
//! [`Granted`] is the proof; nothing outside this module can make one, and data keys are not derived without it.

/// The factors of one key exchange.
#[derive(Debug, Default)]
pub(crate) struct Access {
    peer: Factor,
    login: Factor,
}

/// State of one factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Factor {
    #[default]
    Undecided,
    Accepted,
    Denied,
}

/// Proof that certificate and login were accepted for this key.
#[derive(Debug)]
pub(crate) struct Granted(());

/// A factor that gets its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Certificate, fingerprint, scripts.
    Peer,
    /// User name and password; the peer's, hence a TLS server's question only.
    Login,
}

impl Access {
    /// Records an answer. The first denial stays; an acceptance never replaces it.
    pub(crate) fn answer(&mut self, question: Question, accepted: bool) {
        let factor = self.factor_mut(question);
        *factor = match (*factor, accepted) {
            (Factor::Denied, _) | (_, false) => Factor::Denied,
            (Factor::Undecided | Factor::Accepted, true) => Factor::Accepted,
        };
    }

    pub(crate) fn is_accepted(&self, question: Question) -> bool {
        self.factor(question) == Factor::Accepted
    }

    pub(crate) fn is_undecided(&self, question: Question) -> bool {
        self.factor(question) == Factor::Undecided
    }

    /// The proof, when all factors were accepted.
    pub(crate) fn granted(&self) -> Option<Granted> {
        (self.peer == Factor::Accepted && self.login == Factor::Accepted).then_some(Granted(()))
    }

    const fn factor(&self, question: Question) -> Factor {
        match question {
            Question::Peer => self.peer,
            Question::Login => self.login,
        }
    }

    fn factor_mut(&mut self, question: Question) -> &mut Factor {
        match question {
            Question::Peer => &mut self.peer,
            Question::Login => &mut self.login,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_needs_every_factor_and_denial_is_final() {
        // SEC-AUTH-1
        let mut access = Access::default();
        assert!(access.granted().is_none());
        access.answer(Question::Peer, true);
        assert!(access.granted().is_none());
        access.answer(Question::Login, true);
        assert!(access.granted().is_some());
        access.answer(Question::Login, false);
        access.answer(Question::Login, true);
        assert!(access.granted().is_none());
    }
}
