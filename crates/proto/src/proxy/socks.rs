//! SOCKS version 5 (RFC 1928), with user name and password (RFC 1929).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zeroize::Zeroizing;

use super::{Dialogue, Progress, ProxyError};
use crate::Credentials;

/// What is asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocksRequest {
    /// A TCP connection to the server.
    Connect {
        /// Name or address; names are looked up by the proxy.
        host: String,
        /// The port.
        port: u16,
    },
    /// A relay for datagrams, which lasts as long as the connection to the proxy.
    UdpAssociate {
        /// Whether datagrams come over IPv6. From which port is not known yet, but proxies (dante) choose the relay's address
        /// by the family.
        ipv6: bool,
    },
}

/// The dialogue from the greeting to the reply.
pub struct SocksDialogue {
    request: SocksRequest,
    login: Option<Credentials>,
    state: State,
    out: Option<Zeroizing<Vec<u8>>>,
    /// The message being heard.
    message: Vec<u8>,
}

#[derive(Clone, Copy)]
enum State {
    Method,
    Login,
    Reply,
}

impl SocksDialogue {
    /// Begins a dialogue. With a login, the proxy may choose whether it wants it.
    ///
    /// # Errors
    /// When the login or the server's name is too long for the protocol.
    pub fn new(request: SocksRequest, login: Option<Credentials>) -> Result<Self, ProxyError> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        if login.as_ref().is_some_and(|login| !fits(&login.username) || !fits(&login.password)) {
            return Err(ProxyError::SocksLoginLength);
        }
        if matches!(&request, SocksRequest::Connect { host, .. } if !fits(host)) {
            return Err(ProxyError::SocksNameLength);
        }
        let greeting = match login {
            Some(_) => vec![VERSION, 2, NO_LOGIN, PASSWORD],
            None => vec![VERSION, 1, NO_LOGIN],
        };
        let out = Some(Zeroizing::new(greeting));
        Ok(Self { request, login, state: State::Method, out, message: Vec::new() })
    }

    /// Takes the whole message that stands in `message`.
    fn handle_message(&mut self) -> Result<Progress, ProxyError> {
        let message = std::mem::take(&mut self.message);
        let byte = |index: usize| message.get(index).copied().unwrap_or_default();
        match self.state {
            State::Method => match byte(1) {
                NO_LOGIN => self.request(),
                PASSWORD => self.log_in()?,
                _ => return Err(ProxyError::SocksMethod),
            },
            State::Login if byte(1) == 0 => self.request(),
            State::Login => return Err(ProxyError::SocksLogin),
            State::Reply => return Ok(Progress::Open(address(&message))),
        }
        Ok(Progress::More)
    }

    fn log_in(&mut self) -> Result<(), ProxyError> {
        let login = self.login.take().ok_or(ProxyError::SocksMethod)?;
        let mut message = Zeroizing::new(Vec::with_capacity(3 + 2 * 255));
        message.push(LOGIN_VERSION);
        for text in [login.username.as_str(), login.password.as_str()] {
            message.push(u8::try_from(text.len()).map_err(|_| ProxyError::SocksLoginLength)?);
            message.extend_from_slice(text.as_bytes());
        }
        self.out = Some(message);
        self.state = State::Login;
        Ok(())
    }

    fn request(&mut self) {
        let mut message = Vec::new();
        let (command, host, port) = match &self.request {
            SocksRequest::Connect { host, port } => (CONNECT, host.as_str(), *port),
            SocksRequest::UdpAssociate { ipv6: false } => (UDP_ASSOCIATE, "0.0.0.0", 0),
            SocksRequest::UdpAssociate { ipv6: true } => (UDP_ASSOCIATE, "::", 0),
        };
        message.extend([VERSION, command, 0]);
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => {
                message.push(IPV4);
                message.extend(v4.octets());
            }
            Ok(IpAddr::V6(v6)) => {
                message.push(IPV6);
                message.extend(v6.octets());
            }
            Err(_) => {
                // Its length was checked at the beginning.
                message.extend([NAME, u8::try_from(host.len()).unwrap_or(u8::MAX)]);
                message.extend_from_slice(host.as_bytes());
            }
        }
        message.extend(port.to_be_bytes());
        self.out = Some(Zeroizing::new(message));
        self.state = State::Reply;
    }

    /// How many bytes the message being heard has, as far as they tell.
    fn wanted(&self) -> Result<usize, ProxyError> {
        let byte = |index: usize| self.message.get(index).copied();
        match self.state {
            State::Method | State::Login => Ok(2),
            State::Reply => match (byte(3), byte(4)) {
                (Some(IPV4), _) => Ok(4 + 4 + 2),
                (Some(IPV6), _) => Ok(4 + 16 + 2),
                (Some(NAME), Some(len)) => Ok(5 + usize::from(len) + 2),
                (None | Some(NAME), _) => Ok(5),
                (Some(other), _) => Err(ProxyError::SocksAddress(other)),
            },
        }
    }
}

impl Dialogue for SocksDialogue {
    fn poll_transmit(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.out.take()
    }

    fn handle_byte(&mut self, byte: u8) -> Result<Progress, ProxyError> {
        self.message.push(byte);
        match (self.state, self.message.as_slice()) {
            // The login has a version of its own; there are proxies that answer with the protocol's.
            (State::Login, &[version]) if ![LOGIN_VERSION, VERSION].contains(&version) => {
                return Err(ProxyError::SocksVersion(version));
            }
            (State::Method | State::Reply, &[version]) if version != VERSION => {
                return Err(ProxyError::SocksVersion(version));
            }
            (State::Reply, &[_, code]) if code != 0 => return Err(ProxyError::SocksReply(code)),
            _ => {}
        }
        if self.message.len() < self.wanted()? { Ok(Progress::More) } else { self.handle_message() }
    }
}

