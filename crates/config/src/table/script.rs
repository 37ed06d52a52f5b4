//! External programs.

use super::*;
use crate::{
    args::{Args, Problem, problem},
    draft::Draft,
    profile::{AuthUserPassVerify, DnsUpdown, ScriptSecurity, VerifyVia},
    value::Command,
};

pub(super) const ROWS: &[OptionRow] = &[
    row("up", "CMD", "run after the device is open").group(Group::Script).arity(1, 15).set(|d, a| {
        let command = script(d, a, d.profile.scripts.up.is_some())?;
        d.profile.scripts.up = Some(command);
        Ok(())
    }),
    row("down", "CMD", "run after the device is closed").group(Group::Script).arity(1, 15).set(|d, a| {
        let command = script(d, a, d.profile.scripts.down.is_some())?;
        d.profile.scripts.down = Some(command);
        Ok(())
    }),
    row("route-up", "CMD", "run after routes are added").group(Group::Script).arity(1, 15).set(|d, a| {
        let command = script(d, a, d.profile.scripts.route_up.is_some())?;
        d.profile.scripts.route_up = Some(command);
        Ok(())
    }),
    row("route-pre-down", "CMD", "run before routes are removed").group(Group::Script).arity(1, 15).set(
        |d, a| {
            let command = script(d, a, d.profile.scripts.route_pre_down.is_some())?;
            d.profile.scripts.route_pre_down = Some(command);
            Ok(())
        },
    ),
    row("ipchange", "CMD", "run when the peer address is confirmed or changes")
        .group(Group::Script)
        .roles(CALLER)
        .arity(1, 15)
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.ipchange.is_some())?;
            d.profile.scripts.ipchange = Some(command);
            Ok(())
        }),
    row("tls-verify", "CMD", "run for each certificate in the chain")
        .live()
        .group(Group::Script)
        .arity(1, 15)
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.tls_verify.is_some())?;
            d.profile.scripts.tls_verify = Some(command);
            Ok(())
        }),
    row("client-connect", "CMD", "run on login; writes per-client options; can defer")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .arity(1, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.client_connect.is_some())?;
            d.profile.scripts.client_connect = Some(command);
            Ok(())
        }),
    row("client-disconnect", "CMD", "run when a session ends")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .arity(1, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.client_disconnect.is_some())?;
            d.profile.scripts.client_disconnect = Some(command);
            Ok(())
        }),
    row("learn-address", "CMD", "run when an address is learned or removed")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .arity(1, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.learn_address.is_some())?;
            d.profile.scripts.learn_address = Some(command);
            Ok(())
        }),
    row("client-crresponse", "CMD", "run when a challenge response arrives")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .arity(1, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let command = script(d, a, d.profile.scripts.client_crresponse.is_some())?;
            d.profile.scripts.client_crresponse = Some(command);
            Ok(())
        }),
    row("tls-crypt-v2-verify", "CMD", "check the metadata of a client key before TLS starts")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .set(|d, a| {
            d.profile.tls.tls_crypt_v2_verify = Some(a.command(1)?);
            Ok(())
        }),
    row("auth-user-pass-verify", "CMD via-env|via-file", "check the login with a program; exit 2 defers")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .arity(1, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            let command = a.command(2)?;
            let via = match a.get(1) {
                Some("via-env") => VerifyVia::Env,
                Some("via-file") => VerifyVia::File,
                Some(_) => {
                    let text = "second parm to --auth-user-pass-verify must be 'via-env' or 'via-file'";
                    return Err(problem(text).at(1));
                }
                None => {
                    let text =
                        "--auth-user-pass-verify requires a second parameter ('via-env' or 'via-file')";
                    return Err(problem(text).remedy("add via-file after the program"));
                }
            };
            overridden(d, a, d.profile.server.auth_user_pass_verify.is_some());
            d.profile.server.auth_user_pass_verify = Some(AuthUserPassVerify { command, via });
            Ok(())
        }),
    row("dns-updown", "CMD|force|disable", "program that applies DNS settings")
        .group(Group::Script)
        .roles(CALLER)
        .default("resolvectl where systemd-resolved runs, else resolvconf, else /etc/resolv.conf itself")
        .arity(1, 15)
        .set(|d, a| {
            let command = a.command(1)?;
            d.profile.routes.dns_updown = match a.str(0) {
                "disable" => DnsUpdown::Disable,
                "force" if matches!(d.profile.routes.dns_updown, DnsUpdown::Command(_)) => return Ok(()),
                "force" => DnsUpdown::Force,
                _ => DnsUpdown::Command(command),
            };
            Ok(())
        }),
    row("script-security", "0|1|2|3", "which external programs may run")
        .live()
        .group(Group::Script)
        .default("1")
        .set(|d, a| {
            d.profile.scripts.security = match a.within(0, a.name, 0..=3)? {
                0 => ScriptSecurity::None,
                1 => ScriptSecurity::BuiltIn,
                2 => ScriptSecurity::Scripts,
                _ => ScriptSecurity::PasswordsInEnvironment,
            };
            Ok(())
        }),
    row("down-pre", "", "run down before closing the device").group(Group::Script).default("off").set(
        |d, _| {
            d.profile.scripts.down_pre = true;
            Ok(())
        },
    ),
    row("up-delay", "", "open the device only after the peer answered")
        .group(Group::Script)
        .default("off")
        .rules(&[Rule::NotOnServer])
        .set(|d, _| {
            d.profile.scripts.up_delay = true;
            Ok(())
        }),
    row("up-restart", "", "run up/down on soft restarts as well").group(Group::Script).default("off").set(
        |d, _| {
            d.profile.scripts.up_restart = true;
            Ok(())
        },
    ),
    row("tls-export-cert", "DIR", "write the peer certificate for tls-verify").group(Group::Script).set(
        |d, a| {
            d.profile.scripts.tls_export_cert = Some(a.path(0));
            Ok(())
        },
    ),
    row("x509-track", "[+]ATTRIBUTE", "export this certificate attribute")
        .group(Group::Script)
        .arity(1, 1)
        .set(|d, a| {
            let name = a.str(0).trim_start_matches('+');
            if !TRACKED.contains(&name) {
                return Err(problem(format!("x509_track: no such attribute '{name}'"))
                    .at(0)
                    .remedy("name a field of the subject, one of the common extensions, SHA1 or SHA256"));
            }
            d.profile.scripts.x509_track.push(a.string(0));
            Ok(())
        }),
    row("tmp-dir", "DIR", "directory for exchange files")
        .live()
        .group(Group::Script)
        .roles(SERVER)
        .default("$TMPDIR or /tmp")
        .set(|d, a| {
            d.profile.process.tmp_dir = Some(a.path(0));
            Ok(())
        }),
];

