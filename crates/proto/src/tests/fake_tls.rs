//! A TLS of three flights without cryptography: same seed, same bytes (SEC-CORE-4).
//!
//! ```text
//! record = u8 type, u16 len, body      1 hello (nonce, name, padding), 2 finished, 23 data, 21 alert
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use culvert_crypto::tls1_prf;

use crate::tls::{PeerIdentity, Standing, TlsError, TlsFactory, TlsSession};

const HELLO: u8 = 1;
const FINISHED: u8 = 2;
const ALERT: u8 = 21;
const DATA: u8 = 23;

pub(super) struct FakeTls {
    server: bool,
    /// What the peer will see as the common name.
    name: &'static str,
    /// Bytes by which a hello is made long, so that flights take several packets.
    padding: usize,
    /// Refuses the peer's certificate.
    rejects: bool,
    opened: AtomicU64,
    /// From this connection on another name is shown.
    pub(super) rename_from: AtomicU64,
}

impl FakeTls {
    pub(super) fn new(server: bool, name: &'static str) -> Self {
        Self {
            server,
            name,
            padding: 2500,
            rejects: false,
            opened: AtomicU64::new(0),
            rename_from: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn rejecting(self) -> Self {
        Self { rejects: true, ..self }
    }
}

impl TlsFactory for FakeTls {
    fn judge_again(&self, _: &PeerIdentity) -> Standing {
        Standing::Good
    }

    fn open(&self) -> Result<Box<dyn TlsSession>, TlsError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let name =
            if number < self.rename_from.load(Ordering::Relaxed) { self.name } else { "somebody else" };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        nonce[15] = u8::from(self.server);
        let mut session = FakeSession {
            server: self.server,
            rejects: self.rejects,
            hello: [
                &nonce[..],
                &[u8::try_from(name.len()).unwrap()],
                name.as_bytes(),
                &vec![0x55; self.padding],
            ]
            .concat(),
            secret: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            plaintext: Vec::new(),
            identity: None,
            done: false,
            failed: false,
        };
        if !self.server {
            let hello = session.hello.clone();
            session.put(HELLO, &hello);
        }
        Ok(Box::new(session))
    }
}

struct FakeSession {
    server: bool,
    rejects: bool,
    hello: Vec<u8>,
    secret: Option<Vec<u8>>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    plaintext: Vec<u8>,
    identity: Option<Arc<PeerIdentity>>,
    done: bool,
    failed: bool,
}

impl FakeSession {
    fn put(&mut self, kind: u8, body: &[u8]) {
        self.outgoing.push(kind);
        self.outgoing.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        self.outgoing.extend_from_slice(body);
    }

    fn take_record(&mut self, kind: u8, body: &[u8]) -> Result<(), TlsError> {
        match kind {
            HELLO if self.secret.is_none() => self.take_hello(body),
            FINISHED if self.server => {
                self.done = true;
                Ok(())
            }
            DATA if self.done => {
                self.plaintext.extend_from_slice(body);
                Ok(())
            }
            ALERT => Err(TlsError::Alert("bad certificate".to_owned())),
            _ => Err(TlsError::Protocol(format!("unexpected record {kind}"))),
        }
    }

    fn take_hello(&mut self, body: &[u8]) -> Result<(), TlsError> {
        let malformed = || TlsError::Protocol("malformed hello".to_owned());
        let len = usize::from(*body.get(16).ok_or_else(malformed)?);
        let name = body.get(17..17 + len).ok_or_else(malformed)?;
        if self.rejects {
            self.put(ALERT, &[42]);
            return Err(TlsError::Certificate("VERIFY ERROR: depth=0, error=fake".to_owned()));
        }
        self.identity = Some(Arc::new(PeerIdentity {
            common_name: String::from_utf8_lossy(name).into_owned(),
            chain: vec![name.to_vec()],
            ..PeerIdentity::default()
        }));
        let (client, server) = if self.server { (body, &self.hello[..]) } else { (&self.hello[..], body) };
        self.secret = Some([&client[..16], &server[..16]].concat());
        if self.server {
            let hello = self.hello.clone();
            self.put(HELLO, &hello);
        } else {
            self.put(FINISHED, &[]);
            self.done = true;
        }
        Ok(())
    }
}

impl TlsSession for FakeSession {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        if self.failed {
            return Err(TlsError::Protocol("failed before".to_owned()));
        }
        self.incoming.extend_from_slice(bytes);
        while let Some((&[kind, a, b], rest)) = self.incoming.split_first_chunk::<3>() {
            let Some(body) = rest.get(..usize::from(u16::from_be_bytes([a, b]))) else { break };
            let body = body.to_vec();
            self.incoming.drain(..3 + body.len());
            if let Err(error) = self.take_record(kind, &body) {
                self.failed = true;
                return Err(error);
            }
        }
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.outgoing);
    }

    fn read(&mut self, out: &mut Vec<u8>) -> Result<(), TlsError> {
        out.append(&mut self.plaintext);
        Ok(())
    }

    fn write(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        self.put(DATA, plaintext);
        Ok(())
    }

    fn is_handshaking(&self) -> bool {
        !self.done
    }

    fn export(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        let secret = self.secret.as_ref().ok_or_else(|| TlsError::Protocol("too early".to_owned()))?;
        tls1_prf(secret, &[label.as_bytes()], out);
        Ok(())
    }

    fn identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.identity.as_ref()
    }

    fn description(&self) -> String {
        "fake TLS".to_owned()
    }
}
