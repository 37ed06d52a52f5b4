//! DNS: `dns` and the older `dhcp-option`, for the resolver and for scripts.

use std::{collections::BTreeMap, net::IpAddr};

use culvert_config::{
    profile::{DnsUpdown, Routes},
    value,
};
use culvert_host::{DnsServer, DnsServerAddress, DnsSettings, DnsTransport, Dnssec};

use crate::scripts::ScriptEnv;

/// Who tells the resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// This process itself.
    BuiltIn,
    /// The program of `dns-updown`.
    Program,
    /// The `up` script, which learns of everything through `foreign_option_N`.
    UpScript,
    /// Nobody (`dns-updown disable`).
    Nobody,
}

impl Teller {
    /// Works out who it is; `has_up`: there is an `up` script.
    #[must_use]
    pub fn of(updown: &DnsUpdown, has_up: bool) -> Self {
        match updown {
            DnsUpdown::Command(_) => Self::Program,
            DnsUpdown::Force => Self::BuiltIn,
            DnsUpdown::Default | DnsUpdown::Disable if has_up => Self::UpScript,
            DnsUpdown::Default => Self::BuiltIn,
            DnsUpdown::Disable => Self::Nobody,
        }
    }
}

/// Returns what to tell the resolver; `None`: there is no server, and search domains alone say nothing.
///
/// Any `dns server` makes the DNS kinds of `dhcp-option` be ignored; without one they are converted, where a name server is
/// among them: the last `DOMAIN`, then those of `DOMAIN-SEARCH`; IPv4 addresses before those of IPv6.
#[must_use]
pub fn dns_settings(routes: &Routes) -> Option<DnsSettings> {
    let mut settings = DnsSettings { search_domains: routes.dns.search_domains.clone(), servers: Vec::new() };
    if routes.dns.servers.is_empty() {
        let (mut four, mut six, mut domain, mut search) = (Vec::new(), Vec::new(), None, Vec::new());
        for option in &routes.dhcp_options {
            match &option.value {
                value::DhcpValue::Dns(address) if address.is_ipv4() => four.push(*address),
                value::DhcpValue::Dns(address) => six.push(*address),
                value::DhcpValue::Domain(name) => domain = Some(name.clone()),
                value::DhcpValue::DomainSearch(name) => search.push(name.clone()),
                value::DhcpValue::Other => {}
            }
        }
        let addresses: Vec<_> =
            four.into_iter().chain(six).map(|address| DnsServerAddress { address, port: None }).collect();
        if !addresses.is_empty() {
            settings.search_domains.extend(domain.into_iter().chain(search));
            settings.servers.push(DnsServer { addresses, ..DnsServer::default() });
        }
    } else {
        settings.servers = routes.dns.servers.iter().map(server).collect();
    }
    (!settings.servers.is_empty()).then_some(settings)
}

fn server(server: &value::DnsServer) -> DnsServer {
    DnsServer {
        addresses: server
            .addresses
            .iter()
            .map(|(address, port)| DnsServerAddress { address: *address, port: *port })
            .collect(),
        resolve_domains: server.resolve_domains.clone(),
        dnssec: server.dnssec.map(|dnssec| match dnssec {
            value::Dnssec::Yes => Dnssec::Yes,
            value::Dnssec::No => Dnssec::No,
            value::Dnssec::Optional => Dnssec::Optional,
        }),
        transport: server.transport.map(|transport| match transport {
            value::DnsTransport::Plain => DnsTransport::Plain,
            value::DnsTransport::Tls => DnsTransport::DoT,
            value::DnsTransport::Https => DnsTransport::DoH,
        }),
        sni: server.sni.clone(),
    }
}

/// Sets `foreign_option_N`: every `dhcp-option`, in order, from 1. Where `dns server` or a teller that is no `up` script takes
/// the place of those about names they are left out; for an `up` script, `dns` is translated into them.
pub fn export_foreign_options(env: &mut ScriptEnv, routes: &Routes, updown: &DnsUpdown, has_up: bool) {
    env.remove_prefix("foreign_option_");
    let chosen = matches!(updown, DnsUpdown::Command(_) | DnsUpdown::Force);
    let replaced = chosen || !routes.dns.servers.is_empty();
    let written = routes.dhcp_options.iter().filter(|option| !(replaced && option.is_about_names()));
    let mut values: Vec<String> = written.map(value::DhcpOption::foreign_option).collect();
    if !routes.dns.servers.is_empty() && Teller::of(updown, has_up) == Teller::UpScript {
        values.extend(routes.dns.search_domains.iter().map(|name| format!("dhcp-option DOMAIN {name}")));
        let server = routes.dns.servers.iter().find(|server| is_plain(server));
        values.extend(server.iter().flat_map(|server| &server.addresses).map(|(address, _)| {
            let kind = if address.is_ipv4() { "DNS" } else { "DNS6" };
            format!("dhcp-option {kind} {address}")
        }));
    }
    for (index, value) in values.iter().enumerate() {
        env.set(&format!("foreign_option_{}", index + 1), value);
    }
}

