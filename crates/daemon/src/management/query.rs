//! Questions to clients of the interface: passwords, remotes, proxies, signatures, and the hold.
//!
//! A question stands until somebody answers it; who connects meanwhile is shown it with the greeting. Whoever asks waits;
//! dropping the wait takes the question back.

use culvert_config::{profile::StaticChallenge, value::Port};
use culvert_mgmt::{BlockOf, Need, Notification, ProxyChoice, client_version, reply};
use culvert_proto::Credentials;
use zeroize::Zeroizing;

use super::{Management, State};
use crate::ovlog;

/// How `>PROXY` calls a connection over TCP.
const TCP: &str = "TCP";

/// A question that is open.
pub(super) struct Question {
    need: Need,
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    remote: Option<RemoteChoice>,
    proxy: Option<ProxyChoice>,
    /// `pk-sig` and `certificate`: the lines.
    lines: Option<Vec<Zeroizing<String>>>,
}

impl Question {
    fn is_answered(&self) -> bool {
        match &self.need {
            Need::Login { .. } => {
                self.password.is_some() && self.username.as_deref().is_some_and(|name| !name.is_empty())
            }
            Need::Username { .. } => self.username.is_some(),
            Need::Password { .. } | Need::Confirmation { .. } | Need::Text { .. } => self.password.is_some(),
            Need::Remote { .. } => self.remote.is_some(),
            Need::Proxy { .. } => self.proxy.is_some(),
            Need::Certificate { .. } | Need::Signature { .. } => self.lines.is_some(),
        }
    }

    /// The type that answers must name.
    fn kind(&self) -> &str {
        match &self.need {
            Need::Password { kind } | Need::Username { kind } | Need::Login { kind, .. } => kind,
            Need::Confirmation { name, .. } | Need::Text { name, .. } => name,
            _ => "",
        }
    }

    /// The line as a client of this version is shown it.
    fn line(&self, version: i64) -> String {
        let at_least = |wanted: i32| version >= i64::from(wanted);
        let need = match &self.need {
            Need::Username { kind } if !at_least(client_version::USERNAME_ONLY) => {
                Need::Login { kind: kind.clone(), challenge: None }
            }
            Need::Signature { data, algorithm, .. } => Need::Signature {
                data: data.clone(),
                algorithm: algorithm.filter(|_| at_least(client_version::PK_SIGN_ALGORITHM)),
                rsa: !at_least(client_version::PK_SIGN),
            },
            other => other.clone(),
        };
        Notification::Need(need).to_string()
    }
}

/// What `remote` chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteChoice {
    /// As configured.
    Accept,
    /// Another host and port in its place.
    Modify(String, Port),
    /// Not this one; go on by so many.
    Skip(usize),
}

/// What is entered in answer to a question.
pub(super) enum Entry {
    Username(String),
    Password(Zeroizing<String>),
    NeedOk(String),
    NeedStr(Zeroizing<String>),
}

impl Entry {
    /// What messages call it.
    const fn prompt(&self) -> &'static str {
        match self {
            Self::Username(_) => "username",
            Self::Password(_) => "password",
            Self::NeedOk(_) => "needok-confirmation",
            Self::NeedStr(_) => "needstr-string",
        }
    }
}

impl Management {
    /// Waits until somebody releases the hold, if there is one; returns whether there was.
    pub(crate) async fn hold(&self, pause: std::time::Duration) -> bool {
        if !self.is_configured() || !self.lock().hold {
            return false;
        }
        let mut changes = self.shared.changes.subscribe();
        let _held = Held::begin(self, pause.as_secs());
        self.tell(&Notification::Hold(pause.as_secs()));
        while self.lock().holding.is_some() {
            if changes.changed().await.is_err() {
                break;
            }
        }
        true
    }

    /// Asks for a login: user name and password, with the answer to `static-challenge` where that is configured.
    pub(crate) async fn ask_login(
        &self,
        username_only: bool,
        challenge: Option<&StaticChallenge>,
    ) -> Credentials {
        let kind = "Auth".to_owned();
        let need = if username_only {
            Need::Username { kind }
        } else {
            let challenge = challenge.map(|c| (c.echo, c.concat, c.text.clone()));
            Need::Login { kind, challenge }
        };
        let mut answer = self.ask(need).await;
        Credentials {
            username: answer.username.take().unwrap_or_default(),
            password: answer.password.take().unwrap_or_default(),
        }
    }

