//! Transfers by iperf3.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use serde_json::Value;

use super::{
    network::{End, Network},
    process::{Running, step},
};
use crate::BenchError;

const PORT: u16 = 5201;

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From client to server.
    Up,
    Down,
}

/// What a TCP transfer brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stream {
    pub(super) gbps: f64,
    pub(super) bytes: f64,
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Datagrams {
    /// Thousands a second that arrived.
    pub(super) kpps: f64,
    pub(super) arrived: f64,
    /// Between 0 and 1.
    pub(super) lost: f64,
}

/// A path on which transfers run.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) network: &'a Network,
    pub(super) folder: &'a Path,
    /// The server's address, through the tunnel.
    pub(super) server: Ipv4Addr,
}

impl Route<'_> {
    /// Moves as much as goes.
    pub(super) fn tcp(self, seconds: u32, streams: u32, direction: Direction) -> Result<Stream, BenchError> {
        let mut words = vec!["-P".to_owned(), streams.to_string()];
        if direction == Direction::Down {
            words.push("-R".to_owned());
        }
        let (_server, client) = self.start(seconds, &words)?;
        stream(&client.wait_end(limit(seconds))?)
    }

    /// Sends datagrams of `size` bytes, `kpps` thousand a second; `None` is as many as go.
    pub(super) fn udp(self, seconds: u32, size: u32, kpps: Option<f64>) -> Result<Datagrams, BenchError> {
        // Bits a second of payload; 0 is no limit.
        let rate = kpps.map_or(0.0, |kpps| kpps * 1e3 * f64::from(size) * 8.0);
        let words =
            ["-u", "-b", &format!("{rate:.0}"), "-l", &size.to_string(), "-w", &socket_buffer().to_string()];
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let (_server, client) = self.start(seconds, &words)?;
        datagrams(&client.wait_end(limit(seconds))?)
    }

    /// Starts a server for one transfer, and the transfer: one TCP stream up, if `words` does not say otherwise.
    pub(super) fn start(self, seconds: u32, words: &[String]) -> Result<(Running, Running), BenchError> {
        let address = self.server.to_string();
        let mut command = self.network.command(End::Server, "iperf3");
        command.args(["-s", "-1", "-B", &address, "-p", &PORT.to_string()]);
        let mut server = Running::start(&mut command, "iperf3-server", self.folder)?;
        let listens = |running: &Running| {
            let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", running.id()));
            is_listening(&sockets.unwrap_or_default(), PORT)
        };
        server.wait_until(Duration::from_secs(5), "does not listen", listens)?;
        let mut command = self.network.command(End::Client, "iperf3");
        command.args(["-c", &address, "-p", &PORT.to_string(), "-J", "-i", "0", "-t", &seconds.to_string()]);
        let client = Running::start(command.args(words), "iperf3", self.folder)?;
        Ok((server, client))
    }
}

/// A transfer of this length, with all that can delay it.
fn limit(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds) + 20)
}

/// Large, so that a burst of iperf3's is not lost in its own socket, but not larger than the machine allows.
fn socket_buffer() -> u32 {
    let limits = ["rmem_max", "wmem_max"].map(|name| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap_or_default();
        text.trim().parse().unwrap_or(u32::MAX)
    });
    limits.into_iter().fold(2 << 20, u32::min)
}

/// Looks into `/proc/net/tcp`: `number: address:port remote state …`, in hexadecimal; state `0A` listens.
fn is_listening(sockets: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    sockets.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    })
}

fn parse(text: &str) -> Result<Value, BenchError> {
    let value: Value = serde_json::from_str(text).map_err(|_| step("iperf3", "it printed no result"))?;
    match value["error"].as_str() {
        Some(error) => Err(step("iperf3", error)),
        None => Ok(value),
    }
}

fn number(value: &Value, name: &str) -> Result<f64, BenchError> {
    value[name].as_f64().ok_or_else(|| step("iperf3", &format!("no `{name}` in its result")))
}

fn stream(text: &str) -> Result<Stream, BenchError> {
    let sum = &parse(text)?["end"]["sum_received"];
    Ok(Stream { gbps: number(sum, "bits_per_second")? / 1e9, bytes: number(sum, "bytes")? })
}

fn datagrams(text: &str) -> Result<Datagrams, BenchError> {
    let sum = &parse(text)?["end"]["sum"];
    let (packets, lost) = (number(sum, "packets")?, number(sum, "lost_packets")?);
    let arrived = (packets - lost).max(0.0);
    let seconds = number(sum, "seconds")?.max(f64::MIN_POSITIVE);
    Ok(Datagrams { kpps: arrived / seconds / 1e3, arrived, lost: lost / packets.max(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_counts() {
        let text = r#"{"end": {"sum_sent": {"bytes": 9, "bits_per_second": 9e9},
            "sum_received": {"start": 0, "bytes": 625000000, "bits_per_second": 5.0e9}}}"#;
        assert_eq!(stream(text).unwrap(), Stream { gbps: 5.0, bytes: 625e6 });
        let text = r#"{"end": {"sum": {"seconds": 2.0, "packets": 200000, "lost_packets": 2000, "lost_percent": 1}}}"#;
        assert_eq!(datagrams(text).unwrap(), Datagrams { kpps: 99.0, arrived: 198e3, lost: 0.01 });
    }

    #[test]
    fn errors_of_iperf_are_told() {
        let said = |text| stream(text).unwrap_err().to_string();
        assert_eq!(said(r#"{"start": {}, "error": "unable to connect"}"#), "iperf3: unable to connect");
        assert_eq!(said(""), "iperf3: it printed no result");
        assert_eq!(said(r#"{"end": {}}"#), "iperf3: no `bits_per_second` in its result");
    }

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let listening = format!("{head}   0: 0100B20A:1451 00000000:0000 0A 00000000:00000000 00:00000000\n");
        let connected = format!("{head}   0: 0100B20A:1451 0200B20A:8D2C 01 00000000:00000000 00:00000000\n");
        assert!(is_listening(&listening, PORT));
        assert!(!is_listening(&listening, 5202));
        assert!(!is_listening(&connected, PORT));
    }
}
