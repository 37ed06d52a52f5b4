//! What is written down, and where.

use super::*;
use crate::{effect::ParseEffect, push::PushReason};

/// Why a server does not say where a client's errors go.
const LOG_IS_ITS_OWN: &str = "where a client's log goes is for its own configuration to say";

pub(super) const ROWS: &[OptionRow] = &[
    row("log", "FILE", "log to a truncated file").live().group(Group::Log).default("stdout").set(|d, a| {
        let path = d.resolve(&a.path(0));
        d.effect(ParseEffect::Log { path, append: false });
        Ok(())
    }),
    row("log-append", "FILE", "log to a file, appending").live().group(Group::Log).default("stdout").set(
        |d, a| {
            let path = d.resolve(&a.path(0));
            d.effect(ParseEffect::Log { path, append: true });
            Ok(())
        },
    ),
    row("syslog", "[NAME]", "log to syslog without becoming a daemon")
        .live()
        .group(Group::Log)
        .default("openvpn")
        .set(|d, a| {
            d.effect(ParseEffect::Syslog(a.get(0).unwrap_or("openvpn").to_owned()));
            Ok(())
        }),
    row("suppress-timestamps", "", "no time prefix on log lines")
        .live()
        .group(Group::Log)
        .default("off")
        .set(|d, _| {
            d.profile.log.suppress_timestamps = true;
            d.effect(ParseEffect::SuppressTimestamps);
            Ok(())
        }),
    row("machine-readable-output", "", "prefix lines with epoch.microseconds and hex message flags")
        .live()
        .group(Group::Log)
        .default("off")
        .set(|d, _| {
            d.profile.log.machine_readable = true;
            d.effect(ParseEffect::MachineReadable);
            Ok(())
        }),
    row("log-json", "", "write log lines as JSON objects: time, severity, verb, peer, message")
        .live()
        .group(Group::Offload)
        .default("off")
        .set(|d, _| {
            d.profile.log.json = true;
            Ok(())
        }),
    row("errors-to-stderr", "", "errors to stderr instead of stdout")
        .live()
        .group(Group::Log)
        .default("off")
        .passing()
        .pushed(|p, _| {
            p.pushed.note("errors-to-stderr", PushReason::NoEffect(LOG_IS_ITS_OWN.to_owned()));
            Ok(())
        })
        .set(|d, _| {
            d.profile.log.errors_to_stderr = true;
            d.effect(ParseEffect::ErrorsToStderr);
            Ok(())
        }),
    row("verb", "N", "log detail")
        .live()
        .group(Group::Log)
        .default("1")
        .set(|d, a| {
            d.profile.log.verb = read::verb(a)?;
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.verb = Some(read::verb(a)?);
            Ok(())
        }),
    row("mute", "N", "log at most N consecutive messages of one category")
        .live()
        .group(Group::Log)
        .default("0 (off)")
        .set(|d, a| {
            d.profile.log.mute = Some(a.number(0)?).filter(|n| *n > 0);
            Ok(())
        })
        .pushed(|p, a| {
            // 0 turns the client's own limit off.
            p.pushed.mute = Some(a.number(0)?);
            Ok(())
        }),
    row("status", "FILE [SECONDS]", "write the status file periodically")
        .live()
        .group(Group::Log)
        .default("60 s")
        .set(|d, a| {
            d.status.1 = a.number_opt(1)?.or(d.status.1);
            d.status.0 = Some(a.path(0));
            Ok(())
        }),
    row("status-version", "1|2|3", "status file format").live().group(Group::Log).default("1").set(|d, a| {
        d.status.2 = Some(a.within(0, a.name, 1..=3)?);
        Ok(())
    }),
    row(
        "status-addresses",
        "2.6|2.7",
        "how status shows a client's address: 192.0.2.1:1194 as OpenVPN 2.6, udp4:192.0.2.1:1194 as 2.7",
    )
    .live()
    .group(Group::Offload)
    .roles(SERVER)
    .default("2.7")
    .set(|d, a| {
        let choices = [("2.6", true), ("2.7", false)];
        let wrong = |word: &str| format!("--status-addresses must be '2.6' or '2.7', not '{word}'");
        d.profile.log.bare_addresses = a.one_of(0, &choices, wrong)?;
        Ok(())
    }),
    row(
        "echo",
        "[WORD...]",
        "hand the words to the management interface; text starting with msg is also logged",
    )
    .group(Group::Log)
    .set(|d, a| {
        take_echo(d, a);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.echo.push(a.rest(0).join(" "));
        Ok(())
    })
    .also(CCD),
    row("parameter", "[WORD...]", "synonym of echo")
        .group(Group::Log)
        .set(|d, a| {
            take_echo(d, a);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.echo.push(a.rest(0).join(" "));
            Ok(())
        })
        .also(CCD),
];

/// `echo` is said when it is read, and kept for the management interface.
fn take_echo(d: &mut Draft, a: &Args<'_>) {
    let text = a.rest(0).join(" ");
    d.profile.management.echo.push(text.clone());
    d.effect(ParseEffect::Echo(text));
}
