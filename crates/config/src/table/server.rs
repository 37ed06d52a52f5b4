//! What a server gives to all its clients.

use std::{net::Ipv4Addr, time::Duration};

use culvert_wire::VlanAccept;

use super::*;
use crate::{
    args::{Args, Problem, network, problem},
    ccd::PushEdit,
    draft::ServerNet,
    profile::{ConnectFreq, IfconfigPool, Ipv6Pool, Mode, PoolPersist},
};

pub(super) const ROWS: &[OptionRow] = &[
    row("server", "NET MASK [nopool]", "expands to a subnet server with a pool")
        .group(Group::Server)
        .roles(SERVER)
        .set(|d, a| {
            let nopool = match a.get(2) {
                None => false,
                Some("nopool") => true,
                Some(word) => {
                    return Err(
                        problem(format!("error parsing --server: {word} is not a recognized flag")).at(2)
                    );
                }
            };
            let wrong = |index| problem("error parsing --server parameters").at(index);
            let network = a.v4_of_prefix(0).filter(|net| !net.is_unspecified()).ok_or_else(|| wrong(0))?;
            let mask = a.v4_of_prefix(1).filter(|mask| !mask.is_unspecified()).ok_or_else(|| wrong(1))?;
            d.helpers.server = Some(ServerNet { network, mask, nopool });
            Ok(())
        }),
    row("server-ipv6", "NET/BITS", "expands to an IPv6 server with a pool, /64 to /124")
        .group(Group::Server)
        .roles(SERVER)
        .set(|d, a| {
            let net = a.net6(0).ok_or_else(|| problem("error parsing --server-ipv6 parameter").at(0))?;
            if !(64..=124).contains(&net.bits) {
                let text = format!(
                    "--server-ipv6 settings: network must be between /64 and /124 (not /{})",
                    net.bits
                );
                return Err(problem(text).at(0));
            }
            d.helpers.server6 = Some(net);
            Ok(())
        }),
    row("server-bridge", "[nogw|GW MASK START END]", "expands to a bridged TAP server")
        .group(Group::Server)
        .roles(SERVER)
        .arity(0, 4)
        .set(|d, a| {
            match (a.len(), a.get(0)) {
                (0, _) => d.helpers.bridge = Some(None),
                (1, Some("nogw")) => {
                    d.helpers.bridge = Some(None);
                    d.helpers.bridge_nogw = true;
                }
                _ => {
                    let wrong = |index| problem("error parsing --server-bridge parameters").at(index);
                    let address = |index| a.v4_of_prefix(index).ok_or_else(|| wrong(index));
                    d.helpers.bridge = Some(Some([address(0)?, address(1)?, address(2)?, address(3)?]));
                }
            }
            Ok(())
        }),
    row("push", "OPTION", "add an option to every client's push list").live()
        .group(Group::Server)
        .roles(SERVER)
        .set(|d, a| {
            d.profile.server.push.push(push_option(a)?);
            Ok(())
        })
        .client(|c, a| {
            c.push.push(PushEdit::Add(push_option(a)?));
            Ok(())
        }),
    row("ifconfig-pool", "START END [MASK]", "IPv4 pool")
        .group(Group::Server)
        .roles(SERVER)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let address = |index| {
                a.v4_of_prefix(index).ok_or_else(|| problem("error parsing --ifconfig-pool parameters").at(index))
            };
            let (start, end) = (address(0)?, address(1)?);
            let netmask = a.get(2).map(|_| address(2)).transpose()?;
            pool_range(start, end)?;
            d.profile.server.pool = Some(IfconfigPool { start, end, netmask });
            Ok(())
        }),
    row(
        "ifconfig-pool-persist",
        "FILE [SECONDS]",
        "remember address assignments; 0 makes the file read-only",
    )
    .group(Group::Server)
    .roles(SERVER)
    .default("600")
    .rules(&[Rule::ServerOnly])
    .set(|d, a| {
        let interval = Duration::from_secs(a.number_opt(1)?.unwrap_or(600).into());
        d.profile.server.pool_persist = Some(PoolPersist { path: a.path(0), interval });
        Ok(())
    }),
    row("ifconfig-ipv6-pool", "BASE/BITS", "IPv6 pool")
        .group(Group::Server)
        .roles(SERVER)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let base =
                a.net6(0).ok_or_else(|| problem("error parsing --ifconfig-ipv6-pool parameters").at(0))?;
            if !(64..=124).contains(&base.bits) {
                let text = format!(
                    "--ifconfig-ipv6-pool settings: network must be between /64 and /124 (not /{})",
                    base.bits
                );
                return Err(problem(text).at(0));
            }
            d.profile.server.pool6 = Some(Ipv6Pool { base });
            Ok(())
        }),
    row("ifconfig-push-constraint", "NET MASK", "refuse fixed addresses outside this network").live()
        .group(Group::Server)
        .roles(SERVER)
        .set(|d, a| {
            let wrong = || problem("cannot parse --ifconfig-push-constraint addresses");
            let address = a.v4(0).ok_or_else(|| wrong().at(0))?;
            let net = a.v4(1).and_then(|mask| network(address, mask)).ok_or_else(|| wrong().at(1))?;
            d.profile.server.push_constraint = Some(net);
            Ok(())
        }),
    row("hash-size", "REAL VIRTUAL", "hash table sizes")
        .group(Group::Server)
        .roles(SERVER)
        .default("4 x max-clients")
        .status(Status::NoEffect("tables grow by themselves"))
        .rules(&[Rule::ServerOnly])
        .set(|_, a| {
            a.within(0, "hash-size real", 1..=i32::MAX)?;
            a.within(1, "hash-size virtual", 1..=i32::MAX).map(drop)
        }),
    row("connect-freq", "N SECONDS", "limit new sessions").live()
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            d.profile.server.connect_freq = Some(frequency(a, "connect-freq n", "connect-freq seconds")?);
            Ok(())
        }),
    row("connect-freq-initial", "N SECONDS", "limit answers to first packets of each address; its /24 (IPv6: /48) gets ten times as many").live()
        .group(Group::Server)
        .roles(SERVER)
        .default("100 10")
        .set(|d, a| {
            d.profile.server.connect_freq_initial =
                Some(frequency(a, "connect-freq-initial n", "connect-freq-initial seconds")?);
            Ok(())
        }),
    row("max-clients", "N", "session limit").live().group(Group::Server).roles(SERVER).default("1024").set(
        |d, a| {
            d.profile.server.max_clients = a.within(0, a.name, 1..=0xFF_FFFF)?;
            Ok(())
        },
    ),
    row("max-routes-per-client", "N", "limit of addresses and networks (iroute) per client")
        .live()
        .group(Group::Server)
        .roles(SERVER)
        .default("256")
        .set(|d, a| {
            d.profile.server.max_routes_per_client = a.within(0, a.name, 1..=i32::MAX)?;
            Ok(())
        })
        .client(|c, a| {
            c.max_routes_per_client = Some(a.within(0, a.name, 1..=i32::MAX)?);
            Ok(())
        }),
    row("bcast-buffers", "N", "broadcast queue length")
        .group(Group::Server)
        .roles(SERVER)
        .default("256")
        .status(Status::NoEffect("broadcasts are not queued"))
        .set(|_, a| a.within(0, a.name, 1..=268_435_456).map(drop)),
    row("tcp-queue-limit", "N", "queued packets per TCP client")
        .group(Group::Server)
        .roles(SERVER)
        .default("64")
        .status(Status::NoEffect("queues of TCP clients are bounded by bytes"))
        .set(|_, a| a.within(0, a.name, 1..=i32::MAX).map(drop)),
    row("client-to-client", "", "switch between clients inside the process")
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .offload(&[
            kept(KERNEL, "packets between clients pass through this machine's routing, which must forward (ip_forward)")
                .note(Note::Lines(&[
                    "Note: --client-to-client has no effect when using data channel offload: packets are always sent to the VPN \
                     interface and then routed based on the system routing table",
                ])),
            kept(LINUX, "without it a rule of nftables keeps clients apart")
                .presence(Presence::Missing)
                .when("not written, on a server", |p| p.mode == Mode::Server),
        ])
        .set(|d, _| {
            d.profile.server.client_to_client = true;
            Ok(())
        }),
    row("duplicate-cn", "", "allow several sessions per common name").live()
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .set(|d, _| {
            d.profile.server.duplicate_cn = true;
            Ok(())
        }),
    row("tcp-nodelay", "", "pushes socket-flags TCP_NODELAY")
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .status(Status::NoEffect("TCP_NODELAY is always on; a server still tells old clients"))
        .set(|d, _| {
            d.helpers.tcp_nodelay = true;
            Ok(())
        }),
    row("stale-routes-check", "AGE [INTERVAL]", "drop learned addresses not used for AGE")
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let age = a.within(0, "stale-routes-check age", 1..=i32::MAX)?;
            let interval = match a.get(1) {
                Some(_) => a.within(1, "stale-routes-check interval", 1..=i32::MAX)?,
                None => age,
            };
            d.profile.server.stale_routes =
                Some((Duration::from_secs(age.into()), Duration::from_secs(interval.into())));
            Ok(())
        }),
    row("vlan-tagging", "", "802.1Q tags on a TAP server")
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .set(|d, _| {
            d.vlan.tagging = true;
            Ok(())
        }),
    row("vlan-accept", "tagged|untagged|all", "tag policy on the TAP device")
        .group(Group::Server)
        .roles(SERVER)
        .default("all")
        .set(|d, a| {
            use VlanAccept::{All, Tagged, Untagged};
            let choices = [("tagged", Tagged), ("untagged", Untagged), ("all", All)];
            d.vlan.accept =
                a.one_of(0, &choices, |_| "--vlan-accept must be 'tagged', 'untagged' or 'all'".to_owned())?;
            Ok(())
        }),
    row("vlan-pvid", "ID", "VLAN of the server or of one client")
        .group(Group::Server)
        .roles(SERVER)
        .also(CCD)
        .default("1")
        .set(|d, a| {
            d.vlan.pvid = Some(vlan(a)?).filter(|pvid| *pvid != 1);
            Ok(())
        })
        .client(|c, a| {
            c.vlan_pvid = Some(vlan(a)?);
            Ok(())
        }),
];

