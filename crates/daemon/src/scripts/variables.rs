//! Variables that more than one hook sees, under OpenVPN's names.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, Proxy},
    value::{Family, Transport},
};
use culvert_proto::{
    PeerInfo,
    tls::{CertificateInfo, PeerIdentity, field_name},
};
use jiff::{Timestamp, tz::TimeZone};

use super::ScriptEnv;

/// What a process knows about itself.
#[derive(Clone, Copy, Debug)]
pub struct ProcessFacts {
    /// When it started.
    pub started: SystemTime,
    /// It is in the background (`daemon`).
    pub is_daemon: bool,
    /// Its log goes to a file.
    pub log_redirected: bool,
}

/// Whether an address was proven by authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Not yet: `untrusted_ip`.
    Untrusted,
    /// Yes: `trusted_ip`.
    Trusted,
}

/// The addresses that a server gave to a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// The client's IPv4 address.
    pub remote4: Option<Ipv4Addr>,
    /// With `topology subnet`: the netmask.
    pub netmask: Option<Ipv4Addr>,
    /// With `net30` and `p2p`: the server's end.
    pub local4: Option<Ipv4Addr>,
    /// The client's IPv6 address.
    pub remote6: Option<Ipv6Addr>,
    /// The server's IPv6 address.
    pub local6: Option<Ipv6Addr>,
    /// Prefix length of the IPv6 network.
    pub netbits6: Option<u8>,
}

impl ScriptEnv {
    /// Sets what every hook sees: `config`, `verb`, `daemon_…`, the connections, `setenv`.
    pub fn set_process(&mut self, profile: &Profile, facts: ProcessFacts) -> &mut Self {
        let started = facts.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.set_opt("config", profile.config_file.as_ref().map(|path| path.display()))
            .set("verb", profile.log.verb)
            .set("daemon", u8::from(facts.is_daemon))
            .set("daemon_log_redirect", u8::from(facts.log_redirected))
            .set("daemon_start_time", started.as_secs())
            .set("daemon_pid", std::process::id());
        for (index, connection) in profile.connections.iter().enumerate() {
            self.set_connection(index + 1, connection);
        }
        for (name, value) in &profile.setenv {
            self.set(name, value);
        }
        self
    }

    fn set_connection(&mut self, number: usize, connection: &ConnectionEntry) {
        self.set(&format!("proto_{number}"), proto_name(connection));
        if let Some(local) = connection.locals.first() {
            self.set_opt(&format!("local_{number}"), local.host.as_ref());
            self.set(&format!("local_port_{number}"), &local.port);
        } else {
            self.set_opt(&format!("local_port_{number}"), connection.local_port.as_ref());
        }
        // Without a peer to call its port is ours, as in OpenVPN.
        let mut remote_port = connection.local_port.as_ref();
        if let Some(remote) = &connection.remote {
            self.set(&format!("remote_{number}"), &remote.host);
            remote_port = Some(&remote.port);
        }
        self.set_opt(&format!("remote_port_{number}"), remote_port);
        if let Some(proxy) = &connection.proxy {
            let kind = match proxy {
                Proxy::Http(_) => "http",
                Proxy::Socks(_) => "socks",
            };
            self.set(&format!("{kind}_proxy_server_{number}"), proxy.host());
            self.set(&format!("{kind}_proxy_port_{number}"), proxy.port());
        }
    }

    /// Sets `trusted_ip`/`trusted_ip6` and `trusted_port`, or the same with `untrusted`.
    pub fn set_peer_address(&mut self, trust: Trust, address: SocketAddr) -> &mut Self {
        let word = match trust {
            Trust::Trusted => "trusted",
            Trust::Untrusted => "untrusted",
        };
        self.remove(&format!("{word}_ip")).remove(&format!("{word}_ip6"));
        let name = if address.is_ipv4() { format!("{word}_ip") } else { format!("{word}_ip6") };
        self.set(&name, address.ip()).set(&format!("{word}_port"), address.port())
    }

