//! A session of a client, from its first packet to its end: events in, tunnel up, reasons to restart out.

use std::{future::poll_fn, sync::Arc, time::Duration};

use culvert_config::{PushFilter, Pushed, profile::ConnectionEntry, value::PingAction};
use culvert_mgmt::{Notification, StateName};
use culvert_offload::{DeleteReason, Keepalive, Offload, OffloadEvent, PeerSpec, VpnAddresses};
use culvert_proto::{Command, Event, NegotiatedParams, PeerMessage, PushedProtocol, Verdict};
use culvert_wire::{OffloadKind, PeerId};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error};

use super::{
    Advance, Client, Outcome, Restart, Up, attempt::Link, login, network::Surroundings, proxy::Association,
};
use crate::{
    address::AfAddress,
    exit::Ended,
    firewall::Guard,
    life::Life,
    ovlog,
    scripts::{Hook, ScriptEnv, Trust, ipchange_arguments},
    server::{configure::nat_rules, sessions::log_note},
    session_task::SessionInput,
    settings::shape::{Form, Path},
    signals::{Request, Signals},
    tunnel::{Completion, Tunnel, TunnelRequest, TunnelSpec},
    usage,
};

/// The progress of one session.
pub(super) struct Progress {
    pub(super) link: Link,
    /// The first packet of the server came: it is alive.
    answered: bool,
    /// The network below.
    pub(super) surroundings: Surroundings,
    pub(super) pushed: Pushed,
    /// The peer in the offload, and what was agreed on with it.
    pub(super) peer: Option<PeerId>,
    pub(super) params: Option<NegotiatedParams>,
    /// What happens when nothing is heard.
    on_silence: PingAction,
    /// Exit notification goes over the control channel.
    cc_exit: bool,
    /// What scripts are told about the peer.
    env: ScriptEnv,
    /// `session-timeout`.
    ends: Option<Instant>,
    /// `inactive`: period, bytes, due, counted.
    inactive: Option<(Duration, u64, Instant, u64)>,
    /// When the session is told next what its key carried, where that is limited.
    usage_due: Option<Instant>,
    /// This end is leaving: when it stops waiting, and what then.
    leaving: Option<(Instant, Ended)>,
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
        let mut env = self.hooks.environment();
        env.set_peer_address(Trust::Untrusted, link.remote);
        let mut progress = Progress {
            answered: false,
            pushed: Pushed::default(),
            peer: None,
            params: None,
            on_silence: PingAction::Restart,
            cc_exit: false,
            env,
            ends: None,
            inactive: None,
            surroundings: Surroundings::watch(),
            usage_due: usage::is_limited(&self.profile).then(|| Instant::now() + usage::INTERVAL),
            leaving: None,
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
                    Some(event) => self.handle_offload(progress, event),
                    None => Some(self.lost_device()),
                },
                request = signals.next() => self.handle_signal(progress, offload, request),
                () = relay_ended(&mut progress.link.association) => {
                    ovlog!(error 1, "the SOCKS proxy closed its connection, and with it the relay");
                    Some(Outcome::Restart(Restart::because("socks-error")))
                }
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

    /// Writes the status file; returns when it is due again.
    fn write_status(&self, life: &mut Life) -> Instant {
        let every = self.profile.log.status.as_ref().map_or(Duration::ZERO, |status| status.interval);
        if every.is_zero() {
            return Instant::now() + Duration::from_secs(86_400);
        }
        if let Some(file) = life.status_file() {
            file.write(self.statistics());
        }
        Instant::now() + every
    }

    fn handle_signal(
        &self,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        request: Request,
    ) -> Option<Outcome> {
        let ended = Ended::by_signal(request);
        match request {
            Request::Statistics => {
                self.log_statistics();
                return None;
            }
            Request::SoftRestart => {
                // A restart by hand: the same remote again.
                return Some(Outcome::Restart(Restart { advance: Advance::Stay, ..Restart::because("") }));
            }
            Request::Restart | Request::Terminate | Request::Interrupt => {}
        }
        let notify = self.exit_notify(progress);
        let (Some(peer), true, None) = (progress.peer, notify > 0, &progress.leaving) else {
            // A second signal, or nobody to tell.
            return Some(Outcome::Ended(ended));
        };
        let wait = if progress.cc_exit {
            progress.link.session.command(Command::Exit);
            Duration::from_secs(u64::from(notify))
        } else {
            if let Err(failure) = offload.notify_exit(peer) {
                debug!("cannot tell the peer: {failure}");
            }
            // The packet leaves at once; nothing answers it.
            Duration::from_millis(100)
        };
        progress.leaving = Some((Instant::now() + wait, ended));
        None
    }

