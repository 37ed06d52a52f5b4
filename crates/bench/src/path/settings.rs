//! What to measure: the arguments of `culvert bench path`.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use super::{contender::Contender, test::Test};
use crate::{BenchError, words::Words};

pub(crate) const HELP: &str = "\
culvert bench path [OPTIONS]
    Measures whole VPN paths against each other, in network namespaces of its own. Needs root, iproute2, iperf3 and
    ping, and the programs that are compared. Shows progress, prints a table at the end.

    --contender NAME[=BINARY]   what to measure; repeatable, the order is that of the table. NAME is none, openvpn, culvert,
                                culvert-kernel (the ovpn module carries the data) or wireguard-go, or one of these with
                                something behind it: openvpn-2.7=/opt/openvpn/sbin/openvpn. Default: each of these
    --tests LIST                of tcp1,tcp4,udp1300,udp64,ping,load (default: all)
    --rounds N                  interleaved repetitions; medians are reported (default: 3)
    --seconds N                 length of a transfer (default: 4)
    --cipher NAME               AES-256-GCM (default), AES-128-GCM, CHACHA20-POLY1305
    --proto udp|tcp             what OpenVPN and culvert travel over (default: udp)
    --underlay mtu|gso          mtu (default): packets are cut to the MTU in software before the wire, as with a network card
                                without segmentation offload; gso: super-packets cross the wire whole
    --nice N                    nice level of everything measured, for a machine with other work: try -19
    --output FILE, -o FILE      where the results go, as JSON (default: culvert-bench.json)
";

/// What the tunnel travels over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Udp,
    Tcp,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// What happens to super-packets on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Underlay {
    /// They are cut before it, in software.
    Mtu,
    /// They cross it whole.
    Gso,
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mtu => "mtu",
            Self::Gso => "gso",
        })
    }
}

/// The arguments, understood.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) tests: Vec<Test>,
    pub(crate) rounds: u32,
    /// Length of a transfer.
    pub(crate) seconds: u32,
    pub(crate) cipher: String,
    pub(crate) proto: Proto,
    pub(crate) underlay: Underlay,
    pub(crate) nice: Option<i32>,
    pub(crate) output: PathBuf,
}

impl Settings {
    /// Understands the words after `culvert bench path`.
    ///
    /// # Errors
    /// With what is wrong.
    pub(crate) fn parse(words: &[String]) -> Result<Self, BenchError> {
        let mut settings = Self {
            contenders: Vec::new(),
            tests: Test::ALL.to_vec(),
            rounds: 3,
            seconds: 4,
            cipher: "AES-256-GCM".to_owned(),
            proto: Proto::Udp,
            underlay: Underlay::Mtu,
            nice: None,
            output: "culvert-bench.json".into(),
        };
        let mut words = Words::new(words, HELP);
        while let Some(option) = words.next_option()? {
            match option.as_str() {
                "--contender" => settings.contenders.push(words.value_as(Contender::parse)?),
                "--tests" => settings.tests = words.value_as(tests)?,
                "--rounds" => settings.rounds = words.value_as(at_least_one)?,
                "--seconds" => settings.seconds = words.value_as(at_least_one)?,
                "--cipher" => settings.cipher = words.value()?,
                "--proto" => settings.proto = words.one_of(&[("udp", Proto::Udp), ("tcp", Proto::Tcp)])?,
                "--underlay" => {
                    settings.underlay = words.one_of(&[("mtu", Underlay::Mtu), ("gso", Underlay::Gso)])?;
                }
                "--nice" => settings.nice = Some(words.value_as(|text| text.parse().ok())?),
                "--output" | "-o" => settings.output = words.value()?.into(),
                _ => return Err(words.unknown()),
            }
        }
        if settings.contenders.is_empty() {
            settings.contenders = Contender::all();
        }
        let mut names: Vec<&str> =
            settings.contenders.iter().map(|contender| contender.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BenchError::Usage {
                what: format!("two contenders are called {}", pair[0]),
                hint: format!("tell them apart: --contender {0}-old=BINARY", pair[0]),
            });
        }
        Ok(settings)
    }

    /// What belongs to the results.
    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        let tests: Vec<String> = self.tests.iter().map(ToString::to_string).collect();
        let mut facts = BTreeMap::from([
            ("tests", tests.join(",")),
            ("rounds", self.rounds.to_string()),
            ("seconds", self.seconds.to_string()),
            ("cipher", self.cipher.clone()),
            ("proto", self.proto.to_string()),
            ("underlay", self.underlay.to_string()),
        ]);
        if let Some(nice) = self.nice {
            facts.insert("nice", nice.to_string());
        }
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn at_least_one(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number > 0)
}

fn tests(text: &str) -> Option<Vec<Test>> {
    text.split(',').map(Test::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Settings, BenchError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Settings::parse(&words)
    }

    #[test]
    fn options_are_understood_in_both_spellings() {
        let line = "--contender none --contender=openvpn-2.7=/x/openvpn --tests=tcp1,ping --rounds 5 --nice -19 -o f.json";
        let settings = parse(line).unwrap();
        assert_eq!(settings.contenders[1].name, "openvpn-2.7");
        assert_eq!(settings.contenders[1].binary.as_deref(), Some("/x/openvpn".as_ref()));
        assert_eq!(settings.tests, [Test::Tcp1, Test::Ping]);
        assert_eq!((settings.rounds, settings.nice, settings.output), (5, Some(-19), "f.json".into()));
    }

    #[test]
    fn without_contenders_all_are_measured() {
        let names: Vec<String> = parse("").unwrap().contenders.into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["none", "openvpn", "culvert", "culvert-kernel", "wireguard-go"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--contender ipsec",
            "--contender none=x",
            "--tests tcp9",
            "--rounds 0",
            "--rounds",
            "--proto sctp",
            "--fast",
            "extra",
            "--contender culvert --contender culvert",
        ] {
            assert!(matches!(parse(line), Err(BenchError::Usage { .. })), "{line}");
        }
    }
}
