//! One line for every row of the table, or more where one does not show all of it.
//!
//! A sample stands in a profile that fits. It is shared with the test that asks OpenVPN about the same lines: names of
//! files are those of [`FILES`], which both make.

/// The profile that a sample is added to. `dev tun` and what it needs to be accepted, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// A client that pulls.
    Client,
    /// A server with a network.
    Server,
    /// One of two ends, which waits.
    Waiting,
    /// One of two ends, which calls.
    Calling,
    /// A client without a certificate: refused as it is.
    Bare,
    /// A pair's end that is not said to be server or client: refused as it is.
    Roleless,
    /// The file of one client, on a server.
    OneClient,
    /// A message of a server to its client.
    Pushed,
}

/// A line with the option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// What it is added to.
    pub(crate) base: Base,
    /// What else it needs, before it.
    pub(crate) with: &'static str,
    /// The line, or the block, of the option itself.
    pub(crate) line: &'static str,
    /// What shows its effect, after it.
    pub(crate) then: &'static str,
}

impl Sample {
    /// Returns the name of the option.
    pub(crate) fn name(&self) -> &'static str {
        let word = self.line.split([' ', '\n']).next().unwrap_or_default();
        word.strip_prefix('<').and_then(|word| word.strip_suffix('>')).unwrap_or(word)
    }

    /// Returns the profile with the option.
    pub(crate) fn whole(&self) -> String {
        format!("{}{}\n{}\n{}\n", self.base.text(), self.with, self.line, self.then)
    }
}

const OWN: &str = "ca ca.crt\ncert own.crt\nkey own.key\n";

impl Base {
    /// Returns its text.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Client => format!("client\ndev tun\nremote vpn.example\n{OWN}"),
            Self::Server => format!("dev tun\nserver 10.8.0.0 255.255.255.0\ndh none\n{OWN}"),
            Self::Waiting => format!("dev tun\ntls-server\ndh none\n{OWN}"),
            Self::Calling => format!("dev tun\ntls-client\nremote vpn.example\n{OWN}"),
            Self::Bare => "client\ndev tun\nremote vpn.example\nca ca.crt\n".to_owned(),
            Self::Roleless => format!("dev tun\n{OWN}"),
            Self::OneClient | Self::Pushed => String::new(),
        }
    }
}

/// The files that samples name, and what they hold. A program begins with `#!`.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("ca.crt", "certificate\n"),
    ("own.crt", "certificate\n"),
    ("own.key", "key\n"),
    ("other.crt", "certificate\n"),
    ("other.key", "key\n"),
    ("own.p12", "both\n"),
    ("dh.pem", "parameters\n"),
    ("crl.pem", "list\n"),
    ("static.key", "key\n"),
    ("client.key", "key\n"),
    ("token.key", "key\n"),
    ("login.txt", "alice\nsecret\n"),
    ("users.txt", "alice:x\n"),
    ("more.conf", "verb 4\n"),
    ("module.so", "module\n"),
    ("hook", "#!/bin/sh\n"),
    ("clients/alice", "disable\n"),
    ("jail/tmp/empty", ""),
];

const fn sample(base: Base, with: &'static str, line: &'static str) -> Sample {
    Sample { base, with, line, then: "" }
}

const fn client(line: &'static str) -> Sample {
    sample(Base::Client, "", line)
}

const fn server(line: &'static str) -> Sample {
    sample(Base::Server, "", line)
}

const fn with(with: &'static str, line: &'static str) -> Sample {
    sample(Base::Client, with, line)
}

const fn server_with(with: &'static str, line: &'static str) -> Sample {
    sample(Base::Server, with, line)
}

const fn one_client(line: &'static str) -> Sample {
    sample(Base::OneClient, "", line)
}

impl Sample {
    const fn then(mut self, then: &'static str) -> Self {
        self.then = then;
        self
    }
}

const JUDGE: &str = "script-security 2\nauth-user-pass-verify /etc/openvpn/hook via-file";
const RUNS: &str = "script-security 2";
const DOOR: &str = "management door.sock unix";