    fn exit_notify(&self, progress: &Progress) -> u32 {
        let configured =
            self.profile.connections.get(self.remotes.current()).map_or(0, |e| e.explicit_exit_notify);
        progress.pushed.explicit_exit_notify.unwrap_or(configured)
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
                progress.link.session.command(Command::PeerVerdict(key, verdict));
            }
            Event::Authenticate(request) => {
                progress
                    .link
                    .session
                    .command(Command::AuthVerdict(request.key, culvert_proto::Authorization::Accept));
            }
            Event::OptionsRequested => self.management.set_state(StateName::GetConfig, ""),
            Event::PushReply(options) => return self.pushed(progress, &options),
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

    /// Filters what the server pushed and hands the protocol's part back to the session.
    fn pushed(&mut self, progress: &mut Progress, options: &[String]) -> Option<Outcome> {
        let mut pushed = Pushed::default();
        let filter = PushFilter::new(&self.profile.client);
        if let Err(rejected) = filter.apply(&options.join(","), &mut pushed) {
            error!("{rejected}");
            return Some(Outcome::Restart(Restart::because("process-push-msg-failed")));
        }
        for note in &pushed.notes {
            ovlog!(1, "{note}");
        }
        for echo in &pushed.echo {
            self.management.echo(echo);
        }
        if pushed.compression.is_some_and(culvert_config::value::Compression::expects_compressed)
            && !self.profile.data.accepts_compression
        {
            error!("Compression is not allowed since allow-compression is set to 'stub-only'");
            error!(
                "OPTIONS ERROR: server pushed compression settings that are not allowed and will result in a non-working connection. See also allow-compression in the manual. Write `allow-compression asym`, or remove the compression on the server."
            );
            return Some(Outcome::Restart(Restart::because("process-push-msg-failed")));
        }
        if let Some(cipher) = &pushed.unknown_cipher {
            error!(
                "OPTIONS ERROR: failed to import crypto options: the server pushes the unknown cipher '{cipher}'"
            );
            return Some(Outcome::Restart(Restart::because("process-push-msg-failed")));
        }
        self.take_token(&pushed);
        self.take_process_options(&pushed, &mut progress.env);
        let (peer_id, cipher, flags) = (pushed.peer_id, pushed.cipher, pushed.protocol);
        let command = Command::ApplyPush(PushedProtocol { peer_id, cipher, flags });
        progress.pushed = pushed;
        progress.link.session.command(command);
        if let Some(login) = self.login.token() {
            progress.link.session.command(Command::Credentials(login.clone()));
        }
        None
    }

    /// A token takes the place of the password from here on.
    fn take_token(&mut self, pushed: &Pushed) {
        self.login.take_token(pushed);
        if let Some(token) = &pushed.auth_token {
            self.management.tell(&Notification::AuthToken(token.expose().to_owned()));
        }
    }

    /// Parameters are fixed: peer in the offload, then the machine's network.
    async fn configure(
        &mut self,
        life: &mut Life,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        params: NegotiatedParams,
    ) -> Option<Outcome> {
        let spec = TunnelSpec::from_profile(&self.profile).with_pushed(&progress.pushed);
        let peer = self.peer_spec(entry, progress, &spec, &params);
        let (id, mss) = (peer.id, peer.mss);
        let placement = offload.placement(&peer);
        if !placement.because.is_empty() {
            let reasons: Vec<_> = placement.because.iter().map(ToString::to_string).collect();
            ovlog!(1, "offload: engine for this connection, because of the peer: {}", reasons.join("; "));
        }
        if let Err(failure) = offload.peer_new(peer) {
            ovlog!(error 1, "the offload refused the peer: {}", crate::link::describe(&failure));
            // Whatever stands there: the next attempt begins with a device of its own.
            self.device_lost = true;
            return Some(Outcome::Restart(Restart::because("device-refused")));
        }
        progress.peer = Some(id);
        progress.params = Some(params.clone());
        progress.cc_exit = params.flags.cc_exit;
        ovlog!(2, "Data Channel: cipher '{}', peer-id: {id}", params.cipher);
        progress.link.session.send(SessionInput::Bound(id));
        progress.link.session.command(Command::Configured { peer_id: params.peer_id, push: Vec::new() });
        progress.start_limits(&self.profile.keepalive);
        // The engine looks into TCP segments itself.
        let by_kernel = placement.kind != OffloadKind::Engine;
        self.bring_up(life, progress, offload, spec, mss.filter(|_| by_kernel)).await
    }

