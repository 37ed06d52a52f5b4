//! What a client takes from its server, and how it logs in.

use base64::Engine as _;
use culvert_wire::PeerId;

use super::*;
use crate::{
    args::{Args, Set, problem},
    profile::{AuthRetry, AuthUserPass, PullFilter, PullVerdict, StaticChallenge},
    push::PushTarget,
    value::{FileOrInline, SecretText},
};

pub(super) const ROWS: &[OptionRow] = &[
    row("client", "", "expands to pull and tls-client").group(Group::Client).roles(CLIENT).set(|d, _| {
        d.helpers.client = true;
        Ok(())
    }),
    row("pull", "", "accept options from the server")
        .group(Group::Client)
        .roles(CLIENT)
        .default("off")
        .rules(&[Rule::NotOnServer])
        .set(|d, _| {
            d.profile.client.pull = true;
            Ok(())
        }),
    row("pull-filter", "accept|ignore|reject TEXT", "filter pushed options by prefix, first match wins")
        .group(Group::Client)
        .roles(CLIENT)
        .set(|d, a| {
            let choices = [
                ("accept", PullVerdict::Accept),
                ("ignore", PullVerdict::Ignore),
                ("reject", PullVerdict::Reject),
            ];
            let verdict = a.one_of(0, &choices, |word| format!("Unknown --pull-filter type: {word}"))?;
            d.profile.client.pull_filters.push(PullFilter { verdict, prefix: a.string(1) });
            Ok(())
        }),
    row("route-nopull", "", "drop pushed routes, DNS and DHCP options")
        .group(Group::Client)
        .roles(CLIENT)
        .default("off")
        .set(|d, _| {
            d.profile.client.route_nopull = true;
            Ok(())
        }),
    row("allow-pull-fqdn", "", "allow names in pushed addresses")
        .group(Group::Client)
        .roles(CLIENT)
        .default("off")
        .set(|d, _| {
            d.profile.client.allow_pull_fqdn = true;
            Ok(())
        }),
    row("auth-user-pass", "[FILE|username-only]", "send a login; asks when no file is given")
        .group(Group::Client)
        .roles(CLIENT)
        .also(INLINE)
        .default("off")
        .set(|d, a| {
            d.profile.client.auth_user_pass = Some(match (a.get(0), a.inline) {
                (_, Some(text)) => AuthUserPass::Stored(FileOrInline::Inline(text.clone())),
                (None | Some("stdin"), _) => AuthUserPass::Ask,
                (Some("username-only"), _) => AuthUserPass::UsernameOnly,
                (Some(path), _) => AuthUserPass::Stored(FileOrInline::File(path.into())),
            });
            Ok(())
        }),
    row("auth-retry", "none|nointeract|interact", "what to do after a refused login")
        .group(Group::Client)
        .roles(CLIENT)
        .default("none")
        .set(|d, a| {
            let choices = [
                ("none", AuthRetry::None),
                ("nointeract", AuthRetry::NoInteract),
                ("interact", AuthRetry::Interact),
            ];
            let wrong =
                |_: &str| "--auth-retry method must be 'interact', 'nointeract', or 'none'".to_owned();
            d.profile.client.auth_retry = a.one_of(0, &choices, wrong)?;
            Ok(())
        }),
    row("auth-nocache", "", "forget secrets after use").group(Group::Client).default("off").set(|d, _| {
        d.profile.client.auth_nocache = true;
        Ok(())
    }),
    row("static-challenge", "TEXT ECHO [scrv1|concat]", "ask an extra question with the login")
        .group(Group::Client)
        .roles(CLIENT)
        .default("scrv1")
        .set(|d, a| {
            let echo = a.signed(1)? != 0;
            let concat = match a.get(2) {
                None | Some("scrv1") => false,
                Some("concat") => true,
                Some(word) => {
                    return Err(
                        problem(format!("--static-challenge: unknown format indicator '{word}'")).at(2)
                    );
                }
            };
            d.profile.client.static_challenge = Some(StaticChallenge { text: a.string(0), echo, concat });
            Ok(())
        }),
    row("push-peer-info", "", "send more client details (IV_HWADDR, UV_ variables)")
        .group(Group::Client)
        .roles(CLIENT)
        .default("off")
        .set(|d, _| {
            d.profile.client.push_peer_info = true;
            Ok(())
        }),
    row("push-continuation", "0|1|2", "marks a split push reply (2 more follows, 1 last)")
        .group(Group::Client)
        .passing()
        .roles(CLIENT)
        .default("0")
        .only(PUSH)
        .also(UPDATE)
        .pushed(|p, a| {
            p.pushed.continuation = u8::try_from(a.within(0, a.name, 0..=2)?).unwrap_or(0);
            Ok(())
        }),
    row("auth-token", "TOKEN", "pushed by the server: replaces the password")
        .group(Group::Client)
        .secret()
        .passing()
        .roles(CLIENT)
        .status(Status::NoEffect("tokens are for servers to push"))
        .also(CCD)
        .set(|_, _| Ok(()))
        .pushed(|p, a| {
            p.pushed.auth_token = Some(SecretText::new(a.string(0)));
            Ok(())
        }),
    row("auth-token-user", "BASE64", "pushed by the server: replaces the login name")
        .group(Group::Client)
        .passing()
        .roles(CLIENT)
        .status(Status::NoEffect("tokens are for servers to push"))
        .also(CCD)
        .set(|_, _| Ok(()))
        .pushed(|p, a| {
            let name = base64_text(a.str(0)).ok_or_else(|| problem("auth-token-user is not base64").at(0))?;
            p.pushed.auth_token_user = Some(name);
            Ok(())
        }),
    row("peer-id", "N", "pushed by the server: id for data packets")
        .group(Group::Client)
        .passing()
        .roles(CLIENT)
        .status(Status::NoEffect("the server chooses it"))
        .set(|_, a| a.signed(0).map(drop))
        .pushed(|p, a| {
            let id = u32::try_from(a.signed(0)?).ok().and_then(PeerId::new);
            p.pushed.peer_id =
                Some(id.ok_or_else(|| {
                    problem(format!("peer-id {} is not a number of 24 bit", a.str(0))).at(0)
                })?);
            Ok(())
        }),
    row("key-derivation", "tls-ekm", "pushed by the server: derive keys by TLS export")
        .group(Group::Client)
        .passing()
        .roles(CLIENT)
        .default("prf")
        .arity(1, 15)
        .status(Status::NoEffect("the server chooses it"))
        .set(|_, _| Ok(()))
        .pushed(|p, a| match a.str(0) {
            "tls-ekm" => {
                p.pushed.protocol.tls_ekm = true;
                Ok(())
            }
            word => Err(problem(format!("Unknown key-derivation method {word}")).at(0)),
        }),
    row(
        "protocol-flags",
        "cc-exit|tls-ekm|dyn-tls-crypt|aead-epoch...",
        "pushed by the server: negotiated protocol features",
    )
    .group(Group::Client)
    .passing()
    .roles(CLIENT)
    .status(Status::NoEffect("the server chooses them"))
    .set(|_, _| Ok(()))
    .pushed(protocol_flags),
];

fn base64_text(text: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    String::from_utf8(bytes).ok().filter(|name| !name.chars().any(char::is_control))
}

/// `protocol-flags FLAG...`: flags of later versions are told and left out, the rest holds.
fn protocol_flags(p: &mut PushTarget<'_>, a: &Args<'_>) -> Set {
    let flags = &mut p.pushed.protocol;
    let mut unknown = None;
    for (index, word) in a.words.iter().enumerate() {
        match word.text.as_str() {
            "cc-exit" => flags.cc_exit = true,
            "tls-ekm" => flags.tls_ekm = true,
            "dyn-tls-crypt" => flags.dyn_tls_crypt = true,
            "aead-epoch" => flags.aead_epoch = true,
            _ => unknown = unknown.or(Some(index)),
        }
    }
    match unknown {
        Some(index) => Err(problem(format!("Unknown protocol-flags flag: {}", a.str(index))).at(index)),
        None => Ok(()),
    }
}
