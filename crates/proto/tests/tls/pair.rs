//! Two ends that talk until both are done or one has failed.

use culvert_proto::tls::{RustlsFactory, TlsError, TlsFactory as _, TlsSession, TlsSettings};

/// Bytes per feed: records never fit, as control packets cut them too.
const PIECE: usize = 1100;

pub(crate) struct Pair {
    pub(crate) client: Box<dyn TlsSession>,
    pub(crate) server: Box<dyn TlsSession>,
    pub(crate) client_error: Option<TlsError>,
    pub(crate) server_error: Option<TlsError>,
}

impl Pair {
    pub(crate) fn open(client: TlsSettings, server: TlsSettings) -> Self {
        let (client, server) = (RustlsFactory::new(client).unwrap(), RustlsFactory::new(server).unwrap());
        Self {
            client: client.open().unwrap(),
            server: server.open().unwrap(),
            client_error: None,
            server_error: None,
        }
    }

    /// Carries bytes until nobody has any; alerts arrive too.
    pub(crate) fn run(&mut self) {
        loop {
            let sent = carry(&mut *self.client, &mut *self.server, &mut self.server_error)
                | carry(&mut *self.server, &mut *self.client, &mut self.client_error);
            if !sent {
                return;
            }
        }
    }
}

/// Runs a handshake that must succeed.
pub(crate) fn connect(client: TlsSettings, server: TlsSettings) -> Pair {
    let mut pair = Pair::open(client, server);
    pair.run();
    assert_eq!((&pair.client_error, &pair.server_error), (&None, &None));
    assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
    pair
}

/// Runs a handshake whose failure must be found by the client; gives its message.
pub(crate) fn client_refuses(client: TlsSettings, server: TlsSettings) -> String {
    let mut pair = Pair::open(client, server);
    pair.run();
    assert!(pair.client.identity().is_none());
    certificate_error(pair.client_error)
}

/// Runs a handshake whose failure must be found by the server; gives its message.
pub(crate) fn server_refuses(client: TlsSettings, server: TlsSettings) -> String {
    let mut pair = Pair::open(client, server);
    pair.run();
    assert!(pair.server.identity().is_none());
    certificate_error(pair.server_error)
}

fn certificate_error(error: Option<TlsError>) -> String {
    match error {
        Some(TlsError::Certificate(text)) => text,
        other => panic!("expected a refused certificate, got {other:?}"),
    }
}

fn carry(from: &mut dyn TlsSession, to: &mut dyn TlsSession, error: &mut Option<TlsError>) -> bool {
    let mut bytes = Vec::new();
    from.take(&mut bytes);
    for piece in bytes.chunks(PIECE) {
        if error.is_none() {
            *error = to.feed(piece).err();
        }
    }
    !bytes.is_empty()
}