    /// Asks for the login of something else than the server: a proxy.
    pub(crate) async fn ask_login_of(&self, kind: &str) -> Credentials {
        let mut answer = self.ask(Need::Login { kind: kind.to_owned(), challenge: None }).await;
        Credentials {
            username: answer.username.take().unwrap_or_default(),
            password: answer.password.take().unwrap_or_default(),
        }
    }

    /// Asks for a password of another kind: a token's PIN.
    pub(crate) async fn ask_password_of(&self, kind: String) -> Zeroizing<String> {
        self.ask(Need::Password { kind }).await.password.unwrap_or_default()
    }

    /// What `pkcs11-id-count` and `pkcs11-id-get` show: names of certificates on tokens, and their DER in base64.
    pub(crate) fn set_token_ids(&self, ids: Vec<(String, String)>) {
        self.lock().token_ids = ids;
    }

    pub(super) fn token_count(&self) -> String {
        format!(">PKCS11ID-COUNT:{}", self.lock().token_ids.len())
    }

    pub(super) fn token_entry(&self, index: i64) -> String {
        let hub = self.lock();
        match usize::try_from(index).ok().and_then(|index| hub.token_ids.get(index)) {
            Some((id, blob)) => format!(">PKCS11ID-ENTRY:'{index}', ID:'{id}', BLOB:'{blob}'"),
            None => format!(">PKCS11ID-ENTRY:'{index}'"),
        }
    }

    /// Asks for a text (`needstr`).
    pub(crate) async fn ask_text(&self, name: &str, message: &str) -> String {
        let need = Need::Text { name: name.to_owned(), text: message.to_owned() };
        self.ask(need).await.password.map(|text| text.to_string()).unwrap_or_default()
    }

    /// Asks for the passphrase of the private key.
    pub(crate) async fn ask_passphrase(&self) -> Zeroizing<String> {
        self.ask(Need::Password { kind: "Private Key".to_owned() }).await.password.unwrap_or_default()
    }

    /// Asks which remote to take.
    pub(crate) async fn ask_remote(&self, host: &str, port: &str, protocol: &str) -> RemoteChoice {
        let (host, port, protocol) = (host.to_owned(), port.to_owned(), protocol.to_owned());
        let answer = self.ask(Need::Remote { host, port, protocol }).await;
        answer.remote.unwrap_or(RemoteChoice::Accept)
    }

    /// Asks which proxy to use.
    pub(crate) async fn ask_proxy(&self, index: usize, tcp: bool, host: &str) -> ProxyChoice {
        let protocol = if tcp { TCP } else { "UDP" };
        let answer = self.ask(Need::Proxy { index, protocol, host: host.to_owned() }).await;
        answer.proxy.unwrap_or(ProxyChoice::None)
    }

    /// Asks for the certificate that goes with an external key.
    pub(crate) async fn ask_certificate(&self, hint: &str) -> String {
        join(&self.ask(Need::Certificate { hint: hint.to_owned() }).await, "\n").to_string()
    }

    /// Asks for a signature; both in base64.
    pub(super) async fn ask_signature(
        &self,
        data: String,
        algorithm: culvert_mgmt::SignatureAlgorithm,
    ) -> Zeroizing<String> {
        let need = Need::Signature { data, algorithm: Some(algorithm), rsa: false };
        join(&self.ask(need).await, "")
    }

