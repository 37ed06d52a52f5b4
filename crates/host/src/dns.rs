//! DNS settings of a tunnel, and the resolvers of this machine that can take them.

use std::net::IpAddr;

use crate::HostError;

/// What `dns` lines (or the DNS part of `dhcp-option` lines) ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// Servers, highest priority first.
    pub servers: Vec<DnsServer>,
    /// Search domains (`dns search-domains`, `dhcp-option DOMAIN`), first one first.
    pub search_domains: Vec<String>,
}

/// One `dns server N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsServer {
    /// Addresses, any of which will do.
    pub addresses: Vec<DnsServerAddress>,
    /// Domains that this server alone answers for; empty: all.
    pub resolve_domains: Vec<String>,
    /// Whether answers must be signed.
    pub dnssec: Option<Dnssec>,
    /// How it is spoken to.
    pub transport: Option<DnsTransport>,
    /// Name to expect in its certificate.
    pub sni: Option<String>,
}

/// Address and port of a DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsServerAddress {
    /// Address.
    pub address: IpAddr,
    /// Port, where it is not the transport's usual one.
    pub port: Option<u16>,
}

/// `dns server N dnssec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the option")]
pub enum Dnssec {
    Yes,
    No,
    Optional,
}

/// `dns server N transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the option")]
pub enum DnsTransport {
    Plain,
    DoT,
    DoH,
}

/// How DNS settings that were applied are taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DnsUndo {
    /// `resolvectl revert DEVICE`.
    Resolved {
        /// The device.
        device: String,
    },
    /// `resolvconf -d DEVICE`.
    Resolvconf {
        /// The device.
        device: String,
    },
    /// The old content of resolv.conf is kept beside it.
    File {
        /// The copy.
        backup: String,
    },
}

/// A way to tell this machine's resolver about DNS servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsBackend {
    /// systemd-resolved through `resolvectl`.
    Resolved,
    /// resolvconf or openresolv.
    Resolvconf,
    /// `/etc/resolv.conf` itself, when it is a plain file.
    File,
}

impl DnsBackend {
    /// Finds the resolver that this machine uses.
    ///
    /// # Errors
    /// [`HostError::Dns`] with a remedy when there is none that can be told.
    pub fn detect() -> Result<Self, HostError> {
        Err(HostError::Dns("not yet".to_owned()))
    }

    pub(crate) fn set(self, _device: &str, _settings: &DnsSettings) -> Result<DnsUndo, HostError> {
        Err(HostError::Dns("not yet".to_owned()))
    }
}

impl DnsUndo {
    pub(crate) fn run(&self) -> Result<(), HostError> {
        Ok(())
    }
}
