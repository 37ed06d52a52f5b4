//! The tunnel of this machine: addresses, routes, DNS and the scripts around them, brought up and taken down as one.
//!
//! The data plane made the device already; this module gives it a place in the machine's network, and takes away
//! exactly what it added. Order of OpenVPN on Linux: device and addresses, `up`, DNS, routes (after `route-delay`),
//! `route-up`; backwards at the end.

mod environment;
mod spec;

use std::{net::SocketAddr, path::Path, sync::Arc};

use culvert_config::{
    profile::DnsUpdown,
    value::{DhcpValue, DnsServer, RouteHost},
};
use culvert_host::{
    Applied, DnsServerAddress, DnsSettings, DnsTransport, Dnssec, HostError, Journal, Ledger, NetlinkHost,
    Plan, Step,
};
use culvert_offload::Device;
use thiserror::Error;
use tracing::{error, warn};

pub(crate) use spec::{TunnelSpec, prefix_of};

use crate::{
    hooks::{HookOutcome, Hooks},
    scripts::{Hook, ScriptEnv},
};

/// Why a tunnel cannot come up.
#[derive(Debug, Error)]
pub(crate) enum TunnelError {
    /// The machine's network cannot be changed at all.
    #[error("cannot talk to the kernel about addresses and routes: {0}")]
    Host(#[from] HostError),
    /// The `up` script failed.
    #[error("{0}")]
    Up(String),
    /// The device could not be configured.
    #[error("cannot configure the tunnel device: {0}")]
    Device(String),
}

/// Whether everything that was asked for is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It is.
    Complete,
    /// Some routes or DNS settings are not: "Initialization Sequence Completed With Errors".
    WithErrors,
}

/// Why a tunnel comes up, as scripts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScriptContext {
    /// For the first time.
    Init,
    /// After a soft restart.
    Restart,
}

impl ScriptContext {
    const fn word(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Restart => "restart",
        }
    }
}

/// What a tunnel is brought up from.
pub(crate) struct TunnelRequest {
    /// The scripts.
    pub(crate) hooks: Arc<Hooks>,
    /// The data plane's device.
    pub(crate) device: Device,
    /// What it is to look like.
    pub(crate) spec: TunnelSpec,
    /// `dns-updown`.
    pub(crate) dns_updown: DnsUpdown,
    /// The peer on the network, for a client.
    pub(crate) remote: Option<SocketAddr>,
    /// What scripts are to know beside the device: the peer's certificate and addresses.
    pub(crate) env: ScriptEnv,
    /// Why.
    pub(crate) context: ScriptContext,
}

/// A tunnel that is up.
pub(crate) struct Tunnel {
    hooks: Arc<Hooks>,
    /// `None` only while a change runs on its own thread.
    changes: Option<Changes>,
    env: ScriptEnv,
    arguments: Vec<String>,
}

/// The machine, and what was changed on it.
struct Changes {
    host: NetlinkHost,
    ledger: Ledger,
}

/// Where changes are written down, so that the next start can undo what a killed process left behind.
const JOURNAL_DIRECTORY: &str = "/run/culvert";

