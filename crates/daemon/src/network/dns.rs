//! DNS: `dns` and the older `dhcp-option`, for the resolver and for scripts.

use culvert_config::{profile::Routes, value};
use culvert_host::{DnsServer, DnsServerAddress, DnsSettings, DnsTransport, Dnssec};

use crate::scripts::ScriptEnv;

/// Returns what to tell the resolver; `None`: nothing is asked for.
///
/// Any `dns server` makes the DNS kinds of `dhcp-option` be ignored; without one they are converted.
#[must_use]
pub fn dns_settings(routes: &Routes) -> Option<DnsSettings> {
    let mut settings = DnsSettings { search_domains: routes.dns.search_domains.clone(), servers: Vec::new() };
    if routes.dns.servers.is_empty() {
        let mut server = DnsServer::default();
        for option in &routes.dhcp_options {
            match &option.value {
                value::DhcpValue::Dns(address) => {
                    server.addresses.push(DnsServerAddress { address: *address, port: None });
                }
                value::DhcpValue::Domain(domain) | value::DhcpValue::DomainSearch(domain) => {
                    settings.search_domains.push(domain.clone());
                }
                value::DhcpValue::Other => {}
            }
        }
        if !server.addresses.is_empty() {
            settings.servers.push(server);
        }
    } else {
        settings.servers = routes.dns.servers.iter().map(server).collect();
    }
    (settings != DnsSettings::default()).then_some(settings)
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

/// Sets `foreign_option_N`: every `dhcp-option`, in order, from 1.
pub fn export_foreign_options(env: &mut ScriptEnv, routes: &Routes) {
    env.remove_prefix("foreign_option_");
    for (index, option) in routes.dhcp_options.iter().enumerate() {
        env.set(&format!("foreign_option_{}", index + 1), option.foreign_option());
    }
}

/// Sets the variables of `dns-updown`: `dns_search_domain_N`, `dns_server_N_address_M` and so on, from 1. Servers have
/// their place in the order, not their priority.
pub fn export_dns(env: &mut ScriptEnv, settings: &DnsSettings) {
    env.remove_prefix("dns_");
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
