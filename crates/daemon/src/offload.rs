//! The choice of a data plane, and its device.
//!
//! The kernel's module is taken where it is there and the profile has nothing that it lacks; the engine otherwise, with
//! every reason said. Beside the module, the engine waits for single peers that need it.

use std::sync::Arc;

use culvert_config::{
    Profile, Role,
    profile::{OffloadChoice, OffloadPolicy, ScriptSecurity},
    verdict,
};
use culvert_engine::EngineBackend;
use culvert_offload::{
    Backend, DeviceKind, DeviceMode, DeviceSpec, LinuxBackend, Offload, OffloadError, Paired, Support,
};
use culvert_wire::{CipherName, OffloadKind};

use crate::{
    bridge, link, ovlog, scripts::ScriptError, settings::session::is_carried, threads::ThreadBudget,
};

/// Opens the best data plane for a profile, and says in one line which one it is and why.
///
/// # Errors
/// When no device can be opened, or the profile insists on the kernel and cannot have it; the text names the remedy.
pub(crate) fn open(profile: &Profile, threads: ThreadBudget) -> Result<Arc<dyn Offload>, String> {
    let spec = device_spec(profile, threads);
    if let DeviceKind::Program(path) = &spec.kind
        && profile.scripts.security < ScriptSecurity::Scripts
    {
        return Err(format!("{}: {}", ScriptError::Forbidden, path.display()));
    }
    let offload = match open_kernel(profile, &spec) {
        Ok(offload) => offload,
        Err(declined) if profile.process.offload == OffloadChoice::Kernel => {
            declined.note.iter().for_each(|note| ovlog!(1, "{note}"));
            return Err(format!(
                "--offload kernel: {}. Write --offload auto to let the userspace engine take over.",
                declined.because
            ));
        }
        Err(declined) => {
            declined.note.iter().for_each(|note| ovlog!(1, "{note}"));
            open_engine(&spec, &declined.because)?
        }
    };
    ovlog!(1, "TUN/TAP device {} opened", offload.device().name);
    for cipher in not_carried(profile, &*offload) {
        ovlog!(
            warn 1,
            "WARNING: cipher '{cipher}' is configured, but never negotiated: it needs `providers legacy default`. Peers that know nothing else are refused."
        );
    }
    Ok(offload)
}

/// Why the kernel does not carry the data.
struct Declined {
    /// OpenVPN's own line, where it has one that was not printed yet.
    note: Option<String>,
    /// The reason, as a clause, with what to do about it.
    because: String,
}

impl From<String> for Declined {
    fn from(because: String) -> Self {
        Self { note: None, because }
    }
}

/// Opens the module's device, with the engine in reserve.
fn open_kernel(profile: &Profile, spec: &DeviceSpec) -> Result<Arc<dyn Offload>, Declined> {
    let verdict = verdict(profile).into_iter().find(|verdict| verdict.kind == OffloadKind::Linux);
    let verdict = verdict.ok_or_else(|| "internal error: no verdict about the kernel".to_owned())?;
    if !verdict.accepts() {
        let reasons: Vec<_> = verdict.refusals.iter().map(reason).collect();
        return Err(Declined::from(format!("of {}", reasons.join(", and of "))));
    }
    let backend = LinuxBackend { trust_tcp: profile.process.offload_policy == OffloadPolicy::Fast };
    let what = match backend.probe() {
        Support::Present(what) => what,
        Support::Absent(why) => {
            let note = "Note: Kernel support for ovpn interfaces missing, disabling data channel offload. Use Linux 6.16.0 or newer with ovpn support or use ovpn-backports for interface support.";
            return Err(Declined { note: Some(note.to_owned()), because: why });
        }
    };
    let kernel = backend.open(spec.clone()).map_err(|failure| match failure {
        OffloadError::WrongDevice { note, device } => Declined {
            note: Some(note),
            because: format!(
                "the name {device} is taken: choose another one with `dev`, or remove the device"
            ),
        },
        failure => Declined::from(link::describe(&failure)),
    })?;
    ovlog!(1, "offload: {what}");
    if let Some(defect) = backend.tcp_defect() {
        ovlog!(
            1,
            "Note: {defect}: TCP peers are carried by the userspace engine. Update the kernel, or write --offload-policy fast if yours is mended."
        );
    }
    for line in verdict.lines() {
        ovlog!(1, "{line}");
    }
    if is_deaf_to_broken_streams(profile) {
        ovlog!(
            warn 1,
            "Note: with the kernel's data channel offload, a TCP client whose stream is out of step is noticed by --keepalive only: add `keepalive 10 60`."
        );
    }
    if spec.mode == DeviceMode::MultiPeer {
        // The module does so itself when such a device comes up.
        ovlog!(
            3,
            "Note: the ovpn module switches off ICMP redirects of this machine (net.ipv4.conf.all.send_redirects=0)"
        );
    }
    let engine = EngineBackend::new();
    let engine_capabilities = culvert_engine::capabilities();
    Ok(Arc::new(Paired::new(kernel, Box::new(engine), spec.clone(), &engine_capabilities)))
}

