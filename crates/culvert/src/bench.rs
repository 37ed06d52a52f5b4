//! `culvert bench`: measures the engine, and whole paths against each other.

use std::process::ExitCode;

use crate::start::FAILURE;

/// Runs the ruler.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match culvert_bench::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILURE)
        }
    }
}
