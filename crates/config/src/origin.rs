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

/// Returns a line as messages may show it: stars stand for each byte of a PIN in a URI of a token (`pin-value`, RFC 7512), so
/// that places stay where they are.
pub(crate) fn without_pin(line: &str) -> String {
    const BEFORE: &str = "pin-value=";
    let mut pieces = line.split(BEFORE);
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let ends = |c: char| c.is_whitespace() || ['&', '"', '\''].contains(&c);
        let (pin, rest) = piece.split_at(piece.find(ends).unwrap_or(piece.len()));
        shown = shown + BEFORE + &"*".repeat(pin.len()) + rest;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pin_is_shown() {
        let line = "cert \"pkcs11:token=a?pin-value=12é4&module-name=m\" pin-value=5";
        let shown = without_pin(line);
        assert_eq!(shown, "cert \"pkcs11:token=a?pin-value=*****&module-name=m\" pin-value=*");
        assert_eq!(shown.len(), line.len());
        assert_eq!(without_pin("verb 3"), "verb 3");
    }
}
