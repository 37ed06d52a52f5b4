//! The tunnel of this machine: addresses, routes, DNS and the scripts around them, brought up and taken down as one.
//!
//! The data plane made the device already; this module gives it a place in the machine's network, and takes away
//! exactly what it added. Order of OpenVPN on Linux: device and addresses, DNS, `up`, routes (after `route-delay`),
//! `route-up`. At the end DNS goes first, then the rest backwards.

mod follow;
mod lookups;
mod names;
mod program;
mod spec;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use culvert_config::{profile::DnsUpdown, value::Command};
use culvert_host::{
    Applied, Host as _, HostError, Journal, Ledger, NetlinkHost, Plan, RouteContext, RouteSettings, Step,
    run_directory,
};
use culvert_mgmt::StateName;
use culvert_offload::{Offload, OffloadError};
use thiserror::Error;
use tracing::{error, warn};

pub(crate) use names::SharedKeeper;
pub(crate) use spec::TunnelSpec;

use crate::{
    hooks::Hooks,
    management::Addresses,
    network, ovlog,
    scripts::{Hook, ScriptEnv},
};

/// Why a tunnel cannot come up.
#[derive(Debug, Error)]
pub(crate) enum TunnelError {
    /// The machine's network cannot be changed at all.
    #[error("cannot talk to the kernel about addresses and routes: {0}")]
    Host(#[from] HostError),
    /// The `up` script failed.
    #[error("the up script failed")]
    Up,
    /// The device could not be configured.
    #[error("cannot configure the tunnel device: {0}")]
    Device(String),
    /// The program that is the device does not start.
    #[error("{}", crate::link::describe(.0))]
    Program(#[from] OffloadError),
}

/// Whether everything that was asked for is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It is.
    Complete,
    /// Some routes or DNS settings are not: "Initialization Sequence Completed With Errors".
    WithErrors,
}

impl Completion {
    /// Both are complete.
    pub(crate) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Complete, Self::Complete) => Self::Complete,
            _ => Self::WithErrors,
        }
    }
}

/// What a tunnel is brought up from.
pub(crate) struct TunnelRequest {
    /// The scripts.
    pub(crate) hooks: Arc<Hooks>,
    /// The data plane, of whose device it is made.
    pub(crate) offload: Arc<dyn Offload>,
    /// What it is to look like.
    pub(crate) spec: TunnelSpec,
    /// `dns-updown`.
    pub(crate) dns_updown: DnsUpdown,
    /// The peer on the network, for a client.
    pub(crate) remote: Option<SocketAddr>,
    /// Who tells the resolver, once rights were given up.
    pub(crate) keeper: Option<SharedKeeper>,
    /// What scripts are to know beside the device: the peer's certificate and addresses.
    pub(crate) env: ScriptEnv,
}

/// A tunnel that is up.
pub(crate) struct Tunnel {
    hooks: Arc<Hooks>,
    /// `None` only while a change runs on its own thread.
    changes: Option<Changes>,
    env: ScriptEnv,
    /// The part of `env` that is about device and routes.
    own: ScriptEnv,
    arguments: Vec<String>,
    /// What stands, as it was planned.
    plans: Plans,
    /// The name servers behind the tunnel.
    names: names::Names,
    /// Who tells the resolver in place of this process.
    keeper: Option<SharedKeeper>,
    /// Addresses of the hosts that routes name.
    hosts: HashMap<String, Vec<Ipv4Addr>>,
    /// This end's addresses in the tunnel.
    addresses: Addresses,
    /// How the routes were found, to find them again on another network; `None`: they are somebody else's.
    routed: Option<follow::Routed>,
}

/// The plans of a tunnel, by what a change of one of them leaves alone.
#[derive(Default)]
struct Plans {
    device: Plan,
    routes: Plan,
}

/// The routes of a tunnel, before they are set.
struct KnownRoutes {
    context: RouteContext,
    settings: RouteSettings,
    /// What is to be said about names without an address.
    unresolved: Vec<String>,
}