/// What `x509-track` can follow: fields of a subject, by OpenSSL's short names and long ones, extensions by short names,
/// and fingerprints.
pub const TRACKED: &[&str] = &[
    "CN",
    "commonName",
    "SN",
    "surname",
    "serialNumber",
    "C",
    "countryName",
    "L",
    "localityName",
    "ST",
    "stateOrProvinceName",
    "street",
    "streetAddress",
    "O",
    "organizationName",
    "OU",
    "organizationalUnitName",
    "title",
    "description",
    "businessCategory",
    "postalAddress",
    "postalCode",
    "postOfficeBox",
    "physicalDeliveryOfficeName",
    "telephoneNumber",
    "facsimileTelephoneNumber",
    "x121Address",
    "internationaliSDNNumber",
    "destinationIndicator",
    "name",
    "GN",
    "givenName",
    "initials",
    "generationQualifier",
    "x500UniqueIdentifier",
    "dnQualifier",
    "houseIdentifier",
    "dmdName",
    "pseudonym",
    "role",
    "organizationIdentifier",
    "c3",
    "countryCode3c",
    "n3",
    "countryCode3n",
    "dnsName",
    "UID",
    "userId",
    "textEncodedORAddress",
    "mail",
    "rfc822Mailbox",
    "info",
    "favouriteDrink",
    "roomNumber",
    "userClass",
    "host",
    "homeTelephoneNumber",
    "DC",
    "domainComponent",
    "associatedDomain",
    "homePostalAddress",
    "personalTitle",
    "mobileTelephoneNumber",
    "pagerTelephoneNumber",
    "friendlyCountryName",
    "uid",
    "uniqueIdentifier",
    "organizationalStatus",
    "buildingName",
    "emailAddress",
    "unstructuredName",
    "unstructuredAddress",
    "jurisdictionL",
    "jurisdictionLocalityName",
    "jurisdictionST",
    "jurisdictionStateOrProvinceName",
    "jurisdictionC",
    "jurisdictionCountryName",
    "subjectAltName",
    "issuerAltName",
    "keyUsage",
    "extendedKeyUsage",
    "basicConstraints",
    "subjectKeyIdentifier",
    "authorityKeyIdentifier",
    "nsComment",
    "nsCertType",
    "SHA1",
    "SHA256",
];

/// Reads the program of a hook; a second one replaces the first, which is told.
fn script(d: &mut Draft, a: &Args<'_>, defined: bool) -> Result<Command, Problem> {
    let command = a.command(1)?;
    overridden(d, a, defined);
    Ok(command)
}

fn overridden(d: &mut Draft, a: &Args<'_>, defined: bool) {
    if defined {
        let name = a.name;
        d.warn(format!(
            "Multiple --{name} scripts defined.  The previously configured script is overridden."
        ));
    }
}