    /// Sets what is known of one certificate: `tls_id_N`, `X509_N_FIELD`, `tls_serial_N`, `tls_digest_N` and so on, N
    /// being its depth. A field that occurs again gets `_1`, `_2` and so on behind its name.
    pub fn set_certificate(&mut self, certificate: &CertificateInfo) -> &mut Self {
        let depth = certificate.depth;
        self.remove_prefix(&format!("X509_{depth}_"));
        self.set(&format!("tls_id_{depth}"), &certificate.subject)
            .set(&format!("tls_serial_{depth}"), &certificate.serial)
            .set(&format!("tls_serial_hex_{depth}"), &certificate.serial_hex)
            .set(&format!("tls_digest_{depth}"), &certificate.sha1)
            .set(&format!("tls_digest_sha256_{depth}"), &certificate.sha256);
        if let Some(tracked) = self.tracked(depth) {
            for name in tracked {
                // As OpenVPN looks: a field of the subject, else an extension.
                let known = || certificate.fields.iter().chain(&certificate.extensions);
                let wanted = field_name(&name).unwrap_or(&name);
                let of_certificate = || known().find(|(field, _)| field == wanted);
                let value = match name.as_str() {
                    "SHA1" => Some(certificate.sha1.to_uppercase()),
                    "SHA256" => Some(certificate.sha256.to_uppercase()),
                    _ => of_certificate().map(|(_, value)| value.clone()),
                };
                self.set_opt(&format!("X509_{depth}_{name}"), value);
            }
            return self;
        }
        for (field, value) in &certificate.fields {
            let first = format!("X509_{depth}_{field}");
            let mut name = first.clone();
            let mut again = 0;
            while self.get(&name).is_some() {
                again += 1;
                name = format!("{first}_{again}");
            }
            self.set(&name, value);
        }
        self
    }

    /// Sets what is known of the whole chain, and `common_name`.
    pub fn set_identity(&mut self, identity: &PeerIdentity) -> &mut Self {
        for certificate in identity.certificates().unwrap_or_default() {
            self.set_certificate(&certificate);
        }
        self.set("common_name", &identity.common_name)
    }

    /// Sets what the peer says of itself: `IV_…` and `UV_…`, nothing else of it.
    pub fn set_peer_info(&mut self, info: &PeerInfo) -> &mut Self {
        for (name, value) in &info.lines {
            if name.starts_with("IV_") || name.starts_with("UV_") {
                self.set(name, value);
            }
        }
        self
    }

    /// Sets `ifconfig_pool_…`; what is not there is removed.
    pub fn set_pool(&mut self, pool: &PoolFacts) -> &mut Self {
        self.set_opt("ifconfig_pool_remote_ip", pool.remote4)
            .set_opt("ifconfig_pool_netmask", pool.netmask)
            .set_opt("ifconfig_pool_local_ip", pool.local4)
            .set_opt("ifconfig_pool_remote_ip6", pool.remote6)
            .set_opt("ifconfig_pool_local_ip6", pool.local6)
            .set_opt("ifconfig_pool_ip6_netbits", pool.netbits6)
    }

    /// Sets `time_ascii` and `time_unix`: when the session began.
    pub fn set_session_start(&mut self, at: SystemTime, zone: &TimeZone) -> &mut Self {
        let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = Timestamp::try_from(at).map(|at| {
            let local = zone.to_datetime(at);
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
                local.year(),
                local.month(),
                local.day(),
                local.hour(),
                local.minute(),
                local.second()
            )
        });
        self.set_opt("time_ascii", text.ok()).set("time_unix", seconds)
    }

    /// Sets `time_duration` in seconds, `bytes_received` (from the peer) and `bytes_sent`.
    pub fn set_session_end(&mut self, duration: Duration, received: u64, sent: u64) -> &mut Self {
        self.set("time_duration", duration.as_secs()).set("bytes_received", received).set("bytes_sent", sent)
    }
}

/// `udp`, `udp4`, `tcp-client`, `tcp6-server` …: the option's own words.
pub(crate) fn proto_name(connection: &ConnectionEntry) -> String {
    let digit = match connection.proto.family {
        Family::Any => "",
        Family::V4 => "4",
        Family::V6 => "6",
    };
    match connection.proto.transport {
        Transport::Udp => format!("udp{digit}"),
        Transport::TcpServer => format!("tcp{digit}-server"),
        Transport::TcpClient => format!("tcp{digit}-client"),
    }
}