/// What scripts are told of a restart that leaves the tunnel standing (`script_context`).
const RESTART: &str = "restart";

/// Metric of a server's `route` lines where the machine's routes choose the client: worse than those to clients, so that
/// they only catch what belongs to no client at the moment.
const METRIC_BEHIND_CLIENTS: u32 = 200;

/// The machine, and what was changed on it.
struct Changes {
    host: NetlinkHost,
    ledger: Ledger,
}

impl Changes {
    fn open(spec: &TunnelSpec, device: &str) -> Result<Self, TunnelError> {
        let host = NetlinkHost::open()?;
        let journal = || Journal::create(&run_directory(), device);
        // Where nothing is changed, nothing is written down.
        let ledger = match (!spec.device.is_virtual()).then(journal).transpose() {
            Ok(None) => Ledger::new(),
            Ok(Some(journal)) => Ledger::with_journal(journal),
            Err(failure) => {
                warn!(
                    "no journal of network changes (a killed process cannot be cleaned up after): {failure}"
                );
                Ledger::new()
            }
        };
        Ok(Self { host, ledger })
    }

    /// Gives the device its addresses, and limits what it sends (`shaper`).
    async fn set_device(self, plan: &Plan, spec: &TunnelSpec, device: &str) -> Result<Self, TunnelError> {
        let mut changes = self;
        if !plan.is_empty() {
            let applied;
            (changes, applied) = apply(changes, plan.clone()).await?;
            if let Some(failure) = applied.failures.into_iter().next() {
                return Err(TunnelError::Device(failure.error.to_string()));
            }
        }
        if let Some(bytes_per_second) = spec.shaper {
            ovlog!(3, "Output Traffic Shaping initialized at {bytes_per_second} bytes per second");
            let shape = Step::Shape { device: device.to_owned(), bytes_per_second };
            let applied;
            (changes, applied) = apply(changes, Plan::from_iter([shape])).await?;
            for failure in &applied.failures {
                error!("--shaper has no effect: {}", failure.error);
            }
        }
        Ok(changes)
    }
}

impl Tunnel {
    /// Brings a tunnel up.
    pub(crate) async fn up(request: TunnelRequest) -> Result<(Self, Completion), TunnelError> {
        let (spec, remote, device) = (request.spec.clone(), request.remote, request.offload.device());
        let (mut tunnel, named) = Self::without_routes(request).await?;
        let routed = tunnel.add_routes(&spec, &device.name, remote).await?;
        Ok((tunnel, named.and(routed)))
    }

    /// Brings a tunnel up as far as `up`. [`Self::add_routes`] does the rest.
    pub(crate) async fn without_routes(request: TunnelRequest) -> Result<(Self, Completion), TunnelError> {
        let TunnelRequest { hooks, offload, spec, dns_updown, remote, keeper, mut env } = request;
        let device = offload.device();
        // Before a name server behind the tunnel takes the place of this machine's own.
        let hosts = lookups::resolve_names(&spec.routes).await;
        hooks.management.set_state_at(StateName::AssignIp, "", spec.addresses());
        let plans = Plans { device: device_plan(&spec, &device.name), ..Plans::default() };
        let changes =
            Changes::open(&spec, &device.name)?.set_device(&plans.device, &spec, &device.name).await?;
        let mtu = u32::from(spec.mtu);
        let mut own = ScriptEnv::new();
        network::export_device(&mut own, &device.name, mtu, &spec.device, spec.topology);
        network::export_foreign_options(&mut own, &spec.routes, &dns_updown, hooks.scripts.up.is_some());
        own.set("script_context", "init");
        env.remove_prefix("ifconfig_").remove_prefix("foreign_option_").extend(&own);
        hooks.remember(own.clone());
        let arguments = network::hook_arguments(&device.name, mtu, &spec.device, false);
        let mut tunnel = Self {
            hooks,
            changes: Some(changes),
            env,
            own,
            arguments,
            plans,
            names: names::Names::default(),
            keeper,
            hosts,
            addresses: spec.addresses(),
            routed: None,
        };
        let completion = tunnel.set_names(&spec, &device.name, &dns_updown).await;
        // Programs that set routes in `up`, as NetworkManager's helper does, read them there.
        if let Err(failure) = tunnel.known_routes(&spec, &device.name, remote).await {
            tunnel.undo().await;
            return Err(failure);
        }
        if spec.device.program().is_some()
            && let Err(failure) = offload.start_program(&program::environment(&tunnel.env, &spec))
        {
            tunnel.undo().await;
            return Err(failure.into());
        }
        let up = tunnel.hooks.scripts.up.clone();
        if !tunnel.hooks.run(Hook::Up, up.as_ref(), &tunnel.arguments, &tunnel.env).await {
            tunnel.undo().await;
            return Err(TunnelError::Up);
        }
        tunnel.hooks.management.up_down(true, &tunnel.env);
        Ok((tunnel, completion))
    }

