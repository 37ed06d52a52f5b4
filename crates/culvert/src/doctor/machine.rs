//! What the machine has and allows: device, rights, data planes, clock, ports, forwarding.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use culvert_config::{
    Profile, Verdict,
    profile::{ConnectionEntry, OffloadChoice},
    value::{Family, Port},
    verdict,
};
use culvert_daemon::probe::port_number;
use culvert_offload::{Backend as _, LinuxBackend, Support};
use culvert_sys::privilege::has_net_admin;
use culvert_wire::OffloadKind;

use crate::{
    check::{certificates::date, now},
    finding::Finding,
};

/// 2026-01-01: before culvert was written. A clock that shows an earlier time was never set.
const WRITTEN: i64 = 1_767_225_600;
/// 2100-01-01.
const TOO_LATE: i64 = 4_102_444_800;

/// Device node, rights and data planes.
pub(super) fn examine(profile: Option<&Profile>) -> Vec<Finding> {
    if profile.is_some_and(|profile| profile.device.null) {
        return Vec::new();
    }
    let mut findings = vec![device_node(profile), rights()];
    findings.extend(offload(profile));
    findings
}

fn device_node(profile: Option<&Profile>) -> Finding {
    const NAME: &str = "device-node";
    let node = profile.and_then(|profile| profile.device.dev_node.as_deref()).unwrap_or("/dev/net/tun");
    if let Some(program) = node.strip_prefix("unix:") {
        return Finding::note(NAME, format!("the device is supplied by {program}"), "");
    }
    match OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => Finding::good(NAME, format!("{node} can be opened")),
        Err(failure) => {
            let remedy = match failure.kind() {
                io::ErrorKind::NotFound => {
                    "load the module (`modprobe tun`); in a container, hand the device in (`--device /dev/net/tun`)"
                }
                io::ErrorKind::PermissionDenied => "start culvert as root; in a container, allow the device",
                _ => "see that it is the clone device of the kernel: character device 10, 200",
            };
            Finding::error(NAME, format!("{node} cannot be opened: {failure}"), remedy)
        }
    }
}

fn rights() -> Finding {
    const NAME: &str = "capabilities";
    match has_net_admin() {
        true => Finding::good(NAME, "this process may administer the network"),
        false => Finding::error(
            NAME,
            "this process may not administer the network (CAP_NET_ADMIN)",
            "start culvert as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN",
        ),
    }
}

/// Who would carry the data, and why nobody faster does.
fn offload(profile: Option<&Profile>) -> Option<Finding> {
    const NAME: &str = "offload";
    let support = LinuxBackend::default().probe();
    let Some(profile) = profile else {
        return Some(match support {
            Support::Present(what) => Finding::good(NAME, format!("the kernel can carry data: {what}")),
            Support::Absent(why) => Finding::note(NAME, format!("the engine carries data: {why}"), ""),
        });
    };
    let reasons = |verdict: &Verdict| {
        let reasons = verdict.refusals.iter().map(|remark| format!("{} ({})", remark.option, remark.because));
        reasons.collect::<Vec<_>>().join(", ")
    };
    let linux = verdict(profile).into_iter().find(|verdict| verdict.kind == OffloadKind::Linux)?;
    let insists = profile.process.offload == OffloadChoice::Kernel;
    Some(match support {
        Support::Present(what) if linux.accepts() => Finding::good(NAME, format!("{what} would carry data")),
        Support::Present(what) => Finding::note(
            NAME,
            format!("the engine would carry data, not {what}, because of {}", reasons(&linux)),
            "culvert check FILE tells what to change",
        ),
        Support::Absent(why) if insists => Finding::error(NAME, why, "write `offload auto`"),
        Support::Absent(why) => Finding::note(NAME, format!("the engine would carry data: {why}"), ""),
    })
}

/// Whether the clock can be right at all; the dates of certificates tell more.
pub(super) fn clock() -> Option<Finding> {
    let now = now();
    (!(WRITTEN..TOO_LATE).contains(&now)).then(|| {
        Finding::error(
            "clock",
            format!("this machine says that it is {}", date(now)),
            "set its clock: certificates, one-time codes and tokens depend on it",
        )
    })
}