    pub(super) fn peer_spec(
        &self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        spec: &TunnelSpec,
        params: &NegotiatedParams,
    ) -> PeerSpec {
        let own = &self.profile.keepalive;
        let pushed = &progress.pushed;
        let interval = pushed.ping.or(own.ping).unwrap_or_default();
        let silence = pushed.ping_timeout.or(own.timeout);
        let timeout = silence.map(|(after, _)| after).unwrap_or_default();
        progress.on_silence = silence.map_or(PingAction::Restart, |(_, action)| action);
        if !interval.is_zero() || !timeout.is_zero() {
            ovlog!(3, "Timers: ping {}, ping-restart {}", interval.as_secs(), timeout.as_secs());
        }
        let compression = pushed.compression.unwrap_or(self.profile.data.compression);
        let mut mtu = entry.mtu;
        mtu.tun_mtu = u32::from(spec.mtu);
        let path = Path { tcp: entry.proto.transport.is_tcp(), ipv6: progress.link.remote.is_ipv6() };
        let Form { shape, mss } = Form::new(&self.profile, &mtu, params, compression.into(), path);
        PeerSpec {
            // Without a peer id (DATA_V1) any number names the only peer.
            id: params.peer_id.unwrap_or(PeerId::FIRST),
            tx_id: None,
            transport: progress.link.transport,
            remote: progress.link.remote,
            local: None,
            vpn: VpnAddresses::default(),
            iroutes: Vec::new(),
            keepalive: (!interval.is_zero() || !timeout.is_zero()).then_some(Keepalive { interval, timeout }),
            float: entry.float,
            shape,
            cipher: params.cipher,
            mss: mss.map(|mss| mss.saturating_sub(progress.link.relay_header(entry))),
            port: culvert_offload::Port::default(),
            nat: nat_rules(&spec.routes.client_nat),
        }
    }

    /// Configures the machine, unless the tunnel that stands was made of the same options.
    async fn bring_up(
        &mut self,
        life: &mut Life,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        spec: TunnelSpec,
        mss: Option<u16>,
    ) -> Option<Outcome> {
        progress.env.set_peer_address(Trust::Trusted, progress.link.remote);
        let made_of = progress.pushed.lasting().map(str::to_owned).collect::<Vec<_>>();
        let device = offload.device();
        if let Some(up) = self.up.as_mut().filter(|up| up.made_of == made_of && up.device == device) {
            up.guard.clamp_to(&device, mss); // this remote's headers may be longer
            ovlog!(1, "Preserving previous TUN/TAP instance: {}", offload.device().name);
            if let Err(failure) = up.tunnel.restarted(&progress.env).await {
                return Some(Outcome::Ended(Ended::Fatal(failure.to_string())));
            }
            self.tell_connected(progress, &spec, Completion::Complete);
            life.completed(true);
            return None;
        }
        if let Some(old) = self.up.take() {
            ovlog!(
                1,
                "NOTE: Pulled options changed on restart, will need to close and reopen TUN/TAP device."
            );
            old.tunnel.down("restart", std::future::ready(())).await;
        }
        let ipchange = self.hooks.scripts.ipchange.clone();
        let arguments = ipchange_arguments(progress.link.remote);
        self.hooks.run(Hook::IpChange, ipchange.as_ref(), &arguments, &progress.env).await;
        if let Some(guarded) = &mut life.kill_switch {
            guarded.set_device(Some(&device.name));
        }
        // Before addresses and routes: what is to be refused never passes.
        let guard = Guard::of_client(&device, mss, spec.routes.block_ipv6);
        let request = TunnelRequest {
            hooks: Arc::clone(&self.hooks),
            offload: Arc::clone(offload),
            spec: spec.clone(),
            dns_updown: self.profile.routes.dns_updown.clone(),
            remote: Some(progress.link.outside()),
            env: progress.env.clone(),
        };
        match Tunnel::up(request).await {
            Ok((tunnel, completion)) => {
                self.up = Some(Up { tunnel, device, guard, made_of });
                // Only now, as in OpenVPN (`do_uid_gid_chroot`): `up` and what sets the name servers need root's rights.
                if let Err(failure) = life.drop_privileges() {
                    return Some(Outcome::Ended(Ended::Fatal(failure)));
                }
                self.tell_connected(progress, &spec, completion);
                life.completed(completion == Completion::Complete);
                None
            }
            Err(failure) => Some(Outcome::Ended(Ended::Fatal(failure.to_string()))),
        }
    }