    async fn ask(&self, need: Need) -> Question {
        let _turn = self.shared.asking.lock().await;
        let mut changes = self.shared.changes.subscribe();
        let _asked = Asked::begin(self, need);
        loop {
            {
                let mut hub = self.lock();
                if hub.question.as_ref().is_some_and(Question::is_answered)
                    && let Some(question) = hub.question.take()
                {
                    return question;
                }
            }
            if changes.changed().await.is_err() {
                // The hub cannot vanish while it is borrowed.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The line that tells what is waited for, if anything is.
    pub(super) fn special_line(hub: &State, version: i64) -> Option<String> {
        let question = hub.question.as_ref().map(|question| question.line(version));
        question.or_else(|| hub.holding.map(|pause| Notification::Hold(pause).to_string()))
    }

    /// Takes what a client entered; returns the answer to it.
    pub(super) fn enter(&self, kind: &str, entry: Entry) -> String {
        let prompt = entry.prompt();
        let mut hub = self.lock();
        let Some(question) = hub.question.as_mut().filter(|question| fits(question, &entry)) else {
            return format!("ERROR: no {prompt} is currently needed at this time");
        };
        if question.kind() != kind {
            return format!(
                "ERROR: {prompt} of type '{kind}' entered, but we need one of type '{}'",
                question.kind()
            );
        }
        match entry {
            Entry::Username(name) => question.username = Some(name),
            Entry::Password(text) | Entry::NeedStr(text) => question.password = Some(text),
            Entry::NeedOk(text) => question.password = Some(Zeroizing::new(text)),
        }
        drop(hub);
        self.changed();
        format!("SUCCESS: '{kind}' {prompt} entered, but not yet verified")
    }

    /// Whether a password of this type is wanted; if not, the answer to who enters one.
    pub(super) fn wants_password(&self, kind: &str) -> Result<(), String> {
        let hub = self.lock();
        let wanted = hub
            .question
            .as_ref()
            .filter(|question| matches!(question.need, Need::Password { .. } | Need::Login { .. }));
        match wanted {
            None => Err("ERROR: no password is currently needed at this time".to_owned()),
            Some(question) if question.kind() != kind => Err(format!(
                "ERROR: password of type '{kind}' entered, but we need one of type '{}'",
                question.kind()
            )),
            Some(_) => Ok(()),
        }
    }

    /// Takes `remote`.
    pub(super) fn choose_remote(&self, words: &[String]) -> String {
        let mut hub = self.lock();
        let question = hub.question.as_mut().filter(|q| matches!(q.need, Need::Remote { .. }));
        let choice = remote_choice(words);
        let taken = question.is_some() && choice.is_some();
        if let Some(question) = question {
            question.remote = choice;
        }
        drop(hub);
        self.changed();
        reply::outcome("remote", taken)
    }

    /// Takes `proxy`. That none is to be used is always right, as with OpenVPN, also where nobody asks.
    pub(super) fn choose_proxy(&self, choice: Option<ProxyChoice>) -> String {
        let mut hub = self.lock();
        let question = hub.question.as_mut().filter(|q| matches!(q.need, Need::Proxy { .. }));
        let is_asked = question.is_some();
        let over_tcp = matches!(question.as_ref().map(|q| &q.need), Some(Need::Proxy { protocol: TCP, .. }));
        let usable = usable_proxy(choice, over_tcp);
        if let (Some(question), Ok(choice)) = (question, &usable) {
            question.proxy = Some(choice.clone());
        }
        drop(hub);
        self.changed();
        match usable {
            Ok(choice) => reply::outcome("proxy", is_asked || choice == ProxyChoice::None),
            Err(why) => {
                ovlog!(warn 1, "{why}");
                reply::outcome("proxy", false)
            }
        }
    }

    /// Whether a signature or certificate is waited for.
    pub(super) fn wants_block(&self, of: &BlockOf) -> bool {
        self.lock().question.as_ref().is_some_and(|question| block_fits(question, of))
    }

    /// Takes a signature or a certificate.
    pub(super) fn take_block(&self, command: &str, of: &BlockOf, lines: Vec<Zeroizing<String>>) -> String {
        let mut hub = self.lock();
        let question = hub.question.as_mut().filter(|question| block_fits(question, of));
        let taken = question.is_some();
        if let Some(question) = question {
            question.lines = Some(lines);
        }
        drop(hub);
        self.changed();
        reply::outcome(command, taken)
    }
}

fn fits(question: &Question, entry: &Entry) -> bool {
    matches!(
        (&question.need, entry),
        (Need::Login { .. }, Entry::Username(_) | Entry::Password(_))
            | (Need::Username { .. }, Entry::Username(_))
            | (Need::Password { .. }, Entry::Password(_))
            | (Need::Confirmation { .. }, Entry::NeedOk(_))
            | (Need::Text { .. }, Entry::NeedStr(_))
    )
}

fn block_fits(question: &Question, of: &BlockOf) -> bool {
    matches!(
        (&question.need, of),
        (Need::Signature { .. }, BlockOf::Signature) | (Need::Certificate { .. }, BlockOf::Certificate)
    )
}

/// Whether a proxy can be used; if not, the line for the log.
fn usable_proxy(choice: Option<ProxyChoice>, over_tcp: bool) -> Result<ProxyChoice, &'static str> {
    match choice {
        None => Err("Bad proxy command: it is NONE, HTTP HOST PORT [nct] or SOCKS HOST PORT"),
        Some(ProxyChoice::Http { .. }) if !over_tcp => {
            Err("HTTP proxy support only works for TCP based connections")
        }
        Some(choice) => Ok(choice),
    }
}

/// Reads the words of `remote`; `None`: they make no sense.
fn remote_choice(words: &[String]) -> Option<RemoteChoice> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["ACCEPT", ..] => Some(RemoteChoice::Accept),
        ["SKIP"] => Some(RemoteChoice::Skip(1)),
        ["SKIP", count, ..] => count.parse().ok().filter(|&n| n > 0).map(RemoteChoice::Skip),
        ["MOD", host, port, ..] => {
            let number = port.parse().ok().filter(|&number: &u16| number > 0).map(Port::Number);
            number.map(|port| RemoteChoice::Modify(host.to_owned(), port))
        }
        _ => None,
    }
}

