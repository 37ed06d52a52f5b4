//! `--mktun` and `--rmtun`: devices that stay when no process has them open.

use std::path::Path;

use culvert_config::Parsed;
use culvert_daemon::ovlog;
use culvert_sys::{
    Persistence, TunLayer,
    process::{find_group, find_user},
    set_persistent,
};

/// Makes the device of `dev`, for the user and the group of the command line.
pub(super) fn make(parsed: &Parsed) -> Result<String, String> {
    let process = &parsed.profile().process;
    let user = process.user.as_deref().map(|name| {
        find_user(name)
            .map(|user| user.uid)
            .map_err(|_| format!("failed to find UID for user {name}\nhint: name a user of this system"))
    });
    let group = process.group.as_deref().map(|name| {
        find_group(name)
            .map_err(|_| format!("failed to find GID for group {name}\nhint: name a group of this system"))
    });
    set(parsed, Persistence::On { user: user.transpose()?, group: group.transpose()? })
}

/// Removes it, once nobody has it open any more.
pub(super) fn remove(parsed: &Parsed) -> Result<String, String> {
    set(parsed, Persistence::Off)
}

fn set(parsed: &Parsed, persistence: Persistence) -> Result<String, String> {
    let device = &parsed.profile().device;
    let layer = match parsed.device_kind() {
        word if word.starts_with("tap") => TunLayer::Ethernet,
        word if word.starts_with("tun") => TunLayer::Ip,
        word => {
            return Err(format!(
                "I don't recognize device {word} as a tun or tap device\nhint: a name begins with tun or tap, or \
                 `--dev-type` says what it is"
            ));
        }
    };
    if layer == TunLayer::Ip {
        ovlog!(1, "Note: --mktun does not support DCO. Creating TUN interface.");
    }
    let node = device.dev_node.as_deref().unwrap_or("/dev/net/tun");
    // As in OpenVPN: a name without a number means the first that is free.
    let numbered = matches!(device.dev.as_str(), "tun" | "tap");
    let wanted = if numbered { format!("{}%d", device.dev) } else { device.dev.clone() };
    let name = set_persistent(Path::new(node), &wanted, layer, persistence).map_err(|error| {
        format!(
            "ERROR: Cannot make TUN/TAP device {}: {error}\nhint: needs root or CAP_NET_ADMIN, the device node \
             {node}, and that no other process has the device open",
            device.dev
        )
    })?;
    ovlog!(1, "TUN/TAP device {name} opened");
    let state = if persistence == Persistence::Off { "OFF" } else { "ON" };
    ovlog!(1, "Persist state set to: {state}");
    Ok(String::new())
}
