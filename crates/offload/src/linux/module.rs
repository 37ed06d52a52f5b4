//! The module: whether it is there, which version, what it can do, and what is known to be wrong with it.

use std::{fmt, io};

use culvert_sys::NetlinkFamily;
use culvert_wire::{CipherName, OffloadKind};
use netlink_bindings::{nlctrl, ovpn};

use super::netlink::{Requests, attributes, unsigned};
use crate::Capabilities;

/// The generic netlink family, also the kind of its links and the name of the module.
pub(super) const FAMILY: &str = "ovpn";

/// The older module, out of tree, with an interface of its own.
const OLDER_FAMILY: &str = "ovpn-dco-v2";

/// The highest attribute of a peer in `ovpn.yaml` that culvert uses: `OVPN_A_PEER_TX_ID`.
const TX_ID: u64 = 24;

/// The loaded module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// The number of its family.
    pub(super) family: u16,
    /// The number of its group of notifications about peers.
    pub(super) group: u32,
    /// Packets can carry another id than the one that is received.
    pub(super) tx_id: bool,
    /// Which one it is.
    pub(super) release: Release,
}

/// Why there is no module.
#[derive(Debug)]
pub(super) enum Missing {
    /// The kernel has none, or may not load it.
    Module {
        /// The older module is there instead.
        older: bool,
    },
    /// The kernel could not be asked.
    System(io::Error),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module { older: true } => f.write_str(
                "the kernel has the older module ovpn-dco v2, which culvert does not use: replace it by ovpn-backports, \
                 or use Linux 6.16 or newer",
            ),
            Self::Module { older: false } => f.write_str(
                "the kernel has no module `ovpn`: use Linux 6.16 or newer, or install ovpn-backports, and load it \
                 (modprobe ovpn)",
            ),
            Self::System(failure) => write!(f, "the kernel cannot be asked for its module `ovpn`: {failure}"),
        }
    }
}

impl Module {
    /// Looks for the module. Asking for its family has the kernel load it.
    pub(super) fn find(requests: &mut Requests) -> Result<Self, Missing> {
        let Some((family, group)) = family(requests, FAMILY).map_err(Missing::System)? else {
            let older = family_exists(requests, OLDER_FAMILY);
            return Err(Missing::Module { older });
        };
        let tx_id = knows_tx_id(requests, family).unwrap_or(false);
        Ok(Self { family, group: group.unwrap_or_default(), tx_id, release: Release::running() })
    }

    /// Opens a connection and looks for the module.
    pub(super) fn connect() -> Result<(Requests, Self), Missing> {
        let mut requests = Requests::open(NetlinkFamily::Generic).map_err(Missing::System)?;
        let module = Self::find(&mut requests)?;
        requests.generic_family = module.family;
        Ok((requests, module))
    }

    /// What its devices can carry. `trust_tcp`: also over TCP where this module has a known defect.
    pub(super) fn capabilities(&self, trust_tcp: bool) -> Capabilities {
        Capabilities {
            kind: OffloadKind::Linux,
            ciphers: vec![
                CipherName::Aes256Gcm,
                CipherName::ChaCha20Poly1305,
                CipherName::Aes128Gcm,
                CipherName::Aes192Gcm,
            ],
            epoch: false,
            data_v1: false,
            multi_peer: true,
            tcp: trust_tcp || self.release.tcp_defect().is_none(),
            tx_id: self.tx_id,
            framing: false,
            mssfix: false,
        }
    }
}

/// Returns the numbers of a generic family and of its group `peers`.
fn family(requests: &mut Requests, name: &str) -> io::Result<Option<(u16, Option<u32>)>> {
    const ENOENT: i32 = 2;
    let mut request = nlctrl::Request::new().op_getfamily_do();
    request.encode().push_family_name_bytes(name.as_bytes());
    let mut found = None;
    let asked = requests.call(&request, |answer| {
        let Ok(id) = answer.get_family_id() else { return };
        let group = answer.get_mcast_groups().ok().and_then(|groups| {
            groups.into_iter().find_map(|group| {
                let wanted = group.get_name().is_ok_and(|name| name == ovpn::NotifGroup::PEERS_CSTR);
                if wanted { group.get_id().ok() } else { None }
            })
        });
        found = Some((id, group));
    });
    match asked {
        Ok(()) => Ok(found),
        Err(refused) if refused.errno() == Some(ENOENT) => Ok(None),
        Err(refused) => Err(refused.into_io()),
    }
}

fn family_exists(requests: &mut Requests, name: &str) -> bool {
    family(requests, name).is_ok_and(|found| found.is_some())
}

