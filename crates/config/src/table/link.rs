//! Whom to reach, and how.

use std::time::Duration;

use super::*;
use crate::{
    args::{Problem, problem},
    draft::{LocalDraft, RemoteDraft},
    profile::{ConnectRetryMax, Multihome, PortShare, ResolvRetry, Role},
    push::PushReason,
    value::Port,
};

use read::PROTOCOLS;

/// Why a pushed `bind-dev` does nothing, with OpenVPN neither.
const BOUND_BEFORE: &str = "the socket is there before a server can say where it is bound";

pub(super) const ROWS: &[OptionRow] = &[
    row("local", "HOST|* [PORT] [PROTO]", "bind address; repeatable on a server for several sockets")
        .group(Group::Link)
        .also(CONNECTION)
        .default("all addresses")
        .offload(&[
            blocks(WINDOWS, "the driver listens on one address", "use one local")
                .when("several, on a server", |p| {
                    p.role() == Role::Server && p.connections.iter().any(|c| c.locals.len() > 1)
                })
                .note(Note::Lines(&[
                    "NOTE: multiple --local options defined, disabling data channel offload",
                ])),
            kept(LINUX, "the kernel is told the local address of each peer"),
        ])
        .set(|d, a| {
            let host = Some(a.string(0)).filter(|host| host != "*");
            let port = a.get(1).map(|_| a.port(1)).transpose()?;
            let proto = match a.get(2) {
                None => None,
                Some(word) => Some(read::proto(word).ok_or_else(|| bad_protocol(word, 2))?),
            };
            d.ce.locals.push(LocalDraft { host, port, proto });
            Ok(())
        }),
    row("remote", "HOST [PORT] [PROTO]", "peer address; repeatable")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .rules(&[Rule::NotOnServer])
        .set(|d, a| {
            let proto = match a.get(2) {
                None => None,
                Some(word) => Some(read::proto(word).ok_or_else(|| {
                    let text = format!("remote: bad protocol associated with host {}: '{word}'", a.str(0));
                    problem(text).at(2).remedy(format!("write one of: {PROTOCOLS}"))
                })?),
            };
            let remote =
                RemoteDraft { host: a.string(0), port: a.get(1).map(|_| a.port(1)).transpose()?, proto };
            if d.in_connection {
                d.ce.take_remote(remote);
            } else {
                d.remotes.push(remote);
            }
            Ok(())
        }),
    row("connection", "OPTIONS", "one complete connection profile with its own overrides")
        .group(Group::Link)
        .roles(CLIENT)
        .also(INLINE)
        .set(|d, _| {
            d.block = true;
            Ok(())
        }),
    row(
        "proto",
        "udp|tcp|udp4|udp6|tcp4|tcp6|tcp-server|tcp-client|...",
        "transport; who listens for udp or tcp takes IPv4, for udp6 or tcp6 both IPv6 and IPv4",
    )
    .group(Group::Link)
    .also(CONNECTION)
    .default("udp")
    .arity(1, 1)
    .offload(&[blocks(WINDOWS, "the driver serves UDP only", "use udp")
        .when("tcp, on a server", |p| {
            p.role() == Role::Server && p.connections.iter().any(|c| c.proto.transport.is_tcp())
        })
        .note(Note::Lines(&[
            "NOTE: TCP transport disables data channel offload on Windows in server mode.",
        ]))])
    .set(|d, a| {
        d.ce.proto = read::proto(a.str(0)).ok_or_else(|| bad_protocol(a.str(0), 0))?;
        Ok(())
    }),
    row("proto-force", "udp|tcp", "use only profiles of this transport")
        .group(Group::Link)
        .roles(CLIENT)
        .set(|d, a| {
            let proto = read::proto(a.str(0)).ok_or_else(|| {
                problem(format!("Bad --proto-force protocol: '{}'", a.str(0)))
                    .at(0)
                    .remedy("write udp or tcp")
            })?;
            d.proto_force = Some(proto.transport);
            Ok(())
        }),
    row("port", "N|NAME", "local and remote port").group(Group::Link).also(CONNECTION).default("1194").set(
        |d, a| {
            let port = a.port(0)?;
            d.ce.local_port = Some(port.clone());
            d.ce.remote_port = Some(port);
            Ok(())
        },
    ),
    row("lport", "N|NAME", "local port; implies bind unless 0")
        .group(Group::Link)
        .also(CONNECTION)
        .default("1194")
        .set(|d, a| {
            let port = a.port(0)?;
            d.ce.local_port_defined |= port != Port::Number(0);
            d.ce.local_port = Some(port);
            Ok(())
        }),
    row("rport", "N|NAME", "remote port")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .default("1194")
        .set(|d, a| {
            d.ce.remote_port = Some(a.port(0)?);
            Ok(())
        }),
    row("bind", "[ipv6only]", "bind the local port")
        .group(Group::Link)
        .also(CONNECTION)
        .default("on except clients")
        .set(|d, a| {
            d.ce.bind_defined = true;
            d.ce.ipv6_only |= a.get(0) == Some("ipv6only");
            Ok(())
        }),
    row("nobind", "", "use an ephemeral port")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .default("on for clients")
        .rules(&[Rule::NotOnServer])
        .set(|d, _| {
            d.ce.nobind = true;
            Ok(())
        }),
    row("float", "", "accept an authenticated peer from a new address")
        .group(Group::Link)
        .also(CONNECTION)
        .default("off when remote is set")
        .offload(&[kept(
            LINUX,
            "the kernel follows a peer that moves; culvert judges the move and lets the control channel follow",
        )])
        .set(|d, _| {
            d.ce.entry.float = true;
            Ok(())
        }),
    row("multihome", "[same-interface]", "answer from the address the packet arrived on")
        .group(Group::Link)
        .roles(SERVER)
        .default("off")
        .offload(&[
            blocks(LINUX, "the kernel sends by its routes", "write multihome without same-interface")
                .when("same-interface", |p| p.link.multihome == Multihome::SameInterface),
            kept(LINUX, "the kernel is told the address that each peer came to")
                .when("alone", |p| p.link.multihome == Multihome::On),
        ])
        .set(|d, a| {
            d.profile.link.multihome = match a.get(0) {
                None => Multihome::On,
                Some("same-interface") => Multihome::SameInterface,
                Some(word) => return Err(problem(format!("Unknown parameter to --multihome: {word}")).at(0)),
            };
            Ok(())
        }),
    row("remote-random", "", "shuffle the remote list once at start")
        .group(Group::Link)
        .roles(CLIENT)
        .default("off")
        .set(|d, _| {
            d.profile.link.remote_random = true;
            Ok(())
        }),
    row("remote-random-hostname", "", "prefix the remote name with random bytes")
        .group(Group::Link)
        .roles(CLIENT)
        .default("off")
        .set(|d, _| {
            d.profile.link.remote_random_hostname = true;
            Ok(())
        }),
    row("resolv-retry", "SECONDS|infinite", "how long to retry name resolution")
        .group(Group::Link)
        .roles(CALLER)
        .default("infinite")
        .set(|d, a| {
            d.profile.link.resolv_retry = match a.str(0) {
                "infinite" => ResolvRetry::Infinite,
                _ => ResolvRetry::For(a.secs(0)?),
            };
            Ok(())
        }),
    row("preresolve", "[ADDR]", "resolve all names once at start")
        .group(Group::Link)
        .status(Status::NoEffect("names are looked up when they are needed"))
        .roles(CALLER)
        .default("off"),
    row("ip-remote-hint", "[ADDR]", "old spelling of preresolve with an address hint")
        .group(Group::Link)
        .roles(CLIENT)
        .status(Status::NoEffect("names are looked up when they are needed")),
    row("connect-retry", "SECONDS [MAX]", "wait between attempts, growing exponentially to MAX")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .default("1 300")
        .set(|d, a| {
            let mut base = a.number(0)?;
            if base > 0xFFFF {
                base = 0xFFFF;
                d.warn(format!("connect retry wait interval truncated to {base}"));
            }
            d.ce.entry.connect_retry = Duration::from_secs(base.into());
            if let Some(max) = a.number_opt(1)? {
                d.ce.entry.connect_retry_max = Duration::from_secs(max.max(base).into());
            }
            Ok(())
        }),
    row("connect-timeout", "SECONDS", "give up waiting for the first reply and take the next remote")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .default("120")
        .set(|d, a| {
            d.ce.entry.connect_timeout = a.secs(0)?;
            Ok(())
        }),
    row("server-poll-timeout", "SECONDS", "old name of connect-timeout")
        .group(Group::Link)
        .roles(CLIENT)
        .also(CONNECTION)
        .default("120")
        .set(|d, a| {
            d.ce.entry.connect_timeout = a.secs(0)?;
            Ok(())
        }),
    row("connect-retry-max", "N", "rounds over the remote list before exiting")
        .group(Group::Link)
        .roles(CALLER)
        .also(CONNECTION)
        .default("0 (endless)")
        .set(|d, a| {
            d.profile.link.connect_retry_max = match a.number(0)? {
                0 => ConnectRetryMax::Endless,
                rounds => ConnectRetryMax::Rounds(rounds),
            };
            Ok(())
        }),
    row("rcvbuf", "BYTES", "socket receive buffer")
        .group(Group::Link)
        .default("os")
        .offload(SOCKET_BUFFERS)
        .set(|d, a| {
            d.profile.link.rcvbuf = Some(a.number(0)?).filter(|bytes| *bytes > 0);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.rcvbuf = Some(a.number(0)?).filter(|bytes| *bytes > 0);
            Ok(())
        }),
    row("sndbuf", "BYTES", "socket send buffer")
        .group(Group::Link)
        .default("os")
        .offload(SOCKET_BUFFERS)
        .set(|d, a| {
            d.profile.link.sndbuf = Some(a.number(0)?).filter(|bytes| *bytes > 0);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.sndbuf = Some(a.number(0)?).filter(|bytes| *bytes > 0);
            Ok(())
        }),
    row("mark", "N", "firewall mark on encrypted packets")
        .group(Group::Link)
        .default("0")
        .offload(&[kept(LINUX, "the kernel sends with the mark of the socket")])
        .set(|d, a| {
            d.profile.link.mark = u32::try_from(a.signed(0)?).ok().filter(|mark| *mark != 0);
            Ok(())
        }),
    row("socket-flags", "[TCP_NODELAY...]", "socket options; TCP_NODELAY is always on")
        .group(Group::Link)
        .default("on")
        .status(Status::NoEffect("TCP_NODELAY is always on"))
        .also(PUSH)
        .also(CCD)
        .set(|_, a| match a.words.iter().position(|word| word.text != "TCP_NODELAY") {
            Some(index) => Err(problem(format!("unknown socket flag: {}", a.str(index))).at(index)),
            None => Ok(()),
        }),
    row("bind-dev", "DEV", "bind the socket to a device or VRF")
        .group(Group::Link)
        .also(CCD)
        .offload(&[blocks(
            LINUX,
            "the module sends by the routing tables, whatever the socket is bound to",
            "use mark with a rule of ip-rule(8)",
        )])
        .set(|d, a| {
            d.profile.link.bind_dev = Some(a.string(0));
            Ok(())
        })
        .passing()
        .pushed(|p, _| {
            p.pushed.note("bind-dev", PushReason::NoEffect(BOUND_BEFORE.to_owned()));
            Ok(())
        }),
    row("passtos", "", "copy the TOS byte to the outer packet")
        .group(Group::Link)
        .default("off")
        .offload(&[ignores(KERNEL, "the outer packet has no TOS byte of the inner one", "remove it")])
        .set(|d, _| {
            d.profile.link.pass_tos = true;
            Ok(())
        }),
    row(
        "explicit-exit-notify",
        "[N]",
        "tell the peer on exit; on a server N=2 sends clients to the next server; \
                without effect over TCP, where it is said and ignored",
    )
    .group(Group::Link)
    .passing()
    .also(CONNECTION)
    .default("off; 1")
    .offload(&[kept(
        KERNEL,
        "the farewell takes the control channel, as between peers from 2.6 on; an older peer's is not seen, its silence is",
    )])
    .set(|d, a| {
        d.ce.entry.explicit_exit_notify = a.number_opt(0)?.unwrap_or(1);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.explicit_exit_notify = Some(a.number_opt(0)?.unwrap_or(1));
        Ok(())
    }),
    row("persist-local-ip", "", "keep the local address over soft restarts")
        .group(Group::Link)
        .status(Status::NoEffect("local names are looked up at every attempt"))
        .default("off"),
    row("persist-remote-ip", "", "keep the remote address over soft restarts")
        .group(Group::Link)
        .roles(CALLER)
        .default("off")
        .set(|d, _| {
            d.profile.link.persist_remote_ip = true;
            Ok(())
        }),
    row("allow-recursive-routing", "", "accept that packets to the server are routed into the tunnel; without, it is warned about")
        .group(Group::Link)
        .roles(CALLER)
        .default("off")
        .rules(&[Rule::NotOnServer])
        .set(|d, _| {
            d.profile.link.allow_recursive_routing = true;
            Ok(())
        }),
    row("port-share", "HOST PORT [DIR]", "forward non-VPN TCP connections to a web server")
        .group(Group::Link)
        .roles(SERVER)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let journal = a.get(2).map(|_| a.path(2));
            d.profile.server.port_share = Some(PortShare { host: a.string(0), port: a.port(1)?, journal });
            Ok(())
        }),
    row("shaper", "BYTES_PER_SECOND", "limit outgoing rate, 100..100000000")
        .group(Group::Link)
        .roles(CALLER)
        .default("off")
        .rules(&[Rule::NotOnServer])
        .offload(&[
            kept(LINUX, "a queueing discipline of the device (tc) limits the rate"),
            ignores(WINDOWS, "the driver sends as fast as it can", "remove it"),
        ])
        .set(|d, a| {
            d.profile.link.shaper = Some(read::shaper(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.shaper = Some(read::shaper(a)?);
            Ok(())
        }),
];

const SOCKET_BUFFERS: &[Effect] =
    &[ignores(LINUX, "over UDP data packets do not pass the buffers of the socket", "").when("UDP", |p| {
        let asked = p.link.rcvbuf.is_some() || p.link.sndbuf.is_some();
        asked && p.connections.iter().any(|c| !c.proto.transport.is_tcp())
    })];

fn bad_protocol(word: &str, index: usize) -> Problem {
    problem(format!("Bad protocol: '{word}'. Allowed protocols with --proto option: {PROTOCOLS}")).at(index)
}
