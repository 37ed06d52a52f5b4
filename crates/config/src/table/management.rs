//! The management interface and plug-ins.

use super::*;
use crate::{args::problem, files::Access};

pub(super) const ROWS: &[OptionRow] = &[
    row("management", "ADDR|PATH PORT|unix [PWFILE]", "open the management socket")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, a| {
            d.management.defined = true;
            d.management.unix = a.str(1) == "unix";
            if !d.management.unix {
                a.port(1)?;
            }
            if let Some(file) = a.get(2).filter(|file| *file != "stdin") {
                d.other_files.push(("--management user/password file", file.into(), Access::Read));
            }
            d.management.password = a.get(2).is_some();
            Ok(())
        }),
    row("management-client-user", "USER", "restrict unix management socket peers to this user")
        .group(Group::Management)
        .default("any")
        .not_yet()
        .set(|d, _| {
            d.management.peer_limited = true;
            Ok(())
        }),
    row("management-client-group", "GROUP", "restrict unix management socket peers to this group")
        .group(Group::Management)
        .default("any")
        .not_yet()
        .set(|d, _| {
            d.management.peer_limited = true;
            Ok(())
        }),
    row("management-query-passwords", "", "ask the management client for key and login secrets")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-query-remote", "", "ask the management client to accept, change or skip each remote")
        .group(Group::Management)
        .roles(CLIENT)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-hold", "", "start in hold until released by the management client")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-signal", "", "soft restart when the management client goes away")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-forget-disconnect", "", "drop cached secrets when the management client goes away")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-up-down", "", "report interface up/down as >UPDOWN notifications")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-client", "", "connect out to the management address instead of listening")
        .group(Group::Management)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-query-proxy", "", "ask the management client for proxy settings before connecting")
        .group(Group::Management)
        .roles(CLIENT)
        .default("off")
        .not_yet()
        .offload(&[blocks(KERNEL, "the kernel does not speak to proxies", "remove it")
            .note(Note::Lines(&["Note: --management-query-proxy disables data channel offload."]))])
        .set(|d, _| {
            d.management.modified = true;
            Ok(())
        }),
    row("management-client-auth", "", "management client decides on every client login")
        .group(Group::Management)
        .roles(SERVER)
        .default("off")
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            d.management.client_auth = true;
            Ok(())
        }),
    row(
        "management-external-key",
        "[nopadding|pkcs1|pss|digest...]",
        "private-key operations are done by the management client",
    )
    .group(Group::Management)
    .default("pkcs1")
    .not_yet()
    .set(|d, a| {
        d.management.modified = true;
        d.management.external_key = true;
        let known = ["nopadding", "pkcs1", "pss", "digest"];
        match a.words.iter().position(|word| !known.contains(&word.text.as_str())) {
            Some(index) => {
                Err(problem(format!("Unknown management-external-key flag: {}", a.str(index))).at(index))
            }
            None => Ok(()),
        }
    }),
    row("management-external-cert", "HINT", "certificate is supplied by the management client")
        .group(Group::Management)
        .not_yet()
        .set(|d, _| {
            d.management.modified = true;
            d.management.external_cert = true;
            Ok(())
        }),
    row("management-log-cache", "N", "log lines kept for the management log command")
        .group(Group::Management)
        .default("250")
        .not_yet()
        .set(|d, a| {
            d.management.modified |= a.within(0, a.name, 1..=i32::MAX)? != 250;
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