/// The address of a reply; a name is none.
fn address(message: &[u8]) -> Option<SocketAddr> {
    let (kind, rest) = message.get(3..)?.split_first()?;
    let (ip, rest) = match *kind {
        IPV4 => {
            let (bytes, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*bytes)), rest)
        }
        IPV6 => {
            let (bytes, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*bytes)), rest)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*rest.first_chunk::<2>()?)))
}

/// What a reply code says (RFC 1928, section 6).
pub(super) fn reply(code: u8) -> String {
    let text = match code {
        1 => "general failure",
        2 => "its rules do not allow the connection",
        3 => "the network cannot be reached",
        4 => "the server cannot be reached",
        5 => "the server refused the connection",
        6 => "the connection took too long",
        7 => "it does not know the command (UDP needs UDP ASSOCIATE: try TCP)",
        8 => "it does not know the kind of address",
        _ => return format!("it answers with the unknown code {code}"),
    };
    format!("it answers: {text} (code {code})")
}

const VERSION: u8 = 5;
/// Of the negotiation of RFC 1929.
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(host: &str) -> SocksRequest {
        SocksRequest::Connect { host: host.to_owned(), port: 443 }
    }

    fn login(username: &str) -> Option<Credentials> {
        Some(Credentials { username: username.to_owned(), password: Zeroizing::new("pw".to_owned()) })
    }

    /// Feeds bytes; the last one's outcome.
    fn feed(dialogue: &mut SocksDialogue, bytes: &[u8]) -> Result<Progress, ProxyError> {
        let (last, first) = bytes.split_last().unwrap();
        for byte in first {
            assert!(matches!(dialogue.handle_byte(*byte), Ok(Progress::More)));
        }
        dialogue.handle_byte(*last)
    }

    fn sent(dialogue: &mut SocksDialogue) -> Vec<u8> {
        dialogue.poll_transmit().unwrap().to_vec()
    }

    #[test]
    fn a_name_is_left_to_the_proxy() {
        let mut dialogue = SocksDialogue::new(connect("a.example"), None).unwrap();
        assert_eq!(sent(&mut dialogue), [5, 1, 0]);
        assert!(matches!(feed(&mut dialogue, &[5, 0]), Ok(Progress::More)));
        assert_eq!(sent(&mut dialogue), b"\x05\x01\x00\x03\x09a.example\x01\xbb");
        let open = feed(&mut dialogue, &[5, 0, 0, 3, 2, b'x', b'y', 0, 1]);
        assert!(matches!(open, Ok(Progress::Open(None))), "a name of any length is passed over");
    }

    #[test]
    fn a_relay_is_told_with_its_address() {
        let request = SocksRequest::UdpAssociate { ipv6: false };
        let mut dialogue = SocksDialogue::new(request, login("u")).unwrap();
        assert_eq!(sent(&mut dialogue), [5, 2, 0, 2]);
        feed(&mut dialogue, &[5, 2]).unwrap();
        assert_eq!(sent(&mut dialogue), b"\x01\x01u\x02pw");
        feed(&mut dialogue, &[1, 0]).unwrap();
        assert_eq!(sent(&mut dialogue), [5, 3, 0, 1, 0, 0, 0, 0, 0, 0]);
        let open = feed(&mut dialogue, &[5, 0, 0, 1, 192, 0, 2, 7, 0x30, 0x39]).unwrap();
        assert!(matches!(open, Progress::Open(Some(at)) if at == "192.0.2.7:12345".parse().unwrap()));
    }

    #[test]
    fn a_relay_is_asked_for_in_the_family_of_its_client() {
        let request = SocksRequest::UdpAssociate { ipv6: true };
        let mut dialogue = SocksDialogue::new(request, None).unwrap();
        sent(&mut dialogue);
        feed(&mut dialogue, &[5, 0]).unwrap();
        assert_eq!(sent(&mut dialogue), [&[5, 3, 0, 4][..], &[0; 18]].concat());
    }

    #[test]
    fn refusals_say_what_was_refused() {
        let mut wrong = SocksDialogue::new(connect("::1"), login("u")).unwrap();
        feed(&mut wrong, &[5, 2]).unwrap();
        assert_eq!(feed(&mut wrong, &[1, 1]).unwrap_err(), ProxyError::SocksLogin);
        let mut wants_login = SocksDialogue::new(connect("::1"), None).unwrap();
        assert_eq!(feed(&mut wants_login, &[5, 2]).unwrap_err(), ProxyError::SocksMethod);
        let mut closed = SocksDialogue::new(connect("::1"), None).unwrap();
        feed(&mut closed, &[5, 0]).unwrap();
        assert_eq!(feed(&mut closed, &[5, 5]).unwrap_err(), ProxyError::SocksReply(5));
        let mut web = SocksDialogue::new(connect("::1"), None).unwrap();
        assert_eq!(feed(&mut web, b"H").unwrap_err(), ProxyError::SocksVersion(b'H'));
        let long = "x".repeat(256);
        assert_eq!(SocksDialogue::new(connect(&long), None).err(), Some(ProxyError::SocksNameLength));
        let too_long = SocksDialogue::new(connect("::1"), login(&long)).err();
        assert_eq!(too_long, Some(ProxyError::SocksLoginLength));
    }
}