/// The most addresses of a pool.
const POOL_MAX: u32 = 65_536;

fn vlan(a: &Args<'_>) -> Result<u16, Problem> {
    let number: u32 = a.within(0, a.name, 1..=4094)?;
    // What is within these bounds is no larger.
    Ok(u16::try_from(number).unwrap_or(4094))
}

fn push_option(a: &Args<'_>) -> Result<String, Problem> {
    match a.str(0) {
        text if text.contains(',') => {
            Err(problem(format!("PUSH OPTION FAILED (illegal comma (',') in string): '{text}'")).at(0))
        }
        text => Ok(text.to_owned()),
    }
}

/// Checks the ends of a pool.
pub(crate) fn pool_range(start: Ipv4Addr, end: Ipv4Addr) -> Result<(), Problem> {
    match u32::from(end).checked_sub(u32::from(start)) {
        None => {
            let text = format!("--ifconfig-pool start IP [{start}] is greater than end IP [{end}]");
            Err(problem(text).at(1).remedy("write the lower address first"))
        }
        Some(size) if size >= POOL_MAX => Err(problem(format!(
            "--ifconfig-pool address range is too large [{start} -> {end}].  Current maximum is {POOL_MAX} addresses, as \
             defined by IFCONFIG_POOL_MAX variable."
        ))
        .at(1)),
        Some(_) => Ok(()),
    }
}

fn frequency(a: &Args<'_>, count: &str, secs: &str) -> Result<ConnectFreq, Problem> {
    let count = a.within(0, count, 1..=i32::MAX)?;
    let per = Duration::from_secs(a.within(1, secs, 1..=i32::MAX)?.into());
    Ok(ConnectFreq { count, per })
}
