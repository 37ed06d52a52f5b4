//! Routes and DNS of this machine.

use std::{net::Ipv6Addr, time::Duration};

use super::{read::Source, *};
use crate::{
    args::{Args, Problem, problem},
    push::PushReason,
    value::{ClientNat, Dns},
};

/// OpenVPN reads the DHCP answers that pass through a TAP device.
const NOT_FROM_DHCP: &str = "gateways are not read from DHCP; routes need route-gateway with an address";

/// Why `bypass-dhcp` and `bypass-dns` do nothing.
pub(crate) const WINDOWS_ALONE: &str = "OpenVPN heeds it on Windows alone";

pub(super) const ROWS: &[OptionRow] = &[
    row(
        "route",
        "NET [MASK] [GATEWAY] [METRIC]",
        "add an IPv4 route; keywords vpn_gateway, net_gateway, remote_host, default",
    )
    .live()
    .group(Group::Route)
    .unless_nopull()
    .reset(|p| p.routes.clear())
    .default("/32, vpn_gateway")
    .set(|d, a| {
        let route = read::route(a, Source::Own, d.profile.routes.table).map_err(Problem::late)?;
        d.profile.routes.routes.push(route);
        Ok(())
    })
    .pushed(|p, a| {
        let route = read::route(a, p.source(), 0)?;
        p.pushed.routes.push(route);
        Ok(())
    }),
    row("route-ipv6", "NET/BITS [GATEWAY] [METRIC]", "add an IPv6 route")
        .live()
        .group(Group::Route)
        .unless_nopull()
        .reset(|p| p.routes6.clear())
        .default("tunnel peer")
        .set(|d, a| {
            let route = read::route_ipv6(a, Source::Own, d.profile.routes.table).map_err(Problem::late)?;
            d.profile.routes.routes6.push(route);
            Ok(())
        })
        .pushed(|p, a| {
            let route = read::route_ipv6(a, p.source(), 0)?;
            p.pushed.routes6.push(route);
            Ok(())
        }),
    row("route-table", "ID", "routing table for all routes that follow, also pushed ones")
        .live()
        .group(Group::Route)
        .roles(CALLER)
        .default("main")
        .set(|d, a| {
            d.profile.routes.table = a.number(0)?;
            Ok(())
        }),
    row("route-gateway", "GW|dhcp", "default gateway for route")
        .group(Group::Route)
        .reset(|p| p.route_gateway = None)
        .default("from ifconfig")
        .set(|d, a| {
            let source = Source::Pushed { allow_fqdn: d.profile.client.allow_pull_fqdn };
            d.profile.routes.gateway = read::route_gateway(a, source)?;
            if d.profile.routes.gateway.is_none() {
                d.warn(format!("Note: route-gateway dhcp has no effect: {NOT_FROM_DHCP}"));
            }
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.route_gateway = read::route_gateway(a, p.source())?;
            if p.pushed.route_gateway.is_none() {
                p.pushed.note("route-gateway dhcp", PushReason::NoEffect(NOT_FROM_DHCP.to_owned()));
            }
            Ok(())
        }),
    row("route-ipv6-gateway", "GW", "default gateway for route-ipv6")
        .group(Group::Route)
        .also(FORGOTTEN)
        .also(CCD)
        .default("from ifconfig-ipv6")
        .set(|d, a| {
            d.profile.routes.gateway6 = Some(gateway6(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.route_gateway6 = Some(gateway6(a)?);
            Ok(())
        }),
    row("route-metric", "N", "default metric for routes")
        .live()
        .group(Group::Route)
        .unless_nopull()
        .reset(|p| p.route_metric = None)
        .default("os")
        .set(|d, a| {
            d.profile.routes.metric = Some(a.number(0)?).filter(|metric| *metric > 0);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.route_metric = Some(a.number(0)?).filter(|metric| *metric > 0);
            Ok(())
        }),
    row("route-delay", "[SECONDS [WINDOW]]", "wait before adding routes")
        .group(Group::Route)
        .roles(CALLER)
        .default("0 30")
        .rules(&[Rule::NotOnServer])
        .set(|d, a| {
            a.number_opt(1)?;
            d.profile.routes.delay = Some(Duration::from_secs(a.number_opt(0)?.unwrap_or(0).into()));
            Ok(())
        })
        .pushed(|p, a| {
            a.number_opt(1)?;
            p.pushed.route_delay = Some(Duration::from_secs(a.number_opt(0)?.unwrap_or(0).into()));
            Ok(())
        }),
    row("route-noexec", "", "export routes to scripts instead of adding them")
        .group(Group::Route)
        .default("off")
        .set(|d, _| {
            d.profile.routes.noexec = true;
            Ok(())
        }),
    row(
        "redirect-gateway",
        "[local|autolocal|def1|bypass-dhcp|bypass-dns|block-local|ipv6|!ipv4...]",
        "send all traffic into the tunnel; bypass-dhcp and bypass-dns do nothing, as on any unix",
    )
    .group(Group::Route)
    .unless_nopull()
    .reset(|p| p.redirect = None)
    .roles(CALLER)
    .set(|d, a| {
        d.profile.routes.redirect = Some(read::redirect(a, d.profile.routes.redirect, true)?);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.redirect = Some(read::redirect(a, p.pushed.redirect, true)?);
        note_bypass(p, a);
        Ok(())
    }),
    row(
        "redirect-private",
        "[local|autolocal|def1|bypass-dhcp|bypass-dns|block-local|ipv6|!ipv4...]",
        "like redirect-gateway without replacing the default route",
    )
    .group(Group::Route)
    .unless_nopull()
    .reset(|p| p.redirect = None)
    .roles(CALLER)
    .set(|d, a| {
        d.profile.routes.redirect = Some(read::redirect(a, d.profile.routes.redirect, false)?);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.redirect = Some(read::redirect(a, p.pushed.redirect, false)?);
        note_bypass(p, a);
        Ok(())
    }),
    row("block-ipv6", "", "answer IPv6 inside the tunnel with ICMPv6 unreachable")
        .group(Group::Route)
        .unless_nopull()
        .reset(|p| p.block_ipv6 = false)
        .default("off")
        .offload(&[
            kept(LINUX, "rules of nftables answer IPv6 packets at the device"),
            blocks(WINDOWS, "the driver answers no packets", "block IPv6 in the firewall"),
        ])
        .set(|d, _| {
            d.profile.routes.block_ipv6 = true;
            Ok(())
        })
        .pushed(|p, _| {
            p.pushed.block_ipv6 = true;
            Ok(())
        }),
    row("client-nat", "snat|dnat NET MASK ALIAS", "one-to-one IPv4 address rewriting in the client")
        .group(Group::Route)
        .unless_nopull()
        .passing()
        .offload(&[blocks(KERNEL, "the kernel rewrites no addresses", "use nftables")])
        .set(|d, a| add_client_nat(&mut d.profile.routes.client_nat, a))
        .pushed(|p, a| add_client_nat(&mut p.pushed.client_nat, a)),
    row("dns", "server N TYPE VALUE...|search-domains DOMAIN...", "DNS servers and domains")
        .group(Group::Route)
        .unless_nopull()
        .reset(|p| p.dns = Dns::default())
        .arity(1, 15)
        .set(|d, a| read::dns(a, &mut d.profile.routes.dns, Source::Own))
        .pushed(|p, a| {
            let source = p.source();
            read::dns(a, &mut p.pushed.dns, source)
        }),
    row(
        "dhcp-option",
        "TYPE [VALUE...]",
        "older form of DNS and network settings; exported as foreign_option_N on unix",
    )
    .group(Group::Route)
    .unless_nopull()
    .reset(|p| p.dhcp_options.clear())
    .set(|d, a| {
        d.profile.routes.dhcp_options.push(read::dhcp_option(a)?);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.dhcp_options.push(read::dhcp_option(a)?);
        Ok(())
    }),
];

/// Rules of `client-nat` that OpenVPN takes.
const MOST_CLIENT_NAT: usize = 64;

fn add_client_nat(rules: &mut Vec<ClientNat>, a: &Args<'_>) -> Result<(), Problem> {
    let kinds = [("snat", false), ("dnat", true)];
    let destination = a.one_of(0, &kinds, |_| "client-nat: type must be 'snat' or 'dnat'".to_owned())?;
    let address = |index, what: &str| {
        a.v4(index).ok_or_else(|| problem(format!("client-nat: bad {what}: {}", a.str(index))).at(index))
    };
    let rule = ClientNat {
        destination,
        network: address(1, "network")?,
        netmask: address(2, "netmask")?,
        alias: address(3, "foreign network")?,
    };
    if rules.len() >= MOST_CLIENT_NAT {
        return Err(problem(format!("client-nat table overflow (max {MOST_CLIENT_NAT} entries)")));
    }
    rules.push(rule);
    Ok(())
}

fn gateway6(a: &Args<'_>) -> Result<Ipv6Addr, Problem> {
    let text = || format!("route-ipv6-gateway parm '{}' must be a valid address", a.str(0));
    a.v6(0).ok_or_else(|| problem(text()).at(0))
}

/// Notes the pushed flags of `redirect-gateway` that do nothing.
fn note_bypass(p: &mut PushTarget<'_>, a: &Args<'_>) {
    for word in a.words.iter().filter(|word| word.text.starts_with("bypass-")) {
        p.pushed.note(&word.text, PushReason::NoEffect(WINDOWS_ALONE.to_owned()));
    }
}
