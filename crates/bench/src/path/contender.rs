//! Who is compared.

use std::{path::PathBuf, process::Command};

use super::{
    machine::{find, package},
    network::Network,
    settings::{Proto, Settings, Underlay},
};

/// What kind of path it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The wire itself.
    None,
    OpenVpn,
    /// With the userspace engine.
    Culvert,
    /// With the kernel's module.
    CulvertKernel,
    WireGuardGo,
}

impl Kind {
    const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("openvpn", Self::OpenVpn),
        ("culvert", Self::Culvert),
        ("culvert-kernel", Self::CulvertKernel),
        ("wireguard-go", Self::WireGuardGo),
    ];
}

/// One path to measure.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// What it is called in the results.
    pub(crate) name: String,
    pub(super) kind: Kind,
    /// The program, where it is not the usual one.
    pub(crate) binary: Option<PathBuf>,
}

impl Contender {
    /// One of each kind.
    pub(super) fn all() -> Vec<Self> {
        Kind::ALL.iter().filter_map(|(name, _)| Self::parse(name)).collect()
    }

    /// Reads `NAME[=BINARY]`; the name is that of a kind, or begins with one and a hyphen.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, binary) = match text.split_once('=') {
            Some((name, binary)) => (name, Some(PathBuf::from(binary))),
            None => (text, None),
        };
        let matches = |kind: &str| {
            name.strip_prefix(kind)
                .is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with('-')))
        };
        let (_, kind) =
            *Kind::ALL.iter().filter(|(kind, _)| matches(kind)).max_by_key(|(kind, _)| kind.len())?;
        let takes_binary = kind != Kind::None;
        (takes_binary || binary.is_none()).then(|| Self { name: name.to_owned(), kind, binary })
    }

    /// The program; `None` when it is not there, or there is none.
    pub(super) fn program(&self) -> Option<PathBuf> {
        match (&self.binary, self.kind) {
            (_, Kind::None) => None,
            (Some(binary), _) => find(&binary.to_string_lossy()),
            (None, Kind::OpenVpn) => find("openvpn"),
            (None, Kind::WireGuardGo) => find("wireguard-go"),
            (None, Kind::Culvert | Kind::CulvertKernel) => std::env::current_exe().ok(),
        }
    }

    /// Why it cannot be measured here, and what would help; `None` when it can.
    pub(super) fn lacking(&self, settings: &Settings) -> Option<String> {
        if self.kind == Kind::None {
            return None;
        }
        if self.kind == Kind::WireGuardGo && settings.proto == Proto::Tcp {
            return Some("WireGuard knows no TCP transport".to_owned());
        }
        if self.program().is_none() {
            return Some(match (&self.binary, self.kind) {
                (Some(binary), _) => format!("no program {}", binary.display()),
                (None, Kind::WireGuardGo) => missing("wireguard-go"),
                (None, _) => missing("openvpn"),
            });
        }
        if self.kind == Kind::WireGuardGo && find("wg").is_none() {
            return Some(missing("wg"));
        }
        if self.kind == Kind::CulvertKernel {
            let there = Network::new(Underlay::Gso).is_ok_and(|network| network.has_ovpn_module());
            return (!there).then(|| "this kernel has no module ovpn (Linux 6.16 or newer)".to_owned());
        }
        None
    }

    /// What the program says that it is: the first line of its `--version`, without what it was built with.
    pub(super) fn version(&self) -> String {
        let Some(program) = self.program() else { return String::new() };
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        short_version(&String::from_utf8_lossy(&text))
    }
}

/// The first line as far as the first word with a digit; of culvert, which says first what it is compatible with, its own.
fn short_version(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if let Some((_, own)) = line.split_once("[culvert ") {
        return format!("culvert {}", own.split(']').next().unwrap_or_default());
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let last = words.iter().position(|word| word.contains(|c: char| c.is_ascii_digit()));
    words[..last.map_or(words.len(), |last| last + 1)].join(" ")
}

fn missing(program: &str) -> String {
    format!("no program {program} (apt-get install {})", package(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_with_its_kind() {
        let kind = |text| Contender::parse(text).map(|contender| contender.kind);
        assert_eq!(kind("culvert-kernel"), Some(Kind::CulvertKernel));
        assert_eq!(kind("culvert-old=/x"), Some(Kind::Culvert));
        assert_eq!(kind("culvert-kernel-old=/x"), Some(Kind::CulvertKernel));
        assert_eq!(kind("wireguard-go-2023=/x"), Some(Kind::WireGuardGo));
        for text in ["culverts", "openvpn-", "wireguard", "none=/x", ""] {
            assert_eq!(kind(text), None, "{text}");
        }
    }

    #[test]
    fn versions_are_cut_behind_their_number() {
        assert_eq!(
            short_version("OpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)] [LZO]\nlibrary versions: 3.0"),
            "OpenVPN 2.6.14"
        );
        assert_eq!(short_version("wireguard-go v0.0.20230223\n\nUserspace"), "wireguard-go v0.0.20230223");
        assert_eq!(short_version("OpenVPN 2.7.8 x86_64 [culvert 0.1.0] [SSL (rustls)]"), "culvert 0.1.0");
        assert_eq!(short_version("no number\n"), "no number");
    }
}
