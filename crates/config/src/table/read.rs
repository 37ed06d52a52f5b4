//! Readers of values that several rows share: the same words in a file, in a push, in an update.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::{
    args::{Args, Problem, integer, is_name, network, problem},
    draft::{RawProto, RawTransport},
    value::{
        Compression, DhcpOption, DhcpValue, Dns, DnsServer, DnsTransport, Dnssec, Family, Ifconfig,
        Ifconfig6, Redirect, Route, Route6, RouteHost, Topology,
    },
};

/// How far a value is trusted: who wrote it decides whether names are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The machine's own configuration.
    Own,
    /// A server; names are looked up only where `allow-pull-fqdn` says so.
    Pushed { allow_fqdn: bool },
}

impl Source {
    fn allows_names(self) -> bool {
        self != Self::Pushed { allow_fqdn: false }
    }

    /// Whether a word only holds a place. Of a server OpenVPN takes it for a name, and so refuses it as one.
    fn is_placeholder(self, word: &str) -> bool {
        word == "default" && self.allows_names()
    }
}

const PING_TIMEOUT_MAX: i32 = 86_400;

/// Reads `proto` and its kin.
pub(super) fn proto(word: &str) -> Option<RawProto> {
    use {Family as F, RawTransport as T};
    let (transport, family) = match word {
        "udp" => (T::Udp, F::Any),
        "udp4" => (T::Udp, F::V4),
        "udp6" => (T::Udp, F::V6),
        "tcp" => (T::Tcp, F::Any),
        "tcp4" => (T::Tcp, F::V4),
        "tcp6" => (T::Tcp, F::V6),
        "tcp-server" => (T::TcpServer, F::Any),
        "tcp4-server" => (T::TcpServer, F::V4),
        "tcp6-server" => (T::TcpServer, F::V6),
        "tcp-client" => (T::TcpClient, F::Any),
        "tcp4-client" => (T::TcpClient, F::V4),
        "tcp6-client" => (T::TcpClient, F::V6),
        _ => return None,
    };
    Some(RawProto { transport, family })
}

/// The names that [`proto`] knows, as OpenVPN lists them.
pub(super) const PROTOCOLS: &str = "[proto-uninitialized] [udp] [tcp-server] [tcp-client] [tcp] [udp4] [tcp4-server] \
                                    [tcp4-client] [tcp4] [udp6] [tcp6-server] [tcp6-client] [tcp6]";

/// Reads `topology`.
pub(super) fn topology(a: &Args<'_>) -> Result<Topology, Problem> {
    let choices = [("net30", Topology::Net30), ("p2p", Topology::P2p), ("subnet", Topology::Subnet)];
    a.one_of(0, &choices, |_| "--topology must be net30, p2p, or subnet".to_owned())
}

/// Reads two IPv4 addresses.
pub(super) fn ifconfig(a: &Args<'_>) -> Result<Ifconfig, Problem> {
    match (a.v4(0), a.v4(1)) {
        (Some(local), Some(second)) => Ok(Ifconfig { local, second }),
        (first, _) => {
            let text = format!("ifconfig parms '{}' and '{}' must be valid addresses", a.str(0), a.str(1));
            Err(problem(text).at(usize::from(first.is_some())))
        }
    }
}

/// Reads an IPv6 address with its length, and the other end.
pub(super) fn ifconfig_ipv6(a: &Args<'_>) -> Result<Ifconfig6, Problem> {
    let text =
        || problem(format!("ifconfig-ipv6 parms '{}' and '{}' must be valid addresses", a.str(0), a.str(1)));
    let local = a.net6(0).ok_or_else(|| text().at(0))?;
    let remote = a.v6(1).ok_or_else(|| text().at(1))?;
    match local.bits {
        64..=124 => Ok(Ifconfig6 { local, remote }),
        bits => {
            Err(problem(format!("ifconfig-ipv6: /netbits must be between 64 and 124, not '/{bits}'")).at(0))
        }
    }
}

/// Reads `route NET [MASK] [GATEWAY] [METRIC]`; the word `default` leaves an argument out.
pub(super) fn route(a: &Args<'_>, source: Source, table: u32) -> Result<Route, Problem> {
    let written = |index: usize| a.get(index).filter(|word| !source.is_placeholder(word));
    let network = host(a.str(0), source).ok_or_else(|| {
        problem(format!("route parameter network/IP '{}' must be a valid address", a.str(0))).at(0)
    })?;
    let bits = match written(1) {
        None => 32,
        Some(word) => {
            let mask = word.parse().map_err(|_| {
                problem(format!("route parameter netmask '{word}' must be an IP address")).at(1)
            })?;
            self::network(Ipv4Addr::UNSPECIFIED, mask).map(|net| net.bits).ok_or_else(|| {
                problem(format!("route parameter netmask '{word}' must be an IP address")).at(1)
            })?
        }
    };
    let gateway = written(2)
        .map(|word| {
            host(word, source).ok_or_else(|| {
                problem(format!("route parameter gateway '{word}' must be a valid address")).at(2)
            })
        })
        .transpose()?;
    Ok(Route { network, bits, gateway, metric: metric(a, 3, "route")?, table })
}

