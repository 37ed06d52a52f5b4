//! Which clients a server lets in, and what it does differently for one of them.

use std::{net::Ipv4Addr, time::Duration};

use super::*;
use crate::{
    args::{integer, network, problem},
    ccd::PushEdit,
    profile::{AuthGenToken, CertPolicy},
};

pub(super) const ROWS: &[OptionRow] = &[
    row("client-config-dir", "DIR", "per-client option files named by common name, DEFAULT as fallback")
        .live()
        .group(Group::Server)
        .roles(SERVER)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            d.profile.server.client_config_dir = Some(a.path(0));
            Ok(())
        }),
    row("ccd-exclusive", "", "refuse clients without a file")
        .live()
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .set(|d, _| {
            d.profile.server.ccd_exclusive = true;
            Ok(())
        }),
    row("verify-client-cert", "[none|optional|require]", "whether clients need a certificate")
        .live_tls()
        .group(Group::Server)
        .roles(SERVER)
        .default("require")
        .set(|d, a| {
            let choices = [
                ("none", CertPolicy::None),
                ("optional", CertPolicy::Optional),
                ("require", CertPolicy::Require),
            ];
            let wrong = |_: &str| {
                "parameter to --verify-client-cert must be 'none', 'optional' or 'require'".to_owned()
            };
            d.profile.server.client_cert = match a.get(0) {
                None => CertPolicy::Require,
                Some(_) => a.one_of(0, &choices, wrong)?,
            };
            Ok(())
        }),
    row("username-as-common-name", "", "use the login name as common name")
        .live()
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .set(|d, _| {
            d.profile.server.username_as_common_name = true;
            Ok(())
        }),
    row("auth-user-pass-optional", "", "do not require a login")
        .live()
        .group(Group::Server)
        .roles(SERVER)
        .default("off")
        .set(|d, _| {
            d.profile.server.auth_user_pass_optional = true;
            Ok(())
        }),
    row(
        "auth-gen-token",
        "[LIFETIME [RENEWAL] [external-auth]]",
        "replace the password by a signed token after login",
    )
    .group(Group::Server)
    .roles(SERVER)
    .default("off")
    .rules(&[Rule::ServerOnly])
    .set(|d, a| {
        let lifetime = Duration::from_secs(a.number_opt(0)?.unwrap_or(0).into());
        let (mut renewal, mut external_auth) = (None, false);
        for index in 1..a.len() {
            match a.str(index) {
                "external-auth" => external_auth = true,
                word if index == 1 && integer(word).is_some() => {
                    renewal = Some(Duration::from_secs(a.number(1)?.into()));
                }
                word => {
                    let text = format!("Invalid argument to auth-gen-token: {word} ({})", index + 1);
                    return Err(problem(text).at(index));
                }
            }
        }
        d.profile.server.auth_gen_token = Some(AuthGenToken { lifetime, renewal, external_auth });
        Ok(())
    }),
    row("auth-gen-token-secret", "FILE", "token key shared between servers and restarts")
        .group(Group::Server)
        .roles(SERVER)
        .also(INLINE)
        .default("random per run")
        .set(|d, a| {
            d.profile.server.auth_gen_token_secret = Some(a.material());
            Ok(())
        }),
    row("iroute", "NET [MASK]", "network behind this client")
        .group(Group::Server)
        .roles(SERVER)
        .default("/32")
        .only(CCD)
        .offload(IROUTE)
        .client(|c, a| {
            let wrong = || {
                problem(format!("in --iroute {} {} : Bad network/subnet specification", a.str(0), a.str(1)))
            };
            let address = a.v4(0).ok_or_else(|| wrong().at(0))?;
            let mask =
                a.get(1).map_or(Some(Ipv4Addr::BROADCAST), |_| a.v4(1)).ok_or_else(|| wrong().at(1))?;
            c.iroutes.push(network(address, mask).ok_or_else(|| wrong().at(1))?);
            Ok(())
        }),
    row("iroute-ipv6", "NET/BITS", "IPv6 network behind this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .offload(IROUTE)
        .client(|c, a| {
            let text = || format!("in --iroute-ipv6 {}: Bad IPv6 prefix specification", a.str(0));
            c.iroutes6.push(a.net6(0).ok_or_else(|| problem(text()).at(0))?);
            Ok(())
        }),
    row("ifconfig-push", "LOCAL MASK [ALIAS]", "fixed IPv4 address for this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .offload(&[kept(LINUX, "an address outside of the server's network gets a route of its own")])
        .client(|c, a| {
            let address = |index| {
                a.v4(index)
                    .filter(|address| !address.is_unspecified())
                    .ok_or_else(|| problem("cannot parse --ifconfig-push addresses").at(index))
            };
            c.ifconfig_push = Some((address(0)?, address(1)?, a.get(2).map(|_| address(2)).transpose()?));
            Ok(())
        }),
    row("ifconfig-ipv6-push", "ADDR/BITS [REMOTE]", "fixed IPv6 address for this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .client(|c, a| {
            let wrong = |index| problem("cannot parse --ifconfig-ipv6-push addresses").at(index);
            let local = a.net6(0).ok_or_else(|| wrong(0))?;
            let remote =
                a.get(1).map(|_| a.net6(1).map(|net| net.address).ok_or_else(|| wrong(1))).transpose()?;
            c.ifconfig_ipv6_push = Some((local, remote));
            Ok(())
        }),
    row("disable", "", "refuse this client").group(Group::Server).roles(SERVER).only(CCD).client(|c, _| {
        c.disable = true;
        Ok(())
    }),
    row("override-username", "NAME", "replace the login name for this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .client(|c, a| {
            if a.str(0).len() > USER_PASS_LEN {
                // Going on under the other name might let in whom nobody meant.
                c.disable = true;
                let text =
                    format!("override-username exceeds the maximum length of {USER_PASS_LEN} characters");
                return Err(problem(text).at(0));
            }
            c.override_username = Some(a.string(0));
            Ok(())
        }),
    row("push-reset", "", "forget the global push list for this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .client(|c, _| {
            c.push.push(PushEdit::Reset);
            Ok(())
        }),
    row("push-remove", "PREFIX", "remove matching entries for this client")
        .group(Group::Server)
        .roles(SERVER)
        .only(CCD)
        .client(|c, a| {
            c.push.push(PushEdit::Remove(a.string(0)));
            Ok(())
        }),
];

const IROUTE: &[Effect] = &[
    kept(LINUX, "it becomes a route of this machine by way of the client's address, metric 100"),
    kept(WINDOWS, "the driver has a table for it"),
];

/// The longest user name, in bytes.
const USER_PASS_LEN: usize = 4096;
