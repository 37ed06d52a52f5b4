//! Which data planes accept a profile, and why the others do not: a fold of the table's rows.

use culvert_wire::OffloadKind;

use crate::{
    Profile,
    diagnostic::{Diagnostic, Severity},
    table::{Effect, Status},
};

/// What one kind of data plane says to a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who says it.
    pub kind: OffloadKind,
    /// Every reason against; empty means that it accepts.
    pub refusals: Vec<Refusal>,
    /// What it accepts without doing it.
    pub ignored: Vec<Refusal>,
}

impl Verdict {
    /// Returns whether it accepts the profile.
    pub fn accepts(&self) -> bool {
        self.refusals.is_empty()
    }
}

/// One option that a data plane cannot honour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The option.
    pub option: &'static str,
    /// Why, as a clause.
    pub because: &'static str,
    /// What to do instead, in the imperative; may be empty.
    pub instead: &'static str,
    /// OpenVPN's note about it, where it has one.
    pub openvpn_note: Option<String>,
}

/// Returns what each kind says.
pub fn verdict(profile: &Profile) -> [Verdict; 3] {
    [OffloadKind::Linux, OffloadKind::Windows, OffloadKind::Engine].map(|kind| {
        let mut verdict = Verdict { kind, refusals: Vec::new(), ignored: Vec::new() };
        for (option, effect) in effects(profile, kind) {
            let refusal = Refusal {
                option,
                because: effect.because,
                instead: effect.instead,
                openvpn_note: effect.note.map(|note| note(profile)),
            };
            let list = if effect.blocks { &mut verdict.refusals } else { &mut verdict.ignored };
            if !list.contains(&refusal) {
                list.push(refusal);
            }
        }
        verdict
    })
}

/// The effects of every option that was written, on one kind of data plane.
fn effects<'p>(
    profile: &'p Profile,
    kind: OffloadKind,
) -> impl Iterator<Item = (&'static str, &'static Effect)> + 'p {
    profile
        .settings
        .iter()
        .flat_map(|setting| setting.row.offload.iter().map(|effect| (setting.row.name, effect)))
        .filter(move |(_, effect)| {
            effect.kinds.contains(&kind) && effect.when.is_none_or(|when| when(profile))
        })
}

/// OpenVPN's notes about options that keep the kernel out: before the version line. Those about options that a kernel
/// would not honour are for who has chosen one: [`Verdict::ignored`].
pub(crate) fn notes(profile: &Profile) -> Vec<Diagnostic> {
    let mut notes: Vec<Diagnostic> = Vec::new();
    for setting in &profile.settings {
        let here = setting.row.offload.iter().filter(|effect| {
            effect.blocks
                && effect.kinds.contains(&OffloadKind::Linux)
                && effect.when.is_none_or(|when| when(profile))
        });
        for (effect, note) in here.filter_map(|effect| effect.note.map(|note| (effect, note))) {
            let openvpn_line = note(profile);
            if notes.iter().any(|note| note.openvpn_line == openvpn_line) {
                continue;
            }
            notes.push(Diagnostic {
                severity: Severity::Note,
                verb: 3,
                openvpn_line,
                origin: Some(setting.origin.clone()),
                explanation: effect.because.to_owned(),
                remedy: effect.instead.to_owned(),
            });
        }
    }
    notes
}

/// Returns the last refusal: options that are known, well-formed, and not yet supported. For after the version line.
pub fn not_yet(profile: &Profile) -> Vec<Diagnostic> {
    let mut refusals: Vec<Diagnostic> = Vec::new();
    for setting in &profile.settings {
        let name = setting.row.name;
        let (what, remedy) = match setting.row.status {
            Status::NotYet => (format!("--{name}"), format!("remove `{name}`")),
            Status::NotYetWhen(missing) => match missing(profile) {
                Some(what) => (format!("--{name}: {what}"), format!("change `{name}`")),
                None => continue,
            },
            _ => continue,
        };
        let openvpn_line = format!("Options error: {what} not yet supported");
        if refusals.iter().any(|refusal| refusal.openvpn_line == openvpn_line) {
            continue;
        }
        refusals.push(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line,
            origin: Some(setting.origin.clone()),
            explanation: "the configuration is correct; culvert cannot do this yet".to_owned(),
            remedy,
        });
    }
    refusals
}
