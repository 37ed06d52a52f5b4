//! What data planes have to do with an option: the part of a row that the verdict is made of.

use culvert_wire::OffloadKind;

use crate::profile::Profile;

/// What one or more data planes have to do with an option.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// Which data planes.
    pub kinds: &'static [OffloadKind],
    /// How far it goes.
    pub extent: Extent,
    /// Whether it is about the option being there, or missing.
    pub presence: Presence,
    /// Which settings this is about; `None`: every one.
    pub when: Option<Condition>,
    /// Why, or by which means, as a clause.
    pub because: &'static str,
    /// What to do instead, in the imperative; may be empty.
    pub instead: &'static str,
    /// What OpenVPN logs about it.
    pub note: Note,
}

/// How far an option reaches that a data plane cannot honour by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// The data plane refuses the profile.
    Profile,
    /// The data plane takes the profile; single peers, or the one connection of a client, are left to the engine.
    Peer,
    /// The data plane takes the profile and goes on without the option.
    WithoutEffect,
    /// The option holds, by other means than the data plane's own.
    Kept,
}

/// What an effect is about: the option's being there, or its missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The option was written.
    Written,
    /// It was not.
    Missing,
    /// Both: what counts is the value, be it the default.
    Either,
}

/// The settings that an effect is about.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// For people, after "with" or "when": `tap`, `a cipher without AEAD`.
    pub text: &'static str,
    /// Whether a profile is one of them.
    pub holds: fn(&Profile) -> bool,
}

/// What OpenVPN logs about an option that its own offload does not honour, word for word.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// Nothing, and culvert is silent as well: it is what the option asks for.
    Silent,
    /// Nothing; culvert has a line of its own.
    Own,
    /// These lines.
    Lines(&'static [&'static str]),
    /// Lines that depend on the profile.
    Made(fn(&Profile) -> Vec<String>),
}

impl Note {
    /// Returns OpenVPN's lines about a profile; empty where it has none.
    pub fn lines(self, profile: &Profile) -> Vec<String> {
        match self {
            Self::Silent | Self::Own => Vec::new(),
            Self::Lines(lines) => lines.iter().map(|line| (*line).to_owned()).collect(),
            Self::Made(make) => make(profile),
        }
    }
}

pub(super) const KERNEL: &[OffloadKind] = &[OffloadKind::Linux, OffloadKind::Windows];
pub(super) const LINUX: &[OffloadKind] = &[OffloadKind::Linux];
pub(super) const WINDOWS: &[OffloadKind] = &[OffloadKind::Windows];

/// Begins an effect: these data planes refuse the profile.
pub(super) const fn blocks(
    kinds: &'static [OffloadKind],
    because: &'static str,
    instead: &'static str,
) -> Effect {
    effect(kinds, Extent::Profile, because, instead)
}

/// Begins an effect: these data planes leave single peers to the engine.
pub(super) const fn per_peer(
    kinds: &'static [OffloadKind],
    because: &'static str,
    instead: &'static str,
) -> Effect {
    effect(kinds, Extent::Peer, because, instead)
}

/// Begins an effect: these data planes go on without the option.
pub(super) const fn ignores(
    kinds: &'static [OffloadKind],
    because: &'static str,
    instead: &'static str,
) -> Effect {
    effect(kinds, Extent::WithoutEffect, because, instead)
}

/// Begins an effect: with these data planes the option holds by other means.
pub(super) const fn kept(kinds: &'static [OffloadKind], by: &'static str) -> Effect {
    effect(kinds, Extent::Kept, by, "")
}

const fn effect(
    kinds: &'static [OffloadKind],
    extent: Extent,
    because: &'static str,
    instead: &'static str,
) -> Effect {
    Effect { kinds, extent, presence: Presence::Written, when: None, because, instead, note: Note::Own }
}

impl Effect {
    pub(super) const fn when(mut self, text: &'static str, holds: fn(&Profile) -> bool) -> Self {
        self.when = Some(Condition { text, holds });
        self
    }

    pub(super) const fn presence(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    pub(super) const fn note(mut self, note: Note) -> Self {
        self.note = note;
        self
    }

    /// Returns whether it is about this profile, in which its option is `written` or not.
    pub fn holds(&self, profile: &Profile, written: bool) -> bool {
        let present = match self.presence {
            Presence::Written => written,
            Presence::Missing => !written,
            Presence::Either => true,
        };
        present && self.when.is_none_or(|condition| (condition.holds)(profile))
    }
}
