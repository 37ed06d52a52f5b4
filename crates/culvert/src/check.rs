//! `culvert check FILE [OPTIONS]`: the first three stages of a start, and what each data plane says. Nothing is started,
//! opened for writing, or changed.

use std::process::ExitCode;

use culvert_config::{Diagnostic, Profile, Refusal, Verdict, not_yet, render_all, verdict};
use culvert_wire::OffloadKind;

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
    let (report, is_good) = report(&command_line, first);
    print(&report);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

/// Everything that is to be said, and whether the configuration would start.
fn report(command_line: &[String], name: &str) -> (String, bool) {
    let files = StartDirectory::here();
    let parsed = culvert_config::parse(command_line, &files);
    let mut report = render(&parsed.warnings);
    if !parsed.errors.is_empty() {
        report += &render_all(&parsed.errors);
        return (report + &conclusion(name, &parsed.errors), false);
    }
    let checked = parsed.check(&files);
    report += &render(&checked.notes);
    if !checked.errors.is_empty() {
        report += &render_all(&checked.errors);
        return (report + &conclusion(name, &checked.errors), false);
    }
    report += &planes(&checked.profile);
    let missing = not_yet(&checked.profile);
    report += &render(&missing);
    report += &if missing.is_empty() {
        format!("{name}: good\n")
    } else {
        format!("{name}: well-formed, but culvert cannot do all of it yet\n")
    };
    (report, missing.is_empty())
}

fn render(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| diagnostic.render() + "\n").collect()
}

fn conclusion(name: &str, errors: &[Diagnostic]) -> String {
    match errors.len() {
        1 => format!("{name}: 1 error\n"),
        count => format!("{name}: {count} errors\n"),
    }
}

/// What each data plane says.
fn planes(profile: &Profile) -> String {
    let mut text = String::from("data planes, the first that accepts carries the packets:\n");
    for verdict in verdict(profile) {
        text += &plane(&verdict);
    }
    text
}

fn plane(verdict: &Verdict) -> String {
    let name = match verdict.kind {
        OffloadKind::Linux => "kernel (Linux)",
        OffloadKind::Windows => "driver (Windows)",
        OffloadKind::Engine => "engine",
    };
    let accepts = if verdict.refusals.is_empty() { "yes" } else { "no" };
    let mut text = format!("  {name:<17} {accepts}\n");
    for refusal in &verdict.refusals {
        text += &reason("", refusal);
    }
    for refusal in &verdict.ignored {
        text += &reason("ignored: ", refusal);
    }
    text
}

fn reason(kind: &str, refusal: &Refusal) -> String {
    let mut text = format!("    {kind}`{}`: {}", refusal.option, refusal.because);
    if !refusal.instead.is_empty() {
        text += &format!("; {}", refusal.instead);
    }
    text + "\n"
}
