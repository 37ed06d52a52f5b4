//! OpenVPN's management protocol as typed messages: what a client of the interface says, and what it is told.
//!
//! No sockets and no clocks: bytes go into a [`Codec`], [`Input`]s come out; a [`Notification`] or a reply is text with
//! its line ends. The walk of a command: [`Codec::handle_bytes`], [`Codec::poll`], which gives a [`Request`] or the
//! answer to one that is malformed; the driver answers with [`reply`]'s texts. Commands that go on over several lines
//! are begun by the driver ([`Codec::begin_block`]), because most of them depend on what is being asked just then.
//!
//! Source: `doc/management-notes.txt` of OpenVPN 2.7, and recordings of 2.6 and 2.7.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod codec;
mod notification;
mod proxy;
pub mod reply;
mod request;
mod state;

pub use codec::{BlockOf, Codec, CodecError, Input, MAX_BLOCK, MAX_LINE, PASSWORD_TRIES};
pub use notification::{ClientEvent, LogFlag, Need, Notification, SignatureAlgorithm, client_env_shown};
pub use proxy::ProxyChoice;
pub use request::{
    ClientName, History, HistoryOf, Hold, KeyName, KillTarget, Request, RequestError, SetNumber,
};
pub use state::{StateLine, StateName};

/// The version that the greeting and `version` name.
pub const VERSION: u32 = 6;

/// What a client may do from this `version` on: OpenVPN's numbers.
pub mod client_version {
    /// Until the client says otherwise.
    pub const DEFAULT: i32 = 1;
    /// It knows `>PK_SIGN`.
    pub const PK_SIGN: i32 = 2;
    /// It reads the algorithm behind the data of `>PK_SIGN`.
    pub const PK_SIGN_ALGORITHM: i32 = 3;
    /// It knows the question for a user name alone, and is told that its version was set.
    pub const USERNAME_ONLY: i32 = 4;
    /// It may enter a password in lines of base64.
    pub const PASSWORD_LINES: i32 = 5;
}
