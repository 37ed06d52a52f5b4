//! Many cases of one experiment, as a table.
//!
//! Environment:
//!
//! - `CULVERT_MATRIX_ONLY`: runs the cases whose table row contains this text, or each of several with `&` between
//!   them;
//! - `CULVERT_MATRIX_JOBS`: how many at a time (2).

use std::env;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::{Failure, Result};

/// How a case ended.
pub enum Verdict {
    /// As it should.
    Passed,
    /// Otherwise.
    Failed(Failure),
    /// OpenVPN never had it.
    NotAFeature(&'static str),
}

impl From<Result<()>> for Verdict {
    fn from(result: Result<()>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// Runs the cases, some at a time, and prints each one's row as it ends, then the failures, then a line
/// `NAME: N passed, M failed, ...`.
///
/// # Panics
///
/// When a case failed, or none matched `CULVERT_MATRIX_ONLY`.
pub fn run<Case: Sync>(
    name: &str,
    mut cases: Vec<Case>,
    row: impl Fn(&Case) -> String + Sync,
    work: impl Fn(&Case) -> Verdict + Sync,
) {
    let only = env::var("CULVERT_MATRIX_ONLY").unwrap_or_default();
    cases.retain(|case| only.split('&').all(|text| row(case).contains(text)));
    println!("{name}: {} cases", cases.len());
    let start = Instant::now();
    let results = run_all(&cases, &row, &work);
    let (mut passed, mut skipped, mut failures) = (0, 0, String::new());
    for (case, verdict) in &results {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::NotAFeature(_) => skipped += 1,
            Verdict::Failed(failure) => {
                let _ = writeln!(failures, "\n== {}\n{failure}", row(case)); // a String takes all
            }
        }
    }
    let failed = results.len() - passed - skipped;
    print!("{failures}");
    println!(
        "{name}: {passed} passed, {failed} failed, {skipped} not a feature of that peer, in {} s",
        start.elapsed().as_secs()
    );
    assert_eq!(results.len(), cases.len(), "every case has a verdict");
    assert!(passed > 0, "no case matched");
    assert_eq!(failed, 0, "see the table above");
}

fn run_all<'c, Case: Sync>(
    cases: &'c [Case],
    row: &(impl Fn(&Case) -> String + Sync),
    work: &(impl Fn(&Case) -> Verdict + Sync),
) -> Vec<(&'c Case, Verdict)> {
    let jobs = env::var("CULVERT_MATRIX_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(2);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let verdict = work(case);
                    let word = match &verdict {
                        Verdict::Passed => "ok".to_owned(),
                        Verdict::Failed(failure) => format!("FAILED: {}", failure.headline()),
                        Verdict::NotAFeature(why) => format!("not a feature of that peer: {why}"),
                    };
                    println!("{} {:>5.1} s  {word}", row(case), start.elapsed().as_secs_f32());
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((case, verdict));
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
