//! What a daemon does with a session, in small: answers its events by a script, executes key operations.

use std::collections::HashMap;

use culvert_crypto::DataKey;
use culvert_wire::{KeyId, Now, PeerId, Slot};

use crate::{
    Authorization, CloseReason, Command, Event, KeyOp, NegotiatedParams, Note, PeerMessage, PushedProtocol,
    Session, Verdict,
};

/// How the driver answers.
pub(super) struct Script {
    pub(super) verify: Verdict,
    pub(super) login: Option<Authorization>,
    pub(super) push: Vec<String>,
    /// Answer `Configure` at all.
    pub(super) configures: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            verify: Verdict::Accept,
            login: Some(Authorization::Accept),
            push: vec!["topology subnet".into(), "ifconfig 10.8.0.2 255.255.255.0".into()],
            configures: true,
        }
    }
}

/// The slots of a peer in an offload. Keys are kept by their secrets, for comparison of both ends.
#[derive(Default)]
pub(super) struct FakeOffload {
    pub(super) primary: Option<KeyPair>,
    pub(super) secondary: Option<KeyPair>,
    pub(super) swaps: u32,
    pub(super) installed: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyPair {
    pub(super) id: KeyId,
    pub(super) epoch: bool,
    pub(super) send: [u8; 32],
    pub(super) recv: [u8; 32],
}

impl From<DataKey> for KeyPair {
    fn from(key: DataKey) -> Self {
        match &key {
            DataKey::Classic { id, send, recv, .. } => {
                Self { id: *id, epoch: false, send: send.secret, recv: recv.secret }
            }
            DataKey::Epoch { id, send, recv, .. } => {
                Self { id: *id, epoch: true, send: send.secret, recv: recv.secret }
            }
            DataKey::Legacy(key) => {
                let start = |half: &[u8; 64]| *half.first_chunk().unwrap();
                let (send, recv) = (start(&key.send.cipher), start(&key.recv.cipher));
                Self { id: key.id, epoch: false, send, recv }
            }
        }
    }
}

impl FakeOffload {
    fn apply(&mut self, op: KeyOp) {
        match op {
            KeyOp::New(Slot::Primary, key) => {
                assert!(self.primary.replace(key.into()).is_none());
                self.installed += 1;
            }
            KeyOp::New(Slot::Secondary, key) => {
                assert!(self.secondary.replace(key.into()).is_none());
                self.installed += 1;
            }
            KeyOp::Swap => {
                assert!(self.primary.is_some() && self.secondary.is_some());
                std::mem::swap(&mut self.primary, &mut self.secondary);
                self.swaps += 1;
            }
            KeyOp::Delete(Slot::Primary) => panic!("deletes the sending key"),
            KeyOp::Delete(Slot::Secondary) => assert!(self.secondary.take().is_some()),
        }
    }

    pub(super) fn decrypts(&self, id: KeyId) -> Option<&KeyPair> {
        [&self.primary, &self.secondary].into_iter().flatten().find(|key| key.id == id)
    }
}

/// What happened at one end.
#[derive(Default)]
pub(super) struct Driver {
    pub(super) script: Script,
    pub(super) offload: FakeOffload,
    pub(super) lines: Vec<String>,
    pub(super) messages: Vec<PeerMessage>,
    pub(super) logins: Vec<(KeyId, String, String)>,
    pub(super) pushed: Vec<Vec<String>>,
    pub(super) params: Option<NegotiatedParams>,
    pub(super) renegotiated: Vec<KeyId>,
    pub(super) verified: Vec<KeyId>,
    pub(super) closed: Option<CloseReason>,
    pub(super) requests: u32,
    pub(super) established: u32,
    /// Order of the events, by name.
    pub(super) trace: Vec<&'static str>,
}

impl Driver {
    /// Answers one event.
    pub(super) fn take(&mut self, now: Now, session: &mut Session, event: Event) {
        assert!(self.closed.is_none(), "an event after Closed");
        match event {
            Event::Started(..) => self.trace.push("Started"),
            Event::VerifyPeer { key, .. } => {
                self.trace.push("VerifyPeer");
                self.verified.push(key);
                session.handle_command(now, Command::PeerVerdict(key, self.script.verify.clone()));
            }
            Event::Authenticate(request) => {
                self.trace.push("Authenticate");
                self.logins.push((request.key, request.username, request.password.to_string()));
                if let Some(login) = self.script.login.clone() {
                    session.handle_command(now, Command::AuthVerdict(request.key, login));
                }
            }
            // Not in the trace: how often depends on the network.
            Event::OptionsRequested => self.requests += 1,
            Event::PushReply(options) => {
                self.trace.push("PushReply");
                let pushed = pushed_protocol(&options);
                self.pushed.push(options);
                session.handle_command(now, Command::ApplyPush(pushed));
            }
            Event::Configure(params) => {
                self.trace.push("Configure");
                let peer_id = params.peer_id.or_else(|| PeerId::new(7).filter(|_| params.data_v2));
                self.params = Some(params);
                if self.script.configures {
                    let push = self.script.push.clone();
                    session.handle_command(now, Command::Configured { peer_id, push });
                }
            }
            Event::Key(op) => {
                self.trace.push("Key");
                self.offload.apply(op);
            }
            Event::Established => {
                self.trace.push("Established");
                self.established += 1;
            }
            Event::Renegotiated(key) => self.renegotiated.push(key),
            Event::Message(message) => self.messages.push(message),
            Event::Note(Note::Line(_, line)) => self.lines.push(line),
            Event::Note(Note::Dropped(_)) => {}
            Event::Closed(reason) => self.closed = Some(reason),
        }
    }

    pub(super) fn has_line(&self, part: &str) -> bool {
        self.lines.iter().any(|line| line.contains(part))
    }
}

/// The daemon's option filter, as far as the session is concerned.
fn pushed_protocol(options: &[String]) -> PushedProtocol {
    let values: HashMap<_, _> = options.iter().filter_map(|option| option.split_once(' ')).collect();
    let mut pushed = PushedProtocol {
        peer_id: values.get("peer-id").and_then(|id| PeerId::new(id.parse().ok()?)),
        cipher: values.get("cipher").and_then(|name| name.parse().ok()),
        ..PushedProtocol::default()
    };
    for word in values.get("protocol-flags").unwrap_or(&"").split(' ') {
        match word {
            "cc-exit" => pushed.flags.cc_exit = true,
            "tls-ekm" => pushed.flags.tls_ekm = true,
            "dyn-tls-crypt" => pushed.flags.dyn_tls_crypt = true,
            "aead-epoch" => pushed.flags.aead_epoch = true,
            _ => {}
        }
    }
    pushed.flags.tls_ekm |= values.get("key-derivation") == Some(&"tls-ekm");
    pushed
}
