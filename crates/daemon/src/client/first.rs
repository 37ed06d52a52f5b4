//! The tunnel of an end that nothing is pushed to: as with OpenVPN it stands before the peer is called, so that what is sent to it
//! goes nowhere else. Routes wait for the peer only with `route-delay`.

use std::{mem, net::SocketAddr, sync::Arc};

use culvert_offload::Offload;

use super::{Client, Up, drive::Progress};
use crate::{
    exit::Ended,
    firewall::Guard,
    life::Life,
    ovlog,
    scripts::ScriptEnv,
    tunnel::{Completion, Tunnel, TunnelError, TunnelRequest, TunnelSpec},
};

impl Client {
    /// Whether the tunnel comes up before the peer is called: everything about it is known, and it is not to wait
    /// (`up-delay`).
    pub(super) fn comes_up_first(&self) -> bool {
        !self.profile.client.pull && !self.profile.scripts.up_delay
    }

    /// Brings up a tunnel that comes up first, for an attempt to call `outside`. For one that stands from before
    /// (`persist-tun`) the restart is over.
    pub(super) async fn come_up_first(
        &mut self,
        life: &mut Life,
        offload: &Arc<dyn Offload>,
        outside: SocketAddr,
    ) -> Result<(), Ended> {
        if !self.comes_up_first() {
            return Ok(());
        }
        let env = self.hooks.environment();
        let came_up = match self.up.as_mut().filter(|up| up.device == offload.device()) {
            Some(up) => {
                ovlog!(1, "Preserving previous TUN/TAP instance: {}", up.device.name);
                up.tunnel.restarted(&env).await
            }
            None => {
                let spec = TunnelSpec::from_profile(&self.profile);
                let request = self.tunnel_request(life, offload, spec, outside, env);
                self.raise(life, request, Vec::new(), None).await
            }
        };
        came_up.map_err(|failure| Ended::Fatal(failure.to_string()))
    }

    pub(super) fn tunnel_request(
        &self,
        life: &Life,
        offload: &Arc<dyn Offload>,
        spec: TunnelSpec,
        outside: SocketAddr,
        env: ScriptEnv,
    ) -> TunnelRequest {
        TunnelRequest {
            hooks: Arc::clone(&self.hooks),
            offload: Arc::clone(offload),
            spec,
            dns_updown: self.profile.routes.dns_updown.clone(),
            remote: Some(outside),
            keeper: life.name_keeper.clone(),
            env,
        }
    }

    /// Gives the device its place in the machine's network, after taking away that of one before. `made_of`: the pushed
    /// options behind it.
    pub(super) async fn raise(
        &mut self,
        life: &mut Life,
        request: TunnelRequest,
        made_of: Vec<String>,
        mss: Option<u16>,
    ) -> Result<(), TunnelError> {
        if let Some(old) = self.up.take() {
            old.tunnel.down("restart", std::future::ready(())).await;
        }
        let device = request.offload.device();
        if let Some(guarded) = &mut life.kill_switch {
            guarded.set_device(Some(&device.name));
        }
        // Before addresses and routes: what is to be refused never passes.
        let guard = Guard::of_client(&device, mss, request.spec.routes.block_ipv6);
        let routes_wait = self.comes_up_first() && request.spec.routes.delay.is_some();
        let (tunnel, completion) =
            if routes_wait { Tunnel::without_routes(request).await? } else { Tunnel::up(request).await? };
        self.up = Some(Up { tunnel, device, guard, made_of, completion, routes_wait });
        Ok(())
    }

    /// The peer of a tunnel that stands has answered. Returns whether everything is in place; what was missing is told once.
    pub(super) async fn complete(
        &mut self,
        progress: &Progress,
        spec: &TunnelSpec,
        mss: Option<u16>,
    ) -> Result<Completion, TunnelError> {
        let Some(up) = &mut self.up else { return Ok(Completion::WithErrors) };
        up.guard.clamp_to(&up.device, mss); // this remote's headers may be longer
        let mut completion = mem::replace(&mut up.completion, Completion::Complete);
        if mem::take(&mut up.routes_wait) {
            let remote = Some(progress.link.outside());
            completion = completion.and(up.tunnel.add_routes(spec, &up.device.name, remote).await?);
        }
        Ok(completion)
    }

    /// Changes to `user` and `group`, once, when the tunnel stands, as in OpenVPN (`do_uid_gid_chroot`): `up` and what sets
    /// the name servers need root's rights.
    pub(super) async fn drop_privileges(&mut self, life: &mut Life) -> Result<(), Ended> {
        if !life.is_about_to_drop_privileges() {
            return Ok(());
        }
        if let Some(up) = &mut self.up {
            let more_may_come = self.profile.client.pull && !self.profile.device.is_virtual();
            let updown = &self.profile.routes.dns_updown;
            life.name_keeper = up.tunnel.entrust_names(updown, more_may_come).await;
        }
        life.drop_privileges().map_err(Ended::Fatal)
    }
}
