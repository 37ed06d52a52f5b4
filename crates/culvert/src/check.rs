//! `culvert check FILE [OPTIONS]`: the first three stages of a start, and what each data plane says. Nothing is started,
//! opened for writing, or changed.

use std::process::ExitCode;

use crate::{
    print,
    start::{FAILURE, StartDirectory},
};

/// Validates; 0: it would start.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some((first, rest)) = arguments.split_first() else {
        eprintln!(
            "error: `culvert check` needs a configuration\nhint: culvert check FILE, or culvert check --client --remote …"
        );
        return ExitCode::from(FAILURE);
    };
    let command_line: Vec<String> = if first.starts_with("--") {
        arguments.to_vec()
    } else {
        ["--config", first].into_iter().map(str::to_owned).chain(rest.iter().cloned()).collect()
    };
    let report = culvert_config::report(&command_line, &StartDirectory::here());
    print(&report.text);
    if report.accepted { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}
