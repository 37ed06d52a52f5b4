//! The answer of `culvert check --json`: one object.

use culvert_config::{Diagnostic, Remark, Role, Severity, Verdict};
use culvert_wire::OffloadKind;
use serde_json::{Value, json};

use super::{Check, certificates::Dated};
use crate::finding::Finding;

impl Check {
    /// Returns the object, with an end of line.
    pub(super) fn json(&self) -> String {
        let profile = self.report.profile.as_ref();
        let of = |severity: Severity| -> Vec<Value> {
            let all = self.report.diagnostics.iter();
            all.filter(|diagnostic| diagnostic.severity == severity).map(diagnostic).collect()
        };
        let object = json!({
            "accepted": self.report.is_accepted(),
            "passes": self.passes(),
            "role": profile.map(|profile| match profile.role() {
                Role::Server => "server",
                Role::Client => "client",
                Role::P2p => "p2p",
            }),
            "errors": of(Severity::Error),
            "warnings": of(Severity::Warning),
            "notes": of(Severity::Note),
            "offload": self.report.verdicts().iter().map(verdict).collect::<Vec<_>>(),
            "certificates": self.dated.iter().map(dated).collect::<Vec<_>>(),
            "findings": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "pushed": profile.map_or(&[][..], |profile| &profile.server.push[..]),
        });
        format!("{object:#}\n")
    }
}

fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.origin.as_ref().map(|origin| {
        let before = origin.text.get(..origin.span.start).unwrap_or_default();
        json!({
            "file": &*origin.file,
            "line": origin.line,
            "column": before.chars().count() + 1,
            "text": &*origin.text,
        })
    });
    json!({
        "message": diagnostic.openvpn_line,
        "place": place,
        "explanation": diagnostic.explanation,
        "remedy": diagnostic.remedy,
    })
}

fn verdict(verdict: &Verdict) -> Value {
    let remarks = |list: &[Remark]| -> Vec<Value> {
        let remark = |remark: &Remark| json!({"option": remark.option, "because": remark.because, "instead": remark.instead});
        list.iter().map(remark).collect()
    };
    json!({
        "kind": match verdict.kind {
            OffloadKind::Linux => "linux",
            OffloadKind::Windows => "windows",
            OffloadKind::Engine => "engine",
        },
        "accepts": verdict.accepts(),
        "refusals": remarks(&verdict.refusals),
        "some_peers": remarks(&verdict.per_peer),
        "without": remarks(&verdict.without),
        "kept": remarks(&verdict.kept),
    })
}

fn dated(dated: &Dated) -> Value {
    json!({
        "option": dated.option,
        "file": dated.file,
        "subject": dated.subject,
        "key": dated.key,
        "not_before": dated.starts,
        "not_after": dated.ends,
    })
}
