//! The OpenMetrics text.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use culvert_config::Profile;
use culvert_offload::{Drops, Offload};
use culvert_proto::tls::Expiries;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use super::tally::Counts;
use crate::{
    management::kind_word,
    status_file::{ClientStatistics, ServerStatus},
};

type Labels = Vec<(&'static str, String)>;

/// Which offload carries the data.
#[derive(Clone, Debug)]
pub(crate) struct OffloadState {
    /// `linux`, `windows` or `engine`.
    pub(crate) kind: &'static str,
    /// The tunnel's device.
    pub(crate) device: String,
}

impl OffloadState {
    /// What an offload says of itself.
    pub(crate) fn of(offload: &dyn Offload) -> Self {
        Self { kind: kind_word(offload.capabilities().kind), device: offload.device().name }
    }
}

/// One answer to a scrape, while it is put together.
pub(crate) struct Exposition {
    registry: Registry,
    /// What openvpn_exporter tells servers apart by.
    status_path: String,
}

impl Exposition {
    /// Begins the text of a process: it goes by its status file, or its configuration file where there is none.
    pub(crate) fn of(profile: &Profile, now: SystemTime) -> Self {
        let status = profile.log.status.as_ref().map(|status| status.path.as_path());
        let path = status.or(profile.config_file.as_deref()).unwrap_or(Path::new("culvert"));
        Self::new(path.display().to_string(), now)
    }

    fn new(status_path: String, now: SystemTime) -> Self {
        let mut this = Self { registry: Registry::default(), status_path };
        this.gauges("openvpn_up", "Whether the process runs", [(this.labels([]), 1.0)]);
        let name = "openvpn_status_update_time_seconds";
        this.gauges(name, "When this was true, Unix time", [(this.labels([]), seconds(now))]);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        this.gauges("culvert_build_info", "The program's version", [(version, 1.0)]);
        this
    }

    /// Adds which offload runs.
    pub(crate) fn offload(&mut self, state: OffloadState) {
        let labels = vec![("kind", state.kind.to_owned()), ("device", state.device)];
        let help = "Who carries data packets: the kernel's module, a driver, or culvert's engine";
        self.gauges("culvert_offload_info", help, [(labels, 1.0)]);
    }

    /// Adds a server's clients and routes.
    pub(crate) fn server(&mut self, status: &ServerStatus) {
        let count = u32::try_from(status.clients.len()).unwrap_or(u32::MAX);
        let name = "openvpn_server_connected_clients";
        self.gauges(name, "Clients that are connected", [(self.labels([]), f64::from(count))]);
        let of_clients: Vec<_> = status
            .clients
            .iter()
            .map(|client| {
                let address = client.virtual_v4.or(client.virtual_v6);
                let labels = self.labels([
                    ("common_name", client.common_name.clone()),
                    ("connection_time", seconds(client.connected_since).to_string()),
                    ("real_address", client.real_address.clone()),
                    ("virtual_address", address.map(|address| address.to_string()).unwrap_or_default()),
                    ("username", or_undef(&client.username)),
                ]);
                (labels, client.bytes_received, client.bytes_sent)
            })
            .collect();
        let received = of_clients.iter().map(|(labels, received, _)| (labels.clone(), *received));
        self.counters("openvpn_server_client_received_bytes", "Bytes received from a client", received);
        let sent = of_clients.iter().map(|(labels, _, sent)| (labels.clone(), *sent));
        self.counters("openvpn_server_client_sent_bytes", "Bytes sent to a client", sent);
        let routes: Vec<_> = status
            .routes
            .iter()
            .map(|route| {
                let labels = self.labels([
                    ("common_name", route.common_name.clone()),
                    ("real_address", route.real_address.clone()),
                    ("virtual_address", route.virtual_address.clone()),
                ]);
                (labels, seconds(route.last_ref))
            })
            .collect();
        let name = "openvpn_server_route_last_reference_time_seconds";
        self.gauges(name, "When a route to a client was used last, Unix time", routes);
    }

    /// Adds the totals of a client or a point-to-point end.
    pub(crate) fn client(&mut self, totals: &ClientStatistics) {
        for (name, help, bytes) in [
            ("openvpn_client_tun_tap_read_bytes", "Bytes read from the device", totals.tun_read),
            ("openvpn_client_tun_tap_write_bytes", "Bytes written to the device", totals.tun_write),
            ("openvpn_client_tcp_udp_read_bytes", "Bytes received from the peer", totals.link_read),
            ("openvpn_client_tcp_udp_write_bytes", "Bytes sent to the peer", totals.link_write),
            ("openvpn_client_auth_read_bytes", "Bytes received that were authentic", totals.auth_read),
        ] {
            self.counters(name, help, [(self.labels([]), bytes)]);
        }
    }

    /// Adds what a server counted.
    pub(crate) fn counts(&mut self, counts: &Counts) {
        let by = |label, counts: &BTreeMap<&'static str, u64>| -> Vec<_> {
            counts.iter().map(|(reason, count)| (vec![(label, (*reason).to_owned())], *count)).collect()
        };
        let help = "Sessions that became connected clients";
        self.counters("culvert_connects", help, [(Vec::new(), counts.connected)]);
        let help = "Sessions that ended before they were connected, by cause";
        self.counters("culvert_handshake_failures", help, by("cause", &counts.failed));
        let help = "Packets of strangers that were dropped, by reason";
        self.counters("culvert_dropped_packets", help, by("reason", &counts.dropped));
    }

    /// Adds the data packets that were not delivered.
    pub(crate) fn data_drops(&mut self, drops: Drops) {
        let Drops { auth, replay, source, no_key, malformed, too_large } = drops;
        let samples = [
            ("auth", auth),
            ("replay", replay),
            ("source", source),
            ("no_key", no_key),
            ("malformed", malformed),
            ("too_large", too_large),
        ];
        let help = "Data packets of peers that were dropped, by reason";
        let samples = samples.map(|(reason, count)| (vec![("reason", reason.to_owned())], count));
        self.counters("culvert_data_dropped_packets", help, samples);
    }

    /// Adds what could not be written: lines of the log, and texts of files that are kept true.
    pub(crate) fn unwritten(&mut self, log_lines: u64, files: &[(&'static str, u64)]) {
        let help = "Lines of the log that could not be written";
        self.counters("culvert_log_lines_lost", help, [(Vec::new(), log_lines)]);
        let help = "How often a file could not be written";
        let samples = files.iter().map(|&(file, count)| (vec![("file", file.to_owned())], count));
        self.counters("culvert_file_write_failures", help, samples);
    }

    /// Adds when credentials end.
    pub(crate) fn expiries(&mut self, expiries: Expiries) {
        let samples: Vec<_> = [("certificate", expiries.certificate), ("crl", expiries.crl)]
            .into_iter()
            .filter_map(|(kind, at)| {
                let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(at?).ok()?);
                Some((vec![("kind", kind.to_owned())], seconds(at)))
            })
            .collect();
        let help = "When our certificate, or the first of the CRLs, ends, Unix time";
        self.gauges("culvert_expiry_time_seconds", help, samples);
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    fn labels<const N: usize>(&self, more: [(&'static str, String); N]) -> Labels {
        let mut labels = vec![("status_path", self.status_path.clone())];
        labels.extend(more);
        labels
    }

    fn gauges(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in samples {
            family.get_or_create(&labels).set(value);
        }
        self.register(name, help, family);
    }

    fn counters(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in samples {
            // Two clients may look the same for a moment: they are told as one.
            family.get_or_create(&labels).inc_by(value);
        }
        self.register(name, help, family);
    }

    fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }
}

/// Unix time.
#[expect(clippy::cast_precision_loss, reason = "whole seconds fit for a long while")]
fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) as f64
}

fn or_undef(name: &str) -> String {
    if name.is_empty() { "UNDEF".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status_file::{ClientRow, RouteRow};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_server_is_described_in_the_words_of_openvpn_exporter() {
        let client = ClientRow {
            common_name: "al\"ice".to_owned(),
            real_address: "udp4:192.0.2.1:1194".to_owned(),
            virtual_v4: Some("10.8.0.2".parse().unwrap()),
            virtual_v6: None,
            bytes_received: 7,
            bytes_sent: 9,
            connected_since: at(1_700_000_000),
            username: String::new(),
            client_id: 0,
            peer_id: 0,
            cipher: "AES-256-GCM".to_owned(),
        };
        let route = RouteRow {
            virtual_address: "10.8.0.2".to_owned(),
            common_name: "al\"ice".to_owned(),
            real_address: "udp4:192.0.2.1:1194".to_owned(),
            last_ref: at(1_700_000_100),
        };
        let status = ServerStatus {
            title: String::new(),
            now: at(1_700_000_200),
            clients: vec![client],
            routes: vec![route],
            max_broadcast_queue: 0,
            dco_enabled: false,
        };
        let mut exposition = Exposition::new("/run/server.status".to_owned(), status.now);
        exposition.server(&status);
        let text = exposition.text();
        for line in [
            "openvpn_up{status_path=\"/run/server.status\"} 1.0",
            "openvpn_server_connected_clients{status_path=\"/run/server.status\"} 1.0",
            "openvpn_server_client_received_bytes_total{status_path=\"/run/server.status\",common_name=\"al\\\"ice\",\
             connection_time=\"1700000000\",real_address=\"udp4:192.0.2.1:1194\",virtual_address=\"10.8.0.2\",username=\"UNDEF\"} 7",
            "openvpn_server_route_last_reference_time_seconds{status_path=\"/run/server.status\",common_name=\"al\\\"ice\",\
             real_address=\"udp4:192.0.2.1:1194\",virtual_address=\"10.8.0.2\"} 1700000100.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn counts_are_told_by_reason() {
        let tally = super::super::Tally::default();
        tally.dropped("rate_limit");
        tally.dropped("rate_limit");
        tally.failed(&culvert_proto::CloseReason::Tls("certificate refused".to_owned()));
        tally.connected();
        let mut exposition = Exposition::new("server".to_owned(), at(0));
        exposition.counts(&tally.counts());
        exposition.data_drops(Drops { replay: 3, ..Drops::default() });
        exposition.expiries(Expiries { certificate: Some(1_800_000_000), crl: Some(-1) });
        exposition.unwritten(4, &[("status", 2)]);
        let text = exposition.text();
        for line in [
            "culvert_log_lines_lost_total 4",
            "culvert_file_write_failures_total{file=\"status\"} 2",
            "culvert_dropped_packets_total{reason=\"rate_limit\"} 2",
            "culvert_handshake_failures_total{cause=\"tls\"} 1",
            "culvert_connects_total 1",
            "culvert_data_dropped_packets_total{reason=\"replay\"} 3",
            "culvert_data_dropped_packets_total{reason=\"source\"} 0",
            "culvert_expiry_time_seconds{kind=\"certificate\"} 1800000000.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("kind=\"crl\""));
    }
}
