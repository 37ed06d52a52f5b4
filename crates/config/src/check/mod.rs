//! Stage 3, *meaning*: helpers are expanded, connections are built, contradictions and missing files are found.
//!
//! The order is OpenVPN's, so that its first error is ours: helpers, ciphers, connections, rules, files.

mod advice;
mod ciphers;
mod connections;
mod helpers;
mod presence;
mod rules;
mod server_rules;

use std::time::Duration;

use culvert_wire::Vlans;

use crate::{
    Checked, Setting,
    args::Problem,
    diagnostic::{Diagnostic, Severity},
    draft::{Draft, Vlan},
    files::Files,
    profile::{Profile, StatusFile, TlsRole},
    table::Status,
    value::PingAction,
};

/// What is found on the way.
pub(crate) struct Findings {
    settings: Vec<Setting>,
    errors: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
}

/// Checks a draft as a whole.
pub(crate) fn check(mut draft: Draft, files: &dyn Files) -> Checked {
    let mut findings =
        Findings { settings: draft.profile.settings.clone(), errors: Vec::new(), notes: Vec::new() };
    findings.effectless();
    device_kind(&mut draft);
    helpers::expand(&mut draft, &mut findings);
    ciphers::decide(&mut draft, &mut findings);
    connections::build(&mut draft, &mut findings);
    silence_of_the_server(&mut draft, &findings);
    status_file(&mut draft);
    rules::check(&draft, &mut findings);
    advice::give(&draft, &mut findings);
    // OpenVPN would fail over these while running.
    findings.errors.append(&mut draft.late);
    presence::check(&draft, files, &mut findings);
    let Findings { mut errors, mut notes, .. } = findings;
    let profile = draft.profile;
    errors.extend(crate::verdict::contradictions(&profile));
    notes.extend(crate::verdict::notes(&profile));
    Checked { profile, errors, notes }
}

impl Findings {
    /// Reports an error; `culprit` is the option to point at.
    fn error(&mut self, culprit: &str, text: impl Into<String>, remedy: &str) {
        let text = text.into();
        // A few come from deeper within OpenVPN, with a prefix of their own.
        let prefix = if text.starts_with("ERROR: ") { "" } else { "Options error: " };
        self.errors.push(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: format!("{prefix}{text}"),
            origin: self.origin(culprit),
            explanation: String::new(),
            remedy: remedy.to_owned(),
        });
    }

    /// Says more about the error reported last.
    fn explain(&mut self, explanation: impl Into<String>) {
        if let Some(last) = self.errors.last_mut() {
            last.explanation = explanation.into();
        }
    }

    /// Reports what a setter would have found.
    fn problem(&mut self, culprit: &str, problem: &Problem) {
        self.error(culprit, problem.text.clone(), &problem.remedy);
    }

    /// Reports something that does not stop the start.
    fn note(&mut self, severity: Severity, culprit: &str, line: impl Into<String>, remedy: &str) {
        self.notes.push(Diagnostic {
            severity,
            verb: 1,
            openvpn_line: line.into(),
            origin: self.origin(culprit),
            explanation: String::new(),
            remedy: remedy.to_owned(),
        });
    }

    /// Returns where an option was written last.
    fn origin(&self, name: &str) -> Option<crate::Origin> {
        self.settings
            .iter()
            .rev()
            .find(|setting| setting.row.name == name)
            .map(|setting| setting.origin.clone())
    }

    /// Returns whether an option was written.
    fn has(&self, name: &str) -> bool {
        self.settings.iter().any(|setting| setting.row.name == name)
    }

    /// Notes each option, once, that is accepted and does nothing.
    fn effectless(&mut self) {
        let mut seen: Vec<&str> = Vec::new();
        for Setting { row, origin, .. } in self.settings.clone() {
            let Status::NoEffect(why) = row.status else { continue };
            if seen.contains(&row.name) {
                continue;
            }
            seen.push(row.name);
            // Where OpenVPN has a line of its own, the row has it.
            let line = match why.starts_with(|c: char| c.is_uppercase()) && why.contains(row.name) {
                true => why.to_owned(),
                false => format!("Note: option {} has no effect: {why}", row.name),
            };
            self.notes.push(Diagnostic {
                severity: Severity::Note,
                verb: 1,
                openvpn_line: line,
                origin: Some(origin),
                explanation: String::new(),
                remedy: String::new(),
            });
        }
    }
}

/// Finds out which kind of device a name means, and what VLANs are to it.
fn device_kind(draft: &mut Draft) {
    let device = &mut draft.profile.device;
    let kind = draft.dev_type.as_deref().unwrap_or(&device.dev);
    device.tap = kind.starts_with("tap");
    device.null = kind.starts_with("null");
    let Vlan { tagging, accept, pvid } = draft.vlan;
    draft.profile.server.vlans = tagging.then(|| Vlans { accept, pvid: pvid.unwrap_or(1) });
}

/// Returns whether the device is a TUN or a TAP, by its name or by `dev-type`.
fn has_kind(draft: &Draft) -> bool {
    let kind = draft.dev_type.as_deref().unwrap_or(&draft.profile.device.dev);
    ["tun", "tap", "null"].iter().any(|prefix| kind.starts_with(prefix))
}

/// A client over UDP must notice a server that is gone before it could push its own limits.
fn silence_of_the_server(draft: &mut Draft, findings: &Findings) {
    let written = ["keepalive", "ping-exit", "ping-restart"].iter().any(|name| findings.has(name));
    let udp = draft.profile.connections.iter().any(|entry| !entry.proto.transport.is_tcp());
    if draft.profile.client.pull && udp && !written {
        draft.profile.keepalive.timeout = Some((PULL_PING_RESTART, PingAction::Restart));
    }
}

/// `ping-restart` of a client that has none.
const PULL_PING_RESTART: Duration = Duration::from_secs(120);

/// Puts the words about the status file together.
fn status_file(draft: &mut Draft) {
    let (path, interval, version) = std::mem::take(&mut draft.status);
    draft.profile.log.status = path.map(|path| StatusFile {
        path,
        interval: Duration::from_secs(interval.unwrap_or(60).into()),
        version: version.and_then(|version| u8::try_from(version).ok()).unwrap_or(1),
    });
}

/// Decides who is the TLS server.
fn tls_role(draft: &mut Draft) {
    let profile: &mut Profile = &mut draft.profile;
    profile.tls.role = match draft.tls_roles {
        (true, _) => Some(TlsRole::Server),
        (false, true) => Some(TlsRole::Client),
        (false, false) => None,
    };
}
