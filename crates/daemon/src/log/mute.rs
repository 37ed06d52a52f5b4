//! `mute N`: at most N lines of one kind in a row.

/// What to do with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Muted {
    /// Write it; with a line about what was left out before it.
    Write(Option<String>),
    /// Leave it out; with the line that says so, once.
    Skip(Option<&'static str>),
}

/// Counts lines of one kind. The kind is the place in the program that a line comes from.
#[derive(Debug, Default)]
pub(super) struct Mute {
    limit: Option<u32>,
    kind: Option<tracing::callsite::Identifier>,
    count: u32,
}

impl Mute {
    /// Changes the limit; zero is off.
    pub(super) fn set_limit(&mut self, limit: Option<u32>) {
        self.limit = limit.filter(|limit| *limit > 0);
    }

    /// Looks at a line.
    pub(super) fn look(&mut self, kind: &tracing::callsite::Identifier) -> Muted {
        let Some(limit) = self.limit else { return Muted::Write(None) };
        if self.kind.as_ref() == Some(kind) {
            self.count = self.count.saturating_add(1);
            return match self.count.checked_sub(limit) {
                None | Some(0) => Muted::Write(None),
                Some(1) => Muted::Skip(Some("NOTE: --mute triggered...")),
                Some(_) => Muted::Skip(None),
            };
        }
        let left_out = self.count.saturating_sub(limit);
        self.kind = Some(kind.clone());
        self.count = 1;
        Muted::Write(
            (left_out > 0).then(|| {
                format!("{left_out} variation(s) on previous {limit} message(s) suppressed by --mute")
            }),
        )
    }
}
