use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Where a connection stands: the names that user interfaces show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the lines")]
pub enum StateName {
    Connecting,
    Resolve,
    TcpConnect,
    Wait,
    Auth,
    AuthPending,
    GetConfig,
    AssignIp,
    AddRoutes,
    Connected,
    Reconnecting,
    Exiting,
}

impl StateName {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "CONNECTING",
            Self::Resolve => "RESOLVE",
            Self::TcpConnect => "TCP_CONNECT",
            Self::Wait => "WAIT",
            Self::Auth => "AUTH",
            Self::AuthPending => "AUTH_PENDING",
            Self::GetConfig => "GET_CONFIG",
            Self::AssignIp => "ASSIGN_IP",
            Self::AddRoutes => "ADD_ROUTES",
            Self::Connected => "CONNECTED",
            Self::Reconnecting => "RECONNECTING",
            Self::Exiting => "EXITING",
        }
    }
}

/// A change of state. Printed, it is a line of the history, and `>STATE:` before it makes the real-time line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLine {
    /// Unix seconds.
    pub time: u64,
    /// Which state.
    pub state: StateName,
    /// `SUCCESS`, the reason of a restart, …
    pub detail: String,
    /// The address inside the tunnel.
    pub tunnel4: Option<Ipv4Addr>,
    /// The IPv6 address inside the tunnel; the line has this field only when there is one.
    pub tunnel6: Option<Ipv6Addr>,
    /// The server's address.
    pub remote: Option<SocketAddr>,
    /// The address that this end speaks from, where it is known.
    pub local: Option<SocketAddr>,
}

impl StateLine {
    /// Returns a state without addresses.
    #[must_use]
    pub fn new(time: u64, state: StateName, detail: impl Into<String>) -> Self {
        Self { time, state, detail: detail.into(), tunnel4: None, tunnel6: None, remote: None, local: None }
    }
}

impl fmt::Display for StateLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = crate::notification::one_line(&self.detail);
        write!(f, "{},{},{detail},", self.time, self.state.name())?;
        if let Some(address) = self.tunnel4 {
            write!(f, "{address}")?;
        }
        for address in [self.remote, self.local] {
            match address {
                Some(address) => write!(f, ",{},{}", address.ip(), address.port())?,
                None => f.write_str(",,")?,
            }
        }
        match self.tunnel6 {
            Some(address) => write!(f, ",{address}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from OpenVPN 2.7.8.
    #[test]
    fn lines_have_eight_or_nine_fields() {
        let mut connected = StateLine::new(1_795_349_119, StateName::Connected, "SUCCESS");
        connected.tunnel4 = Some([10, 8, 0, 2].into());
        connected.tunnel6 = "fd00:8::1000".parse().ok();
        connected.remote = "10.99.0.1:1194".parse().ok();
        assert_eq!(
            connected.to_string(),
            "1795349119,CONNECTED,SUCCESS,10.8.0.2,10.99.0.1,1194,,,fd00:8::1000"
        );
        let wait = StateLine::new(1_795_349_119, StateName::Wait, "");
        assert_eq!(wait.to_string(), "1795349119,WAIT,,,,,,");
        let restart = StateLine::new(1, StateName::Reconnecting, "SIGUSR1");
        assert_eq!(restart.to_string(), "1,RECONNECTING,SIGUSR1,,,,,");
    }
}
