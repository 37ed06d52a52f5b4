//! Which data planes accept a profile, and why the others do not: a fold of the table's rows.

use culvert_wire::OffloadKind;

use crate::{
    Profile,
    diagnostic::{Diagnostic, Severity},
    origin::Origin,
    profile::OffloadChoice,
    table::{Effect, Extent, Note, OptionRow, table},
};

/// What one kind of data plane says to a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who says it.
    pub kind: OffloadKind,
    /// Every reason against; empty means that it accepts.
    pub refusals: Vec<Remark>,
    /// What leaves single peers, or the one connection of a client, to the engine.
    pub per_peer: Vec<Remark>,
    /// What has no effect: to be said once, by who runs on this data plane.
    pub without: Vec<Remark>,
    /// What holds by other means than the data plane's own.
    pub kept: Vec<Remark>,
}

impl Verdict {
    /// Returns whether it accepts the profile.
    pub fn accepts(&self) -> bool {
        self.refusals.is_empty()
    }

    /// Returns the lines to log once by who runs on this data plane: what single peers go without, what everyone goes
    /// without.
    pub fn lines(&self) -> Vec<String> {
        self.per_peer.iter().chain(&self.without).flat_map(Remark::lines).collect()
    }
}

/// What a data plane says about one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The option.
    pub option: &'static str,
    /// How far it goes.
    pub extent: Extent,
    /// Why, or by which means, as a clause.
    pub because: &'static str,
    /// What to do instead, in the imperative; may be empty.
    pub instead: &'static str,
    /// OpenVPN's lines about it, word for word; empty where it has none. They tell what OpenVPN does: culvert may do
    /// better, and prints [`Remark::lines`].
    pub openvpn_note: Vec<String>,
}

impl Remark {
    fn new(row: &OptionRow, effect: &Effect, profile: &Profile) -> Self {
        Self {
            option: row.name,
            extent: effect.extent,
            because: effect.because,
            instead: effect.instead,
            openvpn_note: effect.note.lines(profile),
        }
    }

    /// Returns the lines for the log: OpenVPN's where they are true of culvert, else one of culvert's own.
    pub fn lines(&self) -> Vec<String> {
        let Self { option, because, .. } = self;
        let text = match self.extent {
            Extent::Profile | Extent::WithoutEffect if !self.openvpn_note.is_empty() => {
                return self.openvpn_note.clone();
            }
            Extent::Profile => return vec![format!("Note: --{option} disables data channel offload.")],
            Extent::Peer => format!("Note: --{option} and data channel offload: {because}"),
            Extent::WithoutEffect => {
                format!("Note: --{option} has no effect when using data channel offload: {because}")
            }
            Extent::Kept => format!("Note: --{option} with data channel offload: {because}"),
        };
        let cure = if self.instead.is_empty() { String::new() } else { format!("; {}", self.instead) };
        vec![text + &cure]
    }
}

/// Returns the name of a kind of data plane, for people.
pub(crate) fn kind_name(kind: OffloadKind) -> &'static str {
    match kind {
        OffloadKind::Linux => "linux",
        OffloadKind::Windows => "windows",
        OffloadKind::Engine => "engine",
    }
}

/// The kind of data plane that the kernel of this system has.
pub(crate) const KERNEL_HERE: OffloadKind =
    if cfg!(windows) { OffloadKind::Windows } else { OffloadKind::Linux };

/// Returns what each kind says: first Linux, then Windows, then the engine.
pub fn verdict(profile: &Profile) -> [Verdict; 3] {
    [OffloadKind::Linux, OffloadKind::Windows, OffloadKind::Engine].map(|kind| {
        let mut verdict = Verdict {
            kind,
            refusals: Vec::new(),
            per_peer: Vec::new(),
            without: Vec::new(),
            kept: Vec::new(),
        };
        for (row, effect, _) in effects(profile, kind) {
            let remark = Remark::new(row, effect, profile);
            let list = match effect.extent {
                Extent::Profile => &mut verdict.refusals,
                Extent::Peer => &mut verdict.per_peer,
                Extent::WithoutEffect => &mut verdict.without,
                Extent::Kept => &mut verdict.kept,
            };
            if !list.contains(&remark) {
                list.push(remark);
            }
        }
        verdict
    })
}

/// The effects that a profile has on one kind of data plane: first those of options that were written, in their order,
/// then those of options that were not.
fn effects(
    profile: &Profile,
    kind: OffloadKind,
) -> impl Iterator<Item = (&'static OptionRow, &'static Effect, Option<&Origin>)> {
    let is_written = |row: &OptionRow| profile.settings.iter().any(|setting| setting.row.name == row.name);
    let written = profile.settings.iter().map(|setting| (setting.row, Some(&setting.origin)));
    let missing = table().filter(move |row| !is_written(row)).map(|row| (row, None));
    written.chain(missing).flat_map(move |(row, origin)| {
        let holds =
            move |effect: &&Effect| effect.kinds.contains(&kind) && effect.holds(profile, origin.is_some());
        row.offload.iter().filter(holds).map(move |effect| (row, effect, origin))
    })
}

/// The lines about options that keep the kernel out: before the version line. Those about options that a kernel would not
/// honour are for who has chosen one: [`Verdict::lines`].
pub(crate) fn notes(profile: &Profile) -> Vec<Diagnostic> {
    let mut notes: Vec<Diagnostic> = Vec::new();
    let refusing = effects(profile, KERNEL_HERE)
        .filter(|(_, effect, _)| effect.extent == Extent::Profile && !matches!(effect.note, Note::Silent));
    for (row, effect, origin) in refusing {
        let lines = Remark::new(row, effect, profile).lines();
        let Some((last, before)) = lines.split_last() else { continue };
        if notes.iter().any(|note| note.openvpn_line == *last) {
            continue;
        }
        let note = |line: &String| Diagnostic {
            severity: Severity::Note,
            verb: 3,
            openvpn_line: line.clone(),
            origin: None,
            explanation: String::new(),
            remedy: String::new(),
        };
        notes.extend(before.iter().map(note));
        notes.push(Diagnostic {
            origin: origin.cloned(),
            explanation: effect.because.to_owned(),
            remedy: effect.instead.to_owned(),
            ..note(last)
        });
    }
    notes
}

/// Errors of `offload kernel` beside options that the kernel refuses.
pub(crate) fn contradictions(profile: &Profile) -> Vec<Diagnostic> {
    if profile.process.offload != OffloadChoice::Kernel {
        return Vec::new();
    }
    let mut errors: Vec<Diagnostic> = Vec::new();
    for (row, effect, origin) in effects(profile, KERNEL_HERE) {
        let openvpn_line =
            format!("Options error: --offload kernel and --{} cannot be used together", row.name);
        if effect.extent != Extent::Profile || errors.iter().any(|error| error.openvpn_line == openvpn_line) {
            continue;
        }
        errors.push(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line,
            origin: origin.cloned(),
            explanation: effect.because.to_owned(),
            remedy: format!("{}, or write `offload auto`", effect.instead),
        });
    }
    errors
}
