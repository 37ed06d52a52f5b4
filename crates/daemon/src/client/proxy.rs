//! The way to the server through a proxy: logins, dialogues, and what stays open beside the transport.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
};

use culvert_config::{
    profile::{ConnectionEntry, HttpProxy, HttpProxyAuth, Proxy, SocksProxy},
    value::{Family, FileOrInline, Port},
};
use culvert_mgmt::Notification;
use culvert_proto::{
    Credentials,
    proxy::{
        Authorization, Dialogue, HttpDialogue, HttpRequest, Offer, Offers, Progress, ProxyError,
        SocksDialogue, SocksRequest,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Client, Outcome, Restart,
    kill_switch::{Guarded, resolve_outside},
    log_statistics,
};
use crate::{
    address::AfAddress,
    clock,
    credentials::{self, Prompter},
    exit::Ended,
    link, ovlog, question, random,
    signals::Signals,
};

/// What the login of an HTTP proxy is called.
const HTTP: &str = "HTTP Proxy";
/// What the login of a SOCKS proxy is called.
const SOCKS: &str = "SOCKS Proxy";

/// Connections to one proxy for one way through it: to learn what login it wants, to use it, and once more where its
/// nonce was too old.
pub(crate) const ROUNDS: usize = 3;

/// Logins that were asked for or read.
pub(super) type ProxyLogins = HashMap<LoginOf, Credentials>;

/// Whose login it is: no proxy gets another's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct LoginOf {
    /// What it is called.
    kind: &'static str,
    host: String,
    port: String,
}

impl LoginOf {
    fn http(proxy: &HttpProxy) -> Self {
        Self { kind: HTTP, host: proxy.host.clone(), port: proxy.port.to_string() }
    }

    fn socks(proxy: &SocksProxy) -> Self {
        Self { kind: SOCKS, host: proxy.host.clone(), port: proxy.port.to_string() }
    }
}

/// Why there is no way to the server.
pub(super) enum NoWay {
    /// This time; what the restart is called.
    Failed { reason: &'static str, text: String },
    /// Nor will there be one: a login that is needed cannot be had.
    Never(String),
}

impl NoWay {
    fn http(text: impl ToString) -> Self {
        Self::Failed { reason: "HTTP proxy error", text: text.to_string() }
    }

    fn socks(text: impl ToString) -> Self {
        Self::Failed { reason: "socks-error", text: text.to_string() }
    }
}

impl Outcome {
    /// What follows where there is no way to the server.
    pub(super) fn of(no_way: NoWay) -> Self {
        match no_way {
            NoWay::Failed { reason, text } => {
                ovlog!(error 1, "{text}");
                Self::Restart(Restart::because(reason))
            }
            NoWay::Never(text) => Self::Ended(Ended::Fatal(text)),
        }
    }
}

/// A relay for datagrams; it lasts as long as the stream to the proxy.
pub(super) struct Association {
    pub(super) relay: SocketAddr,
    stream: TcpStream,
}

impl Association {
    /// Waits until the proxy gives the relay up.
    pub(super) async fn ended(&mut self) {
        let mut buffer = [0; 64];
        // Nothing is to be said on this stream; what a proxy says all the same is passed over.
        while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {}
    }
}

/// Where a connection is made to first: the proxy, but for UDP the server, whose relay is found later.
pub(super) fn first_hop(entry: &ConnectionEntry) -> Option<(String, Port)> {
    match &entry.proxy {
        Some(proxy) if entry.proto.transport.is_tcp() => {
            Some((proxy.host().to_owned(), proxy.port().clone()))
        }
        _ => entry.remote.as_ref().map(|remote| (remote.host.clone(), remote.port.clone())),
    }
}

/// The server, as a proxy is told it.
fn server(entry: &ConnectionEntry) -> Result<(String, u16), String> {
    let remote = entry.remote.as_ref().ok_or("this connection has no `remote`")?;
    Ok((remote.host.clone(), link::port_number(&remote.port)?))
}

impl Client {
    /// Opens a TCP connection to `hop`, and through the proxy, if there is one, to the server.
    pub(super) async fn open_stream(
        &mut self,
        entry: &ConnectionEntry,
        hop: SocketAddr,
        local: Option<SocketAddr>,
    ) -> Result<TcpStream, NoWay> {
        let until = || Instant::now() + entry.connect_timeout;
        match &entry.proxy {
            None => self
                .connect(hop, local, until())
                .await
                .map_err(|text| NoWay::Failed { reason: "connection-failed", text }),
            Some(Proxy::Http(http)) => self.through_http(entry, http, (hop, local), until()).await,
            Some(Proxy::Socks(socks)) => {
                let (host, port) = server(entry).map_err(NoWay::socks)?;
                let login = self.socks_login(socks).await?;
                let until = until();
                let mut stream = self.connect(hop, local, until).await.map_err(NoWay::socks)?;
                let request = SocksRequest::Connect { host, port };
                self.through_socks(&mut stream, (socks, login), request, until).await?;
                Ok(stream)
            }
        }
    }

