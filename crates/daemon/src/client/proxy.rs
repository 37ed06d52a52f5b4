//! The way to the server through a proxy: logins, dialogues, and what stays open beside the transport.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
};

use culvert_config::{
    profile::{ConnectionEntry, HttpProxy, HttpProxyAuth, Proxy, SocksProxy},
    value::{FileOrInline, Port},
};
use culvert_mgmt::Notification;
use culvert_proto::{
    Credentials,
    proxy::{
        Authorization, Dialogue, HttpDialogue, HttpRequest, Offer, Offers, Progress, SocksDialogue,
        SocksRequest,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::Client;
use crate::{
    address::AfAddress,
    clock,
    credentials::{self, Prompter},
    link, ovlog, random,
};

/// What the login of an HTTP proxy is called.
const HTTP: &str = "HTTP Proxy";
/// What the login of a SOCKS proxy is called.
const SOCKS: &str = "SOCKS Proxy";

/// Connections to one proxy for one way through it: to learn what login it wants, to use it, and once more where its
/// nonce was too old.
pub(crate) const ROUNDS: usize = 3;

/// Logins that were asked for or read, by what they are called.
pub(super) type ProxyLogins = HashMap<&'static str, Credentials>;

/// Why there is no way through the proxy, and what the restart is called.
pub(super) struct NoWay {
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl NoWay {
    fn http(text: impl ToString) -> Self {
        Self { reason: "HTTP proxy error", text: text.to_string() }
    }

    fn socks(text: impl ToString) -> Self {
        Self { reason: "socks-error", text: text.to_string() }
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
        let until = Instant::now() + entry.connect_timeout;
        match &entry.proxy {
            None => self
                .connect(hop, local, until)
                .await
                .map_err(|text| NoWay { reason: "connection-failed", text }),
            Some(Proxy::Http(http)) => self.through_http(entry, http, (hop, local), until).await,
            Some(Proxy::Socks(socks)) => {
                let (host, port) = server(entry).map_err(NoWay::socks)?;
                let mut stream = self.connect(hop, local, until).await.map_err(NoWay::socks)?;
                self.through_socks(&mut stream, socks, SocksRequest::Connect { host, port }, until).await?;
                Ok(stream)
            }
        }
    }

    /// Asks the SOCKS proxy of a UDP connection, if there is one, for a relay.
    pub(super) async fn associate(&mut self, entry: &ConnectionEntry) -> Result<Option<Association>, NoWay> {
        let Some(Proxy::Socks(socks)) = &entry.proxy else { return Ok(None) };
        let until = Instant::now() + entry.connect_timeout;
        let port = link::port_number(&socks.port).map_err(NoWay::socks)?;
        let found = link::resolve(&socks.host, port, entry.proto.family).await.map_err(NoWay::socks)?;
        let hop = found.first().copied().ok_or_else(|| NoWay::socks("the proxy's name has no address"))?;
        let mut stream = self.connect(hop, None, until).await.map_err(NoWay::socks)?;
        let relay = self.through_socks(&mut stream, socks, SocksRequest::UdpAssociate, until).await?;
        let relay = relay.ok_or_else(|| NoWay::socks("the SOCKS proxy does not say where its relay is"))?;
        // A proxy that listens everywhere says so.
        let ip = if relay.ip().is_unspecified() { hop.ip() } else { relay.ip() };
        let relay = SocketAddr::new(ip, relay.port());
        if relay.is_ipv4() != hop.is_ipv4() {
            return Err(NoWay::socks("the SOCKS proxy's relay is of another address family than the proxy"));
        }
        ovlog!(1, "SOCKS proxy wants us to send UDP to {}", AfAddress(relay));
        Ok(Some(Association { relay, stream }))
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
        socks: &SocksProxy,
        request: SocksRequest,
        until: Instant,
    ) -> Result<Option<SocketAddr>, NoWay> {
        let login = match &socks.login {
            Some(file) => Some(self.proxy_login(SOCKS, Some(file)).await.map_err(NoWay::socks)?),
            None => None,
        };
        let mut dialogue = SocksDialogue::new(request, login).map_err(NoWay::socks)?;
        let progress = converse(stream, &mut dialogue, until).await;
        if self.profile.client.auth_nocache || progress.is_err() {
            self.proxy_logins.remove(SOCKS);
        }
        match progress.map_err(NoWay::socks)? {
            Progress::Open(relay) => Ok(relay),
            Progress::More | Progress::Refused(_) => Err(NoWay::socks("the SOCKS dialogue did not end")),
        }
    }

    async fn through_http(
        &mut self,
        entry: &ConnectionEntry,
        http: &HttpProxy,
        (hop, local): (SocketAddr, Option<SocketAddr>),
        until: Instant,
    ) -> Result<TcpStream, NoWay> {
        let (host, port) = server(entry).map_err(NoWay::http)?;
        let request = HttpRequest {
            host,
            port,
            version: http.version.clone(),
            agent: http.agent.clone(),
            headers: http.headers.clone(),
        };
        let mut learned = None;
        for _ in 0..ROUNDS {
            let authorization = self.authorization(http, learned.take()).await?;
            let had_login = !matches!(authorization, Authorization::None);
            let mut dialogue = HttpDialogue::new(request.clone(), authorization).map_err(NoWay::http)?;
            let mut stream = self.connect(hop, local, until).await.map_err(NoWay::http)?;
            ovlog!(2, "Send to HTTP proxy: '{}'", dialogue.request_line());
            let offers = match converse(&mut stream, &mut dialogue, until).await.map_err(NoWay::http)? {
                Progress::Open(_) => {
                    if self.profile.client.auth_nocache {
                        self.proxy_logins.remove(HTTP);
                    }
                    return Ok(stream);
                }
                Progress::Refused(offers) => offers,
                Progress::More => return Err(NoWay::http("the HTTP dialogue did not end")),
            };
            ovlog!(2, "Proxy requires authentication ({})", offers.names());
            if had_login && !offers.digest().is_some_and(culvert_proto::proxy::DigestChallenge::is_stale) {
                self.proxy_logins.remove(HTTP);
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
        let login = self.proxy_login(HTTP, http.login.as_ref()).await.map_err(NoWay::http)?;
        Ok(authorize(offer, login))
    }

    /// The login of a proxy: as it was used before, from its file, from the management interface or the terminal.
    async fn proxy_login(
        &mut self,
        kind: &'static str,
        stored: Option<&FileOrInline>,
    ) -> Result<Credentials, String> {
        if self.management.take_forget() {
            self.proxy_logins.clear();
            self.login.forget();
        }
        if let Some(login) = self.proxy_logins.get(kind) {
            return Ok(login.clone());
        }
        let prompter = if self.asks_management() { Prompter::Nobody } else { Prompter::detect() };
        let stored = stored.cloned();
        let read =
            tokio::task::spawn_blocking(move || credentials::proxy_login(kind, stored.as_ref(), &prompter));
        let login = match read.await.map_err(|failure| failure.to_string())? {
            Err(credentials::CredentialError::NobodyToAsk(_)) if self.asks_management() => {
                self.management.ask_login_of(kind).await
            }
            read => read.map_err(|failure| failure.to_string())?,
        };
        self.proxy_logins.insert(kind, login.clone());
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
) -> Result<Progress, String> {
    let work = async {
        loop {
            while let Some(message) = dialogue.poll_transmit() {
                stream.write_all(&message).await.map_err(|failure| failure.to_string())?;
            }
            let byte = stream.read_u8().await.map_err(|failure| closed(&failure))?;
            match dialogue.handle_byte(byte) {
                Ok(Progress::More) => {}
                Ok(progress) => return Ok(progress),
                Err(failure) => return Err(failure.to_string()),
            }
        }
    };
    timeout_at(until, work)
        .await
        .unwrap_or_else(|_elapsed| Err("the proxy does not answer in time".to_owned()))
}

fn closed(failure: &io::Error) -> String {
    match failure.kind() {
        ErrorKind::UnexpectedEof => "the proxy closed the connection".to_owned(),
        _ => format!("the connection to the proxy failed: {failure}"),
    }
}