/// All of them, in the order of the table.
pub(crate) const SAMPLES: &[Sample] = &[
    // General
    client("config more.conf"),
    sample(Base::Waiting, "", "mode server"),
    client("ignore-unknown-option frobnicate").then("frobnicate"),
    client("setenv NAME value"),
    client("setenv-safe NAME value"),
    with("cipher AES-256-CBC", "compat-mode 2.4.9"),
    client("disable-dco"),
    // culvert's own
    client("offload engine"),
    client("offload-policy fast"),
    client("exit-codes distinct"),
    client("kill-switch"),
    server("auth-users users.txt"),
    // Connections
    server("local 192.0.2.1 1195"),
    server_with("local 192.0.2.2 1195", "local 192.0.2.1 1195"),
    client("remote other.example 1195 udp"),
    client("<connection>\nremote other.example 1195\n</connection>"),
    client("proto tcp-client"),
    with("remote other.example 443 tcp-client", "proto-force tcp-client"),
    client("port 1195"),
    client("lport 5000"),
    client("rport 1195"),
    client("bind"),
    sample(Base::Calling, "", "nobind"),
    client("float"),
    server("multihome"),
    server("multihome same-interface"),
    client("remote-random"),
    client("remote-random-hostname"),
    client("resolv-retry 5"),
    client("preresolve"),
    client("ip-remote-hint 192.0.2.9"),
    client("connect-retry 3 60"),
    client("connect-timeout 30"),
    client("server-poll-timeout 30"),
    client("connect-retry-max 3"),
    client("rcvbuf 100000"),
    client("sndbuf 100000"),
    client("mark 7"),
    client("socket-flags TCP_NODELAY"),
    client("bind-dev lo"),
    client("passtos"),
    client("explicit-exit-notify 2"),
    client("persist-local-ip"),
    client("persist-remote-ip"),
    client("allow-recursive-routing"),
    server_with("proto tcp-server", "port-share 127.0.0.1 443"),
    client("shaper 100000"),
    // Packet sizes
    client("tun-mtu 1400"),
    client("tun-mtu 65452"),
    client("tun-mtu-max 1700"),
    with("dev tap", "tun-mtu-extra 64"),
    client("link-mtu 1400"),
    client("udp-mtu 1400"),
    client("max-packet-size 1300"),
    client("fragment 1300"),
    client("mtu-disc yes"),
    client("mtu-test"),
    client("mssfix 1300"),
    // Proxies
    with("proto tcp-client", "http-proxy proxy.example 8080"),
    with("proto tcp-client\nhttp-proxy proxy.example 8080", "http-proxy-user-pass login.txt"),
    with("proto tcp-client\nhttp-proxy proxy.example 8080", "http-proxy-option AGENT browser"),
    with("proto tcp-client", "http-proxy-override proxy.example 8080"),
    client("socks-proxy proxy.example 1080"),
    // Device
    client("dev tap"),
    client("dev null"),
    client("dev-type tap"),
    client("dev-type null"),
    client("dev-node /dev/net/tun"),
    client("dev-node unix:/etc/openvpn/hook"),
    with("dev tap", "lladdr 02:00:5e:10:00:0f"),
    client("topology subnet"),
    server("topology net30"),
    client("ifconfig 10.9.0.2 10.9.0.1"),
    client("ifconfig-ipv6 fd00::2/64 fd00::1"),
    client("ifconfig-noexec"),
    client("ifconfig-nowarn"),
    client("iproute /etc/openvpn/hook"),
    client("txqueuelen 500"),
    client("persist-tun"),
    client("keepalive 10 60"),
    client("ping 10"),
    client("ping-exit 60"),
    client("ping-restart 60"),
    client("ping-timer-rem"),
    client("inactive 60 1000"),
    client("session-timeout 600"),
    // Routes and DNS
    client("route 10.1.0.0 255.255.0.0"),
    client("route-ipv6 fd01::/64"),
    client("route-table 100").then("route 10.1.0.0 255.255.0.0"),
    client("route-gateway 10.8.0.1"),
    client("route-ipv6-gateway fd00::1"),
    client("route-metric 5"),
    client("route-delay 3"),
    client("route-noexec"),
    client("redirect-gateway def1"),
    client("redirect-private def1"),
    client("block-ipv6"),
    client("client-nat snat 10.0.0.0 255.0.0.0 11.0.0.0"),
    client("dns server 1 address 192.0.2.53"),
    client("dhcp-option DNS 192.0.2.53"),
    // Client
    sample(Base::Calling, "", "client"),
    sample(Base::Calling, "", "pull"),
    client("pull-filter ignore route"),
    client("route-nopull"),
    client("allow-pull-fqdn"),
    client("auth-user-pass login.txt"),
    client("auth-retry nointeract"),
    client("auth-nocache"),
    with("auth-user-pass login.txt", "static-challenge PIN 1"),
    client("push-peer-info"),
    sample(Base::Pushed, "", "push-continuation 2"),
    client("auth-token abcdef"),
    client("auth-token-user YWxpY2U="),
    client("peer-id 3"),
    client("key-derivation tls-ekm"),
    client("protocol-flags cc-exit"),
    // Server
    sample(Base::Waiting, "", "server 10.8.0.0 255.255.255.0"),
    sample(Base::Waiting, "", "server-ipv6 fd00:6::/64"),
    sample(Base::Waiting, "dev tap", "server-bridge 10.8.0.4 255.255.255.0 10.8.0.50 10.8.0.100"),
    server("push \"route 10.1.0.0 255.255.0.0\""),
    sample(
        Base::Waiting,
        "mode server\nifconfig 10.8.0.1 255.255.255.0",
        "ifconfig-pool 10.8.0.10 10.8.0.20 255.255.255.0",
    ),
    server("ifconfig-pool-persist leases.txt"),
    server_with("ifconfig-ipv6 fd00::1/64 fd00::2", "ifconfig-ipv6-pool fd00::1000/64"),
    sample(Base::Waiting, "mode server", "ifconfig-push-constraint 10.9.0.0 255.255.255.0"),
    server("hash-size 64 64"),
    server("connect-freq 5 10"),
    server("connect-freq-initial 5 10"),
    server("max-clients 7"),
    server_with("dev tap", "max-routes-per-client 7"),
    server("bcast-buffers 64"),
    server("tcp-queue-limit 64"),
    server("client-to-client"),
    server("duplicate-cn"),
    server("tcp-nodelay"),
    server_with("dev tap", "stale-routes-check 60"),
    server_with("dev tap", "vlan-tagging"),
    server_with("dev tap\nvlan-tagging", "vlan-accept tagged"),
    server_with("dev tap\nvlan-tagging", "vlan-pvid 7"),
    server("client-config-dir clients"),
    server_with("client-config-dir clients", "ccd-exclusive"),
    server_with(JUDGE, "verify-client-cert none"),
    server_with(JUDGE, "username-as-common-name"),
    server_with(JUDGE, "auth-user-pass-optional"),
    server_with(JUDGE, "auth-gen-token 3600"),
    server_with(JUDGE, "auth-gen-token-secret token.key"),
    one_client("iroute 10.7.0.0 255.255.255.0"),
    one_client("iroute-ipv6 fd00:7::/64"),
    one_client("ifconfig-push 10.8.0.5 255.255.255.0"),
    one_client("ifconfig-ipv6-push fd00::5/64"),
    one_client("disable"),
    one_client("override-username bob"),
    one_client("push-reset"),
    one_client("push-remove route"),
    // TLS
    sample(Base::Roleless, "dh none", "tls-server"),
    sample(Base::Roleless, "remote vpn.example", "tls-client"),
    client("ca other.crt"),
    client("capath clients"),
    client("cert other.crt"),
    client("key other.key"),
    client("extra-certs other.crt"),
    sample(Base::Bare, "", "pkcs12 own.p12"),
    server("dh dh.pem"),
    client("askpass login.txt"),
    client("tls-version-min 1.3"),
    client("tls-version-max 1.2"),
    client("tls-cipher TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384"),
    client("tls-ciphersuites TLS_AES_256_GCM_SHA384"),
    client("tls-groups X25519"),
    client("ecdh-curve secp384r1"),
    client("tls-cert-profile preferred"),
    client("tls-auth static.key 1"),
    client("tls-crypt static.key"),
    client("tls-crypt-v2 client.key"),
    server_with("tls-crypt-v2 static.key", "tls-crypt-v2-max-age 30"),
    with("tls-auth static.key", "key-direction 1"),
    client("tls-timeout 5"),
    client("hand-window 30"),
    client("tran-window 1800"),
    client("reneg-sec 1800"),
    client("reneg-bytes 100000"),
    client("reneg-pkts 100000"),
    client("tls-exit"),
    sample(Base::Waiting, "", "single-session"),
    server("keying-material-exporter EXPORTER-label 20"),
    client("crl-verify crl.pem"),
    with("", PEER_FINGERPRINT),
    client("verify-x509-name vpn name"),
    server("x509-username-field emailAddress"),
    client("remote-cert-tls server"),
    client("remote-cert-eku 1.3.6.1.5.5.7.3.1"),
    client("remote-cert-ku a0 88"),
    with("", VERIFY_HASH),
    client("ns-cert-type server"),
    // Data channel
    client("auth SHA256"),
    sample(Base::Waiting, "", "cipher AES-256-CBC"),
    client("data-ciphers-fallback AES-256-CBC"),
    client("data-ciphers AES-256-GCM:AES-256-CBC"),
    client("ncp-ciphers AES-256-GCM:AES-256-CBC"),
    client("comp-lzo"),
    client("comp-lzo no"),
    server("compress migrate"),
    client("compress lz4"),
    client("allow-compression asym"),
    client("replay-window 128 20"),
    client("mute-replay-warnings"),
    sample(Base::Waiting, "", "replay-persist replay.txt"),
    server("force-tls-key-material-export"),
    client("engine dynamic"),
    client("providers legacy default"),
    // Programs
    with(RUNS, "up /etc/openvpn/hook"),
    with(RUNS, "down /etc/openvpn/hook"),
    with(RUNS, "route-up /etc/openvpn/hook"),
    with(RUNS, "route-pre-down /etc/openvpn/hook"),
    with(RUNS, "ipchange /etc/openvpn/hook"),
    with(RUNS, "tls-verify /etc/openvpn/hook"),
    server_with(RUNS, "client-connect /etc/openvpn/hook"),
    server_with(RUNS, "client-disconnect /etc/openvpn/hook"),
    server_with(RUNS, "learn-address /etc/openvpn/hook"),
    server_with(RUNS, "client-crresponse /etc/openvpn/hook"),
    server_with("script-security 2\ntls-crypt-v2 static.key", "tls-crypt-v2-verify /etc/openvpn/hook"),
    server_with(RUNS, "auth-user-pass-verify /etc/openvpn/hook via-file"),
    client("dns-updown disable"),
    client("script-security 2"),
    client("down-pre"),
    client("up-delay"),
    client("up-restart"),
    client("tls-export-cert clients"),
    client("x509-track CN"),
    server("tmp-dir clients"),
    // Log
    client("log out.log"),
    client("log-append out.log"),
    client("syslog name"),
    client("suppress-timestamps"),
    client("machine-readable-output"),
    client("log-json"),
    client("errors-to-stderr"),
    client("verb 5"),
    client("mute 7"),
    client("status status.txt 10"),
    with("status status.txt", "status-version 2"),
    server("status-addresses 2.6"),
    client("echo hello"),
    client("parameter hello"),
    // Process
    client("daemon name"),
    client("cd /etc/openvpn"),
    client("user nobody"),
    client("group nogroup"),
    client("chroot jail"),
    client("setcon context"),
    client("writepid pid"),
    client("mlock"),
    client("nice 5"),
    client("remap-usr1 SIGTERM"),
    // Management
    client("management door.sock unix"),
    with(DOOR, "management-client-user nobody"),
    with(DOOR, "management-client-group nogroup"),
    with(DOOR, "management-query-passwords"),
    with(DOOR, "management-query-remote"),
    with(DOOR, "management-hold"),
    with(DOOR, "management-signal"),
    with(DOOR, "management-forget-disconnect"),
    with(DOOR, "management-up-down"),
    with(DOOR, "management-client"),
    with(DOOR, "management-query-proxy"),
    server_with(DOOR, "management-client-auth"),
    sample(Base::Bare, "management door.sock unix\ncert own.crt", "management-external-key nopadding"),
    sample(
        Base::Bare,
        "management door.sock unix\nmanagement-external-key nopadding",
        "management-external-cert hint",
    ),
    with(DOOR, "management-log-cache 500"),
    server("plugin module.so word"),
    with("management 127.0.0.1 5555", "management-insecure"),
    client("control-socket none"),
    client("metrics 127.0.0.1 9176"),
    // Windows, tokens
    client("windows-driver wintun"),
    client("msg-channel 7"),
    client("win-sys env"),
    client("ip-win32 dynamic"),
    client("show-adapters"),
    client("show-net"),
    client("show-net-up"),
    client("tap-sleep 3"),
    client("dhcp-renew"),
    client("dhcp-pre-release"),
    client("dhcp-release"),
    client("dhcp-internal 3"),
    client("register-dns"),
    client("block-outside-dns"),
    client("rdns-internal"),
    client("show-valid-subnets"),
    client("pause-exit"),
    client("service event"),
    client("allow-nonadmin"),
    client("cryptoapicert SUBJ:name"),
    client("route-method adaptive"),
    sample(Base::Bare, "pkcs11-id name", "pkcs11-providers module.so"),
    sample(Base::Bare, "pkcs11-providers module.so\npkcs11-id name", "pkcs11-protected-authentication 1"),
    sample(Base::Bare, "pkcs11-providers module.so\npkcs11-id name", "pkcs11-private-mode 1"),
    sample(Base::Bare, "pkcs11-providers module.so\npkcs11-id name", "pkcs11-cert-private 1"),
    sample(Base::Bare, "pkcs11-providers module.so\npkcs11-id name", "pkcs11-pin-cache 300"),
    sample(Base::Bare, "pkcs11-providers module.so", "pkcs11-id name"),
    sample(Base::Bare, "management door.sock unix\npkcs11-providers module.so", "pkcs11-id-management"),
    // Commands
    client("help"),
    client("version"),
    client("show-gateway 192.0.2.1"),
    client("show-ciphers"),
    client("show-digests"),
    client("show-engines"),
    client("show-tls"),
    client("show-curves"),
    client("show-groups"),
    client("mktun"),
    client("rmtun"),
    client("test-crypto"),
    client("genkey tls-auth new.key"),
    client("show-pkcs11-ids module.so 1"),
    // Removed, renamed and foreign
    client("tun-ipv6"),
    client("persist-key"),
    client("fast-io"),
    client("max-routes 100"),
    server("opt-verify"),
    client("comp-noadapt"),
    client("prng SHA1 16"),
    client("http-proxy-retry"),
    client("socks-proxy-retry"),
    client("http-proxy-timeout 5"),
    client("disable-occ"),
    client("gremlin 3"),
    client("mtu-dynamic"),
    server("client-cert-not-required"),
    client("no-replay"),
    client("compat-names"),
    client("no-name-remapping"),
    client("secret static.key"),
    client("allow-deprecated-insecure-static-crypto"),
    server("ifconfig-pool-linear"),
    client("key-method 2"),
    server("management-client-pf"),
    client("ncp-disable"),
    client("no-iv"),
    client("use-prediction-resistance"),
    client("keysize 256"),
    client("tls-remote name"),
    server("memstats file"),
    client("auth-federate"),
    client("block-ipv4"),
];

const PEER_FINGERPRINT: &str = "peer-fingerprint 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";
const VERIFY_HASH: &str = "verify-hash 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF SHA256";