    /// `tls-verify` of a client: root first.
    async fn judge(&self, identity: &culvert_proto::tls::PeerIdentity, env: &ScriptEnv) -> Verdict {
        if !self.hooks.are_set(Hook::TlsVerify, self.hooks.scripts.tls_verify.as_ref()) {
            return Verdict::Accept;
        }
        self.hooks.judge_certificates(None, identity, env).await
    }

    async fn handle_message(&mut self, progress: &mut Progress, message: PeerMessage) -> Option<Outcome> {
        match message {
            PeerMessage::AuthFailed(failure) => return Some(self.login_refused(failure)),
            PeerMessage::AuthPending(seconds) => {
                self.management.set_state(StateName::AuthPending, &format!("timeout {seconds}"));
                ovlog!(1, "AUTH_PENDING received, extending handshake timeout to {seconds} seconds")
            }
            PeerMessage::Info(text) => {
                ovlog!(1, "Info command was pushed by server ('{text}')");
                if !self.asks_management() {
                    login::answer_at_terminal(&text, &progress.link.session);
                }
                self.management.tell(&Notification::InfoMessage(text));
            }
            PeerMessage::Restart { next_remote, text, .. } => {
                ovlog!(1, "Connection reset command was pushed by server ('{text}')");
                let advance = if next_remote { Advance::Remote } else { Advance::Stay };
                let reason = "server-pushed-connection-reset";
                self.notify(reason, text);
                return Some(Outcome::Restart(Restart { advance, ..Restart::because(reason) }));
            }
            PeerMessage::Halt(text) => {
                ovlog!(1, "Halt command was pushed by server ('{text}')");
                self.notify("server-pushed-halt", text);
                return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "server-pushed-halt")));
            }
            PeerMessage::Exit => {
                self.notify("remote-exit", "EXIT".to_owned());
                return Some(Outcome::Restart(Restart {
                    advance: Advance::Stay,
                    ..Restart::because("remote-exit")
                }));
            }
            PeerMessage::AuthToken(options) => {
                let mut pushed = Pushed::default();
                if PushFilter::new(&self.profile.client).apply(&options.join(","), &mut pushed).is_ok() {
                    self.take_token(&pushed);
                    if let Some(login) = self.login.token() {
                        progress.link.session.command(Command::Credentials(login.clone()));
                    }
                }
            }
            PeerMessage::ChallengeResponse(_) => debug!("a challenge response, which only servers get"),
            PeerMessage::PushUpdate(_) => {} // handled by the caller
        }
        None
    }

    fn handle_offload(&mut self, progress: &mut Progress, event: OffloadEvent) -> Option<Outcome> {
        match event {
            OffloadEvent::PeerGone(peer, ..) | OffloadEvent::ExitNotified(peer)
                if progress.peer != Some(peer) =>
            {
                None
            }
            OffloadEvent::PeerGone(_, DeleteReason::Expired, _) => {
                progress.peer = None;
                Some(match progress.on_silence {
                    PingAction::Restart => {
                        ovlog!(1, "Inactivity timeout (--ping-restart), restarting");
                        Outcome::Restart(Restart::because("ping-restart"))
                    }
                    PingAction::Exit => {
                        ovlog!(1, "Inactivity timeout (--ping-exit), exiting");
                        Outcome::Ended(Ended::Soft(Request::Terminate, "ping-exit"))
                    }
                })
            }
            // Also when somebody else removed it: without a peer in the data plane there is no connection.
            OffloadEvent::PeerGone(..) => {
                progress.peer = None;
                ovlog!(1, "Connection reset, restarting [0]");
                Some(Outcome::Restart(Restart::because("connection-reset")))
            }
            OffloadEvent::ExitNotified(_) => {
                Some(Outcome::Restart(Restart { advance: Advance::Stay, ..Restart::because("remote-exit") }))
            }
            // News of a peer of an earlier session on a device that was kept.
            OffloadEvent::KeyExhausted(peer, _) | OffloadEvent::Floated(peer, _)
                if progress.peer != Some(peer) =>
            {
                None
            }
            OffloadEvent::KeyExhausted(..) => {
                progress.link.session.command(Command::Renegotiate);
                None
            }
            OffloadEvent::Floated(_, address) => {
                ovlog!(1, "peer moved to {}", AfAddress(address));
                progress.link.remote = address;
                progress.link.session.command(Command::Floated(address));
                None
            }
            // A client's device has one peer, of which nothing is learned.
            OffloadEvent::Learned { .. } | OffloadEvent::Forgotten(..) => None,
            OffloadEvent::DeviceGone => Some(self.lost_device()),
        }
    }

    /// The device was removed, or its module: the next attempt makes another.
    fn lost_device(&mut self) -> Outcome {
        ovlog!(error 1, "the tunnel device is gone: connecting again with a new one");
        self.device_lost = true;
        Outcome::Restart(Restart { advance: Advance::Stay, ..Restart::because("device-gone") })
    }
}

