//! The way of a probe through a proxy: the dialogues of a start, without asking anybody for a login.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, HttpProxy, HttpProxyAuth, Proxy, Remote, SocksProxy},
    value::FileOrInline,
};
use culvert_proto::{
    Credentials,
    proxy::{
        Authorization, Dialogue, HttpDialogue, HttpRequest, Offer, Progress, SocksDialogue, SocksRequest,
    },
};

use super::{port_number, tcp_stream};
use crate::{
    client::proxy::{ROUNDS, authorize, choose},
    credentials::{self, Prompter},
};

/// A way that a proxy opened.
#[derive(Debug)]
pub enum Way {
    /// A stream to the server.
    Stream(TcpStream),
    /// A relay for datagrams, which lasts as long as the stream to the proxy.
    Relay {
        /// Where datagrams go, each with a header.
        relay: SocketAddr,
        /// The stream.
        kept: TcpStream,
    },
}

/// Why there is no way through.
#[derive(Debug)]
pub enum NoWay {
    /// The proxy takes no connections.
    Unreachable(io::Error),
    /// It wants a login, which stands in no file; what it offers.
    WantsLogin(String),
    /// What it says, or what is wrong.
    Refused(String),
}

/// Asks the proxy at this address for a way to the server of a connection.
///
/// # Errors
/// See [`NoWay`].
pub fn through_proxy(
    profile: &Profile,
    entry: &ConnectionEntry,
    address: SocketAddr,
    limit: Duration,
) -> Result<Way, NoWay> {
    let remote = entry.remote.as_ref().ok_or_else(|| refused("this connection has no `remote`"))?;
    let connect = || {
        let stream = tcp_stream(profile, address, limit).map_err(NoWay::Unreachable)?;
        stream.set_read_timeout(Some(limit)).map_err(NoWay::Unreachable)?;
        Ok(stream)
    };
    match &entry.proxy {
        Some(Proxy::Http(http)) => through_http(http, remote, connect).map(Way::Stream),
        Some(Proxy::Socks(socks)) => through_socks(socks, remote, entry, (connect()?, address)),
        None => Err(refused("this connection has no proxy")),
    }
}

fn refused(text: impl ToString) -> NoWay {
    NoWay::Refused(text.to_string())
}

fn login(kind: &str, stored: Option<&FileOrInline>, wants: &str) -> Result<Credentials, NoWay> {
    let stored = stored.ok_or_else(|| NoWay::WantsLogin(wants.to_owned()))?;
    credentials::proxy_login(kind, Some(stored), &Prompter::NOBODY).map_err(|failure| match failure {
        credentials::CredentialError::NobodyToAsk(_) => NoWay::WantsLogin(wants.to_owned()),
        failure => refused(failure),
    })
}

fn through_http(
    http: &HttpProxy,
    remote: &Remote,
    connect: impl Fn() -> Result<TcpStream, NoWay>,
) -> Result<TcpStream, NoWay> {
    let request = HttpRequest {
        host: remote.host.clone(),
        port: port_number(&remote.port).map_err(refused)?,
        version: http.version.clone(),
        agent: http.agent.clone(),
        headers: http.headers.clone(),
    };
    let mut offer = match http.auth {
        HttpProxyAuth::Basic => Some(Offer::Basic),
        HttpProxyAuth::Ntlm2 => Some(Offer::Ntlm),
        HttpProxyAuth::None | HttpProxyAuth::Digest | HttpProxyAuth::Auto { .. } => None,
    };
    let mut offered = "as configured".to_owned();
    for _ in 0..ROUNDS {
        let had_login = offer.is_some();
        let authorization = match offer.take() {
            None => Authorization::None,
            Some(offer) => authorize(offer, login("HTTP Proxy", http.login.as_ref(), &offered)?),
        };
        let mut stream = connect()?;
        let mut dialogue = HttpDialogue::new(request.clone(), authorization).map_err(refused)?;
        match converse(&mut stream, &mut dialogue)? {
            Progress::Open(_) => return Ok(stream),
            Progress::Refused(offers) => {
                let stale = offers.digest().is_some_and(culvert_proto::proxy::DigestChallenge::is_stale);
                if had_login && !stale {
                    return Err(refused("it refused the user name or password"));
                }
                offered = offers.names();
                offer = Some(choose(http.auth, &offers).map_err(refused)?);
            }
            Progress::More => break,
        }
    }
    Err(refused("the dialogue with it did not end"))
}

fn through_socks(
    socks: &SocksProxy,
    remote: &Remote,
    entry: &ConnectionEntry,
    (mut stream, address): (TcpStream, SocketAddr),
) -> Result<Way, NoWay> {
    let request = match entry.proto.transport.is_tcp() {
        true => SocksRequest::Connect {
            host: remote.host.clone(),
            port: port_number(&remote.port).map_err(refused)?,
        },
        false => SocksRequest::UdpAssociate { ipv6: address.is_ipv6() },
    };
    let login =
        socks.login.as_ref().map(|own| login("SOCKS Proxy", own.stored(), "a user name and a password"));
    let mut dialogue = SocksDialogue::new(request, login.transpose()?).map_err(refused)?;
    match (converse(&mut stream, &mut dialogue)?, entry.proto.transport.is_tcp()) {
        (Progress::Open(_), true) => Ok(Way::Stream(stream)),
        (Progress::Open(Some(relay)), false) => {
            // A proxy that listens everywhere says so.
            let ip = if relay.ip().is_unspecified() { address.ip() } else { relay.ip() };
            Ok(Way::Relay { relay: SocketAddr::new(ip, relay.port()), kept: stream })
        }
        (Progress::Open(None), false) => Err(refused("it does not say where its relay is")),
        (Progress::More | Progress::Refused(_), _) => Err(refused("the dialogue with it did not end")),
    }
}

/// Leads a dialogue to its end. Bytes are read one by one: what follows the dialogue belongs to the server.
fn converse(stream: &mut TcpStream, dialogue: &mut dyn Dialogue) -> Result<Progress, NoWay> {
    loop {
        while let Some(message) = dialogue.poll_transmit() {
            stream.write_all(&message).map_err(broken)?;
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(broken)?;
        match dialogue.handle_byte(byte[0]).map_err(refused)? {
            Progress::More => {}
            progress => return Ok(progress),
        }
    }
}

fn broken(failure: io::Error) -> NoWay {
    match failure.kind() {
        io::ErrorKind::UnexpectedEof => refused("it closed the connection"),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => refused("it does not answer in time"),
        _ => refused(format!("the connection to it failed: {failure}")),
    }
}
