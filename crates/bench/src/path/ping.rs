//! Round-trip times of ICMP echo.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use super::{
    network::{End, Network},
    process::{Running, step},
};
use crate::{BenchError, results::median};

/// Round-trip times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) median: f64,
    /// 99 of 100 are not longer.
    pub(super) p99: f64,
}

/// Sends `count` requests, one each `interval`. `ping` has the kernel stamp replies as they come, so that its own waking up
/// does not count.
pub(super) fn measure(
    network: &Network,
    folder: &Path,
    address: Ipv4Addr,
    count: u32,
    interval: Duration,
) -> Result<Times, BenchError> {
    let mut command = network.command(End::Client, "ping");
    command.args(["-n", "-W", "2", "-c", &count.to_string(), "-i", &interval.as_secs_f64().to_string()]);
    let running = Running::start(command.arg(address.to_string()), "ping", folder)?;
    let text = running.wait_end(interval * count + Duration::from_secs(20))?;
    times(&text).ok_or_else(|| step("ping", "no reply"))
}

/// Reads lines like `64 bytes from 10.178.0.1: icmp_seq=1 ttl=64 time=0.331 ms`.
fn times(text: &str) -> Option<Times> {
    let lines = text.lines().filter_map(|line| line.split_once(" time=")?.1.strip_suffix(" ms"));
    let mut times: Vec<f64> = lines.filter_map(|millis| Some(millis.parse::<f64>().ok()? * 1e3)).collect();
    times.sort_unstable_by(f64::total_cmp);
    let rank = times.len() * 99 / 100;
    Some(Times { median: median(&times)?, p99: *times.get(rank)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_lines_of_replies() {
        let mut text = String::from("PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n");
        for n in 1..=200 {
            text +=
                &format!("64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time={:.3} ms\n", f64::from(n) / 1e3);
        }
        text += "\n--- 10.0.0.1 ping statistics ---\n200 packets transmitted, 200 received, 0% packet loss, time 3ms\n";
        let times = times(&text).unwrap();
        assert!((times.median - 100.5).abs() < 1e-6, "{times:?}");
        assert!((times.p99 - 199.0).abs() < 1e-6, "{times:?}");
    }

    #[test]
    fn silence_has_no_times() {
        assert_eq!(times("1 packets transmitted, 0 received, 100% packet loss, time 0ms\n"), None);
    }
}