    /// Asks the SOCKS proxy of a UDP connection, if there is one, for a relay: the first of its addresses that answers.
    pub(super) async fn associate(
        &mut self,
        entry: &ConnectionEntry,
        guarded: Option<&mut Guarded>,
        signals: &mut Signals,
    ) -> Result<Option<Association>, Outcome> {
        let Some(Proxy::Socks(socks)) = &entry.proxy else { return Ok(None) };
        let (logger, offload) = (self.logger.clone(), self.offload.clone());
        let statistics = || log_statistics(offload.as_deref(), &logger);
        let preparing = signals.unless_any(self.prepare_socks(socks, guarded), statistics);
        let (hops, login) = preparing.await.map_err(Outcome::by_signal)?.map_err(Outcome::of)?;
        let mut failed = "the proxy's name has no address".to_owned();
        let until = Instant::now() + entry.connect_timeout;
        let mut left = u32::try_from(hops.len()).unwrap_or(u32::MAX);
        for hop in hops {
            // Not within what a signal may end: routes that are half set would be nobody's.
            self.follow_network(hop).await;
            // One that swallows packets leaves time to the others.
            let share = until.saturating_duration_since(Instant::now()) / left.max(1);
            left -= 1;
            let asking = self.ask_for_relay((socks, login.clone()), hop, Instant::now() + share, until);
            match signals.unless_any(asking, statistics).await.map_err(Outcome::by_signal)? {
                Ok(association) => return association.map(Some).map_err(Outcome::of),
                Err(failure) => {
                    if left > 0 {
                        ovlog!(1, "SOCKS proxy: {failure}");
                    }
                    failed = failure;
                }
            }
        }
        Err(Outcome::of(NoWay::socks(failed)))
    }

    /// What is to be known before a SOCKS proxy is called: its addresses, and the login that it wants.
    async fn prepare_socks(
        &mut self,
        socks: &SocksProxy,
        guarded: Option<&mut Guarded>,
    ) -> Result<(Vec<SocketAddr>, Option<Credentials>), NoWay> {
        let port = link::port_number(&socks.port).map_err(NoWay::socks)?;
        let hops = self.proxy_addresses(socks, port, guarded).await.map_err(NoWay::socks)?;
        Ok((hops, self.socks_login(socks).await?))
    }

    /// Asks for a relay at one address. The outer error: nobody answers there.
    async fn ask_for_relay(
        &mut self,
        proxy: (&SocksProxy, Option<Credentials>),
        hop: SocketAddr,
        connected: Instant,
        until: Instant,
    ) -> Result<Result<Association, NoWay>, String> {
        let mut stream = self.connect(hop, None, connected).await?;
        let request = SocksRequest::UdpAssociate { ipv6: hop.is_ipv6() };
        let relay = match self.through_socks(&mut stream, proxy, request, until).await {
            Ok(Some(relay)) => relay,
            Ok(None) => return Ok(Err(NoWay::socks("the SOCKS proxy does not say where its relay is"))),
            Err(no_way) => return Ok(Err(no_way)),
        };
        // A proxy that listens everywhere says so.
        let ip = relay.ip().to_canonical();
        let relay = SocketAddr::new(if ip.is_unspecified() { hop.ip() } else { ip }, relay.port());
        ovlog!(1, "SOCKS proxy wants us to send UDP to {}", AfAddress(relay));
        Ok(Ok(Association { relay, stream }))
    }

    /// The addresses of the proxy of a UDP connection, of both families: `proto` says which one the server's is.
    async fn proxy_addresses(
        &mut self,
        socks: &SocksProxy,
        port: u16,
        guarded: Option<&mut Guarded>,
    ) -> Result<Vec<SocketAddr>, String> {
        let name = (socks.host.clone(), port, Family::Any);
        if let Some(kept) = self.kept_addresses.get(&name) {
            return Ok(kept.clone());
        }
        let found = resolve_outside(guarded, &socks.host, port, Family::Any).await?;
        self.keep_addresses(&name, &found);
        Ok(found)
    }

