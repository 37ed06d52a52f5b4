//! Which data planes accept a profile, and why the others do not.

use culvert_wire::OffloadKind;

use crate::Profile;

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

/// One option that a data plane cannot honour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The option.
    pub option: &'static str,
    /// Why, as a clause.
    pub because: &'static str,
    /// What to do instead, in the imperative.
    pub instead: &'static str,
    /// OpenVPN's note about it, where it has one.
    pub openvpn_note: Option<String>,
}

/// Returns what each kind says.
pub fn verdict(profile: &Profile) -> [Verdict; 3] {
    let _ = profile;
    [OffloadKind::Linux, OffloadKind::Windows, OffloadKind::Engine].map(|kind| Verdict {
        kind,
        refusals: Vec::new(),
        ignored: Vec::new(),
    })
}
