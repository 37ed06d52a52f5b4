//! The management interface, culvert's control socket, and plug-ins.

use super::*;
use crate::{
    args::problem,
    files::Access,
    profile::{ControlSocket, ExternalKey, ManagementAddress, ManagementPassword},
};

/// A row of an option that is nothing without `management`.
const fn with_management(name: &'static str, args: &'static str, help: &'static str) -> OptionRow {
    row(name, args, help).group(Group::Management).default("off")
}

pub(super) const ROWS: &[OptionRow] = &[
    row("management", "ADDR|PATH PORT|unix [PWFILE]", "open the management socket")
        .group(Group::Management)
        .default("off")
        .set(|d, a| {
            d.management.defined = true;
            d.management.unix = a.str(1) == "unix";
            d.profile.management.at = Some(if d.management.unix {
                ManagementAddress::Unix(a.path(0))
            } else {
                ManagementAddress::Tcp { host: a.str(0).to_owned(), port: a.port(1)? }
            });
            if let Some(file) = a.get(2).filter(|file| *file != "stdin") {
                d.other_files.push(("--management user/password file", file.into(), Access::Read));
            }
            d.management.password = a.get(2).is_some();
            d.profile.management.password = a.get(2).map(|file| match file {
                "stdin" => ManagementPassword::Ask,
                file => ManagementPassword::File(file.into()),
            });
            Ok(())
        }),
    with_management("management-client-user", "USER", "restrict unix management socket peers to this user")
        .default("any")
        .set(|d, a| {
            d.management.peer_limited = true;
            d.profile.management.client_user = Some(a.str(0).to_owned());
            Ok(())
        }),
    with_management(
        "management-client-group",
        "GROUP",
        "restrict unix management socket peers to this group",
    )
    .default("any")
    .set(|d, a| {
        d.management.peer_limited = true;
        d.profile.management.client_group = Some(a.str(0).to_owned());
        Ok(())
    }),
    with_management("management-query-passwords", "", "ask the management client for key and login secrets")
        .set(|d, _| {
            d.management.modified = true;
            d.profile.management.query_passwords = true;
            Ok(())
        }),
    with_management(
        "management-query-remote",
        "",
        "ask the management client to accept, change or skip each remote",
    )
    .roles(CLIENT)
    .set(|d, _| {
        d.management.modified = true;
        d.profile.management.query_remote = true;
        Ok(())
    }),
    with_management("management-hold", "", "start in hold until released by the management client").set(
        |d, _| {
            d.management.modified = true;
            d.profile.management.hold = true;
            Ok(())
        },
    ),
    with_management("management-signal", "", "soft restart when the management client goes away").set(
        |d, _| {
            d.management.modified = true;
            d.profile.management.signal = true;
            Ok(())
        },
    ),
    with_management(
        "management-forget-disconnect",
        "",
        "drop cached secrets when the management client goes away",
    )
    .set(|d, _| {
        d.management.modified = true;
        d.profile.management.forget_disconnect = true;
        Ok(())
    }),
    with_management("management-up-down", "", "report interface up/down as >UPDOWN notifications").set(
        |d, _| {
            d.management.modified = true;
            d.profile.management.up_down = true;
            Ok(())
        },
    ),
    with_management("management-client", "", "connect out to the management address instead of listening")
        .set(|d, _| {
            d.management.modified = true;
            d.profile.management.connects = true;
            Ok(())
        }),
    with_management(
        "management-query-proxy",
        "",
        "ask the management client for proxy settings before connecting",
    )
    .roles(CLIENT)
    .offload(&[blocks(KERNEL, "the kernel does not speak to proxies", "remove it")
        .note(Note::Lines(&["Note: --management-query-proxy disables data channel offload."]))])
    .set(|d, _| {
        d.management.modified = true;
        d.profile.management.query_proxy = true;
        Ok(())
    }),
    with_management("management-client-auth", "", "management client decides on every client login")
        .roles(SERVER)
        .set(|d, _| {
            d.management.modified = true;
            d.management.client_auth = true;
            d.profile.management.client_auth = true;
            Ok(())
        }),
    with_management(
        "management-external-key",
        "[nopadding|pkcs1|pss|digest...]",
        "private-key operations are done by the management client",
    )
    .default("pkcs1")
    .set(|d, a| {
        d.management.modified = true;
        d.management.external_key = true;
        let known = ["nopadding", "pkcs1", "pss", "digest"];
        if let Some(index) = a.words.iter().position(|word| !known.contains(&word.text.as_str())) {
            let text = format!("Unknown management-external-key flag: {}", a.str(index));
            return Err(problem(text).at(index));
        }
        let has = |name: &str| a.words.iter().any(|word| word.text == name);
        d.profile.management.external_key = Some(ExternalKey {
            nopadding: has("nopadding"),
            pkcs1: has("pkcs1") || a.words.is_empty(),
            pss: has("pss"),
            digest: has("digest"),
        });
        Ok(())
    }),
    row("management-external-cert", "HINT", "certificate is supplied by the management client")
        .group(Group::Management)
        .set(|d, a| {
            d.management.modified = true;
            d.management.external_cert = true;
            d.profile.management.external_cert = Some(a.str(0).to_owned());
            Ok(())
        }),
    row("management-log-cache", "N", "log lines kept for the management log command")
        .group(Group::Management)
        .default("250")
        .set(|d, a| {
            let lines = a.within(0, a.name, 1..=i32::MAX)?;
            d.management.modified |= lines != 250;
            d.profile.management.log_cache = usize::try_from(lines).ok();
            Ok(())
        }),
    row("plugin", "MODULE [ARG...]", "load a C plug-in module; bare names resolve in the plug-in directory")
        .group(Group::Management)
        .set(|d, a| {
            d.plugin = true;
            d.profile.scripts.plugins.push(crate::value::Command { argv: a.rest(0) });
            Ok(())
        }),
];

/// culvert's own.
pub(super) const OWN_ROWS: &[OptionRow] = &[
    row(
        "management-insecure",
        "",
        "permit a management port without password on an address that others can reach",
    )
    .group(Group::Offload)
    .default("off: such a port is refused")
    .set(|d, _| {
        d.management.modified = true;
        d.profile.management.insecure = true;
        Ok(())
    }),
    row(
    "control-socket",
    "PATH|none",
    "where `culvert status`, `watch`, `kill` and `reload` find this process: a unix socket that only its user may open",
)
.group(Group::Offload)
.default("/run/culvert/NAME.sock, NAME being the configuration file's")
.set(|d, a| {
    d.profile.management.control = match a.str(0) {
        "none" => ControlSocket::Off,
        _ => ControlSocket::At(a.path(0)),
    };
    Ok(())
}),
    row(
        "metrics",
        "ADDR|PATH PORT|unix",
        "serve metrics for Prometheus (OpenMetrics) over HTTP at /metrics, to be read only",
    )
    .group(Group::Offload)
    .default("off")
    .set(|d, a| {
        d.profile.management.metrics = Some(match a.str(1) {
            "unix" => ManagementAddress::Unix(a.path(0)),
            _ => ManagementAddress::Tcp { host: a.str(0).to_owned(), port: a.port(1)? },
        });
        Ok(())
    }),
];
