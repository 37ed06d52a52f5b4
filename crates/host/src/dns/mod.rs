//! DNS settings of a tunnel, and the resolvers of this machine that can take them.

mod file;
mod programs;
mod servers;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

pub(crate) use file::KeptFile;
pub use servers::name_servers;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsBackend {
    /// systemd-resolved through `resolvectl`: servers per device, split by domain.
    Resolved {
        /// The program.
        program: PathBuf,
    },
    /// resolvconf or openresolv.
    Resolvconf {
        /// The program.
        program: PathBuf,
    },
    /// `/etc/resolv.conf` itself, when it is a plain file: one list of servers for everything.
    File {
        /// The file.
        path: PathBuf,
    },
}

/// What to do where nothing works.
const REMEDY: &str = "install systemd-resolved or resolvconf, or set DNS in a script (dns-updown, up)";

impl DnsBackend {
    /// Finds the resolver that this machine uses.
    ///
    /// # Errors
    /// [`HostError::Dns`] with a remedy when there is none that can be told.
    pub fn detect() -> Result<Self, HostError> {
        Self::detect_in(Path::new("/"))
    }

    fn detect_in(root: &Path) -> Result<Self, HostError> {
        let resolved_runs = root.join("run/systemd/resolve").is_dir();
        if resolved_runs && let Some(program) = find(root, &["usr/bin/resolvectl", "bin/resolvectl"]) {
            return Ok(Self::Resolved { program });
        }
        let places = ["usr/sbin/resolvconf", "sbin/resolvconf", "usr/bin/resolvconf", "bin/resolvconf"];
        if let Some(program) = find(root, &places) {
            return Ok(Self::Resolvconf { program });
        }
        let path = root.join("etc/resolv.conf");
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => Ok(Self::File { path }),
            Ok(_) => Err(HostError::Dns(format!("{} belongs to another program; {REMEDY}", path.display()))),
            Err(_) => Err(HostError::Dns(format!("there is no {}; {REMEDY}", path.display()))),
        }
    }

    /// Applies settings; takes seconds at most, and blocks.
    ///
    /// # Errors
    /// When the resolver cannot do what is asked, or refuses.
    pub fn set(&self, device: &str, settings: &DnsSettings) -> Result<DnsUndo, HostError> {
        match self {
            Self::Resolved { program } => programs::set_resolved(program, device, settings),
            Self::Resolvconf { program } => programs::set_resolvconf(program, device, settings),
            Self::File { path } => file::set(path, settings),
        }
    }
}

impl DnsUndo {
    /// Returns it as two words: the kind, and a device or file.
    #[must_use]
    pub fn words(&self) -> [&str; 2] {
        match self {
            Self::Resolved { device } => ["resolved", device],
            Self::Resolvconf { device } => ["resolvconf", device],
            Self::File { backup } => ["file", backup],
        }
    }

    /// Reads these words; `None` when the first is no kind.
    #[must_use]
    pub fn from_words([kind, name]: [&str; 2]) -> Option<Self> {
        let name = name.to_owned();
        Some(match kind {
            "resolved" => Self::Resolved { device: name },
            "resolvconf" => Self::Resolvconf { device: name },
            "file" => Self::File { backup: name },
            _ => return None,
        })
    }

    /// Opens what taking back needs, where it is a file that the process may not be able to open later.
    pub(crate) fn keep(&self) -> Option<KeptFile> {
        match self {
            Self::File { backup } => KeptFile::open(Path::new(backup)),
            Self::Resolved { .. } | Self::Resolvconf { .. } => None,
        }
    }

    /// Takes the settings back, through files that were kept open for it if there are any.
    pub(crate) fn run_with(&self, kept: Option<KeptFile>) -> Result<(), HostError> {
        match (self, kept) {
            (Self::File { backup }, Some(kept)) if kept.is_of(Path::new(backup)) => kept.restore(),
            _ => self.run(),
        }
    }

    /// Takes the settings back; what is gone already is no error. Blocks.
    ///
    /// # Errors
    /// When the resolver refuses.
    pub fn run(&self) -> Result<(), HostError> {
        match self {
            Self::File { backup } => file::restore(Path::new(backup)),
            Self::Resolved { device } | Self::Resolvconf { device } => match DnsBackend::detect()? {
                DnsBackend::Resolved { program } => programs::unset_resolved(&program, device),
                DnsBackend::Resolvconf { program } => programs::unset_resolvconf(&program, device),
                DnsBackend::File { .. } => Ok(()),
            },
        }
    }
}

fn find(root: &Path, places: &[&str]) -> Option<PathBuf> {
    places.iter().map(|place| root.join(place)).find(|path| path.is_file())
}

/// A name that no program takes for anything else: it does not begin like an option, and has letters, digits, `.`, `_`
/// and `-` only (SEC-OPT-2).
fn is_domain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| {
            c.is_ascii_alphanumeric()
                || matches!(c, '.' | '_' | '-')
                || (!c.is_ascii() && c.is_alphanumeric())
        })
}

impl DnsSettings {
    fn search(&self) -> impl Iterator<Item = &str> {
        self.search_domains.iter().map(String::as_str).filter(|name| is_domain(name))
    }

    /// The best server that plain resolvers can use: they know neither ports nor encryption nor domains per server.
    fn plain_server(&self) -> Option<&DnsServer> {
        self.servers.iter().find(|server| {
            server.resolve_domains.is_empty()
                && matches!(server.transport, None | Some(DnsTransport::Plain))
                && server.addresses.iter().any(|address| address.port.is_none_or(|port| port == 53))
        })
    }

    /// Lines as of resolv.conf(5).
    fn resolv_conf(&self) -> Result<String, HostError> {
        let mut text = String::new();
        if let Some(server) = self.plain_server() {
            let usable = server.addresses.iter().filter(|address| address.port.is_none_or(|port| port == 53));
            // More than three are ignored by the C library.
            for address in usable.take(3) {
                text.push_str(&format!("nameserver {}\n", address.address));
            }
        } else if !self.servers.is_empty() {
            return Err(HostError::Dns(format!(
                "no server can be used without systemd-resolved (ports, encryption, domains per server); {REMEDY}"
            )));
        }
        let search: Vec<&str> = self.search().collect();
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        Ok(text)
    }
}
