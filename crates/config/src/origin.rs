//! Where a word of configuration stands.

use std::{ops::Range, sync::Arc};

/// The name that OpenVPN gives to the command line in messages.
pub const COMMAND_LINE: &str = "[CMD-LINE]";

/// Where an option was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as named, [`COMMAND_LINE`], or what OpenVPN calls another source (`[PUSH-OPTIONS]`).
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The line's text, without its end. On the command line: the option and its arguments, joined by blanks.
    pub text: Arc<str>,
    /// The bytes of `text` to point at; always within it, on character boundaries.
    pub span: Range<usize>,
}

impl Origin {
    /// Returns the same place, pointing at other bytes of the line.
    #[must_use]
    pub fn pointing_at(&self, span: Range<usize>) -> Self {
        Self { span, ..self.clone() }
    }
}