/// A server on TCP that waits for no silence: the module tells nothing when a stream leads nowhere any more.
fn is_deaf_to_broken_streams(profile: &Profile) -> bool {
    let on_tcp = profile.connections.iter().any(|entry| {
        entry.proto.transport.is_tcp() || entry.locals.iter().any(|local| local.proto.transport.is_tcp())
    });
    profile.role() == Role::Server && on_tcp && profile.keepalive.timeout.is_none()
}

/// One option, why it is in the way, and the cure.
fn reason(remark: &culvert_config::Remark) -> String {
    let culvert_config::Remark { option, because, instead, .. } = remark;
    if instead.is_empty() {
        format!("--{option} ({because})")
    } else {
        format!("--{option} ({because}; {instead})")
    }
}

fn open_engine(spec: &DeviceSpec, because: &str) -> Result<Arc<dyn Offload>, String> {
    let engine = EngineBackend::new();
    match engine.probe() {
        Support::Present(what) => ovlog!(1, "offload: {what}, because {because}"),
        Support::Absent(why) => ovlog!(warn 1, "offload: userspace engine, although {why}"),
    }
    engine.open(spec.clone()).map_err(|failure| link::describe(&failure))
}

/// Configured ciphers that are left out of every negotiation.
fn not_carried(profile: &Profile, offload: &dyn Offload) -> Vec<CipherName> {
    let policy = &profile.data.ciphers;
    let mut left_out: Vec<_> = policy
        .list
        .iter()
        .chain(&policy.fallback)
        .copied()
        .filter(|cipher| !is_carried(profile, offload.capabilities(), *cipher))
        .collect();
    left_out.dedup();
    left_out
}

/// The version of the kernel's module, if it is loaded; the kernel's own where the module has none.
pub(crate) fn kernel_version() -> Option<String> {
    let own = std::fs::read_to_string("/sys/module/ovpn/version").map(|text| text.trim().to_owned());
    let of_kernel =
        || std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    std::path::Path::new("/sys/module/ovpn").exists().then(|| own.or_else(|_| of_kernel()).ok()).flatten()
}

/// Whether the kernel carries this offload's data, single peers apart.
pub(crate) fn is_kernel(offload: &dyn Offload) -> bool {
    offload.capabilities().kind == OffloadKind::Linux
}

fn device_spec(profile: &Profile, threads: ThreadBudget) -> DeviceSpec {
    let server = profile.role() == Role::Server;
    let device = &profile.device;
    let mtu = profile.connections.first().map_or(1500, |entry| entry.mtu.tun_mtu);
    DeviceSpec {
        // `tun` or `tap` alone: the system chooses the number.
        name: match device.dev.as_str() {
            "tun" | "tap" => None,
            name => Some(system_name(name).to_owned()),
        },
        kind: device_kind(profile),
        node: device.dev_node.clone(),
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        tx_queue_len: device.txqueuelen,
        mode: if server { DeviceMode::MultiPeer } else { DeviceMode::PointToPoint },
        max_peers: if server { profile.server.max_clients } else { 2 },
        client_to_client: profile.server.client_to_client,
        replay_window: profile.data.replay_window.unwrap_or(DEFAULT_REPLAY_WINDOW),
        threads: Some(threads.engine),
        ethernet: device.tap.then(|| bridge::ethernet(profile)),
    }
}

/// The longest name of a network device, in bytes (`IFNAMSIZ`, less its end).
const LONGEST_NAME: usize = 15;

/// As much of a name as the system takes: OpenVPN cuts the rest off.
fn system_name(name: &str) -> &str {
    let cut = name.floor_char_boundary(LONGEST_NAME);
    let (name, rest) = name.split_at_checked(cut).unwrap_or((name, ""));
    if !rest.is_empty() {
        ovlog!(warn 1, "Note: the system takes 15 bytes of a device's name: --dev {name}{rest} is {name}");
    }
    name
}

/// A device of the system, or one that it does not know. As with OpenVPN a program takes the place of any other device, `dev
/// null` too, its path is relative to the directory, and it is never searched (SEC-EXEC-1).
fn device_kind(profile: &Profile) -> DeviceKind {
    let device = &profile.device;
    match device.program() {
        // It fails for an empty path, and without a directory: neither starts.
        Some(program) => DeviceKind::Program(std::path::absolute(program).unwrap_or_default()),
        None if device.null => DeviceKind::Null,
        None => DeviceKind::Tun,
    }
}

/// Packets and seconds, as the kernel module's: more than OpenVPN's 64, which loses packets to mild reordering.
const DEFAULT_REPLAY_WINDOW: (u32, u32) = (2048, 15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_where_the_system_would_refuse_it() {
        assert_eq!(system_name("tun-of-15-bytes"), "tun-of-15-bytes");
        assert_eq!(system_name("tun-with-a-very-long-name"), "tun-with-a-very");
        assert_eq!(system_name("tun-ëëëëëëëë"), "tun-ëëëëë");
    }

    #[test]
    fn a_program_takes_the_place_of_any_device() {
        let mut profile = Profile::default();
        profile.device.dev_node = Some("unix:lwipovpn".to_owned());
        profile.device.null = true;
        let path = std::env::current_dir().unwrap().join("lwipovpn");
        assert_eq!(device_kind(&profile), DeviceKind::Program(path));
    }
}