/// Asks for the policy of `PEER_NEW`: the attributes that a peer may have. The version of the kernel does not tell,
/// because of the backports.
fn knows_tx_id(requests: &mut Requests, family: u16) -> Option<bool> {
    // linux/genetlink.h, linux/netlink.h
    const CTRL_ATTR_POLICY: u16 = 8;
    const NL_POLICY_TYPE_ATTR_POLICY_MAXTYPE: u16 = 9;
    let mut request = nlctrl::Request::new().op_getpolicy_dump();
    request.encode().push_family_id(family).push_op(1);
    let mut highest = 0;
    // Policies by number, their attributes by number, each attribute's properties; only nests have a highest type.
    requests
        .call(&request, |answer| {
            let of_policies = attributes(answer.get_buf()).filter(|(kind, _)| *kind == CTRL_ATTR_POLICY);
            for property in of_policies
                .flat_map(|(_, policies)| attributes(policies))
                .flat_map(|(_, policy)| attributes(policy))
                .flat_map(|(_, attribute)| attributes(attribute))
            {
                if let (NL_POLICY_TYPE_ATTR_POLICY_MAXTYPE, Some(value)) = (property.0, unsigned(property.1))
                {
                    highest = highest.max(value);
                }
            }
        })
        .ok()?;
    Some(highest >= TX_ID)
}

/// Which module runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// The kernel's own; the text is the kernel's version as far as it is numbers.
    InTree {
        /// `7.3.4`.
        text: String,
        /// The same as numbers.
        version: Version,
    },
    /// ovpn-backports, which knows its own version.
    Backports(String),
}

/// Major, minor, patch.
type Version = (u32, u32, u32);

impl Release {
    fn running() -> Self {
        let own = std::fs::read_to_string("/sys/module/ovpn/version").ok();
        match own.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
            Some(text) => Self::Backports(text),
            None => Self::of_kernel(&rustix::system::uname().release().to_string_lossy()),
        }
    }

    fn of_kernel(release: &str) -> Self {
        let text: String =
            release.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>();
        let text = text.trim_end_matches('.').to_owned();
        let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let version = (next(), next(), next());
        Self::InTree { text, version }
    }

    /// The defect that keeps TCP peers away from this module, if there is one.
    pub(super) fn tcp_defect(&self) -> Option<&'static Defect> {
        match self {
            Self::InTree { version, .. } => DEFECTS.iter().find(|defect| defect.concerns(*version)),
            Self::Backports(_) => None,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InTree { text, .. } => f.write_str(text),
            Self::Backports(version) => write!(f, "backports {version}"),
        }
    }
}

/// Something wrong with the module's TCP that its peers can reach (SEC-OFF-4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Defect {
    /// What it is called.
    pub(super) name: &'static str,
    /// The first kernel with it.
    since: Version,
    /// The first kernel without it, of each branch that was mended; everything from the last one on is mended.
    mended: &'static [Version],
}

/// Known defects. A distribution may have mended a kernel of an older number: `offload-policy fast` says so.
const DEFECTS: &[Defect] =
    &[Defect { name: "CVE-2026-80519", since: (6, 16, 0), mended: &[(6, 18, 46), (7, 1, 10), (7, 2, 0)] }];

impl Defect {
    fn concerns(&self, version: Version) -> bool {
        let branch = self.mended.iter().find(|mended| (mended.0, mended.1) == (version.0, version.1));
        let Some(mended) = branch.or(self.mended.last()) else { return version >= self.since };
        version >= self.since && version < *mended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_release_is_read_as_far_as_it_is_numbers() {
        let release = Release::of_kernel("7.3.4+deb13-amd64");
        assert_eq!(release, Release::InTree { text: "7.3.4".to_owned(), version: (7, 3, 4) });
        assert_eq!(release.to_string(), "7.3.4");
        assert_eq!(Release::of_kernel("6.16.0-rc3").to_string(), "6.16.0");
        assert_eq!(
            Release::of_kernel("7.2-generic"),
            Release::InTree { text: "7.2".to_owned(), version: (7, 2, 0) }
        );
    }

    #[test]
    fn kernels_with_a_defect_are_known_branch_by_branch() {
        let has = |release: &str| Release::of_kernel(release).tcp_defect().is_some();
        for bad in ["6.16", "6.17.9", "6.18.45", "6.19.20", "7.0.3", "7.1.9"] {
            assert!(has(bad), "{bad}");
        }
        for good in ["6.15.9", "6.18.46", "6.18.90", "7.1.10", "7.2.0", "7.3.4", "8.0"] {
            assert!(!has(good), "{good}");
        }
        assert_eq!(Release::Backports("2026.1".to_owned()).tcp_defect(), None);
    }

    #[test]
    fn a_kernel_without_the_module_says_what_to_do() {
        let text = Missing::Module { older: false }.to_string();
        assert!(text.contains("6.16") && text.contains("ovpn-backports"));
        assert!(Missing::Module { older: true }.to_string().contains("ovpn-dco v2"));
    }
}
