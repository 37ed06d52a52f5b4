//! Dialogues with proxies, before the first packet of OpenVPN: HTTP's CONNECT, and SOCKS version 5.
//!
//! A dialogue is a value. The driver connects to the proxy, sends what [`Dialogue::poll_transmit`] gives, and feeds what
//! comes back byte by byte: behind the last byte of the dialogue the stream is the server's, and nothing of it may be
//! taken. A proxy that wants another login than it got says so with [`Progress::Refused`]; the driver connects again.
//!
//! Sources: RFC 9110 (CONNECT, 407), RFC 7617 (Basic), RFC 7616 (Digest), \[MS-NLMP\] (NTLM), RFC 1928 and 1929 (SOCKS).

mod challenge;
mod http;
mod ntlm;
mod socks;

use std::net::SocketAddr;

use zeroize::Zeroizing;

pub use challenge::{DigestChallenge, Offer, Offers};
pub use http::{Authorization, HttpDialogue, HttpRequest};
pub use socks::{SocksDialogue, SocksRequest};

/// A dialogue with a proxy.
pub trait Dialogue: Send {
    /// Returns what is to be sent now; it may hold a password.
    fn poll_transmit(&mut self) -> Option<Zeroizing<Vec<u8>>>;

    /// Takes the next byte from the proxy.
    ///
    /// # Errors
    /// When the proxy refuses, or does not speak the protocol.
    fn handle_byte(&mut self, byte: u8) -> Result<Progress, ProxyError>;
}

/// Where a dialogue stands.
#[derive(Debug)]
pub enum Progress {
    /// There is more to send or to hear.
    More,
    /// The way is open. For UDP ASSOCIATE: where the proxy wants datagrams to be sent; an unspecified address means
    /// the proxy's own.
    Open(Option<SocketAddr>),
    /// The proxy wants a login, by one of these methods (HTTP, 407).
    Refused(Offers),
}

/// Why there is no way through a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// What answers is no HTTP proxy.
    #[error("HTTP proxy: the answer is not HTTP: '{0}'; is this the port of a proxy?")]
    NotHttp(String),
    /// The proxy refused for another reason than the login.
    #[error("HTTP proxy returned bad status: '{0}'; the proxy must allow CONNECT to the server's port")]
    Status(String),
    /// The head of the answer does not end.
    #[error("HTTP proxy: the head of its answer is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// A body of unknown length stands between two messages of one login.
    #[error("HTTP proxy: its answer within the NTLM dialogue has no length, or a too great one")]
    Body,
    /// The NTLM challenge cannot be read.
    #[error("HTTP proxy: its NTLM challenge is malformed: {0}")]
    Ntlm(&'static str),
    /// The digest cannot be computed.
    #[error("HTTP proxy: digest auth failed: {0}")]
    Digest(String),
    /// Not a SOCKS server.
    #[error("SOCKS proxy: it answers in version {0}, not 5; is this the port of a SOCKS proxy?")]
    SocksVersion(u8),
    /// No method of login fits.
    #[error(
        "SOCKS proxy: it takes none of the offered logins; it may want a user name and password (third word of socks-proxy)"
    )]
    SocksMethod,
    /// The login is wrong.
    #[error("SOCKS proxy: it refused the user name or password")]
    SocksLogin,
    /// The login does not fit into the message.
    #[error("SOCKS username and/or password exceeds 255 characters.  Authentication not possible.")]
    SocksLoginLength,
    /// The server's name does not fit into the message.
    #[error("SOCKS proxy: the name of the server is longer than 255 characters")]
    SocksNameLength,
    /// The proxy reached nobody.
    #[error("SOCKS proxy: {}", socks::reply(*.0))]
    SocksReply(u8),
    /// An address of a kind that does not exist.
    #[error("SOCKS proxy: unknown address type {0} in its answer")]
    SocksAddress(u8),
}

/// Longest head of an HTTP answer.
const MAX_HEAD: usize = 16 * 1024;