impl Tunnel {
    /// Brings a tunnel up.
    pub(crate) async fn up(request: TunnelRequest) -> Result<(Self, Completion), TunnelError> {
        let TunnelRequest { hooks, device, mut spec, dns_updown, remote, mut env, context } = request;
        resolve_routes(&mut spec).await;
        let host = NetlinkHost::open()?;
        let ledger = match Journal::create(Path::new(JOURNAL_DIRECTORY), &device.name) {
            Ok(journal) => Ledger::with_journal(journal),
            Err(failure) => {
                warn!(
                    "no journal of network changes (a killed process cannot be cleaned up after): {failure}"
                );
                Ledger::new()
            }
        };
        let mut changes = Changes { host, ledger };

        if !spec.ifconfig_noexec {
            let plan = spec.device(&device.name).plan();
            let applied;
            (changes, applied) = apply(changes, plan).await?;
            if let Some(failure) = applied.failures.into_iter().next() {
                return Err(TunnelError::Device(failure.error.to_string()));
            }
        }
        environment::device(&mut env, &device.name, &spec, context);
        let arguments = environment::arguments(&device.name, &spec, context);
        let mut tunnel = Self { hooks, changes: Some(changes), env, arguments };
        if context == ScriptContext::Init || tunnel.hooks.scripts.up_restart {
            let up = tunnel.hooks.scripts.up.clone();
            if let HookOutcome::Failed(reason) =
                tunnel.hooks.run(Hook::Up, up.as_ref(), &tunnel.arguments, &tunnel.env).await
            {
                tunnel.undo().await;
                return Err(TunnelError::Up(reason));
            }
        }
        let mut completion = tunnel.dns(&spec, &device.name, &dns_updown).await;
        if tunnel.routes(&spec, &device.name, remote).await? == Completion::WithErrors {
            completion = Completion::WithErrors;
        }
        Ok((tunnel, completion))
    }

    async fn dns(&mut self, spec: &TunnelSpec, device: &str, updown: &DnsUpdown) -> Completion {
        let settings = dns_settings(spec);
        let wanted = match updown {
            DnsUpdown::Default => self.hooks.scripts.up.is_none(),
            DnsUpdown::Force => true,
            DnsUpdown::Disable => false,
            DnsUpdown::Command(command) => {
                self.hooks.run(Hook::DnsUp, Some(command), &[], &self.env).await;
                false
            }
        };
        if !wanted || (settings.servers.is_empty() && settings.search_domains.is_empty()) {
            return Completion::Complete;
        }
        let plan = Plan::from_iter([Step::Dns { device: device.to_owned(), settings }]);
        self.apply(plan).await.unwrap_or(Completion::WithErrors)
    }

    async fn routes(
        &mut self,
        spec: &TunnelSpec,
        device: &str,
        remote: Option<SocketAddr>,
    ) -> Result<Completion, TunnelError> {
        if let Some(delay) = spec.delay {
            tokio::time::sleep(delay).await;
        }
        let remote = remote.map(|address| address.ip());
        let context = {
            let Some(changes) = &mut self.changes else { return Ok(Completion::WithErrors) };
            spec.route_context(device, remote).discover(&mut changes.host)?
        };
        environment::routes(&mut self.env, spec, &context);
        let mut completion = Completion::Complete;
        if !spec.route_noexec {
            let planned = spec.route_settings().plan(&context);
            for problem in &planned.problems {
                warn!("{problem}");
                completion = Completion::WithErrors;
            }
            if self.apply(planned.plan).await? == Completion::WithErrors {
                completion = Completion::WithErrors;
            }
        }
        let route_up = self.hooks.scripts.route_up.clone();
        self.hooks.run(Hook::RouteUp, route_up.as_ref(), &[], &self.env).await;
        Ok(completion)
    }

    async fn apply(&mut self, plan: Plan) -> Result<Completion, TunnelError> {
        let Some(changes) = self.changes.take() else { return Ok(Completion::WithErrors) };
        let (changes, applied) = apply(changes, plan).await?;
        self.changes = Some(changes);
        for failure in &applied.failures {
            error!("ERROR: {}", failure.error);
        }
        Ok(if applied.is_complete() { Completion::Complete } else { Completion::WithErrors })
    }

    /// Takes the tunnel down: `signal` is what scripts are told (`sigterm`, `ping-restart` …).
    pub(crate) async fn down(mut self, signal: &str) {
        self.env.set("signal", signal);
        let scripts = self.hooks.scripts.clone();
        self.hooks.run(Hook::RoutePreDown, scripts.route_pre_down.as_ref(), &self.arguments, &self.env).await;
        if scripts.down_pre {
            self.hooks.run(Hook::Down, scripts.down.as_ref(), &self.arguments, &self.env).await;
        }
        self.undo().await;
        if !scripts.down_pre {
            self.hooks.run(Hook::Down, scripts.down.as_ref(), &self.arguments, &self.env).await;
        }
    }

