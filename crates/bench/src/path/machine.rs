//! The machine: what it has, what it is doing, what time it gives.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    process::step,
    settings::{Settings, Underlay},
};
use crate::BenchError;

/// Ticks of `/proc` a second: `USER_HZ`, which is 100 on all Linux machines.
const TICKS: f64 = 100.0;

/// Refuses to begin without what every measurement needs.
pub(super) fn check(settings: &Settings) -> Result<(), BenchError> {
    if !culvert_sys::privilege::has_net_admin() {
        return Err(BenchError::Lacking {
            what: "measuring a path needs root: it makes network namespaces".to_owned(),
            hint: "run it with sudo; `culvert bench engine` needs no rights".to_owned(),
        });
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err(BenchError::Lacking {
            what: "this machine has no /dev/net/tun".to_owned(),
            hint: "modprobe tun, or give the container the device".to_owned(),
        });
    }
    let ethtool = (settings.underlay == Underlay::Mtu).then_some("ethtool");
    let missing: Vec<&str> =
        ["ip", "iperf3", "ping"].into_iter().chain(ethtool).filter(|name| find(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|program| package(program)).collect();
    Err(BenchError::Lacking {
        what: format!("this machine has no {}", missing.join(", ")),
        hint: format!("apt-get install {}", packages.join(" ")),
    })
}

/// Finds a program: by its path, or in `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    // Not every user's PATH has them, and not only root's programs are needed.
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The Debian package of a program.
pub(super) fn package(program: &str) -> &str {
    match program {
        "ip" => "iproute2",
        "ping" => "iputils-ping",
        "wg" => "wireguard-tools",
        other => other,
    }
}

/// What the figures depend on. Takes a second: it looks what else the machine is doing.
pub(super) fn facts() -> Result<BTreeMap<String, String>, BenchError> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or(std::env::consts::ARCH, |(_, model)| model);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (before, start) = (busy(), Instant::now());
    super::process::pause(Duration::from_secs(1))?;
    let background = (busy() - before) / start.elapsed().as_secs_f64();
    let date = jiff::Timestamp::now().to_string();
    let facts = [
        ("cpu", cpu.to_owned()),
        ("cores", cores.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("date", date.split('T').next().unwrap_or_default().to_owned()),
        // Cores that others kept busy just before.
        ("background", format!("{background:.2}")),
    ];
    Ok(facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// CPU seconds that the machine was not idle, since it started.
pub(super) fn busy() -> f64 {
    busy_ticks(&fs::read_to_string("/proc/stat").unwrap_or_default()) as f64 / TICKS
}

/// `/proc/stat` begins: `cpu user nice system idle iowait irq softirq steal …`.
fn busy_ticks(stat: &str) -> u64 {
    let fields: Vec<u64> = stat.split_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum()
}

/// CPU seconds that the processes of a group used.
pub(super) fn group_cpu(leader: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (group, ticks) = group_and_ticks(&stat)?;
        (group == leader).then(|| exact_cpu(id).unwrap_or(ticks as f64 / TICKS))
    })
    .sum()
}

/// The time of all threads of a process in nanoseconds, where the kernel keeps it (`CONFIG_SCHED_INFO`).
fn exact_cpu(process: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    let nanos: u64 = nanos.sum();
    (nanos > 0).then_some(nanos as f64 / 1e9)
}

/// `/proc/PID/stat`: `pid (name) state ppid pgrp … utime stime …`, where the name may hold anything.
fn group_and_ticks(stat: &str) -> Option<(u32, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((fields.get(2)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// A higher priority of this process and of what it starts.
pub(super) struct Priority {
    /// What stood in the file of the session's group before.
    autogroup: Option<String>,
}

const AUTOGROUP: &str = "/proc/self/autogroup";

impl Priority {
    /// Sets the nice level. Where the scheduler groups processes by session, the group gets it too: inside it alone, the
    /// level would mean nothing to others.
    pub(super) fn raise(nice: i32) -> Result<Self, BenchError> {
        culvert_sys::process::set_nice(nice)
            .map_err(|error| step("set the nice level", &error.to_string()))?;
        let before = fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let autogroup = before.rsplit_once("nice ").map(|(_, level)| level.trim().to_owned());
        if autogroup.is_some() {
            let _ = fs::write(AUTOGROUP, nice.to_string()); // best effort: may be switched off
        }
        Ok(Self { autogroup })
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(level) = &self.autogroup {
            let _ = fs::write(AUTOGROUP, level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_waiting_are_not_busy() {
        assert_eq!(busy_ticks("cpu  1 20 300 9999 9999 4000 50000 9999 0 0\ncpu0 7"), 54_321);
    }

    #[test]
    fn names_with_brackets_do_not_confuse() {
        let stat = "7 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 500 60 0 0 20 0 3";
        assert_eq!(group_and_ticks(stat), Some((42, 560)));
    }

    #[test]
    fn this_process_has_used_cpu() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (group, _) = group_and_ticks(&stat).unwrap();
        assert!(group_cpu(group) > 0.0);
    }
}
