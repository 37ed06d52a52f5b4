//! CONNECT through an HTTP proxy.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    Dialogue, MAX_HEAD, Progress, ProxyError,
    challenge::{DigestChallenge, Offers},
    ntlm,
};
use crate::Credentials;

/// What is asked of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// The server's name or address; names are looked up by the proxy.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// `1.0` or `1.1`.
    pub version: String,
    /// The `User-Agent`.
    pub agent: Option<String>,
    /// More headers: name and content, or a whole line.
    pub headers: Vec<(String, Option<String>)>,
}

/// How to log in.
pub enum Authorization {
    /// Not at all: a proxy that wants a login says how.
    None,
    /// The password in clear text.
    Basic(Credentials),
    /// A digest; the challenge is from a connection before.
    Digest {
        /// What the proxy told.
        challenge: DigestChallenge,
        /// The login.
        login: Credentials,
        /// Drawn at random.
        cnonce: [u8; 8],
    },
    /// NTLM version 2, with all its messages.
    Ntlm2 {
        /// The login; the name may be `DOMAIN\user`.
        login: Credentials,
        /// Drawn at random.
        nonce: [u8; 8],
        /// Seconds since 1970.
        unix: u32,
    },
}

/// The dialogue from the request to the empty line behind the answer.
pub struct HttpDialogue {
    request: HttpRequest,
    /// What NTLM's third message is made of.
    ntlm: Option<(Credentials, [u8; 8], u32)>,
    out: Option<Zeroizing<Vec<u8>>>,
    head: Vec<u8>,
    /// What is still to be passed over of a body before the next head, and the message that goes out then.
    body: Option<(u64, Zeroizing<Vec<u8>>)>,
}

impl HttpDialogue {
    /// Begins a dialogue.
    ///
    /// # Errors
    /// When a digest cannot be computed.
    pub fn new(request: HttpRequest, authorization: Authorization) -> Result<Self, ProxyError> {
        let mut dialogue = Self { request, ntlm: None, out: None, head: Vec::new(), body: None };
        let value = match authorization {
            Authorization::None => None,
            Authorization::Basic(login) => {
                let plain = Zeroizing::new([&login.username, ":", &login.password].concat());
                let encoded = Zeroizing::new(BASE64_STANDARD.encode(plain.as_bytes()));
                Some(Zeroizing::new(["Basic ", &encoded].concat()))
            }
            Authorization::Digest { challenge, login, cnonce } => {
                Some(challenge.answer(&login, &dialogue.authority(), cnonce)?)
            }
            Authorization::Ntlm2 { login, nonce, unix } => {
                dialogue.ntlm = Some((login, nonce, unix));
                Some(Zeroizing::new(format!("NTLM {}", BASE64_STANDARD.encode(ntlm::negotiate()))))
            }
        };
        dialogue.out = Some(dialogue.message(value));
        Ok(dialogue)
    }

    /// The first line of the request, for the log.
    #[must_use]
    pub fn request_line(&self) -> String {
        format!("CONNECT {} HTTP/{}", self.authority(), self.request.version)
    }

    fn authority(&self) -> String {
        let HttpRequest { host, port, .. } = &self.request;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn message(&self, authorization: Option<Zeroizing<String>>) -> Zeroizing<Vec<u8>> {
        let mut text = String::new();
        let mut line = |line: String| _ = write!(text, "{line}\r\n"); // a string takes all
        line(self.request_line());
        let mut has_host = false;
        for (name, content) in &self.request.headers {
            has_host |= name.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("host"));
            line(content.as_ref().map_or_else(|| name.clone(), |content| format!("{name}: {content}")));
        }
        if !has_host {
            line(format!("Host: {}", self.authority()));
        }
        if let Some(agent) = &self.request.agent {
            line(format!("User-Agent: {agent}"));
        }
        if self.ntlm.is_some() {
            // Its three messages are about one connection.
            line("Proxy-Connection: Keep-Alive".to_owned());
        }
        let secret = authorization.as_ref().map_or(0, |value| value.len() + 32);
        let mut message = Zeroizing::new(Vec::with_capacity(text.len() + secret + 2));
        message.extend_from_slice(text.as_bytes());
        if let Some(value) = authorization {
            message.extend_from_slice(b"Proxy-Authorization: ");
            message.extend_from_slice(value.as_bytes());
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"\r\n");
        message
    }