    /// Sets the routes, after `route-delay`, and runs `route-up`. A tunnel that cannot have them comes down.
    pub(crate) async fn add_routes(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        remote: Option<SocketAddr>,
    ) -> Result<Completion, TunnelError> {
        if let Some(delay) = spec.routes.delay {
            tokio::time::sleep(delay).await;
        }
        let routes = &spec.routes;
        if !routes.routes.is_empty() || !routes.routes6.is_empty() || routes.redirect.is_some() {
            self.hooks.management.set_state(StateName::AddRoutes, "");
        }
        match self.routes(spec, device, remote).await {
            Ok(completion) => {
                self.route_up().await;
                Ok(completion)
            }
            Err(failure) => {
                self.undo().await;
                Err(failure)
            }
        }
    }

    /// The peer of a tunnel that stood before it answered: scripts hear of it from here on.
    pub(crate) fn meet(&mut self, peer: &ScriptEnv) {
        self.env.remove_prefix("signal").extend(peer).extend(&self.own);
    }

    /// A soft restart begins that leaves the tunnel standing (`persist-tun`): `down` hears of it with `up-restart`. Name
    /// servers behind it cannot be reached meanwhile, so those of before are asked, for the peer's own name too.
    pub(crate) async fn restarting(&mut self, signal: &str) {
        self.suspend_names().await;
        if self.hooks.scripts.up_restart {
            self.env.set("signal", signal);
            let down = self.hooks.scripts.down.clone();
            self.run_at_restart(Hook::Down, down.as_ref()).await;
        }
    }

    /// That restart is over: the peer is there again or, where the tunnel comes first, about to be called. `up` hears of it with
    /// `up-restart`. `peer` is what scripts are to know of it.
    pub(crate) async fn restarted(&mut self, peer: &ScriptEnv) -> Result<(), TunnelError> {
        // A failure was logged; the tunnel is of use without.
        self.resume_names().await;
        if !self.hooks.scripts.up_restart {
            return Ok(());
        }
        self.own.set("script_context", RESTART);
        self.hooks.remember(self.own.clone());
        self.meet(peer);
        let up = self.hooks.scripts.up.clone();
        if self.run_at_restart(Hook::Up, up.as_ref()).await { Ok(()) } else { Err(TunnelError::Up) }
    }

    async fn run_at_restart(&mut self, hook: Hook, program: Option<&Command>) -> bool {
        let mut arguments = self.arguments.clone();
        arguments.pop();
        arguments.push(RESTART.to_owned());
        let mut env = self.env.clone();
        env.set("script_context", RESTART);
        self.hooks.run(hook, program, &arguments, &env).await
    }