/// Reads `route-ipv6 NET/BITS [GATEWAY] [METRIC]`.
pub(super) fn route_ipv6(a: &Args<'_>, source: Source, table: u32) -> Result<Route6, Problem> {
    let written = |index: usize| a.get(index).filter(|word| !source.is_placeholder(word));
    let network = a.net6(0).ok_or_else(|| {
        problem(format!("route-ipv6 parameter network/IP '{}' must be a valid address", a.str(0))).at(0)
    })?;
    let gateway = written(1)
        .map(|word| {
            word.parse().map_err(|_| {
                problem(format!("route-ipv6 parameter gateway '{word}' must be a valid address")).at(1)
            })
        })
        .transpose()?;
    Ok(Route6 { network, gateway, metric: metric(a, 2, "route-ipv6")?, table })
}

fn metric(a: &Args<'_>, index: usize, option: &str) -> Result<Option<u32>, Problem> {
    let Some(word) = a.get(index).filter(|word| *word != "default") else { return Ok(None) };
    integer(word)
        .and_then(|n| i32::try_from(n).ok())
        .and_then(|n| u32::try_from(n).ok())
        .map(Some)
        .ok_or_else(|| problem(format!("{option}: metric '{word}' must be a number of at least 0")).at(index))
}

/// Reads an address, a keyword or a name.
pub(super) fn host(word: &str, source: Source) -> Option<RouteHost> {
    match word {
        "vpn_gateway" => Some(RouteHost::VpnGateway),
        "net_gateway" => Some(RouteHost::NetGateway),
        "remote_host" => Some(RouteHost::RemoteHost),
        _ => match word.parse() {
            Ok(address) => Some(RouteHost::Address(address)),
            Err(_) if source.allows_names() && is_host_name(word) => Some(RouteHost::Name(word.to_owned())),
            Err(_) => None,
        },
    }
}

/// A word of digits and dots that is no address is a mistake, not a name.
fn is_host_name(word: &str) -> bool {
    is_name(word) && word.chars().any(|c| !c.is_ascii_digit() && c != '.')
}

/// Reads `route-gateway GW|dhcp`; `None` is `dhcp`.
pub(super) fn route_gateway(a: &Args<'_>, source: Source) -> Result<Option<RouteHost>, Problem> {
    match a.str(0) {
        "dhcp" => Ok(None),
        word => host(word, source)
            .map(Some)
            .ok_or_else(|| problem(format!("route-gateway parm '{word}' must be a valid address")).at(0)),
    }
}

/// Adds the flags of `redirect-gateway` (`gateway`) or `redirect-private` to what was there.
pub(super) fn redirect(a: &Args<'_>, before: Option<Redirect>, gateway: bool) -> Result<Redirect, Problem> {
    let mut flags = before.unwrap_or(Redirect { ipv4: true, ..Redirect::default() });
    flags.gateway |= gateway;
    for (index, word) in a.words.iter().enumerate() {
        match word.text.as_str() {
            "local" => flags.local = true,
            "autolocal" => flags.autolocal = true,
            "def1" => flags.def1 = true,
            "bypass-dhcp" => flags.bypass_dhcp = true,
            "bypass-dns" => flags.bypass_dns = true,
            "block-local" => flags.block_local = true,
            "ipv6" => flags.ipv6 = true,
            "!ipv4" => flags.ipv4 = false,
            other => {
                return Err(problem(format!("unknown --{} flag: {other}", a.name)).at(index).remedy(
                    "write any of: local, autolocal, def1, bypass-dhcp, bypass-dns, block-local, ipv6, !ipv4",
                ));
            }
        }
    }
    Ok(flags)
}

