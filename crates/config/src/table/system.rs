//! What only Windows has, and tokens.

use super::*;

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
    row("pkcs11-providers", "MODULE...", "token modules")
        .group(Group::Tls)
        .default("p11-kit proxy")
        .not_yet()
        .set(|d, _| {
            d.pkcs11 = true;
            Ok(())
        }),
    row("pkcs11-protected-authentication", "[0|1...]", "PIN is entered on the token")
        .group(Group::Tls)
        .default("0")
        .not_yet(),
    row("pkcs11-private-mode", "HEX...", "allowed private key operations")
        .group(Group::Tls)
        .default("0")
        .not_yet(),
    row("pkcs11-cert-private", "[0|1...]", "login needed to read certificates")
        .group(Group::Tls)
        .default("0")
        .not_yet(),
    row("pkcs11-pin-cache", "SECONDS", "PIN cache time")
        .group(Group::Tls)
        .default("-1")
        .not_yet()
        .set(|_, a| a.number(0).map(drop)),
    row("pkcs11-id", "ID", "certificate to use").group(Group::Tls).not_yet(),
    row("pkcs11-id-management", "", "management client picks the certificate")
        .group(Group::Tls)
        .default("off")
        .not_yet(),
];