    /// Takes a whole head.
    fn handle_head(&mut self) -> Result<Progress, ProxyError> {
        let head = std::mem::take(&mut self.head);
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status_line = lines.next().unwrap_or_default().trim_end();
        let status = status_line.strip_prefix("HTTP/").and_then(|rest| {
            let number = rest.split_whitespace().nth(1)?;
            number.parse::<u16>().ok()
        });
        let headers: Vec<(&str, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let named = |wanted: &'static str| {
            headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
        };
        match status {
            None => Err(ProxyError::NotHttp(short(status_line))),
            // Provisional: the answer follows.
            Some(100..=199) => Ok(Progress::More),
            Some(200..=299) => Ok(Progress::Open(None)),
            // tinyproxy says 401 to a wrong password, and 407 to none.
            Some(401 | 407) => {
                let challenge = named("Proxy-Authenticate").find_map(ntlm_message);
                if let (Some(challenge), Some(_)) = (challenge, &self.ntlm) {
                    let length = named("Content-Length").next().map_or(Some(0), |value| value.parse().ok());
                    let chunked = named("Transfer-Encoding").next().is_some();
                    return self.answer_ntlm(&challenge, length.filter(|_| !chunked));
                }
                let mut offers = Offers::default();
                named("Proxy-Authenticate").for_each(|value| offers.add(value));
                Ok(Progress::Refused(offers))
            }
            Some(_) => Err(ProxyError::Status(short(status_line))),
        }
    }

    /// The third message of NTLM, once the body behind the second is passed.
    fn answer_ntlm(&mut self, challenge: &[u8], body: Option<u64>) -> Result<Progress, ProxyError> {
        let body = body.filter(|len| *len <= MAX_BODY).ok_or(ProxyError::Body)?;
        let Some((login, nonce, unix)) = self.ntlm.take() else { return Ok(Progress::More) };
        let message = ntlm::authenticate(challenge, &login, nonce, unix)?;
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*message));
        let message = self.message(Some(Zeroizing::new(["NTLM ", &encoded].concat())));
        if body == 0 {
            self.out = Some(message);
        } else {
            self.body = Some((body, message));
        }
        Ok(Progress::More)
    }
}

impl Dialogue for HttpDialogue {
    fn poll_transmit(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.out.take()
    }

    fn handle_byte(&mut self, byte: u8) -> Result<Progress, ProxyError> {
        if let Some((left, message)) = self.body.take() {
            if left > 1 {
                self.body = Some((left - 1, message));
            } else {
                self.out = Some(message);
            }
            return Ok(Progress::More);
        }
        self.head.push(byte);
        if self.head.ends_with(b"\r\n\r\n") || self.head.ends_with(b"\n\n") {
            return self.handle_head();
        }
        // What is no HTTP may never end a head.
        if self.head.len() == PREFIX.len() && self.head != PREFIX {
            return Err(ProxyError::NotHttp(short(&String::from_utf8_lossy(&self.head))));
        }
        if self.head.len() >= MAX_HEAD { Err(ProxyError::HeadTooLong) } else { Ok(Progress::More) }
    }
}

/// The message within `NTLM BASE64`.
fn ntlm_message(value: &str) -> Option<Vec<u8>> {
    let (scheme, message) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("ntlm").then(|| BASE64_STANDARD.decode(message.trim()).ok()).flatten()
}

