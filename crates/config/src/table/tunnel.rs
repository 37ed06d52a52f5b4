//! The virtual device, its addresses, and how long silence is taken for life.

use super::*;
use crate::{
    args::{Args, Problem, problem},
    profile::Role,
    value::{PingAction, Topology},
};

pub(super) const ROWS: &[OptionRow] = &[
    row("dev", "tun[N]|NAME|tap[N]|null", "virtual device to use")
        .group(Group::Tunnel)
        .default("tun")
        .arity(1, 1)
        .offload(&[
            blocks(KERNEL, "the kernel has tun devices only", "use dev tun")
                .when("tap", |p| p.device.tap && p.device.dev.starts_with("tap"))
                .note(NOT_TUN),
            blocks(KERNEL, "the kernel's device is always there", "use dev tun")
                .when("null", |p| p.device.null && p.device.dev.starts_with("null"))
                .note(NULL),
        ])
        .set(|d, a| {
            let name = a.str(0);
            let wrong = name.is_empty()
                || name.contains('/')
                || name.chars().any(|c| c.is_control() || c.is_whitespace());
            if wrong {
                return Err(problem(format!("Bad --dev name: {name}"))
                    .at(0)
                    .remedy("write tun, or a name without blanks and slashes")
                    .late());
            }
            d.profile.device.dev = name.to_owned();
            Ok(())
        }),
    row("dev-type", "tun|tap", "device type when the name does not start with tun/tap")
        .group(Group::Tunnel)
        .default("from dev name")
        .offload(&[
            blocks(KERNEL, "the kernel has tun devices only", "write dev-type tun")
                .when("tap", |p| p.device.tap && !p.device.dev.starts_with("tap"))
                .note(NOT_TUN),
            blocks(KERNEL, "the kernel's device is always there", "write dev-type tun")
                .when("null", |p| p.device.null && !p.device.dev.starts_with("null"))
                .note(NULL),
        ])
        .set(|d, a| {
            d.dev_type = Some(a.string(0));
            Ok(())
        }),
    row("dev-node", "NODE|unix:PROGRAM", "device node path, adapter name, or a program acting as the device")
        .group(Group::Tunnel)
        .default("platform")
        .offload(&[
            blocks(KERNEL, "the kernel's device is no program", "remove it")
                .when("unix:", is_program)
                .note(Note::Lines(&["Note: afunix tun type selected, disabling data channel offload"])),
            ignores(LINUX, "the module makes its device itself", "remove it")
                .when("anything else", |p| p.device.dev_node.is_some() && !is_program(p))
                .note(Note::Lines(&[
                    "Note: ignoring --dev-node as it has no effect when using data channel offload",
                ])),
        ])
        .set(|d, a| {
            d.profile.device.dev_node = Some(a.string(0));
            Ok(())
        }),
    row("lladdr", "MAC", "set the TAP link-layer address")
        .group(Group::Tunnel)
        .set(|d, a| {
            d.profile.device.lladdr = Some(mac(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.lladdr = Some(mac(a)?);
            Ok(())
        }),
    row("topology", "net30|p2p|subnet", "how addresses are laid out inside the tunnel")
        .group(Group::Tunnel)
        .reset(|p| p.topology = None)
        .also(UPDATE)
        .default("subnet for servers (2.7), net30 otherwise")
        .offload(&[blocks(KERNEL, "the kernel knows subnets only", "use topology subnet")
            .when("net30 or p2p, on a server with IPv4", |p| {
                let ipv4 = p.server.pool.is_some() || p.device.ifconfig.is_some();
                let subnet = p.device.topology.is_none_or(|topology| topology == Topology::Subnet);
                p.role() == Role::Server && ipv4 && !subnet
            })
            .note(Note::Lines(&["Note: NOT using '--topology subnet' disables data channel offload."]))])
        .set(|d, a| {
            d.profile.device.topology = Some(read::topology(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.topology = Some(read::topology(a)?);
            Ok(())
        }),
    row("ifconfig", "LOCAL REMOTE_OR_MASK", "tunnel IPv4 addresses")
        .group(Group::Tunnel)
        .reset(|p| p.ifconfig = None)
        .also(UPDATE)
        .set(|d, a| {
            d.profile.device.ifconfig = Some(read::ifconfig(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.ifconfig = Some(read::ifconfig(a)?);
            Ok(())
        }),
    row("ifconfig-ipv6", "ADDR/BITS REMOTE", "tunnel IPv6 address, /64 to /124")
        .group(Group::Tunnel)
        .reset(|p| p.ifconfig_ipv6 = None)
        .also(UPDATE)
        .set(|d, a| {
            d.profile.device.ifconfig_ipv6 = Some(read::ifconfig_ipv6(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.ifconfig_ipv6 = Some(read::ifconfig_ipv6(a)?);
            Ok(())
        }),
    row("ifconfig-noexec", "", "do not configure the interface, only export the variables")
        .group(Group::Tunnel)
        .default("off")
        .set(|d, _| {
            d.profile.device.ifconfig_noexec = true;
            Ok(())
        })
        .pushed(|p, _| {
            p.pushed.ifconfig_noexec = true;
            Ok(())
        }),
    row("ifconfig-nowarn", "", "silence address mismatch warnings")
        .group(Group::Tunnel)
        .default("off")
        .status(Status::NoEffect("there is no such warning"))
        .also(PUSH),
    row("iproute", "PATH", "run this command instead of ip(8)")
        .group(Group::Tunnel)
        .default("built-in netlink")
        .status(Status::NoEffect("addresses and routes are set without external programs")),
    row("txqueuelen", "N", "transmit queue length of the device")
        .group(Group::Tunnel)
        .default("by frame size")
        .offload(&[ignores(LINUX, "the module's device has no queue", "add one with tc qdisc")])
        .set(|d, a| {
            d.profile.device.txqueuelen = Some(a.number(0)?);
            Ok(())
        }),
    row("persist-tun", "", "keep the device over soft restarts")
        .group(Group::Tunnel)
        .default("off")
        .set(|d, _| {
            d.profile.device.persist_tun = true;
            Ok(())
        })
        .pushed(|p, _| {
            p.pushed.persist_tun = true;
            Ok(())
        }),
    row(
        "keepalive",
        "INTERVAL TIMEOUT",
        "expands to ping/ping-restart; a server doubles its own timeout and pushes both",
    )
    .live()
    .group(Group::Tunnel)
    .also(UPDATE)
    .default("off")
    .set(|d, a| {
        d.helpers.keepalive =
            Some((read::keepalive(a, 0, "keepalive ping")?, read::keepalive(a, 1, "keepalive timeout")?));
        Ok(())
    }),
    row("ping", "SECONDS", "send a keepalive when idle")
        .live()
        .group(Group::Tunnel)
        .passing()
        .default("off")
        .set(|d, a| {
            d.profile.keepalive.ping = read::ping(a)?;
            Ok(())
        })
        .pushed(|p, a| {
            // 0 turns the client's own pings off.
            p.pushed.ping = Some(read::ping(a)?.unwrap_or_default());
            Ok(())
        })
        .client(|c, a| {
            c.ping = Some(read::ping(a)?.unwrap_or_default());
            Ok(())
        }),
    row("ping-exit", "SECONDS", "exit when nothing arrives for this long")
        .live()
        .group(Group::Tunnel)
        .passing()
        .default("off")
        .set(|d, a| {
            d.profile.keepalive.timeout = read::ping(a)?.map(|time| (time, PingAction::Exit));
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.ping_timeout = Some((read::ping(a)?.unwrap_or_default(), PingAction::Exit));
            Ok(())
        })
        .client(|c, a| {
            c.ping_timeout = Some((read::ping(a)?.unwrap_or_default(), PingAction::Exit));
            Ok(())
        }),
    row("ping-restart", "SECONDS", "restart when nothing arrives for this long")
        .live()
        .group(Group::Tunnel)
        .passing()
        .default("120 when pulling")
        .set(|d, a| {
            d.profile.keepalive.timeout = read::ping(a)?.map(|time| (time, PingAction::Restart));
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.ping_timeout = Some((read::ping(a)?.unwrap_or_default(), PingAction::Restart));
            Ok(())
        })
        .client(|c, a| {
            c.ping_timeout = Some((read::ping(a)?.unwrap_or_default(), PingAction::Restart));
            Ok(())
        }),
    row("ping-timer-rem", "", "run the timeout only once a remote address is known")
        .group(Group::Tunnel)
        .status(Status::NoEffect("the timeout runs only while there is a peer"))
        .passing()
        .default("off")
        .also(PUSH)
        .also(CCD),
    row("inactive", "SECONDS [BYTES]", "exit (or drop the client) when traffic stays under BYTES")
        .live()
        .group(Group::Tunnel)
        .default("off")
        .offload(&[kept(KERNEL, "the kernel's counters are read")])
        .set(|d, a| {
            d.profile.keepalive.inactive = read::inactive(a)?;
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.inactive = read::inactive(a)?;
            Ok(())
        })
        .client(|c, a| {
            c.inactive = read::inactive(a)?;
            Ok(())
        }),
    row("session-timeout", "SECONDS", "end the session after this time")
        .live()
        .group(Group::Tunnel)
        .default("off")
        .set(|d, a| {
            d.profile.keepalive.session_timeout = read::off_or_secs(a)?;
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.session_timeout = read::off_or_secs(a)?;
            Ok(())
        })
        .client(|c, a| {
            c.session_timeout = read::off_or_secs(a)?;
            Ok(())
        }),
];

const NOT_TUN: Note = Note::Lines(&["Note: dev-type not tun, disabling data channel offload."]);
const NULL: Note = Note::Lines(&["Note: null tun type selected, disabling data channel offload"]);

/// Six pairs of hexadecimal digits.
fn mac(a: &Args<'_>) -> Result<[u8; 6], Problem> {
    let wrong = || problem(format!("lladdr parm '{}' must be a MAC address", a.str(0))).at(0);
    let mut mac = [0; 6];
    let mut pairs = a.str(0).split(':');
    for byte in &mut mac {
        let digits = |pair: &&str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
        let pair = pairs.next().filter(digits).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    if pairs.next().is_some() { Err(wrong()) } else { Ok(mac) }
}

/// `dev-node unix:PROGRAM`.
fn is_program(profile: &Profile) -> bool {
    profile.device.program().is_some()
}
