//! Why a helper could not do its work, as text for the person who reads the test's output.

use std::fmt;

/// One sentence for a human, with the context (command, log tail) below it.
pub struct Failure(String);

/// The result of the testkit's helpers.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Makes a failure of its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the same failure with what was being done in front.
    #[must_use]
    pub fn while_doing(self, what: &str) -> Self {
        Self(format!("{what}: {}", self.0))
    }

    /// Returns the first line, for a table.
    pub fn headline(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// The test harness prints errors with Debug; the text is meant to be read.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rcgen::Error> for Failure {
    fn from(error: rcgen::Error) -> Self {
        Self(format!("making a certificate: {error}"))
    }
}
