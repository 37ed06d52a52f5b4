//! Options that steer the configuration itself.

use super::*;
use crate::{
    args::{Args, Set, problem},
    draft::Draft,
    profile::Mode,
};

pub(super) const ROWS: &[OptionRow] = &[
    row("config", "FILE|stdin", "read options from a file; nests up to 10 levels")
        .frame()
        .group(Group::General)
        .also(CCD)
        .default("sole bare argument")
        .set(|d, a| {
            if d.profile.config_file.is_none() {
                d.profile.config_file = Some(a.path(0));
            }
            d.include = Some(a.string(0));
            Ok(())
        }),
    row("mode", "p2p|server", "major mode").group(Group::General).default("p2p").set(|d, a| {
        let choices = [("p2p", Mode::P2p), ("server", Mode::Server)];
        d.profile.mode = a.one_of(0, &choices, |word| format!("Bad --mode parameter: {word}"))?;
        Ok(())
    }),
    row("ignore-unknown-option", "NAME...", "unknown options with these names become warnings")
        .frame()
        .group(Group::General)
        .set(|d, a| {
            let names = a.rest(0).into_iter().map(|name| name.strip_prefix("--").unwrap_or(&name).to_owned());
            d.ignore_unknown.extend(names);
            Ok(())
        }),
    row(
        "setenv",
        "NAME [VALUE]",
        "set a script variable, mark one option as optional (setenv opt OPTION), or \
                tolerate unknown options (setenv FORWARD_COMPATIBLE 1)",
    )
    .live()
    .group(Group::General)
    .set(setenv),
    row("setenv-safe", "NAME [VALUE]", "set OPENVPN_NAME; may be pushed")
        .live()
        .group(Group::General)
        .set(|d, a| {
            d.profile.setenv.push(read::setenv_safe(a));
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.setenv.push(read::setenv_safe(a));
            Ok(())
        }),
    row("compat-mode", "X.Y.Z", "relax defaults to work with peers of that version")
        .group(Group::General)
        .also(FORGOTTEN)
        .also(CCD)
        .default("off")
        .offload(&[crypto::OTHER_MEMBER.when("before 2.5.0, with a cipher without AEAD", |p| {
            p.compat_mode.is_some_and(|mode| mode < (2, 5, 0)) && crypto::other_member(p).is_some()
        })])
        .set(|d, a| {
            let parts: Vec<u8> = a.str(0).split('.').map_while(|part| part.parse().ok()).collect();
            match parts[..] {
                [major, minor, patch] => d.profile.compat_mode = Some((major, minor, patch)),
                _ => {
                    let text = format!("cannot parse version number for --compat-mode: {}", a.str(0));
                    return Err(problem(text).at(0).remedy("write three numbers, as in 2.4.7"));
                }
            }
            Ok(())
        }),
    row("disable-dco", "", "never use a kernel or driver offload")
        .group(Group::General)
        .also(FORGOTTEN)
        .also(CCD)
        .default("offload on")
        .offload(&[blocks(KERNEL, "it asks for the engine", "remove it").note(Note::Silent)])
        .set(|d, _| {
            d.profile.process.disable_dco = true;
            Ok(())
        }),
];

/// `setenv NAME [VALUE]`: some names are options in disguise.
fn setenv(d: &mut Draft, a: &Args<'_>) -> Set {
    match (a.str(0), a.get(1)) {
        ("REMOTE_RANDOM_HOSTNAME", None) => d.profile.link.remote_random_hostname = true,
        ("GENERIC_CONFIG", _) => {
            let text = "this is a generic configuration and cannot directly be used";
            return Err(problem(text).remedy("use the profile that your provider made for you"));
        }
        ("PUSH_PEER_INFO", None) => d.profile.client.push_peer_info = true,
        ("SERVER_POLL_TIMEOUT", Some(_)) => d.ce.entry.connect_timeout = a.secs(1)?,
        (name, value) => {
            d.forward_compatible |= name == "FORWARD_COMPATIBLE" && value == Some("1");
            d.profile.setenv.push((name.to_owned(), value.unwrap_or_default().to_owned()));
        }
    }
    Ok(())
}
