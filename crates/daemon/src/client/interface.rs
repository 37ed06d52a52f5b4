//! What a client asks of the management interface, and tells it.

use culvert_config::profile::{ConnectionEntry, HttpProxy, HttpProxyAuth, Proxy, SocksProxy};
use culvert_mgmt::{Notification, ProxyChoice, StateName};

use super::{
    Advance, Client, Outcome, Restart,
    drive::Progress,
    login::{Answered, Asking},
};
use crate::{
    credentials::{self, Prompter},
    exit::Ended,
    management::{Addresses, RemoteChoice},
    signals::Signals,
    tunnel::{Completion, TunnelSpec},
};

impl Client {
    /// Whether logins come from the management interface.
    pub(super) fn asks_management(&self) -> bool {
        self.management.is_configured() && self.management.settings().query_passwords
    }

    /// Asks for the login, where one is wanted and none is at hand, unless a signal comes first.
    pub(super) async fn ask_login(&mut self, signals: &mut Signals) -> Result<(), Outcome> {
        let Some(asking) = self.login_question() else { return Ok(()) };
        let answer = self.unless_signalled(asking, signals).await.map_err(Outcome::by_signal)?;
        self.login.answered(answer).map_err(|failure| Outcome::Ended(Ended::Fatal(failure)))
    }

    /// The question for the login, to a client of the management interface or to whoever is at the terminal. `None`: none is
    /// wanted, or one is at hand.
    pub(super) fn login_question(&mut self) -> Option<Asking> {
        if self.profile.client.auth_user_pass.is_some() && self.management.take_forget() {
            self.login.forget();
        }
        if !self.asks_management() {
            return self.login.at_terminal(&self.profile);
        }
        let question = self.login.question(&self.profile)?;
        let management = self.management.clone();
        Some(Box::pin(async move {
            if let Some(stored) = question.stored {
                // A file that is complete needs nobody.
                let read = move || credentials::login(&stored, &Prompter::NOBODY);
                let read = tokio::task::spawn_blocking(read).await.map_err(|failure| failure.to_string())?;
                match read {
                    Ok(login) => return Ok(Answered { login, is_once: false }),
                    Err(credentials::CredentialError::NobodyToAsk(_)) => {}
                    Err(failure) => return Err(failure.to_string()),
                }
            }
            let login = management.ask_login(question.name_only, question.challenge.as_ref()).await;
            Ok(Answered { login, is_once: question.wants_response })
        }))
    }

    /// `management-query-remote`, else `management-query-proxy`, as OpenVPN asks: who is connected decides where to.
    pub(super) async fn ask_remote(
        &mut self,
        entry: &mut ConnectionEntry,
        signals: &mut Signals,
    ) -> Result<(), Outcome> {
        let (management, settings) = (self.management.clone(), self.profile.management.clone());
        let Some(remote) = entry.remote.clone().filter(|_| management.is_configured()) else { return Ok(()) };
        if settings.query_remote {
            let protocol = crate::scripts::proto_name(entry);
            let port = remote.port.to_string();
            let asking = management.ask_remote(&remote.host, &port, &protocol);
            match self.unless_signalled(asking, signals).await.map_err(Outcome::by_signal)? {
                RemoteChoice::Accept => {}
                RemoteChoice::Modify(host, port) => {
                    entry.remote = Some(culvert_config::profile::Remote { host, port });
                }
                RemoteChoice::Skip(count) => {
                    for _ in 1..count {
                        self.remotes.advance(Advance::Remote);
                    }
                    let pause = Some(std::time::Duration::ZERO);
                    let advance = Advance::Remote;
                    return Err(Outcome::Restart(Restart {
                        advance,
                        pause,
                        ..Restart::because("remote-skip")
                    }));
                }
            }
        }
        if settings.query_proxy && !settings.query_remote {
            let index = self.remotes.current() + 1;
            let asking = management.ask_proxy(index, entry.proto.transport.is_tcp(), &remote.host);
            let choice = self.unless_signalled(asking, signals).await.map_err(Outcome::by_signal)?;
            if let Some(proxy) = chosen(choice) {
                entry.proxy = Some(proxy);
            }
        }
        Ok(())
    }

    /// The tunnel is up.
    pub(super) fn tell_connected(&self, progress: &mut Progress, spec: &TunnelSpec, completion: Completion) {
        let detail = match completion {
            Completion::Complete => "SUCCESS",
            Completion::WithErrors => "ROUTE_ERROR",
        };
        let outside = progress.link.outside();
        progress.surroundings.settle(&self.profile, outside, |address| self.is_own(address));
        let addresses = Addresses { remote: Some(progress.link.remote), ..spec.addresses() };
        self.management.set_state_at(StateName::Connected, detail, addresses);
    }

    /// The server ends the session: user interfaces may want to say so.
    pub(super) fn notify(&self, kind: &str, text: String) {
        let (severity, kind) = ("info".to_owned(), kind.to_owned());
        self.management.tell(&Notification::Notify { severity, kind, text });
    }
}

/// The proxy that was chosen; `None` leaves what is configured.
fn chosen(choice: ProxyChoice) -> Option<Proxy> {
    match choice {
        ProxyChoice::None => None,
        ProxyChoice::Http { host, port, clear_text } => {
            Some(Proxy::Http(HttpProxy::new(host, port, HttpProxyAuth::Auto { clear_text })))
        }
        ProxyChoice::Socks { host, port } => Some(Proxy::Socks(SocksProxy { host, port, login: None })),
    }
}
