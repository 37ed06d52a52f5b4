//! The name servers that this machine asks.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Returns whom a lookup by this machine's resolver asks, as far as files tell; `None`: a program on this machine asks in its
/// place, and whom is not known.
///
/// Sources: resolv.conf(5), systemd-resolved.service(8), "/ETC/RESOLV.CONF".
#[must_use]
pub fn name_servers() -> Option<Vec<IpAddr>> {
    name_servers_in(Path::new("/"))
}

pub(super) fn name_servers_in(root: &Path) -> Option<Vec<IpAddr>> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mut servers = named(&read("etc/resolv.conf")?);
    // A resolver may be asked past resolv.conf (nsswitch.conf), so its servers count wherever it runs.
    let of_resolved = read("run/systemd/resolve/resolv.conf").map(|text| named(&text)).unwrap_or_default();
    if !of_resolved.is_empty() {
        servers.retain(|server| !STUBS.contains(server));
    }
    servers.extend(of_resolved);
    servers.sort_unstable();
    servers.dedup();
    let is_program = |server: &IpAddr| server.is_loopback() || server.is_unspecified();
    (!servers.is_empty() && !servers.iter().any(is_program)).then_some(servers)
}

/// The servers of a resolv.conf. An address may name its link (`fe80::1%eth0`).
fn named(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        word.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

/// Where systemd-resolved listens.
const STUBS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54))];