/// Reads `dns …` into `dns`.
pub(super) fn dns(a: &Args<'_>, dns: &mut Dns, source: Source) -> Result<(), Problem> {
    match a.str(0) {
        "search-domains" if a.len() > 1 => {
            let names = domains(a, 1)
                .map_err(|_| problem("--dns search-domains contain invalid characters").at(1))?;
            dns.search_domains.extend(names);
            Ok(())
        }
        "server" if a.len() > 3 => {
            let lowest = if source == Source::Own { i64::from(i8::MIN) } else { 0 };
            let priority =
                integer(a.str(1)).filter(|n| *n >= lowest).and_then(|n| i8::try_from(n).ok()).ok_or_else(
                    || problem(format!("--dns server: invalid priority value '{}'", a.str(1))).at(1),
                )?;
            // Read into a copy, so that a bad word leaves nothing behind.
            let found = dns.servers.iter().position(|server| server.priority == priority);
            let mut server = found
                .and_then(|at| dns.servers.get(at).cloned())
                .unwrap_or_else(|| DnsServer { priority, ..DnsServer::default() });
            dns_server(a, &mut server)?;
            dns.servers.retain(|server| server.priority != priority);
            let at = dns.servers.partition_point(|other| other.priority < priority);
            dns.servers.insert(at, server);
            Ok(())
        }
        word => {
            Err(problem(format!("--dns: unknown option type '{word}' or missing or unknown parameter")).at(0))
        }
    }
}

fn dns_server(a: &Args<'_>, server: &mut DnsServer) -> Result<(), Problem> {
    let n = server.priority;
    match a.str(2) {
        "address" => {
            for (index, word) in a.words.iter().enumerate().skip(3) {
                let address = (server.addresses.len() < 8).then(|| dns_address(&word.text)).flatten();
                server.addresses.push(address.ok_or_else(|| {
                    problem(format!(
                        "--dns server {n}: malformed address or maximum exceeded '{}'",
                        word.text
                    ))
                    .at(index)
                })?);
            }
        }
        "resolve-domains" => server.resolve_domains.extend(domains(a, 3).map_err(|_| {
            problem(format!("--dns server {n}: resolve-domains contain invalid characters")).at(3)
        })?),
        "dnssec" if a.len() == 4 => {
            let choices = [("yes", Dnssec::Yes), ("no", Dnssec::No), ("optional", Dnssec::Optional)];
            let wrong = |word: &str| format!("--dns server {n}: malformed dnssec value '{word}'");
            server.dnssec = Some(a.one_of(3, &choices, wrong)?);
        }
        "transport" if a.len() == 4 => {
            let choices =
                [("plain", DnsTransport::Plain), ("DoH", DnsTransport::Https), ("DoT", DnsTransport::Tls)];
            let wrong = |word: &str| format!("--dns server {n}: malformed transport value '{word}'");
            server.transport = Some(a.one_of(3, &choices, wrong)?);
        }
        "sni" if a.len() == 4 => {
            let name = a.str(3);
            if !is_name(name) {
                return Err(problem(format!("--dns server {n}: sni contains invalid characters")).at(3));
            }
            server.sni = Some(name.to_owned());
        }
        word => {
            let text =
                format!("--dns server {n}: unknown option type '{word}' or missing or unknown parameter");
            return Err(problem(text).at(2));
        }
    }
    Ok(())
}

fn domains(a: &Args<'_>, from: usize) -> Result<Vec<String>, ()> {
    let names = a.rest(from);
    if names.iter().all(|name| is_name(name)) { Ok(names) } else { Err(()) }
}

/// Reads `A`, `A:PORT`, `A6` or `[A6]:PORT`.
fn dns_address(word: &str) -> Option<(IpAddr, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if let Ok(address) = word.parse() {
        return Some((address, None));
    }
    if let Some((address, number)) = word.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return Some((IpAddr::V6(address.parse().ok()?), Some(port(number)?)));
    }
    let (address, number) = word.split_once(':')?;
    Some((IpAddr::V4(address.parse().ok()?), Some(port(number)?)))
}

/// Reads `dhcp-option TYPE [VALUE]...`.
pub(super) fn dhcp_option(a: &Args<'_>) -> Result<DhcpOption, Problem> {
    let name = || match a.str(1) {
        name if is_name(name) => Ok(name.to_owned()),
        _ => Err(problem(format!("--dhcp-option {} contains invalid characters", a.str(0))).at(1)),
    };
    let value = match (a.str(0), a.len()) {
        ("DOMAIN" | "ADAPTER_DOMAIN_SUFFIX", 2) => DhcpValue::Domain(name()?),
        ("DOMAIN-SEARCH", 2) => DhcpValue::DomainSearch(name()?),
        ("DNS" | "DNS6", 2) => DhcpValue::Dns(a.str(1).parse().map_err(|_| {
            problem(format!("dhcp-option parameter {} '{}' must be an IP address", a.str(0), a.str(1))).at(1)
        })?),
        _ => DhcpValue::Other,
    };
    // They reach scripts' environment (SEC-OPT-2).
    if let Some(index) = a.words.iter().position(|word| word.text.chars().any(char::is_control)) {
        return Err(problem(format!("--dhcp-option {} contains invalid characters", a.str(0))).at(index));
    }
    Ok(DhcpOption { value, words: a.rest(0) })
}

