//! Options that OpenVPN removed, renamed or never had. Old profiles carry them, so each says what to do.

use super::*;

pub(super) const ROWS: &[OptionRow] = &[
    row("tun-ipv6", "", "no effect (server still pushes the word for old clients)")
        .group(Group::Legacy)
        .also(FORGOTTEN)
        .also(CCD)
        .status(Status::NoEffect(
            "Note: option tun-ipv6 is ignored because modern operating systems do not need \
                special IPv6 tun handling anymore.",
        ))
        .also(PUSH),
    row("persist-key", "", "no effect, prints a note; in most configs seen")
        .group(Group::Legacy)
        .default("always on")
        .status(Status::NoEffect(
            "DEPRECATED OPTION: --persist-key option ignored. Keys are now always persisted \
                across restarts. ",
        ))
        .also(PUSH),
    row("fast-io", "", "no effect, prints a note")
        .group(Group::Legacy)
        .status(Status::NoEffect("DEPRECATED OPTION: --fast-io option ignored.")),
    row("max-routes", "[N]", "no effect, prints a note")
        .group(Group::Legacy)
        .also(FORGOTTEN)
        .also(CCD)
        .status(Status::NoEffect("DEPRECATED OPTION: --max-routes option ignored."))
        .also(PUSH),
    row("opt-verify", "", "no effect, prints a note")
        .group(Group::Legacy)
        .roles(SERVER)
        .status(Status::NoEffect("DEPRECATED OPTION: --opt-verify was removed in OpenVPN 2.7.")),
    row("comp-noadapt", "", "no effect")
        .group(Group::Legacy)
        .also(FORGOTTEN)
        .also(CCD)
        .status(Status::NoEffect("nothing is compressed"))
        .also(PUSH),
    row("prng", "ALG [LEN]", "no effect, prints a note")
        .group(Group::Legacy)
        .also(FORGOTTEN)
        .also(CCD)
        .status(Status::NoEffect("NOTICE: --prng option ignored (SSL library PRNG is used)")),
    row("http-proxy-retry", "", "no effect, prints a note")
        .group(Group::Legacy)
        .roles(CLIENT)
        .also(CONNECTION)
        .status(Status::NoEffect("DEPRECATED OPTION: http-proxy-retry option ignored."))
        .arity(0, 15),
    row("socks-proxy-retry", "", "no effect, prints a note")
        .group(Group::Legacy)
        .roles(CLIENT)
        .also(CONNECTION)
        .status(Status::NoEffect("DEPRECATED OPTION: socks-proxy-retry option ignored."))
        .arity(0, 15),
    row("http-proxy-timeout", "N", "no effect, prints a note")
        .group(Group::Legacy)
        .roles(CLIENT)
        .also(CONNECTION)
        .status(Status::NoEffect("DEPRECATED OPTION: http-proxy-timeout option ignored."))
        .arity(0, 15),
    row("disable-occ", "", "stop sending and checking option strings")
        .group(Group::Legacy)
        .default("off")
        .status(Status::NoEffect("option strings are sent only where the peer needs them")),
    row("gremlin", "MASK", "drop and corrupt packets for testing (debug builds)")
        .group(Group::Legacy)
        .default("0")
        .status(Status::NoEffect("packets are never dropped on purpose"))
        .set(|_, a| a.number(0).map(drop)),
    row("mtu-dynamic", "", "fatal: replaced by fragment")
        .group(Group::Legacy)
        .also(CONNECTION)
        .arity(0, 15)
        .status(Status::Refused(
            "--mtu-dynamic has been replaced by --fragment",
            "use mssfix, or fragment on both ends",
        )),
    row("client-cert-not-required", "", "fatal: use verify-client-cert none")
        .group(Group::Legacy)
        .roles(SERVER)
        .arity(0, 15)
        .status(Status::Refused(
            "REMOVED OPTION: --client-cert-not-required, use '--verify-client-cert none' instead",
            "write verify-client-cert none",
        )),
    row("no-replay", "", "fatal").group(Group::Legacy).arity(0, 15).status(Status::Refused(
        "--no-replay was removed in OpenVPN 2.7. Update your configuration.",
        "remove it",
    )),
    row("compat-names", "", "error: removed in 2.5").group(Group::Legacy).arity(0, 15).status(
        Status::Refused("--compat-names was removed in OpenVPN 2.5. Update your configuration.", "remove it"),
    ),
    row("no-name-remapping", "", "error: removed in 2.5").group(Group::Legacy).arity(0, 15).status(
        Status::Refused(
            "--no-name-remapping was removed in OpenVPN 2.5. Update your configuration.",
            "remove it",
        ),
    ),
    row("secret", "FILE [DIRECTION]", "static key mode without TLS, which culvert does not have")
        .group(Group::Legacy)
        .roles(P2P)
        .also(INLINE)
        // Not at once: `genkey` in its old form writes its file.
        .status(Status::RefusedLater("use peer-fingerprint"))
        .set(|d, a| {
            d.warn("DEPRECATED OPTION: The option --secret is deprecated.");
            a.get(1).map(|_| a.direction(1)).transpose()?;
            d.secret = true;
            d.secret_file = a.inline.is_none().then(|| a.path(0));
            Ok(())
        }),
    row("allow-deprecated-insecure-static-crypto", "", "no effect: secret is refused all the same")
        .group(Group::Legacy)
        .roles(P2P)
        .arity(0, 15)
        .status(Status::NoEffect("what it permits, secret, is refused all the same")),
    row("ifconfig-pool-linear", "", "unknown option (fatal): use topology p2p")
        .group(Group::Legacy)
        .roles(SERVER)
        .arity(0, 15)
        .status(Status::Gone("use topology p2p")),
    row("key-method", "N", "unknown option (fatal); only method 2 exists")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone("remove it: method 2 is the only one")),
    row("management-client-pf", "", "unknown option (fatal): packet filter removed in 2.6")
        .group(Group::Legacy)
        .roles(SERVER)
        .arity(0, 15)
        .status(Status::Gone("remove it: packet filters are gone since OpenVPN 2.6")),
    row("ncp-disable", "", "unknown option (fatal): removed in 2.6")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone(
            "remove it: negotiation is always on; set data-ciphers to the one cipher wanted",
        )),
    row("no-iv", "", "unknown option (fatal): removed in 2.5")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone("remove it")),
    row("use-prediction-resistance", "", "unknown option (fatal): removed in 2.8")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone("remove it")),
    row("keysize", "N", "unknown option (fatal): removed in 2.6; still in old provider profiles")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone("remove it: the length is part of the cipher name")),
    row("tls-remote", "NAME", "unknown option (fatal): replaced by verify-x509-name")
        .group(Group::Legacy)
        .arity(0, 15)
        .status(Status::Gone("use verify-x509-name")),
    row("memstats", "FILE", "unknown option (fatal): removed in 2.7")
        .group(Group::Legacy)
        .roles(SERVER)
        .arity(0, 15)
        .status(Status::Gone("remove it: counters are in the status file")),
    row(
        "auth-federate",
        "",
        "not an OpenVPN 2 option (a cloud provider's SAML marker); unknown option (fatal)",
    )
    .group(Group::Legacy)
    .roles(CLIENT)
    .arity(0, 15)
    .status(Status::Gone("remove it: it marks profiles of a cloud service that logs in through a browser")),
    row("block-ipv4", "", "OpenVPN 3 only; unknown option here")
        .group(Group::Legacy)
        .roles(CLIENT)
        .arity(0, 15)
        .status(Status::Gone("remove it: OpenVPN 3 alone knows it")),
];