    /// Makes the tunnel look otherwise while it carries traffic: only what differs is touched. `up` and `down` do not
    /// run, since the device stays; `route-up` and the program of `dns-updown` do when routes or DNS changed.
    pub(crate) async fn change(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        updown: &DnsUpdown,
        remote: Option<SocketAddr>,
    ) -> Result<Completion, TunnelError> {
        let mut completion = Completion::Complete;
        self.hosts = lookups::resolve_names(&spec.routes).await;
        self.addresses = spec.addresses();
        let plan = device_plan(spec, device);
        if plan != self.plans.device {
            // Routes by way of an address vanish with it.
            let routes = std::mem::take(&mut self.plans.routes);
            self.revise(&routes, &Plan::new()).await?;
            let old = std::mem::replace(&mut self.plans.device, plan.clone());
            completion = completion.and(self.revise(&old, &plan).await?);
        }
        let mtu = u32::from(spec.mtu);
        network::export_device(&mut self.own, device, mtu, &spec.device, spec.topology);
        let has_up = self.hooks.scripts.up.is_some();
        network::export_foreign_options(&mut self.own, &spec.routes, updown, has_up);
        self.env.remove_prefix("ifconfig_").remove_prefix("foreign_option_").extend(&self.own);
        self.arguments = network::hook_arguments(device, mtu, &spec.device, true);
        completion = completion.and(self.set_names(spec, device, updown).await);
        let before = self.plans.routes.clone();
        completion = completion.and(self.routes(spec, device, remote).await?);
        if before != self.plans.routes {
            self.route_up().await;
        }
        Ok(completion)
    }

    /// Works out which routes there are to be, and tells scripts.
    async fn known_routes(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        remote: Option<SocketAddr>,
    ) -> Result<Option<KnownRoutes>, TunnelError> {
        let remote = remote.map(|address| address.ip());
        let context = {
            let Some(changes) = &mut self.changes else { return Ok(None) };
            let known = network::route_context(device, &spec.device, spec.topology, &spec.routes, remote);
            RouteContext { many_peers: spec.routed_by_machine, ..known }
                .discover_under(&mut changes.host, &self.plans.routes)?
        };
        let close_ipv6_leak = spec.routes.redirect.is_some_and(|redirect| redirect.gateway);
        let (mut settings, unresolved) = network::route_settings(&spec.routes, close_ipv6_leak, |name| {
            self.hosts.get(name).cloned().unwrap_or_default()
        });
        if spec.routed_by_machine {
            settings.metric = settings.metric.or(Some(METRIC_BEHIND_CLIENTS));
        }
        network::export_routes(&mut self.own, &settings, &context);
        self.env.remove_prefix("route_").extend(&self.own);
        self.hooks.remember(self.own.clone());
        Ok(Some(KnownRoutes { context, settings, unresolved }))
    }

    async fn routes(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        remote: Option<SocketAddr>,
    ) -> Result<Completion, TunnelError> {
        // Once more: `up` may have changed the machine's own.
        let known = self.known_routes(spec, device, remote).await?;
        let Some(KnownRoutes { context, settings, unresolved }) = known else {
            return Ok(Completion::WithErrors);
        };
        let remote = remote.map(|address| address.ip());
        let mut completion = Completion::Complete;
        if !spec.routes.noexec {
            let planned = settings.plan(&context);
            for problem in unresolved.iter().chain(&planned.problems) {
                warn!("{problem}");
                completion = Completion::WithErrors;
            }
            let old = std::mem::replace(&mut self.plans.routes, planned.plan.clone());
            completion = completion.and(self.revise(&old, &planned.plan).await?);
            self.remember_way(settings, context);
        }
        if !spec.kept_outside && self.is_recursive(device, remote) {
            completion = Completion::WithErrors;
        }
        Ok(completion)
    }

    async fn route_up(&self) {
        let route_up = self.hooks.scripts.route_up.clone();
        self.hooks.run(Hook::RouteUp, route_up.as_ref(), &[], &self.env).await;
    }