/// Reads `comp-lzo [MODE]`.
pub(super) fn comp_lzo(a: &Args<'_>) -> Result<Compression, Problem> {
    match a.get(0) {
        None | Some("yes" | "adaptive") => Ok(Compression::Lzo),
        Some("no") => Ok(Compression::LzoStub),
        Some(word) => {
            Err(problem(format!("bad comp-lzo option: {word} -- must be 'yes', 'no', or 'adaptive'")).at(0))
        }
    }
}

/// Reads `compress [ALGORITHM]`.
pub(super) fn compress(a: &Args<'_>) -> Result<Compression, Problem> {
    match a.get(0) {
        None | Some("stub") => Ok(Compression::Stub),
        Some("stub-v2") => Ok(Compression::StubV2),
        Some("migrate") => Ok(Compression::Migrate),
        Some("lzo") => Ok(Compression::Lzo),
        Some("lz4") => Ok(Compression::Lz4),
        Some("lz4-v2") => Ok(Compression::Lz4V2),
        Some(word) => Err(problem(format!("bad comp option: {word}")).at(0).remedy(
            "write one of: stub, stub-v2, migrate, lzo, lz4, lz4-v2; better, leave the \
                option out on both ends",
        )),
    }
}

/// Reads the seconds of `ping` and its kin; `None` is 0: off.
pub(super) fn ping(a: &Args<'_>) -> Result<Option<Duration>, Problem> {
    let secs = a.within(0, a.name, 0..=PING_TIMEOUT_MAX)?;
    Ok((secs > 0).then(|| Duration::from_secs(secs.into())))
}

/// Reads one number of `keepalive`.
pub(super) fn keepalive(a: &Args<'_>, index: usize, what: &str) -> Result<u32, Problem> {
    a.within(index, what, 1..=PING_TIMEOUT_MAX)
}

/// Reads `inactive SECONDS [BYTES]`; `None` is 0 seconds: off.
pub(super) fn inactive(a: &Args<'_>) -> Result<Option<(Duration, u64)>, Problem> {
    let secs = a.secs(0)?;
    let bytes = if a.get(1).is_some() { a.long(1)? } else { 0 };
    Ok((!secs.is_zero()).then_some((secs, bytes)))
}

/// Reads seconds of which 0 means off.
pub(super) fn off_or_secs(a: &Args<'_>) -> Result<Option<Duration>, Problem> {
    Ok(Some(a.secs(0)?).filter(|secs| !secs.is_zero()))
}

/// Reads `shaper N`.
pub(super) fn shaper(a: &Args<'_>) -> Result<u32, Problem> {
    a.within(0, "shaper", 100..=100_000_000)
}

/// Reads `tun-mtu N`.
pub(super) fn tun_mtu(a: &Args<'_>) -> Result<u32, Problem> {
    a.within(0, "tun-mtu", 100..=65_536)
}

/// Reads `verb N`; OpenVPN takes any number, and nothing happens above 11.
pub(super) fn verb(a: &Args<'_>) -> Result<u8, Problem> {
    Ok(u8::try_from(a.number(0)?.min(11)).unwrap_or(11))
}

/// Reads `setenv-safe NAME [VALUE]`: the variable with its prefix.
pub(super) fn setenv_safe(a: &Args<'_>) -> (String, String) {
    let name: String =
        a.str(0).chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    let value: String =
        a.get(1).unwrap_or_default().chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    (format!("OPENVPN_{name}"), value)
}

/// Reads fingerprints: one per line of a block, or one word. `len` is the digest's length in bytes.
pub(super) fn fingerprints(a: &Args<'_>, len: usize) -> Result<Vec<Vec<u8>>, Problem> {
    a.str(0)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|line| fingerprint(line, len))
        .collect()
}

fn fingerprint(text: &str, len: usize) -> Result<Vec<u8>, Problem> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|pair| match pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => u8::from_str_radix(pair, 16).ok(),
            false => None,
        })
        .collect();
    match bytes {
        None => Err(problem(format!("format error in hash fingerprint: {text}"))
            .at(0)
            .remedy("write pairs of hexadecimal digits with colons between them")),
        Some(bytes) if bytes.len() < len => Err(problem(format!(
            "hash fingerprint is wrong length - expected {len} bytes, got {}: {text}",
            bytes.len()
        ))
        .at(0)),
        Some(bytes) if bytes.len() > len => {
            Err(problem(format!("hash fingerprint too long - expected only {len} bytes: {text}")).at(0))
        }
        Some(bytes) => Ok(bytes),
    }
}