    async fn undo(&mut self) {
        let Some(mut changes) = self.changes.take() else { return };
        let undone = tokio::task::spawn_blocking(move || changes.ledger.undo(&mut changes.host)).await;
        for failure in undone.unwrap_or_default() {
            warn!("cannot take back a change of the network: {failure}");
        }
    }
}

/// Applies a plan on a thread of its own: telling a resolver may start a program.
async fn apply(mut changes: Changes, plan: Plan) -> Result<(Changes, Applied), TunnelError> {
    tokio::task::spawn_blocking(move || {
        let applied = changes.ledger.apply(&mut changes.host, &plan);
        (changes, applied)
    })
    .await
    .map_err(|failure| TunnelError::Device(format!("internal error while changing the network: {failure}")))
}

/// Replaces names in routes by their addresses; a name that cannot be resolved loses its route, and says so.
async fn resolve_routes(spec: &mut TunnelSpec) {
    let mut resolved = Vec::with_capacity(spec.routes.len());
    for mut route in std::mem::take(&mut spec.routes) {
        let gateway = route.gateway.as_mut();
        let hosts = std::iter::once(&mut route.network).chain(gateway);
        let mut usable = true;
        for host in hosts {
            let RouteHost::Name(name) = host else { continue };
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let v4 = found.ok().and_then(|mut found| {
                found.find_map(|address| match address {
                    SocketAddr::V4(address) => Some(*address.ip()),
                    SocketAddr::V6(_) => None,
                })
            });
            match v4 {
                Some(address) => *host = RouteHost::Address(address),
                None => {
                    warn!("RESOLVE: Cannot resolve host address: {name} (its route is left out)");
                    usable = false;
                }
            }
        }
        if usable {
            resolved.push(route);
        }
    }
    spec.routes = resolved;
}

/// `dns` options, or, where there is none, those of `dhcp-option` that mean the same.
fn dns_settings(spec: &TunnelSpec) -> DnsSettings {
    let mut search_domains = spec.dns.search_domains.clone();
    let mut servers: Vec<_> = spec.dns.servers.iter().map(dns_server).collect();
    if servers.is_empty() {
        let addresses: Vec<_> = spec
            .dhcp_options
            .iter()
            .filter_map(|option| match &option.value {
                DhcpValue::Dns(address) => Some(DnsServerAddress { address: *address, port: None }),
                DhcpValue::Domain(_) | DhcpValue::DomainSearch(_) | DhcpValue::Other => None,
            })
            .collect();
        if !addresses.is_empty() {
            servers.push(culvert_host::DnsServer { addresses, ..Default::default() });
        }
        search_domains.extend(spec.dhcp_options.iter().filter_map(|option| match &option.value {
            DhcpValue::Domain(name) | DhcpValue::DomainSearch(name) => Some(name.clone()),
            DhcpValue::Dns(_) | DhcpValue::Other => None,
        }));
    }
    DnsSettings { servers, search_domains }
}

fn dns_server(server: &DnsServer) -> culvert_host::DnsServer {
    use culvert_config::value;
    culvert_host::DnsServer {
        addresses: server
            .addresses
            .iter()
            .map(|&(address, port)| DnsServerAddress { address, port })
            .collect(),
        resolve_domains: server.resolve_domains.clone(),
        dnssec: server.dnssec.map(|dnssec| match dnssec {
            value::Dnssec::Yes => Dnssec::Yes,
            value::Dnssec::Optional => Dnssec::Optional,
            value::Dnssec::No => Dnssec::No,
        }),
        transport: server.transport.map(|transport| match transport {
            value::DnsTransport::Plain => DnsTransport::Plain,
            value::DnsTransport::Tls => DnsTransport::DoT,
            value::DnsTransport::Https => DnsTransport::DoH,
        }),
        sni: server.sni.clone(),
    }
}