/// Waits for the end of a relay, if there is one.
async fn relay_ended(association: &mut Option<Association>) {
    match association {
        Some(association) => association.ended().await,
        None => std::future::pending().await,
    }
}

impl Progress {
    fn start_limits(&mut self, own: &culvert_config::profile::Keepalive) {
        let now = Instant::now();
        self.ends = self.pushed.session_timeout.or(own.session_timeout).map(|after| now + after);
        let inactive = self.pushed.inactive.or(own.inactive);
        self.inactive = inactive.map(|(period, bytes)| (period, bytes, now + period, 0));
    }

    /// Tells the session what its key carried.
    fn report_usage(&self, offload: &Arc<dyn Offload>) {
        let mut stats = Vec::new();
        if self.peer.is_some()
            && offload.stats(self.peer, &mut stats).is_ok()
            && let Some(peer) = stats.first()
        {
            self.link.session.command(usage::report(peer));
        }
    }

    /// When something is due next.
    fn deadline(&self, entry: &ConnectionEntry, status: Instant) -> Instant {
        let poll = (!self.answered).then(|| self.link.started + entry.connect_timeout);
        let leaving = self.leaving.as_ref().map(|(at, _)| *at);
        let inactive = self.inactive.map(|(_, _, due, _)| due);
        let around = Some(self.surroundings.deadline());
        [poll, leaving, self.ends, inactive, self.usage_due, around]
            .into_iter()
            .flatten()
            .fold(status, Instant::min)
    }

    /// What is due now.
    fn overdue(&mut self, entry: &ConnectionEntry, offload: &Arc<dyn Offload>) -> Option<Outcome> {
        let now = Instant::now();
        if let Some((at, ended)) = &self.leaving
            && now >= *at
        {
            return Some(Outcome::Ended(ended.clone()));
        }
        if !self.answered && now >= self.link.started + entry.connect_timeout {
            ovlog!(1, "Server poll timeout, restarting");
            return Some(Outcome::Restart(Restart {
                pause: Some(Duration::ZERO),
                ..Restart::because("server_poll")
            }));
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            ovlog!(1, "Session timeout, exiting");
            return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "session-timeout")));
        }
        if self.usage_due.is_some_and(|due| now >= due) {
            self.usage_due = Some(now + usage::INTERVAL);
            self.report_usage(offload);
        }
        if let Some((period, bytes, due, counted)) = &mut self.inactive
            && now >= *due
        {
            let mut stats = Vec::new();
            if offload.stats(self.peer, &mut stats).is_err() {
                *due = now + *period; // what is wrong will be told as an event
                return None;
            }
            let total = stats.first().map_or(0, |s| s.tunnel.rx_bytes + s.tunnel.tx_bytes);
            if total.saturating_sub(*counted) < (*bytes).max(1) {
                ovlog!(1, "Inactivity timeout (--inactive), exiting");
                return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "inactive")));
            }
            *counted = total;
            *due = now + *period;
        }
        None
    }
}
