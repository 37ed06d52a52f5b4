//! `culvert check FILE [OPTIONS]`: the first three stages of a start, and what the configuration means: what each data plane
//! says, how long certificates hold, what is weak, what would be pushed. Nothing is started, opened for writing, or changed.

pub(crate) mod certificates;
mod json;
mod weak;

use std::process::ExitCode;

use culvert_config::{Profile, Report};

use crate::{
    finding::{Finding, Level, worst},
    print,
    start::{FAILURE, StartDirectory},
};
use certificates::{Dated, date};

/// Everything that is known about a configuration.
struct Check {
    report: Report,
    dated: Vec<Dated>,
    findings: Vec<Finding>,
    strict: bool,
}

/// Checks; 0: it would start and work; 1: it would not, or `--strict` was asked for and there are warnings.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let own = |word: &&String| ["--json", "--strict"].contains(&word.as_str());
    let (own, rest): (Vec<&String>, Vec<&String>) = arguments.iter().partition(own);
    if rest.is_empty() {
        eprintln!(
            "error: `culvert check` needs a configuration\nhint: culvert check FILE [--strict] [--json], or culvert check \
             --client --remote …"
        );
        return ExitCode::from(FAILURE);
    }
    let command_line = command_line(&rest);
    let files = StartDirectory::here();
    let report = culvert_config::report(&command_line, &files);
    let (mut dated, mut findings) = (Vec::new(), Vec::new());
    if let Some(profile) = &report.profile {
        (dated, findings) = certificates::inspect(profile, &files, now());
        if report.is_accepted() && worst(&findings) < Level::Error {
            findings.extend(usable(profile));
        }
        findings.extend(weak::inspect(profile));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let strict = own.iter().any(|word| *word == "--strict");
    let check = Check { report, dated, findings, strict };
    print(&if own.iter().any(|word| *word == "--json") { check.json() } else { check.text() });
    if check.passes() { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
}

/// The command line of a start with these words: a first one without dashes is a file.
pub(crate) fn command_line(words: &[&String]) -> Vec<String> {
    let is_file = words.first().is_some_and(|first| !first.starts_with("--"));
    let config = is_file.then(|| "--config".to_owned());
    config.into_iter().chain(words.iter().map(|word| (*word).clone())).collect()
}

/// This machine's time, Unix seconds.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Has certificates and keys taken apart as a start does.
pub(crate) fn usable(profile: &Profile) -> Vec<Finding> {
    if let Some(directory) = &profile.process.cd
        && std::env::set_current_dir(directory).is_err()
    {
        return Vec::new(); // reported with the missing files
    }
    match culvert_daemon::examine_tls(profile) {
        Ok(warnings) => {
            let finding = |text: String| Finding::warning("tls", text, "");
            warnings.into_iter().map(finding).collect()
        }
        Err(text) => {
            let (text, remedy) = text.split_once("\nhint: ").unwrap_or((&text, ""));
            vec![Finding::error("tls", text, remedy)]
        }
    }
}

impl Check {
    /// Whether it is as good as was asked for.
    fn passes(&self) -> bool {
        let worst = worst(&self.findings);
        self.report.is_accepted()
            && worst < Level::Error
            && !(self.strict && (worst == Level::Warning || self.report.has_warnings()))
    }

    fn text(&self) -> String {
        let mut text = self.report.diagnostics_text();
        text += &self.report.offload_text();
        if !self.dated.is_empty() {
            text += "Certificates:\n";
        }
        for Dated { option, file, subject, key, ends, .. } in &self.dated {
            let ends = ends.map_or_else(|| "without end".to_owned(), |ends| format!("until {}", date(ends)));
            let details: Vec<&str> = [subject, key].into_iter().flatten().map(String::as_str).collect();
            let details =
                if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
            text += &format!("  {option} {file}: {ends}{details}\n");
        }
        if !self.findings.is_empty() {
            text += "Findings:\n";
        }
        text.extend(self.findings.iter().map(Finding::lines));
        if let Some(profile) = self.report.profile.as_ref().filter(|profile| !profile.server.push.is_empty())
        {
            text += "Pushed to every client:\n";
            text.extend(profile.server.push.iter().map(|option| format!("  {option}\n")));
        }
        text += &self.report.conclusion();
        if self.report.is_accepted() && worst(&self.findings) == Level::Error {
            text += "It would start, and not work: see the findings that are errors.\n";
        } else if self.strict && !self.passes() {
            text += "With --strict it does not pass: there are warnings.\n";
        }
        text
    }
}
