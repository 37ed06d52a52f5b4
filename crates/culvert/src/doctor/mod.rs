//! `culvert doctor [FILE]`: why a tunnel does not come up, or would not. What can be tried without harm is tried: names are
//! resolved, the server is called, ports are bound for a moment. Each finding has a name, a sentence and a remedy.

mod firewall;
mod legacy;
mod machine;
mod proxied;
mod reach;
mod running;
mod silence;

use std::process::ExitCode;

use culvert_config::{Diagnostic, Profile, Role, Severity};
use serde_json::json;

use crate::{
    check::{self, certificates},
    finding::{Finding, Level, worst},
    print,
    start::{FAILURE, StartDirectory},
};

/// Exit status: nothing keeps the tunnel from working, but something should be looked at.
const LOOK: u8 = 2;

/// Examines; 0: all is well; 1: something keeps the tunnel from working; 2: something should be looked at.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let (own, rest): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| *word == "--json");
    let findings = examine(&rest);
    let worst = worst(&findings);
    if own.is_empty() {
        print(&text(&findings, worst));
    } else {
        let object = json!({
            "worst": worst.word(),
            "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
        });
        print(&format!("{object:#}\n"));
    }
    match worst {
        Level::Good | Level::Note => ExitCode::SUCCESS,
        Level::Warning => ExitCode::from(LOOK),
        Level::Error => ExitCode::from(FAILURE),
    }
}

/// In the order in which a tunnel comes up, so that the first error is the one to begin with.
fn examine(words: &[&String]) -> Vec<Finding> {
    let mut findings = running::examine();
    let runs = !findings.is_empty();
    if words.is_empty() {
        if !runs {
            let text = "no culvert runs in this network namespace, and no configuration was named";
            findings.push(Finding::note("running", text, "culvert doctor FILE examines a configuration"));
        }
        findings.extend(machine::examine(None));
        findings.extend(firewall::kill_switch(None));
        return findings;
    }
    let files = StartDirectory::here();
    let report = culvert_config::report(&check::command_line(words), &files);
    let refused = report.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    findings.extend(refused.map(misconfigured));
    let Some(profile) = &report.profile else { return findings };
    if report.is_accepted() {
        findings.push(Finding::good("configuration", "the configuration is accepted"));
    }
    let (_, dates) = certificates::inspect(profile, &files, check::now());
    let broken = worst(&dates) == Level::Error;
    findings.extend(dates);
    findings.extend(machine::clock());
    if report.is_accepted() && !broken {
        let usable = check::usable(profile);
        if usable.is_empty() {
            findings.push(Finding::good(
                "certificates",
                "the certificates and keys that are in files can be used, and hold",
            ));
        }
        findings.extend(usable);
    }
    findings.extend(machine::examine(Some(profile)));
    examine_network(profile, runs, &mut findings);
    findings
}

/// An error of the configuration, with its place.
fn misconfigured(error: &Diagnostic) -> Finding {
    let place = error.origin.as_ref().map(|origin| format!("{}:{}: ", origin.file, origin.line));
    let text = format!("{}{}", place.unwrap_or_default(), error.openvpn_line);
    let remedy = match error.remedy.as_str() {
        "" => "correct it; `culvert check FILE` shows the place",
        remedy => remedy,
    };
    Finding::error("configuration", text, remedy)
}

fn examine_network(profile: &Profile, runs: bool, findings: &mut Vec<Finding>) {
    match profile.role() {
        Role::Server => {
            findings.extend(machine::ports(profile, runs));
            findings.extend(firewall::of_server(profile));
            findings.extend(machine::forwarding(profile));
        }
        Role::Client | Role::P2p => {
            let kill_switch = firewall::kill_switch(Some(profile));
            let resolves = kill_switch.is_none();
            findings.extend(kill_switch);
            findings.extend(reach::examine(profile, resolves));
            findings.extend(firewall::of_client());
        }
    }
}

fn text(findings: &[Finding], worst: Level) -> String {
    let mut text: String = findings.iter().map(Finding::lines).collect();
    text += match worst {
        Level::Good | Level::Note => "\nNothing is wrong as far as can be seen from here.\n",
        Level::Warning => "\nNothing keeps the tunnel from working, but look at the warnings.\n",
        Level::Error => "\nThe tunnel cannot work like this: begin with the first error.\n",
    };
    text
}
