//! Lines that cannot be read as words.

use super::{Reader, Statement};
use crate::{
    diagnostic::{Diagnostic, Severity},
    lexer::{LIMIT, LexError},
    origin::{Origin, without_pin},
};

impl Reader<'_> {
    pub(super) fn line_too_long(&mut self, statement: &Statement, text: &str) {
        let text = &without_pin(text);
        let start: String = text.chars().take(60).collect();
        let openvpn_line = format!(
            "Options error: In {}: Maximum option line length ({LIMIT}) exceeded, line starts with {}",
            statement.place(),
            text.chars().take(LIMIT).collect::<String>()
        );
        let origin = Origin { text: start.as_str().into(), span: 0..start.len(), ..statement.origin.clone() };
        self.error(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line,
            origin: Some(origin),
            explanation: format!("the line has {} bytes; {} are the most", text.len(), LIMIT - 2),
            remedy: "split the line, or move its content to a file or an inline block".to_owned(),
        });
    }

    pub(super) fn unreadable(&mut self, statement: &Statement, error: LexError) {
        let place = statement.place();
        let end = statement.origin.text.len();
        let (line, at, remedy) = match error {
            LexError::BadBackslash(at) => (
                format!(
                    "Options warning: Bad backslash ('\\') usage in {place}: remember that backslashes are treated as \
                     shell-escapes and if you need to pass backslash characters as part of a Windows filename, you should \
                     use double backslashes such as \"c:\\\\openvpn\\\\static.key\""
                ),
                at,
                "write two backslashes, or put the word in single quotes",
            ),
            LexError::Dangling(at) => (
                format!("Options error: Residual parse state (2) in {place}"),
                at,
                "remove the backslash, or write two",
            ),
            LexError::Unclosed { at, quote: '"' } => {
                (format!("Options error: No closing quotation (\") in {place}"), at, "close the quotation")
            }
            LexError::Unclosed { at, .. } => (
                format!("Options error: No closing single quotation (') in {place}"),
                at,
                "close the quotation",
            ),
            LexError::LongWord(at) => (
                format!("Options error: Parameter at {place} is too long ({LIMIT} chars max)"),
                at,
                "shorten the word, or move it to a file",
            ),
        };
        self.error(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: line,
            origin: Some(statement.origin.pointing_at(at.min(end)..end)),
            explanation: String::new(),
            remedy: remedy.to_owned(),
        });
    }

    /// Refuses words with bytes that are no text; in comments they do no harm.
    pub(super) fn not_utf8(&mut self, statement: &Statement) -> bool {
        let Some(index) = statement.words.iter().position(|word| word.text.contains('\u{FFFD}')) else {
            return false;
        };
        self.error(Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: format!("Options error: In {}: not UTF-8", statement.place()),
            origin: Some(statement.at_word(index)),
            explanation: "the word holds bytes that are not UTF-8".to_owned(),
            remedy: "save the file as UTF-8".to_owned(),
        });
        true
    }
}
