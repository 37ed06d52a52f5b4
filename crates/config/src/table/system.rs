//! What only Windows has, and tokens.

use std::time::Duration;

use super::*;
use crate::args::{Args, Problem};

pub(super) const ROWS: &[OptionRow] = &[
    row("windows-driver", "NAME", "no effect, prints a deprecation note")
        .group(Group::Windows)
        .status(Status::WindowsOnly),
    row("msg-channel", "HANDLE", "pipe to the interactive service")
        .group(Group::Windows)
        .roles(CLIENT)
        .status(Status::Refused("--msg-channel is only supported on Windows", "remove it")),
    row("win-sys", "PATH|env", "system directory")
        .group(Group::Windows)
        .default("env")
        .status(Status::WindowsOnly),
    row("ip-win32", "METHOD [OFFSET] [LEASE]", "how the address is set")
        .group(Group::Windows)
        .unless_nopull()
        .default("dynamic; netsh with offload")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("show-adapters", "", "list adapters")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("show-net", "", "show routes and adapters")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("show-net-up", "", "log the network view after connecting")
        .group(Group::Windows)
        .roles(CLIENT)
        .default("off")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("tap-sleep", "SECONDS", "wait after opening the adapter")
        .group(Group::Windows)
        .unless_nopull()
        .default("0")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("dhcp-renew", "", "renew the adapter lease")
        .group(Group::Windows)
        .unless_nopull()
        .default("off")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("dhcp-pre-release", "", "release before renewing")
        .group(Group::Windows)
        .unless_nopull()
        .default("off")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("dhcp-release", "", "no effect, prints a note")
        .group(Group::Windows)
        .also(CCD)
        .default("on")
        .status(Status::WindowsOnly),
    row("dhcp-internal", "INDEX", "internal helper command")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("register-dns", "", "flush and re-register DNS")
        .group(Group::Windows)
        .unless_nopull()
        .roles(CLIENT)
        .default("off")
        .status(Status::WindowsOnly)
        .also(PUSH),
    row("block-outside-dns", "", "block DNS outside the tunnel; unknown option elsewhere")
        .group(Group::Windows)
        .unless_nopull()
        .roles(CLIENT)
        .default("off")
        .status(Status::WindowsOnly)
        .also(PUSH)
        .also(UPDATE),
    row("rdns-internal", "", "internal helper command")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("show-valid-subnets", "", "list endpoint pairs valid for net30")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("pause-exit", "", "wait for a key before closing the console")
        .group(Group::Windows)
        .default("off")
        .status(Status::WindowsOnly),
    row("service", "EVENT [STATE]", "exit event of the service manager")
        .group(Group::Windows)
        .status(Status::WindowsOnly),
    row("allow-nonadmin", "[ADAPTER]", "let unprivileged users open the adapter")
        .group(Group::Windows)
        .roles(COMMAND)
        .status(Status::WindowsOnly),
    row("cryptoapicert", "SELECTOR", "key and certificate from the Windows store")
        .group(Group::Windows)
        .roles(CLIENT)
        .status(Status::WindowsOnly),
    row("route-method", "adaptive|ipapi|exe", "how routes are added; accepted and ignored elsewhere")
        .group(Group::Windows)
        .default("adaptive")
        .also(PUSH)
        .status(Status::NoEffect("it chooses among ways that Windows has")),
    row("pkcs11-providers", "MODULE...", "token modules").group(Group::Tls).default("p11-kit proxy").set(
        |d, a| {
            d.profile.tls.pkcs11.providers = a.rest(0).into_iter().map(Into::into).collect();
            Ok(())
        },
    ),
    row("pkcs11-protected-authentication", "[0|1...]", "PIN is entered on the token")
        .group(Group::Tls)
        .default("0")
        .set(|d, a| {
            d.profile.tls.pkcs11.protected = flags(a)?;
            Ok(())
        }),
    row("pkcs11-private-mode", "HEX...", "allowed private key operations")
        .group(Group::Tls)
        .default("0")
        .status(Status::NoEffect("a key on a token only signs, and by what its mechanisms allow")),
    row("pkcs11-cert-private", "[0|1...]", "login needed to read certificates")
        .group(Group::Tls)
        .default("0")
        .set(|d, a| {
            d.profile.tls.pkcs11.cert_private = flags(a)?;
            Ok(())
        }),
    row("pkcs11-pin-cache", "SECONDS", "PIN cache time").group(Group::Tls).default("-1").set(|d, a| {
        // Negative: as long as the token stays.
        let seconds = u64::try_from(a.signed(0)?).ok();
        d.profile.tls.pkcs11.pin_cache = seconds.map(Duration::from_secs);
        Ok(())
    }),
    row("pkcs11-id", "ID", "certificate to use").group(Group::Tls).set(|d, a| {
        d.profile.tls.pkcs11.id = Some(a.string(0));
        Ok(())
    }),
    row("pkcs11-id-management", "", "management client picks the certificate")
        .group(Group::Tls)
        .default("off")
        .set(|d, _| {
            d.profile.tls.pkcs11.id_management = true;
            Ok(())
        }),
];

/// A flag for each provider; none at all means the first.
fn flags(a: &Args<'_>) -> Result<Vec<bool>, Problem> {
    if a.len() == 0 {
        return Ok(vec![true]);
    }
    (0..a.len()).map(|index| Ok(a.signed(index)? != 0)).collect()
}
