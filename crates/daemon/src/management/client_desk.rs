//! What a client, or the calling end of a point-to-point tunnel, answers to the management interface.
//!
//! The client waits in many places (for names, pauses, packets); it shares what commands need instead of being asked.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use culvert_config::{Profile, Role};
use culvert_mgmt::{Notification, Request, reply};
use culvert_offload::{Drops, Offload, PeerStats};
use culvert_proto::Command;
use culvert_wire::OffloadKind;
use serde_json::json;

use super::What;
use crate::{
    log::Logger,
    metrics::{Exposition, OffloadState},
    scripts::proto_name,
    session_task::SessionHandle,
    status_file,
};

/// What a client shares with the management interface.
pub(crate) struct ClientDesk {
    profile: Arc<Profile>,
    logger: Logger,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    offload: Option<Arc<dyn Offload>>,
    session: Option<SessionHandle>,
    /// Bytes of devices that are gone.
    earlier: (u64, u64),
    earlier_drops: Drops,
}

impl ClientDesk {
    pub(crate) fn new(profile: Arc<Profile>, logger: Logger) -> Arc<Self> {
        Arc::new(Self { profile, logger, running: Mutex::default() })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session began.
    pub(crate) fn session_began(&self, session: SessionHandle, offload: &Arc<dyn Offload>) {
        let mut running = self.running();
        running.session = Some(session);
        running.offload = Some(Arc::clone(offload));
    }

    /// The session is over: what its peer carried is remembered.
    pub(crate) fn session_ended(&self) {
        let (earlier, earlier_drops) = (self.bytes(), self.drops());
        *self.running() = Running { earlier, earlier_drops, ..Running::default() };
    }

    fn stats(&self) -> Vec<PeerStats> {
        let mut stats = Vec::new();
        let offload = self.running().offload.clone();
        if let Some(offload) = offload {
            // A device that is gone has counted nothing.
            let _gone = offload.stats(None, &mut stats);
        }
        stats
    }

    /// Bytes received and sent on the transport, by this process.
    fn bytes(&self) -> (u64, u64) {
        let earlier = self.running().earlier;
        self.stats().iter().fold(earlier, |(received, sent), peer| {
            (received + peer.link.rx_bytes, sent + peer.link.tx_bytes)
        })
    }

    /// Data packets that were not delivered.
    fn drops(&self) -> Drops {
        let earlier = self.running().earlier_drops;
        self.stats().iter().fold(earlier, |sum, peer| sum + peer.drops)
    }

    /// Answers a command.
    pub(super) fn answer(&self, what: &What, command: &str) -> String {
        let request = match what {
            What::Request(request) => request,
            What::Bytecount => {
                let (received, sent) = self.bytes();
                return Notification::Bytecount { received, sent }.to_string();
            }
            What::ClientAuth(..) => return reply::wrong_mode(command),
            What::JsonStatus => return self.json_status(),
            What::Metrics => return self.metrics(),
            What::JsonReload => {
                return json!({ "error": "only a server reloads; this process restarts on SIGHUP" })
                    .to_string();
            }
            What::JsonKill(_) => return json!({ "error": "only a server has clients to end" }).to_string(),
        };
        match request {
            Request::Status(_) => status_file::statistics(SystemTime::now(), &self.stats())
                .render(&self.logger.zone())
                .replace('\n', "\r\n"),
            Request::LoadStats => {
                let (received, sent) = self.bytes();
                format!("SUCCESS: nclients=0,bytesin={received},bytesout={sent}")
            }
            Request::RemoteEntryCount => format!("{}\r\nEND", self.profile.connections.len()),
            Request::RemoteEntryGet { from, to } => self.remote_entries(from, to.as_deref()),
            Request::CrResponse(answer) if self.profile.role() == Role::Client => {
                let session = self.running().session.clone();
                let sent = session.is_some_and(|session| {
                    session.command(Command::SendMessage(format!("CR_RESPONSE,{answer}")))
                });
                if sent { "SUCCESS: command succeeded" } else { "ERROR: command failed" }.to_owned()
            }
            _ => reply::wrong_mode(command),
        }
    }

    fn remote_entries(&self, from: &str, to: Option<&str>) -> String {
        let count = self.profile.connections.len();
        let number = |word: &str| word.parse::<usize>().unwrap_or(0);
        let (from, to) = match from {
            "all" => (0, count),
            first => (number(first), to.map_or(number(first).saturating_add(1), number)),
        };
        let mut text = String::new();
        for (index, entry) in self.profile.connections.iter().enumerate().take(to).skip(from) {
            if let Some(remote) = &entry.remote {
                let protocol = proto_name(entry);
                text.push_str(&format!("{index},{},{},{protocol},enabled\r\n", remote.host, remote.port));
            }
        }
        text.push_str("END");
        text
    }

    fn metrics(&self) -> String {
        let now = SystemTime::now();
        let mut exposition = Exposition::of(&self.profile, now);
        if let Some(offload) = &self.running().offload {
            exposition.offload(OffloadState::of(&**offload));
        }
        exposition.client(&status_file::statistics(now, &self.stats()));
        exposition.data_drops(self.drops());
        exposition.unwritten(self.logger.lost_lines(), &[]);
        exposition.text()
    }

    fn json_status(&self) -> String {
        let (received, sent) = self.bytes();
        let role = match self.profile.role() {
            Role::Client => "client",
            Role::Server => "server",
            Role::P2p => "p2p",
        };
        let offload = self.running().offload.as_ref().map(|offload| {
            json!({ "kind": kind_word(offload.capabilities().kind), "device": offload.device().name })
        });
        json!({ "role": role, "offload": offload, "bytes_received": received, "bytes_sent": sent })
            .to_string()
    }
}

/// How JSON calls a data plane.
pub(crate) const fn kind_word(kind: OffloadKind) -> &'static str {
    match kind {
        OffloadKind::Linux => "linux",
        OffloadKind::Windows => "windows",
        OffloadKind::Engine => "engine",
    }
}
