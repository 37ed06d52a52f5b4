//! What a client asks of the management interface, and tells it.

use culvert_config::profile::{ConnectionEntry, HttpProxy, HttpProxyAuth, Proxy, SocksProxy};
use culvert_mgmt::{Notification, ProxyChoice, StateName};
use culvert_proto::Command;

use super::{Advance, Client, Outcome, Restart, drive::Progress};
use crate::{
    credentials::{self, Prompter},
    exit::Ended,
    life::Life,
    management::{Addresses, RemoteChoice},
    signals::Signals,
    tunnel::{Completion, TunnelSpec},
};

impl Client {
    /// Whether logins come from the management interface.
    pub(super) fn asks_management(&self) -> bool {
        self.management.is_configured() && self.management.settings().query_passwords
    }

    /// Asks for the login, where one is wanted and none is at hand: a client of the management interface, or whoever is at
    /// the terminal.
    pub(super) async fn ask_login(&mut self, signals: &mut Signals) -> Result<(), Ended> {
        if self.profile.client.auth_user_pass.is_some() && self.management.take_forget() {
            self.login.forget();
        }
        if !self.asks_management() {
            return self.login.ask(&self.profile).await.map_err(Ended::Fatal);
        }
        let Some(question) = self.login.question(&self.profile) else { return Ok(()) };
        if let Some(stored) = question.stored {
            // A file that is complete needs nobody.
            let read =
                tokio::task::spawn_blocking(move || credentials::login(&stored, &Prompter::Nobody)).await;
            match read {
                Ok(Ok(login)) => {
                    self.login.answered(login, false);
                    return Ok(());
                }
                Ok(Err(credentials::CredentialError::NobodyToAsk(_))) => {}
                Ok(Err(failure)) => {
                    return self.login.outdated_instead(failure.to_string()).map_err(Ended::Fatal);
                }
                Err(failure) => return Err(Ended::Fatal(failure.to_string())),
            }
        }
        let management = self.management.clone();
        let asking = management.ask_login(question.name_only, question.challenge.as_ref());
        match self.unless_signalled(asking, signals).await {
            Ok(login) => {
                self.login.answered(login, question.wants_response);
                Ok(())
            }
            Err(request) => Err(Ended::by_signal(request)),
        }
    }

    /// The login goes to the server now: what is good once, or not to be kept, is forgotten.
    pub(super) fn login_used(&mut self, life: &mut Life) {
        if self.login.forget_used() {
            life.secrets.login = None;
        }
    }

    /// What a renegotiation logs in with, where `auth-nocache` let it be forgotten and no token took its place.
    pub(super) async fn login_again(
        &mut self,
        progress: &Progress,
        signals: &mut Signals,
    ) -> Result<(), Ended> {
        if !self.profile.client.auth_nocache {
            return Ok(());
        }
        self.ask_login(signals).await?;
        if let Some(login) = self.login.credentials() {
            progress.link.session.command(Command::Credentials(login.clone()));
        }
        self.login.forget_used();
        Ok(())
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