/// Whether the ports of a server are free. `runs`: a culvert runs here, which may be the one that has them.
pub(super) fn ports(profile: &Profile, runs: bool) -> Vec<Finding> {
    let Some(entry) = profile.connections.first() else { return Vec::new() };
    addresses(entry).into_iter().map(|(address, tcp)| port(address, tcp, runs)).collect()
}

/// Every address that a server listens on, and whether over TCP.
fn addresses(entry: &ConnectionEntry) -> Vec<(SocketAddr, bool)> {
    let any = |family: Family| match family {
        Family::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let number = |port: &Port| port_number(port).unwrap_or(0);
    let listeners = entry.listeners();
    let locals = listeners.iter().filter_map(|local| {
        let address = match &local.host {
            Some(host) => host.parse().ok()?,
            None => any(local.proto.family),
        };
        Some((SocketAddr::new(address, number(&local.port)), local.proto.transport.is_tcp()))
    });
    locals.collect()
}

fn port(address: SocketAddr, tcp: bool, runs: bool) -> Finding {
    const NAME: &str = "port";
    let what = format!("{} {address}", if tcp { "tcp" } else { "udp" });
    let bound = if tcp { TcpListener::bind(address).map(drop) } else { UdpSocket::bind(address).map(drop) };
    let Err(failure) = bound else { return Finding::good(NAME, format!("{what} is free")) };
    match failure.kind() {
        io::ErrorKind::AddrInUse if runs => {
            Finding::note(NAME, format!("{what} is taken, as it should be while the server runs"), "")
        }
        io::ErrorKind::AddrInUse => Finding::error(
            NAME,
            format!("{what} is taken{}", owner(address.port(), tcp)),
            "end the other program, or choose another port (`port N`)",
        ),
        io::ErrorKind::PermissionDenied => Finding::error(
            NAME,
            format!("{what} may not be used: {failure}"),
            "start as root, or choose a port from 1024 on",
        ),
        io::ErrorKind::AddrNotAvailable => Finding::error(
            "local-address",
            format!("{what}: this machine does not have the address"),
            "correct `local`, or remove it to listen on all addresses",
        ),
        _ => Finding::error(NAME, format!("{what} cannot be used: {failure}"), "see what the system says"),
    }
}

/// `, by process 12 (openvpn)`, where that can be found out.
fn owner(port: u16, tcp: bool) -> String {
    let table = if tcp { "tcp" } else { "udp" };
    let tables = [format!("/proc/self/net/{table}"), format!("/proc/self/net/{table}6")];
    let lines: String = tables.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let inode = lines.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = words.get(1)?.split_once(':')?;
        (u16::from_str_radix(local, 16) == Ok(port))
            .then(|| words.get(9).copied().unwrap_or(""))
            .map(str::to_owned)
    });
    let Some(inode) = inode else { return String::new() };
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let holder = processes.map(|entry| entry.path()).find(|process| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .map(|fd| fd.path())
            .any(|fd| fs::read_link(fd).is_ok_and(|to| to.to_string_lossy() == wanted))
    });
    holder.map_or_else(String::new, |process| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let id = process.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!(", by process {id} ({})", name.trim())
    })
}

/// Whether a server passes on what its clients send beyond it, where it is meant to.
pub(super) fn forwarding(profile: &Profile) -> Vec<Finding> {
    let server = &profile.server;
    let pushes = |starts: &[&str]| {
        let first = |option: &String| option.split(' ').next().unwrap_or_default().to_owned();
        server.push.iter().any(|option| starts.contains(&first(option).as_str()))
    };
    let mut findings = Vec::new();
    let v4 = ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward");
    let v6 = ("net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding");
    let wanted = [
        (v4, pushes(&["route", "redirect-gateway"])),
        (v6, profile.device.ifconfig_ipv6.is_some() && pushes(&["route-ipv6", "redirect-gateway"])),
    ];
    for ((key, path), wanted) in wanted {
        let on = fs::read_to_string(path).is_ok_and(|text| text.trim() != "0");
        match (on, wanted) {
            (true, _) => findings.push(Finding::good("forwarding", format!("{key} is on"))),
            (false, true) => findings.push(Finding::warning(
                "forwarding",
                format!("{key} is off: clients reach this machine, and nothing behind it"),
                format!("sysctl -w {key}=1, and keep it in /etc/sysctl.d"),
            )),
            (false, false) => {}
        }
    }
    findings
}