fn join(answer: &Question, separator: &str) -> Zeroizing<String> {
    let lines: Vec<&str> =
        answer.lines.as_deref().unwrap_or_default().iter().map(|line| line.as_str()).collect();
    Zeroizing::new(lines.join(separator))
}

/// A question, until its answer is taken or nobody waits for it any more.
struct Asked<'a> {
    management: &'a Management,
}

impl<'a> Asked<'a> {
    fn begin(management: &'a Management, need: Need) -> Self {
        let question =
            Question { need, username: None, password: None, remote: None, proxy: None, lines: None };
        let mut hub = management.lock();
        for watcher in hub.watchers.values_mut().filter(|watcher| watcher.greeted) {
            watcher.push(&question.line(watcher.version));
        }
        hub.question = Some(question);
        Self { management }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.management.lock().question = None;
    }
}

/// A hold, until it is released or nobody waits for it any more.
struct Held<'a> {
    management: &'a Management,
}

impl<'a> Held<'a> {
    fn begin(management: &'a Management, pause: u64) -> Self {
        management.lock().holding = Some(pause);
        Self { management }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.management.lock().holding = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_proxy_is_for_tcp() {
        let (host, port) = ("proxy.example".to_owned(), Port::Number(1080));
        let http = || Some(ProxyChoice::Http { host: host.clone(), port: port.clone(), clear_text: true });
        let socks = || Some(ProxyChoice::Socks { host: host.clone(), port: port.clone() });
        for over_tcp in [false, true] {
            assert!(usable_proxy(Some(ProxyChoice::None), over_tcp).is_ok());
            assert!(usable_proxy(None, over_tcp).is_err());
            assert_eq!(usable_proxy(http(), over_tcp).is_ok(), over_tcp);
            assert!(usable_proxy(socks(), over_tcp).is_ok());
        }
    }

    #[test]
    fn words_of_remote_choose() {
        let choice =
            |words: &[&str]| remote_choice(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(choice(&["ACCEPT"]), Some(RemoteChoice::Accept));
        assert_eq!(choice(&["SKIP"]), Some(RemoteChoice::Skip(1)));
        assert_eq!(choice(&["SKIP", "3"]), Some(RemoteChoice::Skip(3)));
        assert_eq!(
            choice(&["MOD", "vpn.example", "443"]),
            Some(RemoteChoice::Modify("vpn.example".to_owned(), Port::Number(443)))
        );
        assert_eq!(choice(&["MOD", "vpn.example"]), None);
        assert_eq!(choice(&["MOD", "vpn.example", "0"]), None);
        assert_eq!(choice(&["MAYBE"]), None);
    }
}
