//! The tests: what is done with a tunnel, and which metrics it gives.

use std::{fmt, time::Duration};

use super::{
    iperf::{Datagrams, Direction},
    machine::busy,
    ping,
    process::pause,
    search::Search,
    tunnel::Tunnel,
};
use crate::{
    BenchError,
    metric::{
        LOAD_P50, LOAD_P99, Metric, PING_P50, PING_P99, TCP1_CPU, TCP1_CPU_ALL, TCP1_DOWN, TCP1_UP,
        TCP4_DOWN, TCP4_UP, UDP64, UDP64_CPU, UDP1300, UDP1300_CPU,
    },
};

const GIB: f64 = 1_073_741_824.0;
/// Share of datagrams that may get lost at a rate that is called clean.
const CLEAN: f64 = 0.01;
/// Time between pings. When less than 10 ms are left until the next one, `ping` does not sleep but spins: it would take one of
/// the cores that it is to measure, and keep the machine from being idle.
const PING_INTERVAL: Duration = Duration::from_millis(20);
/// Transfers of a search.
const PROBES: u32 = 8;

/// What a test found.
pub(super) type Found = Vec<(&'static Metric, f64)>;

/// One thing to do with a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// One TCP stream, up and then down.
    Tcp1,
    /// Four.
    Tcp4,
    /// The highest rate of datagrams of this size of which at most 1 % is lost.
    Udp1300,
    Udp64,
    /// Round-trip time of an idle tunnel.
    Ping,
    /// The same while one TCP stream fills it.
    Load,
}

impl Test {
    pub(super) const ALL: [Self; 6] =
        [Self::Tcp1, Self::Tcp4, Self::Udp1300, Self::Udp64, Self::Ping, Self::Load];

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp1 => "tcp1",
            Self::Tcp4 => "tcp4",
            Self::Udp1300 => "udp1300",
            Self::Udp64 => "udp64",
            Self::Ping => "ping",
            Self::Load => "load",
        }
    }

    /// Finds a test by its name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|test| test.name() == name)
    }

    /// Does it.
    pub(super) fn measure(self, tunnel: &mut Tunnel<'_>, seconds: u32) -> Result<Found, BenchError> {
        match self {
            Self::Tcp1 => one_stream(tunnel, seconds),
            Self::Tcp4 => {
                let up = tunnel.route().tcp(seconds, 4, Direction::Up)?;
                let down = tunnel.route().tcp(seconds, 4, Direction::Down)?;
                Ok(vec![(&TCP4_UP, up.gbps), (&TCP4_DOWN, down.gbps)])
            }
            Self::Udp1300 => clean_rate(tunnel, seconds, 1300, [&UDP1300, &UDP1300_CPU]),
            Self::Udp64 => clean_rate(tunnel, seconds, 64, [&UDP64, &UDP64_CPU]),
            Self::Ping => {
                let times = round_trips(tunnel, seconds)?;
                Ok(vec![(&PING_P50, times.median), (&PING_P99, times.p99)])
            }
            Self::Load => {
                let (_server, _client) = tunnel.route().start(seconds + 3, &[])?;
                pause(Duration::from_secs(1))?; // the stream finds its speed
                let times = round_trips(tunnel, seconds)?;
                Ok(vec![(&LOAD_P50, times.median), (&LOAD_P99, times.p99)])
            }
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn one_stream(tunnel: &Tunnel<'_>, seconds: u32) -> Result<Found, BenchError> {
    let (vpn, all) = (tunnel.cpu(), busy());
    let up = tunnel.route().tcp(seconds, 1, Direction::Up)?;
    let gib = (up.bytes / GIB).max(f64::MIN_POSITIVE);
    let (vpn, all) = ((tunnel.cpu() - vpn) / gib, (busy() - all) / gib);
    let down = tunnel.route().tcp(seconds, 1, Direction::Down)?;
    Ok(vec![(&TCP1_UP, up.gbps), (&TCP1_DOWN, down.gbps), (&TCP1_CPU, vpn), (&TCP1_CPU_ALL, all)])
}

/// Floods for a guess, then searches. What counts is what arrived at the best clean rate.
fn clean_rate(
    tunnel: &Tunnel<'_>,
    seconds: u32,
    size: u32,
    metrics: [&'static Metric; 2],
) -> Result<Found, BenchError> {
    let probe_seconds = (seconds / 3).max(1);
    let guess = tunnel.route().udp(probe_seconds, size, None)?.kpps;
    let mut search = Search::new(guess, PROBES);
    let mut best = Datagrams { kpps: 0.0, arrived: 0.0, lost: 1.0 };
    let mut cpu_per_packet = 0.0;
    while let Some(kpps) = search.rate() {
        let cpu = tunnel.cpu();
        let found = tunnel.route().udp(probe_seconds, size, Some(kpps))?;
        let clean = found.lost <= CLEAN;
        if clean && found.kpps > best.kpps {
            best = found;
            cpu_per_packet = (tunnel.cpu() - cpu) * 1e6 / found.arrived.max(1.0);
        }
        search.report(clean);
    }
    let [rate, cpu] = metrics;
    Ok(vec![(rate, best.kpps), (cpu, cpu_per_packet)])
}

fn round_trips(tunnel: &Tunnel<'_>, seconds: u32) -> Result<ping::Times, BenchError> {
    let route = tunnel.route();
    let count = Duration::from_secs(seconds.into()).as_millis() / PING_INTERVAL.as_millis();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    ping::measure(route.network, route.folder, route.server, count, PING_INTERVAL)
}