    async fn connect(
        &self,
        hop: SocketAddr,
        local: Option<SocketAddr>,
        until: Instant,
    ) -> Result<TcpStream, String> {
        ovlog!(1, "Attempting to establish TCP connection with {}", AfAddress(hop));
        let limit = until.saturating_duration_since(Instant::now());
        let stream = link::connect_tcp(&self.profile, hop, local, limit)
            .await
            .map_err(|failure| format!("TCP: connect to {} failed: {failure}", AfAddress(hop)))?;
        ovlog!(1, "TCP connection established with {}", AfAddress(hop));
        Ok(stream)
    }

    async fn through_socks(
        &mut self,
        stream: &mut TcpStream,
        (socks, login): (&SocksProxy, Option<Credentials>),
        request: SocksRequest,
        until: Instant,
    ) -> Result<Option<SocketAddr>, NoWay> {
        let mut dialogue = SocksDialogue::new(request, login).map_err(NoWay::socks)?;
        let progress = converse(stream, &mut dialogue, until).await;
        let is_wrong = matches!(progress, Err(Broken::Dialogue(ProxyError::SocksLogin)));
        if self.profile.client.auth_nocache || is_wrong {
            self.proxy_logins.remove(&LoginOf::socks(socks));
        }
        match progress.map_err(NoWay::socks)? {
            Progress::Open(relay) => Ok(relay),
            Progress::More | Progress::Refused(_) => Err(NoWay::socks("the SOCKS dialogue did not end")),
        }
    }

