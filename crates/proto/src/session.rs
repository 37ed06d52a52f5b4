//! The conversation with one peer.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use culvert_wire::{Now, Transmit};

use crate::{Command, Credentials, Event, ProtoError, SessionConfig, tls::TlsFactory, wrap::Wrapping};

/// Fills a buffer with random bytes: passed in, so that a simulation can replay a session.
pub type RandomSource = Box<dyn FnMut(&mut [u8]) + Send>;

/// The conversation with one peer.
pub struct Session {
    _config: Arc<SessionConfig>,
    _tls: Arc<dyn TlsFactory>,
}

impl Session {
    /// Starts a session with a TLS server: a pulling client, or the client end of a point-to-point tunnel.
    #[must_use]
    pub fn client(
        config: Arc<SessionConfig>,
        tls: Arc<dyn TlsFactory>,
        _wrapping: Wrapping,
        _remote: SocketAddr,
        _credentials: Option<Credentials>,
        _random: RandomSource,
        _now: Now,
    ) -> Self {
        Self { _config: config, _tls: tls }
    }

    /// Takes one packet.
    ///
    /// # Errors
    /// When the packet was dropped.
    pub fn handle_datagram(&mut self, _now: Now, _from: SocketAddr, _bytes: &[u8]) -> Result<(), ProtoError> {
        Ok(())
    }

    /// Takes an answer or order of the driver.
    pub fn handle_command(&mut self, _now: Now, _command: Command) {}

    /// Acts on expired deadlines; early calls are harmless.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// Returns the next packet to send, written into `buf`.
    pub fn poll_transmit<'b>(&mut self, _now: Now, _buf: &'b mut [u8]) -> Option<Transmit<'b>> {
        None
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Returns when [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
