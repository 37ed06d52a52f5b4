//! How OpenVPN's logs and status files write addresses.

use std::{fmt, net::SocketAddr};

use culvert_offload::Protocol;

/// `[AF_INET]192.0.2.1:1194`, `[AF_INET6]2001:db8::1:1194`: the form of log lines.
pub(crate) struct AfAddress(pub(crate) SocketAddr);

impl fmt::Display for AfAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(a) => write!(f, "[AF_INET]{}:{}", a.ip(), a.port()),
            SocketAddr::V6(a) => write!(f, "[AF_INET6]{}:{}", a.ip(), a.port()),
        }
    }
}

/// `udp4:192.0.2.1:1194`, `tcp6-server:[2001:db8::1]:1194`: the form of status files and log prefixes.
#[derive(Clone, Copy)]
pub(crate) struct RealAddress {
    /// The peer's address.
    pub(crate) address: SocketAddr,
    /// The transport it comes over.
    pub(crate) protocol: Protocol,
}

impl RealAddress {
    /// As 2.6 wrote it: without the transport, and an IPv6 address without port. Source: 2.6's `mroute.c`.
    pub(crate) fn plain(self) -> String {
        match self.address {
            SocketAddr::V4(v4) => v4.to_string(),
            SocketAddr::V6(v6) => v6.ip().to_string(),
        }
    }
}

impl fmt::Display for RealAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.protocol, self.address) {
            (Protocol::Udp, SocketAddr::V4(_)) => "udp4",
            (Protocol::Udp, SocketAddr::V6(_)) => "udp6",
            (Protocol::Tcp, SocketAddr::V4(_)) => "tcp4-server",
            (Protocol::Tcp, SocketAddr::V6(_)) => "tcp6-server",
        };
        write!(f, "{word}:{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_openvpn_writes_them() {
        let v4 = "192.0.2.1:1194".parse().unwrap();
        let v6 = "[2001:db8::1]:1194".parse().unwrap();
        assert_eq!(AfAddress(v4).to_string(), "[AF_INET]192.0.2.1:1194");
        assert_eq!(AfAddress(v6).to_string(), "[AF_INET6]2001:db8::1:1194");
        assert_eq!(RealAddress { address: v4, protocol: Protocol::Udp }.to_string(), "udp4:192.0.2.1:1194");
        assert_eq!(RealAddress { address: v4, protocol: Protocol::Tcp }.plain(), "192.0.2.1:1194");
        assert_eq!(RealAddress { address: v6, protocol: Protocol::Udp }.plain(), "2001:db8::1");
        assert_eq!(
            RealAddress { address: v6, protocol: Protocol::Tcp }.to_string(),
            "tcp6-server:[2001:db8::1]:1194"
        );
    }
}
