//! How OpenVPN's logs and status files write addresses.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV4},
};

use culvert_offload::Protocol;

/// `[AF_INET]192.0.2.1:1194`, `[AF_INET6]2001:db8::1:1194`: the form of log lines. An address that is none (all of them, for
/// who listens) is `[undef]`.
pub(crate) struct AfAddress(pub(crate) SocketAddr);

impl fmt::Display for AfAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(a) if a.ip().is_unspecified() => write!(f, "[AF_INET][undef]:{}", a.port()),
            SocketAddr::V6(a) if a.ip().is_unspecified() => write!(f, "[AF_INET6][undef]:{}", a.port()),
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

impl fmt::Display for RealAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.protocol, self.address) {
            (Protocol::Udp, SocketAddr::V4(_)) => "udp4",
            (Protocol::Udp, SocketAddr::V6(_)) => "udp6",
            (Protocol::Tcp, SocketAddr::V4(_)) => "tcp4-server",
            (Protocol::Tcp, SocketAddr::V6(_)) => "tcp6-server",
        };
        match self.v4() {
            Some(v4) => write!(f, "{word}:{v4}"),
            None => write!(f, "{word}:{}", self.address),
        }
    }
}

impl RealAddress {
    /// The form of 2.6, which many readers of status files still expect: `192.0.2.1:1194`, and `2001:db8::1` without a
    /// port.
    pub(crate) fn bare(&self) -> String {
        match self.v4() {
            Some(v4) => v4.to_string(),
            None => self.address.ip().to_string(),
        }
    }

    /// Also that of a peer that came to a socket of both families.
    fn v4(&self) -> Option<SocketAddrV4> {
        match self.address.ip().to_canonical() {
            IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, self.address.port())),
            IpAddr::V6(_) => None,
        }
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
        assert_eq!(
            RealAddress { address: v6, protocol: Protocol::Tcp }.to_string(),
            "tcp6-server:[2001:db8::1]:1194"
        );
        let all = ["0.0.0.0:1194", "[::]:1194"].map(|all| AfAddress(all.parse().unwrap()).to_string());
        assert_eq!(all, ["[AF_INET][undef]:1194", "[AF_INET6][undef]:1194"]);
        let mapped = "[::ffff:192.0.2.1]:1194".parse().unwrap();
        let real = |address| RealAddress { address, protocol: Protocol::Udp };
        assert_eq!(real(mapped).to_string(), "udp6:192.0.2.1:1194");
        assert_eq!(real(v4).bare(), "192.0.2.1:1194");
        assert_eq!(real(mapped).bare(), "192.0.2.1:1194");
        assert_eq!(real(v6).bare(), "2001:db8::1");
    }
}