/// Returns the argument of `ipchange`: one, with family, address and port, as OpenVPN 2.6 and 2.7 pass it; their manual has
/// two.
#[must_use]
pub fn ipchange_arguments(address: SocketAddr) -> [String; 1] {
    let family = match address.ip() {
        IpAddr::V4(_) => "AF_INET",
        IpAddr::V6(_) => "AF_INET6",
    };
    [format!("[{family}]{} {}", address.ip(), address.port())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(env: &ScriptEnv) -> Vec<String> {
        env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn a_certificate_has_its_depth_in_every_name_and_fields_that_repeat_are_numbered() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let certificate = CertificateInfo {
            depth: 0,
            subject: "O=A & B, CN=bob".to_owned(),
            fields: vec![field("OU", "one"), field("OU", "two"), field("CN", "bob;rm -rf")],
            extensions: vec![field("subjectAltName", "DNS:b")],
            serial: "18".to_owned(),
            serial_hex: "12".to_owned(),
            sha1: "aa:bb".to_owned(),
            sha256: "cc:dd".to_owned(),
        };
        let mut env = ScriptEnv::new();
        env.set_certificate(&certificate);
        env.set_certificate(&certificate);
        assert_eq!(
            seen(&env),
            [
                "X509_0_CN=bob;rm -rf",
                "X509_0_OU=one",
                "X509_0_OU_1=two",
                "tls_digest_0=aa:bb",
                "tls_digest_sha256_0=cc:dd",
                "tls_id_0=O=A & B, CN=bob",
                "tls_serial_0=18",
                "tls_serial_hex_0=12",
            ]
        );
    }

    #[test]
    fn tracked_attributes_are_of_the_leaf_or_of_the_whole_chain_and_no_others_are_set() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut env = ScriptEnv::new();
        env.track(&["OU", "+CN", "SHA1", "subjectAltName", "organizationalUnitName"].map(str::to_owned));
        for depth in [1, 0] {
            env.set_certificate(&CertificateInfo {
                depth,
                fields: vec![field("OU", "one"), field("OU", "two"), field("CN", "bob"), field("C", "DE")],
                extensions: vec![field("subjectAltName", "DNS:b"), field("keyUsage", "CRL Sign")],
                sha1: "aa:bb".to_owned(),
                ..CertificateInfo::default()
            });
        }
        let tracked: Vec<_> = seen(&env).into_iter().filter(|line| line.starts_with("X509_")).collect();
        let alternative = "X509_0_subjectAltName=DNS:b";
        assert_eq!(
            tracked,
            [
                "X509_0_CN=bob",
                "X509_0_OU=one",
                "X509_0_SHA1=AA:BB",
                "X509_0_organizationalUnitName=one",
                alternative,
                "X509_1_CN=bob"
            ]
        );
    }

    #[test]
    fn every_field_that_may_be_tracked_is_known_by_name() {
        let extensions = |name: &&&str| {
            name.starts_with("SHA")
                || name.starts_with("ns")
                || name.ends_with("AltName")
                || name.ends_with("Usage")
        };
        let unknown: Vec<_> = culvert_config::table::TRACKED
            .iter()
            .filter(|name| field_name(name).is_none() && !extensions(name))
            .collect();
        assert_eq!(unknown, [&"basicConstraints", &"subjectKeyIdentifier", &"authorityKeyIdentifier"]);
    }

    #[test]
    fn a_peer_can_only_set_its_own_variables() {
        let line = |name: &str| (name.to_owned(), "x".to_owned());
        let info =
            PeerInfo { lines: vec![line("IV_VER"), line("UV_NAME"), line("PATH"), line("LD_PRELOAD")] };
        let mut env = ScriptEnv::new();
        env.set_peer_info(&info);
        assert_eq!(seen(&env), ["IV_VER=x", "UV_NAME=x"]);
    }

    #[test]
    fn addresses_have_the_name_of_their_family() {
        let mut env = ScriptEnv::new();
        env.set_peer_address(Trust::Untrusted, "192.0.2.1:5".parse().expect("an address"));
        env.set_peer_address(Trust::Trusted, "192.0.2.1:5".parse().expect("an address"));
        env.set_peer_address(Trust::Trusted, "[2001:db8::1]:6".parse().expect("an address"));
        assert_eq!(
            seen(&env),
            ["trusted_ip6=2001:db8::1", "trusted_port=6", "untrusted_ip=192.0.2.1", "untrusted_port=5"]
        );
        let arguments = ipchange_arguments("10.99.0.1:1194".parse().expect("an address"));
        assert_eq!(arguments, ["[AF_INET]10.99.0.1 1194"]);
    }

    #[test]
    fn a_process_tells_its_configuration() {
        let mut profile = Profile { config_file: Some("/etc/openvpn/a.conf".into()), ..Profile::default() };
        profile.connections.push(ConnectionEntry::default());
        profile.setenv.push(("OPENVPN_x".to_owned(), "y".to_owned()));
        let facts = ProcessFacts {
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_349_119),
            is_daemon: true,
            log_redirected: false,
        };
        let mut env = ScriptEnv::new();
        env.set_process(&profile, facts);
        env.set_session_start(facts.started, &TimeZone::UTC);
        env.set_session_end(Duration::from_secs(61), 1, 2);
        for (name, value) in [
            ("config", "/etc/openvpn/a.conf"),
            ("daemon", "1"),
            ("daemon_log_redirect", "0"),
            ("daemon_start_time", "1795349119"),
            ("proto_1", "udp"),
            ("local_port_1", "1194"),
            ("OPENVPN_x", "y"),
            ("verb", "1"),
            ("time_ascii", "2026-11-22 12:05:19"),
            ("time_unix", "1795349119"),
            ("time_duration", "61"),
            ("bytes_received", "1"),
            ("bytes_sent", "2"),
        ] {
            assert_eq!(env.get(name), Some(value), "{name}");
        }
    }
}
