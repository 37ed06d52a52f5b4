//! What `check` and `doctor` have to say beyond the lines of a start: a name that programs can tell, a sentence, a remedy.

use serde_json::{Value, json};

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is about: the same in every release.
    pub(crate) name: &'static str,
    /// How bad it is.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) text: String,
    /// What to do, in the imperative; empty where there is nothing to do.
    pub(crate) remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It works, but not well, not safely, or not for long.
    Warning,
    /// It keeps the tunnel from working.
    Error,
}

impl Level {
    /// Returns its word, for people and programs.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    /// Says that something is as it should be.
    pub(crate) fn good(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Good, text: text.into(), remedy: String::new() }
    }

    /// Says that something is worth knowing.
    pub(crate) fn note(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Note, text: text.into(), remedy: remedy.into() }
    }

    /// Warns.
    pub(crate) fn warning(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Warning, text: text.into(), remedy: remedy.into() }
    }

    /// Reports what keeps the tunnel from working.
    pub(crate) fn error(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, level: Level::Error, text: text.into(), remedy: remedy.into() }
    }

    /// Returns the lines for people.
    pub(crate) fn lines(&self) -> String {
        let text = self.text.trim_end().replace('\n', "\n           ");
        let mut lines = format!("  {:<8} {}: {text}\n", self.level.word(), self.name);
        if !self.remedy.is_empty() {
            lines += &format!("           remedy: {}\n", self.remedy);
        }
        lines
    }

    /// Returns the object for programs.
    pub(crate) fn json(&self) -> Value {
        json!({"name": self.name, "level": self.level.word(), "text": self.text, "remedy": self.remedy})
    }
}

/// Returns the worst level of all.
pub(crate) fn worst<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> Level {
    findings.into_iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
}