/// A line of foreign text for the log: not too long, and printable.
fn short(line: &str) -> String {
    line.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

const PREFIX: &[u8] = b"HTTP/";
/// The largest page between two messages of NTLM.
const MAX_BODY: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> HttpRequest {
        HttpRequest {
            host: "vpn.example".to_owned(),
            port: 1194,
            version: "1.0".to_owned(),
            agent: None,
            headers: Vec::new(),
        }
    }

    fn login() -> Credentials {
        Credentials { username: "Aladdin".to_owned(), password: Zeroizing::new("open sesame".to_owned()) }
    }

    fn feed(dialogue: &mut HttpDialogue, text: &str) -> Result<Progress, ProxyError> {
        let (last, first) = text.as_bytes().split_last().unwrap();
        for byte in first {
            assert!(matches!(dialogue.handle_byte(*byte)?, Progress::More), "ended early");
        }
        dialogue.handle_byte(*last)
    }

    fn sent(dialogue: &mut HttpDialogue) -> String {
        String::from_utf8(dialogue.poll_transmit().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_request_has_the_configured_headers() {
        let headers =
            vec![("X-One".to_owned(), Some("1".to_owned())), ("host: other.example".to_owned(), None)];
        let request = HttpRequest { agent: Some("me".to_owned()), headers, ..request() };
        let mut dialogue = HttpDialogue::new(request, Authorization::None).unwrap();
        let expected =
            "CONNECT vpn.example:1194 HTTP/1.0\r\nX-One: 1\r\nhost: other.example\r\nUser-Agent: me\r\n\r\n";
        assert_eq!(sent(&mut dialogue), expected);
        let v6 = HttpRequest { host: "2001:db8::1".to_owned(), ..self::request() };
        let mut dialogue = HttpDialogue::new(v6, Authorization::None).unwrap();
        let expected = "CONNECT [2001:db8::1]:1194 HTTP/1.0\r\nHost: [2001:db8::1]:1194\r\n\r\n";
        assert_eq!(sent(&mut dialogue), expected);
    }

    /// The login of RFC 7617, section 2.
    #[test]
    fn basic_is_that_of_the_standard() {
        let mut dialogue = HttpDialogue::new(request(), Authorization::Basic(login())).unwrap();
        let sent = sent(&mut dialogue);
        assert!(
            sent.ends_with("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"),
            "{sent}"
        );
    }

    #[test]
    fn the_answer_ends_with_its_empty_line() {
        let open = |text: &str| {
            let mut dialogue = HttpDialogue::new(request(), Authorization::None).unwrap();
            matches!(feed(&mut dialogue, text), Ok(Progress::Open(None)))
        };
        assert!(open("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n"));
        assert!(open("HTTP/1.1 200\n\n"));
        let mut dialogue = HttpDialogue::new(request(), Authorization::None).unwrap();
        feed(&mut dialogue, "HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        assert!(matches!(feed(&mut dialogue, "HTTP/1.1 200 OK\r\n\r\n"), Ok(Progress::Open(None))));
    }

    #[test]
    fn refusals_are_told_apart() {
        let failure = |text: &str| {
            let mut dialogue = HttpDialogue::new(request(), Authorization::None).unwrap();
            feed(&mut dialogue, text).unwrap_err()
        };
        let forbidden = ProxyError::Status("HTTP/1.1 403 Forbidden".to_owned());
        assert_eq!(failure("HTTP/1.1 403 Forbidden\r\n\r\n"), forbidden);
        assert_eq!(failure("SSH-2"), ProxyError::NotHttp("SSH-2".to_owned()));
        assert_eq!(failure(&format!("HTTP/{}", "x".repeat(MAX_HEAD))), ProxyError::HeadTooLong);
        let mut dialogue = HttpDialogue::new(request(), Authorization::None).unwrap();
        let text = "HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm=x\r\nProxy-Authenticate: NTLM\r\n\r\n";
        let Ok(Progress::Refused(offers)) = feed(&mut dialogue, text) else { panic!("not refused") };
        assert_eq!(offers.names(), "Basic, NTLM");
    }

    #[test]
    fn ntlm_goes_on_behind_the_page_of_the_second_message() {
        let authorization = Authorization::Ntlm2 { login: login(), nonce: [1; 8], unix: 1 };
        let mut dialogue = HttpDialogue::new(request(), authorization).unwrap();
        assert!(sent(&mut dialogue).contains("Proxy-Authorization: NTLM TlRMTVNTUAABAAAA"));
        let mut second = b"NTLMSSP\0\x02\0\0\0".to_vec();
        second.resize(48, 0);
        let second = BASE64_STANDARD.encode(second);
        let head =
            format!("HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM {second}\r\nContent-Length: 4\r\n\r\n");
        feed(&mut dialogue, &head).unwrap();
        assert!(dialogue.poll_transmit().is_none(), "the page comes first");
        feed(&mut dialogue, "page").unwrap();
        assert!(sent(&mut dialogue).contains("Proxy-Authorization: NTLM TlRMTVNTUAADAAAA"));
        let refused = feed(&mut dialogue, "HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\n\r\n");
        assert!(matches!(refused, Ok(Progress::Refused(_))), "a wrong password ends it");
    }
}
