//! What a server pushes becomes a tunnel: the protocol's part, the peer of the data plane, the machine's network.

use std::sync::Arc;

use culvert_config::{PushFilter, Pushed, profile::ConnectionEntry, value::PingAction};
use culvert_mgmt::Notification;
use culvert_offload::{Keepalive, Offload, PeerSpec, VpnAddresses};
use culvert_proto::{Command, NegotiatedParams, PushedProtocol};
use culvert_wire::{OffloadKind, PeerId};
use tracing::error;

use super::{Client, Outcome, Restart, buffers, drive::Progress};
use crate::{
    exit::Ended,
    life::Life,
    ovlog,
    server::configure::nat_rules,
    session_task::SessionInput,
    settings::shape::{Form, Path},
    sizes,
    tunnel::{Completion, TunnelSpec},
};

impl Client {
    /// Filters what the server pushed and hands the protocol's part back to the session.
    pub(super) fn pushed(&mut self, progress: &mut Progress, options: &[String]) -> Option<Outcome> {
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
    pub(super) fn take_token(&mut self, pushed: &Pushed) {
        self.login.take_token(pushed);
        if let Some(token) = &pushed.auth_token {
            self.management.tell(&Notification::AuthToken(token.expose().to_owned()));
        }
    }

    /// Parameters are fixed: peer in the offload, then the machine's network.
    pub(super) async fn configure(
        &mut self,
        life: &mut Life,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
        params: NegotiatedParams,
    ) -> Option<Outcome> {
        // What the other of two ends says of itself; servers say nothing.
        progress.env.set_peer_info(&params.peer_info);
        if !self.hooks.agree_to_keys(&progress.env, params.exported.as_deref()).await {
            return Some(Outcome::Restart(Restart::because("tls-error")));
        }
        let spec = TunnelSpec::from_profile(&self.profile).with_pushed(&progress.pushed);
        let Some(peer) = self.peer_spec(entry, progress, &spec, &params) else {
            // Only with a server's client it may be open.
            ovlog!(error 1, "the data channel's cipher was not agreed upon");
            return Some(Outcome::Restart(Restart::because("tls-error")));
        };
        let (id, cipher, mss) = (peer.id, peer.cipher, peer.mss);
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
        ovlog!(2, "Data Channel: cipher '{cipher}', peer-id: {id}");
        buffers::size(&**offload, progress.link.transport, &progress.pushed);
        sizes::test(&**offload, id, spec.mtu, &self.profile);
        progress.link.session.send(SessionInput::Bound(id));
        progress.link.session.command(Command::Configured { peer_id: params.peer_id, push: Vec::new() });
        progress.start_limits(&self.profile.keepalive);
        // The engine looks into TCP segments itself.
        let by_kernel = placement.kind != OffloadKind::Engine;
        self.bring_up(life, progress, offload, spec, mss.filter(|_| by_kernel)).await
    }

    /// What the offload has to know of the peer; `None` without a cipher.
    pub(super) fn peer_spec(
        &self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        spec: &TunnelSpec,
        params: &NegotiatedParams,
    ) -> Option<PeerSpec> {
        let cipher = params.cipher?;
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
        let path = Path { tcp: entry.proto.transport.is_tcp(), ipv6: progress.link.outside().is_ipv6() };
        let Form { shape, mss } = Form::new(&self.profile, &mtu, params, compression.into(), path);
        Some(PeerSpec {
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
            cipher,
            mss: mss.map(|mss| mss.saturating_sub(progress.link.relay_header(entry))),
            port: culvert_offload::Port::default(),
            nat: nat_rules(&spec.routes.client_nat),
        })
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
        self.announce_peer(progress).await;
        let made_of = progress.pushed.lasting().map(str::to_owned).collect::<Vec<_>>();
        let device = offload.device();
        let came_first = self.comes_up_first();
        let brought_up = match self.up.as_mut().filter(|up| up.made_of == made_of && up.device == device) {
            Some(up) if came_first => {
                up.tunnel.meet(&progress.env);
                Ok(())
            }
            Some(up) => {
                ovlog!(1, "Preserving previous TUN/TAP instance: {}", device.name);
                up.tunnel.restarted(&progress.env).await
            }
            None => {
                if self.up.is_some() && !came_first {
                    ovlog!(
                        1,
                        "NOTE: Pulled options changed on restart, will need to close and reopen TUN/TAP device."
                    );
                }
                let (outside, env) = (progress.link.outside(), progress.env.clone());
                let request = self.tunnel_request(life, offload, spec.clone(), outside, env);
                self.raise(life, request, made_of, mss).await
            }
        };
        let completion = match brought_up {
            Ok(()) => self.complete(progress, &spec, mss).await,
            Err(failure) => Err(failure),
        };
        let completion = match completion {
            Ok(completion) => completion,
            Err(failure) => return Some(Outcome::Ended(Ended::Fatal(failure.to_string()))),
        };
        if let Err(ended) = self.drop_privileges(life).await {
            return Some(Outcome::Ended(ended));
        }
        self.tell_connected(progress, &spec, completion);
        life.completed(completion == Completion::Complete);
        None
    }
}
