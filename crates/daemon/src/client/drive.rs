//! A session of a client, from its first packet to its end: events in, reasons to restart out. What each event means is in
//! the modules beside: [`super::configure`], [`super::messages`], [`super::data_plane`], [`super::limits`],
//! [`super::leaving`], [`super::ending`], [`super::asking`].

use std::{future::poll_fn, sync::Arc};

use culvert_config::{Pushed, profile::ConnectionEntry, value::PingAction};
use culvert_mgmt::StateName;
use culvert_offload::Offload;
use culvert_proto::{Command, Event, NegotiatedParams, PeerMessage, Verdict};
use culvert_wire::PeerId;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::{
    Client, Outcome, Restart,
    asking::{OpenQuestion, answer},
    attempt::Link,
    limits::Inactivity,
    network::Surroundings,
    proxy::Association,
};
use crate::{
    address::AfAddress,
    exit::Ended,
    life::Life,
    ovlog,
    scripts::{ScriptEnv, Trust},
    server::sessions::log_note,
    signals::Signals,
    usage,
};

/// The progress of one session.
pub(super) struct Progress {
    pub(super) link: Link,
    /// The first packet of the server came: it is alive.
    pub(super) answered: bool,
    /// The network below.
    pub(super) surroundings: Surroundings,
    pub(super) pushed: Pushed,
    /// The peer in the offload, and what was agreed on with it.
    pub(super) peer: Option<PeerId>,
    pub(super) params: Option<NegotiatedParams>,
    /// How long the peer may be silent before it has answered at all.
    pub(super) answer_due: Option<Instant>,
    /// What happens when nothing is heard.
    pub(super) on_silence: PingAction,
    /// Exit notification goes over the control channel.
    pub(super) cc_exit: bool,
    /// What scripts are told about the peer.
    pub(super) env: ScriptEnv,
    /// `ipchange` knows where the peer is.
    pub(super) announced: bool,
    /// `session-timeout`.
    pub(super) ends: Option<Instant>,
    /// `inactive`.
    pub(super) inactive: Option<Inactivity>,
    /// When the session is told next what its key carried, where that is limited.
    pub(super) usage_due: Option<Instant>,
    /// This end is leaving: when it stops waiting, and what then.
    pub(super) leaving: Option<(Instant, Ended)>,
    /// Somebody is asked something.
    pub(super) question: Option<OpenQuestion>,
}

impl Client {
    /// Drives a session to its end.
    pub(super) async fn drive(
        &mut self,
        life: &mut Life,
        signals: &mut Signals,
        entry: &ConnectionEntry,
        link: Link,
        offload: &Arc<dyn Offload>,
    ) -> Outcome {
        self.hooks.forget_pushed();
        let mut env = self.hooks.environment();
        env.set_peer_address(Trust::Untrusted, link.remote);
        let silence = self.profile.keepalive.timeout.filter(|(after, _)| !after.is_zero());
        let mut progress = Progress {
            answered: false,
            pushed: Pushed::default(),
            peer: None,
            params: None,
            answer_due: silence.map(|(after, _)| Instant::now() + after),
            on_silence: silence.map_or(PingAction::Restart, |(_, action)| action),
            cc_exit: false,
            env,
            announced: false,
            ends: None,
            inactive: None,
            surroundings: Surroundings::watch(),
            usage_due: usage::is_limited(&self.profile).then(|| Instant::now() + usage::INTERVAL),
            leaving: None,
            question: None,
            link,
        };
        let outcome = self.events(life, signals, entry, &mut progress, offload).await;
        progress.link.session.revoke();
        if let Some(peer) = progress.peer
            && let Err(failure) = offload.peer_del(peer)
        {
            debug!("removing the peer: {failure}");
        }
        outcome
    }

    async fn events(
        &mut self,
        life: &mut Life,
        signals: &mut Signals,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
    ) -> Outcome {
        let mut status_due = Instant::now();
        loop {
            let deadline = progress.deadline(entry, status_due);
            let events = Arc::clone(offload);
            let outcome = tokio::select! {
                report = progress.link.reports.recv() => match report {
                    Some(report) => self.handle(life, entry, progress, offload, report.event).await,
                    None => Some(Outcome::Restart(Restart::because("tls-error"))),
                },
                event = poll_fn(move |cx| events.poll_event(cx)) => match event {
                    Some(event) => self.handle_offload(entry, progress, event),
                    None => Some(self.lost_device()),
                },
                answer = answer(&mut progress.question) => self.handle_answer(progress, answer),
                request = signals.next() => self.handle_signal(progress, offload, request),
                () = relay_ended(&mut progress.link.association) => {
                    ovlog!(error 1, "the SOCKS proxy closed its connection, and with it the relay");
                    Some(Outcome::Restart(Restart::because("socks-error")))
                }
                () = progress.surroundings.hear() => None,
                () = sleep_until(deadline) => {
                    if Instant::now() >= status_due {
                        status_due = self.write_status(life);
                    }
                    match self.look_around(entry, progress, offload).await {
                        Some(outcome) => Some(outcome),
                        None => progress.overdue(entry, offload),
                    }
                }
            };
            if let Some(outcome) = outcome {
                return match progress.leaving.take() {
                    // Whatever ends the session while this end is leaving: it has left.
                    Some((_, ended)) => Outcome::Ended(ended),
                    None => outcome,
                };
            }
        }
    }

    async fn handle(
        &mut self,
        life: &mut Life,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        event: Event,
    ) -> Option<Outcome> {
        match event {
            Event::Started(from, sid) => {
                progress.answered = true;
                self.management.set_state(StateName::Auth, "");
                ovlog!(1, "TLS: Initial packet from {}, sid={}", AfAddress(from), sid.0);
            }
            Event::VerifyPeer { key, identity, tls } => {
                for line in &identity.log {
                    ovlog!(1, "{line}");
                }
                ovlog!(2, "Control Channel: {tls}");
                progress.env.set_identity(&identity);
                let verdict = self.judge(&identity, &progress.env).await;
                match verdict {
                    Verdict::Accept => self.accept_server(life, progress, key),
                    refused @ Verdict::Deny(_) => {
                        progress.link.session.command(Command::PeerVerdict(key, refused));
                    }
                }
            }
            Event::Authenticate(request) => {
                progress
                    .link
                    .session
                    .command(Command::AuthVerdict(request.key, culvert_proto::Authorization::Accept));
            }
            Event::OptionsRequested => {
                self.management.set_state(StateName::GetConfig, "");
                self.announce_peer(progress).await;
            }
            Event::PushReply(options) => {
                // Also where the server pushes without being asked.
                self.announce_peer(progress).await;
                return self.pushed(progress, &options);
            }
            Event::Configure(params) => return self.configure(life, entry, progress, offload, params).await,
            Event::Established => self.remotes.succeeded(),
            Event::Renegotiated(_) | Event::Key(_) => {}
            Event::Message(PeerMessage::PushUpdate(items)) => {
                return self.update(entry, progress, offload, &items).await;
            }
            Event::Message(message) => return self.handle_message(progress, message).await,
            Event::Note(note) => log_note(&note),
            Event::Closed(reason) => return Some(self.closed(reason)),
        }
        None
    }
}

/// Waits for the end of a relay, if there is one.
async fn relay_ended(association: &mut Option<Association>) {
    match association {
        Some(association) => association.ended().await,
        None => std::future::pending().await,
    }
}
