//! What is measured of a path: the vocabulary of results, tables and plots.

/// One number of a measurement.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its name in the JSON.
    pub(crate) key: &'static str,
    /// Its name for readers.
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
}

const fn metric(key: &'static str, title: &'static str, unit: &'static str) -> Metric {
    Metric { key, title, unit }
}

pub(crate) const TCP1_UP: Metric = metric("tcp1_up", "1 TCP stream, up", "Gb/s");
pub(crate) const TCP1_DOWN: Metric = metric("tcp1_down", "1 TCP stream, down", "Gb/s");
pub(crate) const TCP4_UP: Metric = metric("tcp4_up", "4 TCP streams, up", "Gb/s");
pub(crate) const TCP4_DOWN: Metric = metric("tcp4_down", "4 TCP streams, down", "Gb/s");
/// CPU of the VPN's processes, both ends, while one stream goes up.
pub(crate) const TCP1_CPU: Metric = metric("tcp1_cpu", "VPN CPU, 1 stream up", "s/GiB");
/// CPU of the machine in that time, whoever used it.
pub(crate) const TCP1_CPU_ALL: Metric = metric("tcp1_cpu_all", "all CPU, 1 stream up", "s/GiB");
/// The highest rate of which at most 1 % is lost, and the VPN's CPU at that rate.
pub(crate) const UDP1300: Metric = metric("udp1300", "UDP 1300 B, at most 1 % lost", "kpkt/s");
pub(crate) const UDP1300_CPU: Metric = metric("udp1300_cpu", "VPN CPU at that rate", "µs/pkt");
pub(crate) const UDP64: Metric = metric("udp64", "UDP 64 B, at most 1 % lost", "kpkt/s");
pub(crate) const UDP64_CPU: Metric = metric("udp64_cpu", "VPN CPU at that rate", "µs/pkt");
pub(crate) const PING_P50: Metric = metric("ping_p50", "ping, idle, median", "µs");
pub(crate) const PING_P99: Metric = metric("ping_p99", "ping, idle, 99 %", "µs");
pub(crate) const LOAD_P50: Metric = metric("load_p50", "ping, 1 stream up, median", "µs");
pub(crate) const LOAD_P99: Metric = metric("load_p99", "ping, 1 stream up, 99 %", "µs");

/// All, in the order of the table.
pub(crate) const METRICS: [&Metric; 14] = [
    &TCP1_UP,
    &TCP1_DOWN,
    &TCP4_UP,
    &TCP4_DOWN,
    &TCP1_CPU,
    &TCP1_CPU_ALL,
    &UDP1300,
    &UDP1300_CPU,
    &UDP64,
    &UDP64_CPU,
    &PING_P50,
    &PING_P99,
    &LOAD_P50,
    &LOAD_P99,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique() {
        let mut keys: Vec<_> = METRICS.iter().map(|metric| metric.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), METRICS.len());
    }
}