    /// The login for a SOCKS proxy, before the proxy is called: who is asked takes no time from it.
    async fn socks_login(&mut self, socks: &SocksProxy) -> Result<Option<Credentials>, NoWay> {
        match &socks.login {
            Some(login) => self.proxy_login(LoginOf::socks(socks), login.stored()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn through_http(
        &mut self,
        entry: &ConnectionEntry,
        http: &HttpProxy,
        (hop, local): (SocketAddr, Option<SocketAddr>),
        mut until: Instant,
    ) -> Result<TcpStream, NoWay> {
        let (host, port) = server(entry).map_err(NoWay::http)?;
        let of = LoginOf::http(http);
        let request = HttpRequest {
            host,
            port,
            version: http.version.clone(),
            agent: http.agent.clone(),
            headers: http.headers.clone(),
        };
        let mut learned = None;
        for _ in 0..ROUNDS {
            let asking = Instant::now();
            let authorization = self.authorization(http, learned.take()).await?;
            until += asking.elapsed(); // who is asked takes no time from the proxy
            let had_login = !matches!(authorization, Authorization::None);
            let mut dialogue = HttpDialogue::new(request.clone(), authorization).map_err(NoWay::http)?;
            let mut stream = self.connect(hop, local, until).await.map_err(NoWay::http)?;
            ovlog!(2, "Send to HTTP proxy: '{}'", dialogue.request_line());
            let offers = match converse(&mut stream, &mut dialogue, until).await.map_err(NoWay::http)? {
                Progress::Open(_) => {
                    if self.profile.client.auth_nocache {
                        self.proxy_logins.remove(&of);
                    }
                    return Ok(stream);
                }
                Progress::Refused(offers) => offers,
                Progress::More => return Err(NoWay::http("the HTTP dialogue did not end")),
            };
            ovlog!(2, "Proxy requires authentication ({})", offers.names());
            if had_login && !offers.digest().is_some_and(culvert_proto::proxy::DigestChallenge::is_stale) {
                self.proxy_logins.remove(&of);
                self.management
                    .tell(&Notification::VerificationFailed { kind: HTTP.to_owned(), reason: None });
                return Err(NoWay::http("HTTP proxy: it refused the user name or password"));
            }
            learned = Some(choose(http.auth, &offers).map_err(NoWay::http)?);
        }
        Err(NoWay::http("HTTP proxy: it calls every nonce too old"))
    }

    /// How to log in this time: as configured, or by what the proxy asked for.
    async fn authorization(
        &mut self,
        http: &HttpProxy,
        learned: Option<Offer>,
    ) -> Result<Authorization, NoWay> {
        let offer = match (learned, http.auth) {
            (Some(offer), _) => offer,
            (None, HttpProxyAuth::Basic) => Offer::Basic,
            (None, HttpProxyAuth::Ntlm2) => Offer::Ntlm,
            (None, HttpProxyAuth::None | HttpProxyAuth::Digest | HttpProxyAuth::Auto { .. }) => {
                return Ok(Authorization::None);
            }
        };
        let login = self.proxy_login(LoginOf::http(http), http.login.as_ref()).await?;
        Ok(authorize(offer, login))
    }

    /// The login of a proxy: as it was used before, from its file, from the management interface or the terminal.
    async fn proxy_login(
        &mut self,
        of: LoginOf,
        stored: Option<&FileOrInline>,
    ) -> Result<Credentials, NoWay> {
        if self.management.take_forget() {
            self.proxy_logins.clear();
            self.login.forget();
        }
        if let Some(login) = self.proxy_logins.get(&of) {
            return Ok(login.clone());
        }
        let (kind, stored, asks_management) = (of.kind, stored.cloned(), self.asks_management());
        let read = question::ask(move |prompter| {
            let prompter = if asks_management { &Prompter::NOBODY } else { prompter };
            credentials::proxy_login(kind, stored.as_ref(), prompter)
        });
        let login = match read.await {
            Err(credentials::CredentialError::NobodyToAsk(_)) if self.asks_management() => {
                self.management.ask_login_of(kind).await
            }
            read => read.map_err(|failure| NoWay::Never(failure.to_string()))?,
        };
        self.proxy_logins.insert(of, login.clone());
        Ok(login)
    }
}

/// Logs in by what the proxy asked for.
pub(crate) fn authorize(offer: Offer, login: Credentials) -> Authorization {
    let mut nonce = [0; 8];
    random::fill(&mut nonce);
    match offer {
        Offer::Basic => Authorization::Basic(login),
        Offer::Digest(challenge) => Authorization::Digest { challenge, login, cnonce: nonce },
        Offer::Ntlm => Authorization::Ntlm2 { login, nonce, unix: clock::unix_seconds() },
    }
}

/// Chooses among what the proxy offers.
pub(crate) fn choose(auth: HttpProxyAuth, offers: &Offers) -> Result<Offer, String> {
    let chosen = match auth {
        HttpProxyAuth::Auto { clear_text } => offers.choose(clear_text),
        HttpProxyAuth::Digest => offers.choose(false).filter(|offer| matches!(offer, Offer::Digest(_))),
        HttpProxyAuth::None | HttpProxyAuth::Basic | HttpProxyAuth::Ntlm2 => None,
    };
    chosen.cloned().ok_or_else(|| {
        let names = offers.names();
        match auth {
            HttpProxyAuth::None => {
                format!("HTTP proxy: it wants a login ({names}): write `http-proxy HOST PORT auto` or a file with the login")
            }
            HttpProxyAuth::Auto { clear_text: false } if offers.choose(true).is_some() => format!(
                "HTTP proxy: support for basic auth and other cleartext proxy auth methods is disabled (it offers {names})"
            ),
            _ => format!(
                "HTTP proxy: do not recognize the authentication method required by proxy (it offers {names})"
            ),
        }
    })
}

/// Leads a dialogue to its end. Bytes are read one by one: what follows the dialogue belongs to the server.
async fn converse(
    stream: &mut TcpStream,
    dialogue: &mut dyn Dialogue,
    until: Instant,
) -> Result<Progress, Broken> {
    let work = async {
        loop {
            while let Some(message) = dialogue.poll_transmit() {
                stream.write_all(&message).await.map_err(|failure| closed(&failure))?;
            }
            let byte = stream.read_u8().await.map_err(|failure| closed(&failure))?;
            match dialogue.handle_byte(byte) {
                Ok(Progress::More) => {}
                Ok(progress) => return Ok(progress),
                Err(failure) => return Err(Broken::Dialogue(failure)),
            }
        }
    };
    timeout_at(until, work)
        .await
        .unwrap_or_else(|_elapsed| Err(Broken::Stream("the proxy does not answer in time".to_owned())))
}

/// Why a dialogue did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Stream(String),
    #[error(transparent)]
    Dialogue(ProxyError),
}

fn closed(failure: &io::Error) -> Broken {
    Broken::Stream(match failure.kind() {
        ErrorKind::UnexpectedEof => "the proxy closed the connection".to_owned(),
        _ => format!("the connection to the proxy failed: {failure}"),
    })
}
