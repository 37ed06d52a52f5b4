//! Words of one line, exactly as OpenVPN splits it.
//!
//! Blanks separate words. `#` and `;` begin a comment where a word would begin. `"…"` keeps blanks and knows backslashes,
//! `'…'` keeps everything. A backslash may stand before a backslash, a double quote or a blank only. The same rules
//! split the command of a script and a line of the management interface.

use std::ops::Range;

/// The longest line and the longest word, in bytes.
pub const LIMIT: usize = 256;

/// The most words of one line; OpenVPN does not look at those beyond.
pub const MAX_WORDS: usize = 16;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word, quotes and backslashes resolved.
    pub text: String,
    /// Its bytes in the line, quotes included.
    pub span: Range<usize>,
}

/// Why a line has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LexError {
    /// A backslash before something else than a backslash, a double quote or a blank; where it stands.
    BadBackslash(usize),
    /// A quotation that begins here is not closed.
    Unclosed {
        /// Where it begins.
        at: usize,
        /// `"` or `'`.
        quote: char,
    },
    /// A word, which begins here, is longer than [`LIMIT`].
    LongWord(usize),
    /// The line ends after a backslash; where that stands.
    Dangling(usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Initial,
    Quoted,
    Unquoted,
    SingleQuoted,
}

/// Splits `line` into words; more than [`MAX_WORDS`] are returned, too.
///
/// # Errors
/// A quotation or a backslash is wrong, or a word is too long.
pub fn split(line: &str) -> Result<Vec<Word>, LexError> {
    let mut words = Vec::new();
    let mut text = String::new();
    let mut state = State::Initial;
    let mut start = 0;
    let mut backslash: Option<usize> = None;
    // A line ends at its first NUL, as every C string.
    let line = line.split('\0').next().unwrap_or_default();
    for (at, c) in line.char_indices().chain([(line.len(), '\0')]) {
        let end = c == '\0';
        let blank = end || is_blank(c);
        if backslash.is_none() && c == '\\' && state != State::SingleQuoted {
            backslash = Some(at);
            continue;
        }
        let mut out = None;
        let mut done = false;
        match state {
            State::Initial if blank => {}
            State::Initial if c == '#' || c == ';' => return Ok(words),
            State::Initial => {
                start = backslash.unwrap_or(at);
                match c {
                    '"' if backslash.is_none() => state = State::Quoted,
                    '\'' if backslash.is_none() => state = State::SingleQuoted,
                    _ => {
                        state = State::Unquoted;
                        out = Some(c);
                    }
                }
            }
            State::Unquoted if blank && backslash.is_none() => done = true,
            State::Quoted if c == '"' && backslash.is_none() => done = true,
            State::SingleQuoted if c == '\'' => done = true,
            State::Unquoted | State::Quoted | State::SingleQuoted => out = (!end).then_some(c),
        }
        if let (Some(at), true) = (backslash, end && state == State::Unquoted) {
            return Err(LexError::Dangling(at));
        }
        if let (Some(c), Some(at)) = (out, backslash)
            && !(c == '\\' || c == '"' || blank)
        {
            return Err(LexError::BadBackslash(at));
        }
        backslash = None;
        if let Some(c) = out {
            if text.len() + c.len_utf8() > LIMIT {
                return Err(LexError::LongWord(start));
            }
            text.push(c);
        }
        if done {
            let quoted = state != State::Unquoted;
            state = State::Initial;
            words.push(Word { text: std::mem::take(&mut text), span: start..at + usize::from(quoted) });
        }
    }
    match state {
        State::Quoted => Err(LexError::Unclosed { at: start, quote: '"' }),
        State::SingleQuoted => Err(LexError::Unclosed { at: start, quote: '\'' }),
        State::Initial | State::Unquoted => Ok(words),
    }
}

/// Returns whether C's `isspace` holds in the C locale.
pub fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_separated_by_blanks_and_carriage_returns() {
        assert_eq!(words("  remote\thost 1194 \r"), ["remote", "host", "1194"]);
    }

    #[test]
    fn a_comment_begins_only_where_a_word_would() {
        assert_eq!(words("port 1194 # here"), ["port", "1194"]);
        assert_eq!(words("port 1194;x"), ["port", "1194;x"]);
        assert_eq!(words("; all of it"), Vec::<String>::new());
        assert_eq!(words(r"\# a backslash does not help"), Vec::<String>::new());
    }

    #[test]
    fn double_quotes_know_backslashes_and_single_quotes_do_not() {
        assert_eq!(words(r#"push "route 10.0.0.0 \"x\" \\""#), ["push", r#"route 10.0.0.0 "x" \"#]);
        assert_eq!(words(r#"a 'b \ "c"'"#), ["a", r#"b \ "c""#]);
        assert_eq!(words(r#"a """#), ["a", ""]);
    }

    #[test]
    fn a_quotation_in_the_middle_of_a_word_is_part_of_it() {
        assert_eq!(words(r#"setenv a b"c"d"#), ["setenv", "a", r#"b"c"d"#]);
    }

    #[test]
    fn an_escaped_blank_belongs_to_the_word() {
        assert_eq!(words(r"cd /my\ files"), ["cd", "/my files"]);
    }

    #[test]
    fn other_backslashes_are_errors() {
        assert_eq!(split(r"ca c:\keys\ca.crt"), Err(LexError::BadBackslash(5)));
        assert_eq!(split("ca x\\"), Err(LexError::Dangling(4)));
    }

    #[test]
    fn an_open_quotation_is_an_error() {
        assert_eq!(split(r#"push "route"#), Err(LexError::Unclosed { at: 5, quote: '"' }));
        assert_eq!(split("push 'route"), Err(LexError::Unclosed { at: 5, quote: '\'' }));
    }

    #[test]
    fn a_word_has_at_most_256_bytes() {
        assert!(split(&format!("a {}", "x".repeat(256))).is_ok());
        assert_eq!(split(&format!("a {}", "x".repeat(257))), Err(LexError::LongWord(2)));
    }

    #[test]
    fn spans_cover_the_word_and_its_quotes() {
        let line = r#" a  "b c" d"#;
        let spans: Vec<_> = split(line).unwrap().into_iter().map(|word| &line[word.span]).collect();
        assert_eq!(spans, ["a", r#""b c""#, "d"]);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic_and_spans_stay_within(line in "\\PC{0,80}|[ \"'\\\\#;a-c\t\0]{0,40}") {
            if let Ok(words) = split(&line) {
                for word in words {
                    prop_assert!(line.get(word.span.clone()).is_some());
                    prop_assert!(word.text.len() <= LIMIT);
                }
            }
        }

        #[test]
        fn quoting_a_word_gives_it_back(word in "[ -~]{0,60}") {
            let quoted: String = word.chars().flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c => vec![c],
            }).collect();
            prop_assert_eq!(words(&format!("x \"{quoted}\" y")), vec!["x".to_owned(), word, "y".to_owned()]);
        }
    }
}
