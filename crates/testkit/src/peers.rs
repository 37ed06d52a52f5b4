//! The VPN programs that a test can start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Result};

/// A release of OpenVPN that culvert is tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 2.5: key derivation by the old PRF, no `peer-fingerprint`, no negotiation in p2p mode.
    V2_5,
    /// 2.6: as Debian 12 ships it.
    V2_6,
    /// 2.7: epoch data keys, dynamic tls-crypt.
    V2_7,
}

impl Release {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::V2_5, Self::V2_6, Self::V2_7];

    /// `2.5`, `2.6` or `2.7`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2_5 => "2.5",
            Self::V2_6 => "2.6",
            Self::V2_7 => "2.7",
        }
    }
}

/// A program at one end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The culvert binary at this path.
    Culvert(PathBuf),
    /// An OpenVPN of this release at this path.
    OpenVpn(Release, PathBuf),
}

impl Implementation {
    /// Returns the program to start.
    pub fn program(&self) -> &Path {
        match self {
            Self::Culvert(path) | Self::OpenVpn(_, path) => path,
        }
    }

    /// Tells whether it is OpenVPN 2.5, which differs from the later ones in configuration.
    pub fn is_2_5(&self) -> bool {
        matches!(self, Self::OpenVpn(Release::V2_5, _))
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Culvert(_) => f.pad("culvert"),
            Self::OpenVpn(release, _) => f.pad(release.name()),
        }
    }
}

/// The OpenVPN releases found on this machine.
pub struct Peers {
    found: Vec<Implementation>,
    absent: Vec<(Release, String)>,
}

impl Peers {
    /// Looks for the releases that `scripts/peers` provides.
    ///
    /// # Errors
    ///
    /// A release is missing, unless `CULVERT_TEST_ALLOW_MISSING=1` is set (never under `CI=true`), or it is
    /// 2.5 and `scripts/peers` found that the archive does not serve it any more.
    pub fn find() -> Result<Self> {
        let cache = cache_folder();
        let allowed = is_set("CULVERT_TEST_ALLOW_MISSING") && !is_set("CI");
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        for release in Release::ALL {
            let wrapped = cache.join(format!("bin/openvpn-{}", release.name()));
            let candidates = [wrapped, PathBuf::from("/usr/sbin/openvpn"), PathBuf::from("openvpn")];
            match candidates.into_iter().find(|path| is_release(path, release)) {
                Some(path) => found.push(Implementation::OpenVpn(release, path)),
                None if cache.join(format!("openvpn-{}.absent", release.name())).exists() => {
                    absent.push((release, "the archive does not serve it any more".to_owned()));
                }
                None => absent.push((release, "not installed".to_owned())),
            }
        }
        let missing: Vec<_> = absent.iter().filter(|(_, why)| why == "not installed").collect();
        if !missing.is_empty() && !allowed {
            let names: Vec<_> = missing.iter().map(|(release, _)| release.name()).collect();
            return Err(Failure::new(format!(
                "OpenVPN {} is missing: run scripts/peers as root, which provides it (looked in {} and \
                 /usr/sbin). CULVERT_TEST_ALLOW_MISSING=1 goes on without, except under CI=true.",
                names.join(", "),
                cache.display()
            )));
        }
        for (release, why) in &absent {
            eprintln!("ABSENT: OpenVPN {}: {why}", release.name());
        }
        Ok(Self { found, absent })
    }

    /// Returns those found, oldest first.
    pub fn all(&self) -> &[Implementation] {
        &self.found
    }

    /// Returns the program under test: `culvert`, or the OpenVPN that `CULVERT_TEST_SUBJECT` puts in its place.
    pub fn subject(&self, culvert: &str) -> Result<Implementation> {
        let Ok(name) = std::env::var("CULVERT_TEST_SUBJECT") else {
            return Ok(Implementation::Culvert(PathBuf::from(culvert)));
        };
        let release = Release::ALL.into_iter().find(|release| release.name() == name);
        self.get(
            release.ok_or_else(|| Failure::new(format!("CULVERT_TEST_SUBJECT={name}: no such release")))?,
        )
    }

    /// Returns those not there, and why.
    pub fn absent(&self) -> &[(Release, String)] {
        &self.absent
    }

    /// Returns one release.
    pub fn get(&self, release: Release) -> Result<Implementation> {
        let same = |peer: &&Implementation| matches!(peer, Implementation::OpenVpn(r, _) if *r == release);
        self.found
            .iter()
            .find(same)
            .cloned()
            .ok_or_else(|| Failure::new(format!("OpenVPN {} is absent: run scripts/peers", release.name())))
    }
}

fn cache_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("CULVERT_PEERS") {
        return PathBuf::from(folder);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache")
    });
    cache.join("openvpn-peers")
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| matches!(value.as_str(), "1" | "true"))
}

fn is_release(path: &Path, release: Release) -> bool {
    let expected = format!("OpenVPN {}", release.name());
    Command::new(path)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(expected.as_bytes()))
}