    /// Whether the way to the peer leads into the tunnel: each packet would be wrapped again, and none would arrive.
    fn is_recursive(&mut self, device: &str, remote: Option<IpAddr>) -> bool {
        let (Some(remote), Some(changes)) = (remote, &mut self.changes) else { return false };
        let way = changes.host.route_to(remote).ok().flatten().and_then(|route| route.device);
        let recursive = way.as_deref() == Some(device);
        if recursive {
            ovlog!(
                error 1,
                "Recursive routing: the route to {remote} leads into the tunnel {device} itself, so nothing can arrive. Add `route {remote} 255.255.255.255 net_gateway`, or leave out the route that covers it."
            );
        }
        recursive
    }

    /// Turns what one plan made into what another one wants.
    async fn revise(&mut self, old: &Plan, new: &Plan) -> Result<Completion, TunnelError> {
        let Some(mut changes) = self.changes.take() else { return Ok(Completion::WithErrors) };
        let (old, new) = (old.clone(), new.clone());
        let (changes, applied) = on_a_thread(move || {
            let applied = changes.ledger.revise(&mut changes.host, &old, &new);
            (changes, applied)
        })
        .await?;
        self.changes = Some(changes);
        for failure in &applied.failures {
            error!("ERROR: {}", failure.error);
        }
        Ok(if applied.is_complete() { Completion::Complete } else { Completion::WithErrors })
    }

    /// Takes the tunnel down: `signal` is what scripts are told (`sigterm`, `ping-restart` …). `close` lets the device go:
    /// as with OpenVPN `down` finds none, unless `down-pre` wants to.
    pub(crate) async fn down(mut self, signal: &str, close: impl Future<Output = ()>) {
        self.suspend_names().await;
        self.env.set("signal", signal).set("script_context", "init");
        self.hooks.management.up_down(false, &self.env);
        let scripts = self.hooks.scripts.clone();
        self.hooks.run(Hook::RoutePreDown, scripts.route_pre_down.as_ref(), &self.arguments, &self.env).await;
        if scripts.down_pre {
            self.hooks.run(Hook::Down, scripts.down.as_ref(), &self.arguments, &self.env).await;
        }
        self.undo().await;
        close.await;
        if !scripts.down_pre {
            self.hooks.run(Hook::Down, scripts.down.as_ref(), &self.arguments, &self.env).await;
        }
    }

    async fn undo(&mut self) {
        self.suspend_names().await;
        let Some(mut changes) = self.changes.take() else { return };
        let undone = tokio::task::spawn_blocking(move || changes.ledger.undo(&mut changes.host)).await;
        for failure in undone.unwrap_or_default() {
            warn!("cannot take back a change of the network: {failure}");
        }
    }
}

/// Takes back what processes that were killed have left behind on this machine.
pub(crate) fn recover_machine() {
    let recovered =
        NetlinkHost::open().and_then(|mut host| culvert_host::recover(&run_directory(), &mut host));
    match recovered {
        Ok(0) => {}
        Ok(changes) => {
            tracing::info!("took back {changes} change(s) of the network that a killed process left behind")
        }
        Err(failure) => warn!("cannot take back what a killed process may have left behind: {failure}"),
    }
}

/// MTU, queue and addresses; nothing where others see to that.
fn device_plan(spec: &TunnelSpec, device: &str) -> Plan {
    if spec.device.ifconfig_noexec {
        return Plan::new();
    }
    network::device_config(device, u32::from(spec.mtu), &spec.device, spec.topology).plan()
}

async fn apply(mut changes: Changes, plan: Plan) -> Result<(Changes, Applied), TunnelError> {
    on_a_thread(move || {
        let applied = changes.ledger.apply(&mut changes.host, &plan);
        (changes, applied)
    })
    .await
}

/// Changes the network on a thread of its own: telling a resolver may start a program.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TunnelError> {
    tokio::task::spawn_blocking(work).await.map_err(|failure| {
        TunnelError::Device(format!("internal error while changing the network: {failure}"))
    })
}
