//! The engine measured alone: its parts, in this process, without sockets and devices.
//!
//! The cases are data ([`cases`]), so that two rulers can run them: the small one here, which is part of the program, and
//! `cargo bench -p culvert-bench`, which is divan. divan itself is not in the program, because it brings an
//! argument parser as large as the rest of this crate and code that runs before `main`.

mod case;
mod stopwatch;

use std::fmt::Write as _;

pub use case::{Case, Work, cases};
use stopwatch::{Stopwatch, Timing};

use crate::BenchError;

const HEADER: &str =
    "case                                 median ns    fastest    slowest  rounds      GB/s\n";

/// Runs the cases whose name contains `filter`, and gives `show` the head of a table and a line for each.
///
/// # Errors
/// When no case has such a name, or one cannot be prepared.
pub(crate) fn run(filter: &str, show: impl Fn(&str)) -> Result<(), BenchError> {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(filter)).collect();
    if cases.is_empty() {
        return Err(BenchError::NoCase(filter.to_owned()));
    }
    show("Times are per item: a packet, a lookup, a connect with its disconnect.\n\n");
    show(HEADER);
    for case in cases {
        if culvert_sys::signal::termination_asked() {
            return Err(BenchError::Interrupted);
        }
        let mut work = case.prepare()?;
        show(&line(&case, &Stopwatch::default().measure(work.as_mut())));
    }
    Ok(())
}

fn line(case: &Case, timing: &Timing) -> String {
    let [median, fastest, slowest] =
        [timing.median, timing.fastest, timing.slowest].map(|nanos| nanos / f64::from(case.items));
    let mut line =
        format!("{:<36} {median:>9.0} {fastest:>10.0} {slowest:>10.0} {:>7}", case.name, timing.rounds);
    if case.bytes > 0 {
        let _ = write!(line, " {:>9.2}", case.bytes as f64 / median);
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_run_and_have_names_of_their_own() {
        let mut names = Vec::new();
        for case in cases() {
            // Building large tables takes an unoptimized program seconds, and the small ones are the same code.
            if !case.name.ends_with("0000") {
                let mut work = case.prepare().unwrap();
                work.prepare();
                work.run();
            }
            names.push(case.name);
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_line_divides_by_the_items_of_a_batch() {
        let case = cases().into_iter().find(|case| case.name == "seal/AES-256-GCM/1400").unwrap();
        let timing = Timing { median: 64_000.0, fastest: 32_000.0, slowest: 128_000.0, rounds: 9 };
        let words: Vec<String> = line(&case, &timing).split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["seal/AES-256-GCM/1400", "1000", "500", "2000", "9", "1.40"]);
    }
}