/// Whether a `dhcp-option` can say all there is about a server.
fn is_plain(server: &value::DnsServer) -> bool {
    matches!(server.transport, None | Some(value::DnsTransport::Plain))
        && matches!(server.dnssec, None | Some(value::Dnssec::No))
        && server.addresses.iter().all(|(_, port)| port.is_none_or(|port| port == 53))
}

/// Sets the variables of `dns-updown`: `dns_search_domain_N`, `dns_server_N_address_M` and so on, from 1. Servers have
/// their place in the order, not their priority.
pub fn export_dns(env: &mut ScriptEnv, settings: &DnsSettings) {
    for (index, domain) in settings.search_domains.iter().enumerate() {
        env.set(&format!("dns_search_domain_{}", index + 1), domain);
    }
    for (index, server) in settings.servers.iter().enumerate() {
        let name = |rest: &str| format!("dns_server_{}_{rest}", index + 1);
        for (index, address) in server.addresses.iter().enumerate() {
            env.set(&name(&format!("address_{}", index + 1)), address.address);
            env.set_opt(&name(&format!("port_{}", index + 1)), address.port);
        }
        for (index, domain) in server.resolve_domains.iter().enumerate() {
            env.set(&name(&format!("resolve_domain_{}", index + 1)), domain);
        }
        env.set_opt(
            &name("dnssec"),
            server.dnssec.map(|dnssec| match dnssec {
                Dnssec::Yes => "yes",
                Dnssec::No => "no",
                Dnssec::Optional => "optional",
            }),
        );
        env.set_opt(
            &name("transport"),
            server.transport.map(|transport| match transport {
                DnsTransport::Plain => "plain",
                DnsTransport::DoT => "DoT",
                DnsTransport::DoH => "DoH",
            }),
        );
        env.set_opt(&name("sni"), server.sni.as_ref());
    }
}

/// Reads the variables of [`export_dns`] back; what is none of them, or cannot be read, is passed over.
#[must_use]
pub fn import_dns(variables: &[(String, String)]) -> DnsSettings {
    let mut search_domains = BTreeMap::new();
    let mut servers: BTreeMap<u16, Numbered> = BTreeMap::new();
    for (name, value) in variables {
        if let Some(number) = number(name, "dns_search_domain_") {
            search_domains.insert(number, value.clone());
        } else if let Some((number, field)) =
            name.strip_prefix("dns_server_").and_then(|rest| rest.split_once('_'))
            && let Ok(number) = number.parse()
        {
            servers.entry(number).or_default().take(field, value);
        }
    }
    let servers = servers.into_values().map(Numbered::finish).filter(|server| !server.addresses.is_empty());
    DnsSettings { servers: servers.collect(), search_domains: search_domains.into_values().collect() }
}

/// A server whose variables come in any order.
#[derive(Default)]
struct Numbered {
    addresses: BTreeMap<u16, IpAddr>,
    ports: BTreeMap<u16, u16>,
    resolve_domains: BTreeMap<u16, String>,
    rest: DnsServer,
}

impl Numbered {
    fn take(&mut self, field: &str, value: &str) {
        if let (Some(number), Ok(address)) = (number(field, "address_"), value.parse()) {
            self.addresses.insert(number, address);
        } else if let (Some(number), Ok(port)) = (number(field, "port_"), value.parse()) {
            self.ports.insert(number, port);
        } else if let Some(number) = number(field, "resolve_domain_") {
            self.resolve_domains.insert(number, value.to_owned());
        } else {
            match (field, value) {
                ("dnssec", "yes") => self.rest.dnssec = Some(Dnssec::Yes),
                ("dnssec", "no") => self.rest.dnssec = Some(Dnssec::No),
                ("dnssec", "optional") => self.rest.dnssec = Some(Dnssec::Optional),
                ("transport", "plain") => self.rest.transport = Some(DnsTransport::Plain),
                ("transport", "DoT") => self.rest.transport = Some(DnsTransport::DoT),
                ("transport", "DoH") => self.rest.transport = Some(DnsTransport::DoH),
                ("sni", name) => self.rest.sni = Some(name.to_owned()),
                _ => {}
            }
        }
    }

    fn finish(self) -> DnsServer {
        let Self { addresses, ports, resolve_domains, rest } = self;
        let addresses = addresses
            .into_iter()
            .map(|(number, address)| DnsServerAddress { address, port: ports.get(&number).copied() });
        DnsServer {
            addresses: addresses.collect(),
            resolve_domains: resolve_domains.into_values().collect(),
            ..rest
        }
    }
}

fn number(name: &str, prefix: &str) -> Option<u16> {
    name.strip_prefix(prefix)?.parse().ok()
}
