//! The ruler: whole paths measured against each other.
//!
//! ```text
//!   namespace "client"                      namespace "server"
//!   wan: 10.177.0.2/24          <veth>      wan: 10.177.0.1/24        the underlay
//!   tunnel: 10.178.0.2          VPN         tunnel: 10.178.0.1        what is measured
//!   iperf3 -c, ping             ---->       iperf3 -s
//! ```
//!
//! For each round, each test and each contender, in this order, a network is built, the contender started in it, one test run
//! and everything removed again. So contenders that are compared are measured one right after the other, and what the
//! machine does beside hits all of them.

mod contender;
mod iperf;
mod machine;
mod network;
mod ping;
mod pki;
mod process;
mod search;
mod settings;
mod test;
mod tunnel;
mod wireguard;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contender::Contender;
use machine::Priority;
use network::Network;
use pki::Pki;
pub(crate) use settings::{HELP, Settings};
use test::{Found, Test};
use tunnel::Tunnel;

use crate::{
    BenchError,
    results::{Outcome, Results},
    table::digits,
};

/// Measures. `say` is given progress, a line at a time.
///
/// # Errors
/// Without root, without a program that every measurement needs, when nothing could be measured, when interrupted. What
/// fails in a single step is a line of the results.
pub(crate) fn run(settings: &Settings, say: impl Fn(&str)) -> Result<Results, BenchError> {
    machine::check(settings)?;
    culvert_sys::signal::catch_termination()
        .map_err(|error| BenchError::Step { step: "catch signals".to_owned(), why: error.to_string() })?;
    network::sweep();
    Folder::sweep();
    let folder = Folder::new()?;
    let pki = Pki::new(&folder.0)?;
    let _priority = settings.nice.map(Priority::raise).transpose()?;

    let mut results = Results {
        machine: machine::facts()?,
        settings: settings.facts(),
        contenders: settings.contenders.iter().map(|contender| outcome(contender, settings)).collect(),
        errors: Vec::new(),
    };
    for contender in &results.contenders {
        if let Some(why) = &contender.absent {
            say(&format!("{}: not measured: {why}", contender.name));
        }
    }
    let mut progress = Progress::new(settings, &results);
    for round in 1..=settings.rounds {
        for test in &settings.tests {
            for (contender, outcome) in settings.contenders.iter().zip(&mut results.contenders) {
                if outcome.absent.is_some() {
                    continue;
                }
                let head = progress.head(round, &format!("{} {test}", contender.name));
                match measure(contender, *test, settings, &pki, &folder.0) {
                    Ok(found) => {
                        say(&format!("{head}: {}", shown(&found)));
                        found.iter().for_each(|(metric, value)| outcome.add(metric, *value));
                    }
                    Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
                    Err(error) => {
                        say(&format!("{head}: failed: {error}"));
                        results.errors.push(format!("{} {test}: {error}", contender.name));
                    }
                }
            }
        }
    }
    if results.measured().next().is_none() {
        let why = results.errors.first().map_or("there is nothing to measure", String::as_str);
        return Err(process::step("measure", why));
    }
    Ok(results)
}

/// Does one test with one contender, in a network of its own.
fn measure(
    contender: &Contender,
    test: Test,
    settings: &Settings,
    pki: &Pki,
    folder: &Path,
) -> Result<Found, BenchError> {
    let network = Network::new(settings.underlay)?;
    let mut tunnel = Tunnel::start(contender, settings, &network, pki, folder)?;
    test.measure(&mut tunnel, settings.seconds)
}

fn shown(found: &Found) -> String {
    let values = found.iter().map(|(metric, value)| format!("{} {}", digits(*value), metric.unit));
    values.collect::<Vec<_>>().join(", ")
}

/// The contender's place in the results, with the reason why it stays empty, if there is one.
fn outcome(contender: &Contender, settings: &Settings) -> Outcome {
    let absent = contender.lacking(settings);
    let version = if absent.is_some() { String::new() } else { contender.version() };
    Outcome { name: contender.name.clone(), version, absent, samples: BTreeMap::new() }
}

/// A private folder, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    const PREFIX: &str = "culvert-bench-";

    fn new() -> Result<Self, BenchError> {
        let path = std::env::temp_dir().join(format!("{}{}", Self::PREFIX, std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| BenchError::File { path: path.clone(), source })?;
        Ok(Self(path))
    }

    /// Removes the folders of measurements that were killed.
    fn sweep() {
        for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(Self::PREFIX).and_then(|id| id.parse().ok());
            if owner.is_some_and(|id: u32| !culvert_sys::process::exists(id)) {
                drop(Self(entry.path()));
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("leaving {} behind: {error}", self.0.display());
        }
    }
}

/// Writes a file of the run.
fn write(path: &Path, text: &str) -> Result<(), BenchError> {
    fs::write(path, text).map_err(|source| BenchError::File { path: path.to_owned(), source })
}

/// How far it is.
struct Progress {
    start: Instant,
    done: u32,
    steps: u32,
    rounds: u32,
}

impl Progress {
    fn new(settings: &Settings, results: &Results) -> Self {
        let present = results.contenders.iter().filter(|contender| contender.absent.is_none()).count();
        let per_round = u32::try_from(settings.tests.len() * present).unwrap_or(u32::MAX);
        let steps = settings.rounds.saturating_mul(per_round);
        Self { start: Instant::now(), done: 0, steps, rounds: settings.rounds }
    }

    /// The head of a step's line; the step counts as begun.
    fn head(&mut self, round: u32, what: &str) -> String {
        let left = match self.done {
            0 => String::new(),
            done => {
                let left = self.start.elapsed() / done * self.steps.saturating_sub(done);
                format!(", {} left", minutes(left))
            }
        };
        self.done += 1;
        format!("[round {round}/{}, step {}/{}{left}] {what}", self.rounds, self.done, self.steps)
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
