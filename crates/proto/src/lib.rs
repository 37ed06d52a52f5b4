//! OpenVPN's control channel as values: no sockets, clocks or randomness of its own.
//!
//! [`Session`] is the conversation with one peer: reliability, TLS, key exchange, negotiation, push, renegotiation.
//! Bytes, time and [`Command`]s go in; packets ([`Session::poll_transmit`]), [`Event`]s and one deadline come out.
//! After any input the driver first drains [`Session::poll_event`] (so that a key is installed before the packet that
//! makes the peer use it leaves), then [`Session::poll_transmit`], then sleeps until [`Session::poll_timeout`].
//!
//! The walk of a session, seen from the driver:
//!
//! 1. [`Event::VerifyPeer`]: TLS is up and the certificate passed the configured checks; policy (scripts) answers
//!    [`Command::PeerVerdict`].
//! 2. [`Event::Authenticate`] (TLS server): user name and password arrived; answer [`Command::AuthVerdict`].
//! 3. [`Event::PushReply`] (pulling client): pushed options; the driver filters them and answers
//!    [`Command::ApplyPush`].
//! 4. [`Event::Configure`]: data channel parameters are fixed; the driver creates the peer in its offload, configures
//!    the host and answers [`Command::Configured`] (a server with the options to push).
//! 5. [`Event::Key`]: keys for the offload, in order, now and at each renegotiation.
//! 6. [`Event::Closed`]: the end, once.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::panic)]

mod access;
mod command;
mod config;
mod control_message;
pub mod cookie;
#[doc(hidden)]
pub mod decoders;
pub mod endpoint;
mod error;
mod event;
mod key_exchange;
mod keys;
mod negotiate;
pub mod options_string;
mod params;
pub mod peer_info;
pub mod proxy;
mod push;
pub mod reliable;
mod renegotiation;
mod session;
pub mod static_key;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod wrap;

pub use command::{Authorization, Command, Verdict};
pub use config::{Credentials, DataConfig, Mode, OptionsStrings, SessionConfig, Timing, Transport};
pub use culvert_wire::ProtocolFlags;
pub use error::ProtoError;
pub use event::{Advance, AuthFailure, AuthRequest, CloseReason, Event, Note, PeerMessage, TemporaryFailure};
pub use keys::{KeyOp, KeyRing};
pub use params::{ExportedKey, NegotiatedParams, PeerInfo, PushedProtocol};
pub use push::{UpdateItem, split_update};
pub use session::{RandomSource, Session};
