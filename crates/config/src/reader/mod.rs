//! Reading: files and the command line become statements, statements become settings of a [`Draft`].
//!
//! All errors are collected; only what makes the rest meaningless (an endless inclusion, a missing end tag) ends it
//! early. Nothing is looked at besides the files that `config` names.

mod lines;

use std::{
    hash::{Hash as _, Hasher as _},
    path::Path,
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::{
    args::{Args, Problem},
    diagnostic::{Diagnostic, Severity, os_error},
    draft::Draft,
    effect::ParseEffect,
    files::{Access, Files},
    lexer::{self, LIMIT, MAX_WORDS, Word},
    origin::{COMMAND_LINE, Origin, without_pin},
    profile::Setting,
    suggest,
    table::{self, CONFIG, CONNECTION, Contexts, FORGOTTEN, INLINE, OptionRow, Reload, Status},
    title::OPENVPN_VERSION,
    value::SecretText,
};

/// How deep `config` nests.
const MAX_DEPTH: u32 = 10;
/// How many files are read in all: a bound on files that include each other many times.
const MAX_FILES: u32 = 256;
/// After so many errors nobody reads on.
const MAX_ERRORS: usize = 100;
/// What OpenVPN calls a `<connection>` block.
const CONNECTION_BLOCK: &str = "[CONNECTION-OPTIONS]";

/// Reads configuration into a draft.
pub(crate) struct Reader<'f> {
    files: &'f dyn Files,
    pub(crate) draft: Draft,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
    files_read: u32,
    stopped: bool,
    part: Part,
}

/// Which lines are taken; the others are read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All.
    Whole,
    /// Those of options that need a restart.
    Standing,
    /// Those of options that a running server takes.
    Live,
}

impl Part {
    fn takes(self, row: &OptionRow) -> bool {
        match row.reload {
            Reload::Frame => true,
            Reload::Restart => self != Self::Live,
            Reload::Live | Reload::Tls => self != Self::Standing,
        }
    }
}

/// Where lines come from.
#[derive(Clone)]
struct Source {
    /// The file, for people.
    file: Arc<str>,
    /// The number of the line before the first.
    offset: u32,
    /// The name in OpenVPN's messages; its lines count from 1 again in a block.
    shown: Arc<str>,
    context: Contexts,
    depth: u32,
}

/// One option with its arguments.
struct Statement {
    words: Vec<Word>,
    inline: Option<SecretText>,
    origin: Origin,
    shown: Arc<str>,
    shown_line: u32,
}

impl Statement {
    fn name(&self) -> &str {
        self.words.first().map(|word| word.text.as_str()).unwrap_or_default()
    }

    fn place(&self) -> String {
        format!("{}:{}", self.shown, self.shown_line)
    }

    /// Points at a word; 0 is the name.
    fn at_word(&self, index: usize) -> Origin {
        let span = self.words.get(index).or(self.words.last()).map_or(0..0, |word| word.span.clone());
        self.origin.pointing_at(span)
    }
}

impl<'f> Reader<'f> {
    pub(crate) fn new(files: &'f dyn Files) -> Self {
        Self {
            files,
            draft: Draft::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            files_read: 0,
            stopped: false,
            part: Part::Whole,
        }
    }

    /// Goes on with other lines of other files: settings are added to what there is.
    pub(crate) fn part(&mut self, part: Part, files: &'f dyn Files) {
        (self.part, self.files, self.files_read, self.stopped) = (part, files, 0, false);
        self.draft.cwd = std::path::PathBuf::new();
    }

    /// Reads a command line without the program's name.
    pub(crate) fn command_line(&mut self, args: &[String]) {
        if let [file] = args
            && !file.starts_with("--")
        {
            return self.command(&["--config".to_owned(), file.clone()]);
        }
        let mut rest = args;
        while let Some((first, others)) = rest.split_first() {
            if self.stopped || self.draft.is_answered() {
                return;
            }
            if first.starts_with("--") {
                let count =
                    others.iter().take(MAX_WORDS - 1).take_while(|arg| !arg.starts_with("--")).count();
                let (command, tail) = rest.split_at(1 + count);
                self.command(command);
                rest = tail;
            } else {
                let origin = command_origin(std::slice::from_ref(first)).1;
                self.error(Diagnostic {
                    severity: Severity::Error,
                    verb: 1,
                    openvpn_line: format!(
                        "Options error: I'm trying to parse \"{first}\" as an --option parameter but I don't see a leading \
                         '--'"
                    ),
                    origin: Some(origin),
                    explanation: String::new(),
                    remedy: "begin options with `--`; a lone word is a configuration file".to_owned(),
                });
                rest = others;
            }
        }
    }

    /// Takes one option of the command line, its name with `--`.
    fn command(&mut self, command: &[String]) {
        let (words, origin) = command_origin(command);
        let statement = Statement { words, inline: None, origin, shown: COMMAND_LINE.into(), shown_line: 1 };
        self.take(&statement, CONFIG, 0);
    }

    /// Reads a file that `config` names.
    fn file(&mut self, name: &str, by: &Statement, depth: u32) {
        let place = by.place();
        let fail = |text: String, remedy: &str| Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: format!("Options error: In {place}: {text}"),
            origin: Some(by.at_word(1)),
            explanation: String::new(),
            remedy: remedy.to_owned(),
        };
        self.files_read += 1;
        if depth > MAX_DEPTH || self.files_read > MAX_FILES {
            self.stopped = true;
            let text = format!(
                "Maximum recursive include levels exceeded in include attempt of file {name} -- probably you have a \
                 configuration file that tries to include itself."
            );
            return self.error(fail(text, "remove the `config` line that leads back"));
        }
        let bytes = match name {
            "stdin" => self.files.read_stdin(),
            _ => self.files.read(&self.draft.resolve(Path::new(name))),
        };
        match bytes {
            Ok(bytes) => {
                // Keys may stand in it.
                let bytes = Zeroizing::new(bytes);
                let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
                let file: Arc<str> = name.into();
                let source = Source { file: file.clone(), offset: 0, shown: file, context: CONFIG, depth };
                self.lines(bytes, &source);
            }
            Err(error) => {
                let mut diagnostic = fail(format!("Error opening configuration file: {name}"), "");
                diagnostic.explanation = os_error(&error);
                "name a file that exists and can be read".clone_into(&mut diagnostic.remedy);
                self.error(diagnostic);
            }
        }
    }

    /// Reads the lines of a file or of a `<connection>` block.
    fn lines(&mut self, bytes: &[u8], source: &Source) {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').zip(1u32..);
        while let Some((raw, number)) = lines.next() {
            if self.stopped || self.draft.is_answered() {
                return;
            }
            let text = String::from_utf8_lossy(raw.strip_suffix(b"\n").unwrap_or(raw));
            let origin = Origin {
                file: source.file.clone(),
                line: source.offset + number,
                text: without_pin(text.trim_end_matches('\r')).into(),
                span: 0..0,
            };
            let mut statement = Statement {
                words: Vec::new(),
                inline: None,
                origin,
                shown: source.shown.clone(),
                shown_line: number,
            };
            if raw.len() >= LIMIT {
                self.line_too_long(&statement, &text);
                continue;
            }
            match lexer::split(&text) {
                Err(error) => {
                    self.unreadable(&statement, error);
                    continue;
                }
                Ok(words) => statement.words = words,
            }
            if statement.words.len() > MAX_WORDS {
                let line =
                    format!("Note: words after the {MAX_WORDS}th in {} are not looked at", statement.place());
                self.warn(&statement, line, "split the line");
                statement.words.truncate(MAX_WORDS);
            }
            if matches!(text, std::borrow::Cow::Owned(_)) && self.not_utf8(&statement) {
                continue;
            }
            let Some(first) = statement.words.first_mut() else { continue };
            bypass_double_dash(first);
            if statement.words.len() == 1
                && let Some(tag) = inline_tag(&statement)
            {
                let end = format!("</{tag}>");
                let Some(content) = inline_content(&mut lines, &end) else {
                    self.stopped = true;
                    return self.error(Diagnostic {
                        severity: Severity::Error,
                        verb: 1,
                        openvpn_line: format!("ERROR: Endtag {end} missing"),
                        origin: Some(statement.at_word(0)),
                        explanation: "the block that begins here does not end".to_owned(),
                        remedy: format!("add a line `{end}`"),
                    });
                };
                if let Some(word) = statement.words.first_mut() {
                    word.text = tag;
                }
                statement.inline = Some(SecretText::new(content));
            }
            self.take(&statement, source.context, source.depth);
        }
    }

    /// Finds the row of a statement, and applies it.
    fn take(&mut self, statement: &Statement, context: Contexts, depth: u32) {
        let mut statement = std::borrow::Cow::Borrowed(statement);
        let optional = is_setenv_opt(&statement);
        if optional {
            let mut inner = statement.into_owned();
            inner.words.drain(..2);
            if inner.words.is_empty() {
                inner.words.push(Word { text: "setenv opt".to_owned(), span: 0..inner.origin.text.len() });
            }
            statement = std::borrow::Cow::Owned(inner);
        }
        let statement = statement.as_ref();
        let row = table::find(statement.name());
        let Some(row) = row.filter(|row| row.is_known() && fits(row, statement)) else {
            return self.unrecognized(statement, row, optional);
        };
        if let Status::Refused(text, remedy) = row.status {
            // OpenVPN ends at once over such an option, by its other kind of message.
            let bare = text.starts_with("REMOVED OPTION: ");
            let problem = Problem { bare, remedy: remedy.to_owned(), ..crate::args::problem(text) };
            return self.refuse(statement, &problem);
        }
        if context == CONNECTION && row.contexts.has(FORGOTTEN) {
            let line = format!("Note: option '{}' has no effect in a <connection> block", row.name);
            return self.warn(statement, line, "move it out of the block");
        }
        if !row.contexts.has(context) {
            let text = format!("option '{}' cannot be used in this context ({})", row.name, statement.shown);
            return self
                .refuse(statement, &crate::args::problem(text).explain(suggest::where_it_stands(row)));
        }
        if statement.inline.is_some() && !row.contexts.has(INLINE) {
            let text = format!("option '{}' is not expected to be inline ({})", row.name, statement.place());
            return self.refuse(statement, &crate::args::problem(text).remedy("name a file instead"));
        }
        if row.contexts.has(CONNECTION) && context == CONFIG && !self.draft.connections.is_empty() {
            let text = format!(
                "Option '{}' in {} is ignored by previous <connection> blocks ",
                row.name,
                statement.place()
            );
            let remedy = "move it in front of the first `<connection>`";
            self.warn(statement, text, remedy);
        }
        self.apply(row, statement, depth);
    }

    /// Calls the setter of a row, and does what it asks for.
    fn apply(&mut self, row: &'static OptionRow, statement: &Statement, depth: u32) {
        if !self.part.takes(row) {
            return;
        }
        let words =
            if statement.inline.is_some() { &[] } else { statement.words.get(1..).unwrap_or_default() };
        let args = Args { name: row.name, words, inline: statement.inline.as_ref() };
        let result = row.set.map_or(Ok(()), |set| set(&mut self.draft, &args));
        for line in std::mem::take(&mut self.draft.warnings) {
            self.warn(statement, line, "");
        }
        if let Err(problem) = result {
            return self.refuse(statement, &problem);
        }
        let given = given(words, statement.inline.as_ref());
        self.draft.profile.settings.push(Setting { row, origin: statement.at_word(0), given });
        if let Some(path) = self.draft.change_directory.take() {
            self.change_directory(&path, statement);
        }
        if let Some(name) = self.draft.include.take() {
            self.file(&name, statement, depth + 1);
        }
        if std::mem::take(&mut self.draft.block)
            && let Some(text) = &statement.inline
        {
            self.connection(text, statement, depth);
        }
    }

    fn change_directory(&mut self, path: &Path, statement: &Statement) {
        let path = self.draft.resolve(path);
        if let Err(error) = self.files.probe(&path, Access::Directory) {
            let text = format!("cd to '{}' failed: {}", path.display(), os_error(&error));
            let problem = Problem { bare: true, ..crate::args::problem(text) };
            return self.refuse(statement, &problem.at(0).remedy("name a directory that exists"));
        }
        self.draft.cwd.clone_from(&path);
        self.draft.profile.process.cd = Some(path.clone());
        self.draft.effect(ParseEffect::ChangeDirectory(path));
    }

    /// Reads a `<connection>` block: a copy of the defaults, changed by what stands in it.
    fn connection(&mut self, text: &SecretText, by: &Statement, depth: u32) {
        let source = Source {
            file: by.origin.file.clone(),
            offset: by.origin.line,
            shown: CONNECTION_BLOCK.into(),
            context: CONNECTION,
            depth,
        };
        let outside = self.draft.ce.clone();
        let errors = self.errors.len();
        self.draft.in_connection = true;
        self.lines(text.expose().as_bytes(), &source);
        self.draft.in_connection = false;
        let connection = std::mem::replace(&mut self.draft.ce, outside);
        if connection.remote.is_some() {
            self.draft.connections.push(connection);
        } else if errors == self.errors.len() {
            let text = "Each 'connection' block must contain exactly one 'remote' directive";
            self.refuse(
                by,
                &crate::args::problem(text).remedy("write `remote HOST PORT PROTO` in the block"),
            );
        }
    }

    fn error(&mut self, diagnostic: Diagnostic) {
        self.errors.push(diagnostic);
        self.stopped |= self.errors.len() >= MAX_ERRORS;
    }

    fn warn(&mut self, statement: &Statement, line: String, remedy: &str) {
        self.warnings.push(Diagnostic {
            severity: Severity::Warning,
            verb: 1,
            openvpn_line: line,
            origin: Some(statement.at_word(0)),
            explanation: String::new(),
            remedy: remedy.to_owned(),
        });
    }

    fn refuse(&mut self, statement: &Statement, problem: &Problem) {
        if problem.unrecognized {
            return self.unrecognized(statement, table::find(statement.name()), false);
        }
        let prefix = if problem.bare { "" } else { "Options error: " };
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            verb: 1,
            openvpn_line: format!("{prefix}{}", problem.text),
            origin: Some(statement.at_word(problem.argument.map_or(0, |argument| argument + 1))),
            explanation: problem.explanation.clone(),
            remedy: problem.remedy.clone(),
        };
        if problem.late {
            self.draft.late.push(diagnostic);
        } else {
            self.error(diagnostic);
        }
    }

    /// An option that OpenVPN does not recognise: by its name, or by the number of its arguments.
    fn unrecognized(&mut self, statement: &Statement, row: Option<&OptionRow>, optional: bool) {
        let name = statement.name();
        let (explanation, remedy) = suggest::unrecognized(name, row);
        let tolerated = optional
            || self.draft.forward_compatible
            || self.draft.ignore_unknown.iter().any(|ignored| ignored == name);
        let line = format!(
            "Unrecognized option or missing or extra parameter(s) in {}: {name} ({OPENVPN_VERSION})",
            statement.place()
        );
        // More arguments than the row takes: the first one too many; else the name.
        let extra = row.filter(|row| row.is_known()).map(|row| row.arity.1 + 1);
        let index = extra.filter(|index| *index < statement.words.len()).unwrap_or(0);
        let origin = Some(statement.at_word(index));
        if tolerated {
            let severity = Severity::Warning;
            self.warnings.push(Diagnostic {
                severity,
                verb: 1,
                openvpn_line: line,
                origin,
                explanation,
                remedy: String::new(),
            });
        } else {
            let openvpn_line = format!("Options error: {line}");
            self.error(Diagnostic {
                severity: Severity::Error,
                verb: 1,
                openvpn_line,
                origin,
                explanation,
                remedy,
            });
        }
    }
}

impl Clone for Statement {
    fn clone(&self) -> Self {
        Self {
            words: self.words.clone(),
            inline: self.inline.clone(),
            origin: self.origin.clone(),
            shown: self.shown.clone(),
            shown_line: self.shown_line,
        }
    }
}

/// Returns a number that changes with the arguments: to find what changed without keeping secrets.
fn given(words: &[Word], inline: Option<&SecretText>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    words.iter().for_each(|word| word.text.hash(&mut hasher));
    inline.map(SecretText::expose).hash(&mut hasher);
    hasher.finish()
}

/// Returns whether a row takes so many arguments.
fn fits(row: &OptionRow, statement: &Statement) -> bool {
    let (min, max) = row.arity;
    let count = if statement.inline.is_some() { 1 } else { statement.words.len().saturating_sub(1) };
    // Words beyond the 16th are not looked at, as in OpenVPN.
    (min..=max).contains(&count.min(MAX_WORDS - 1))
        && !(row.contexts == INLINE_ONLY && statement.inline.is_none())
}

/// The contexts of an option that exists as a block only; no row has these alone.
const INLINE_ONLY: Contexts = INLINE;

fn is_setenv_opt(statement: &Statement) -> bool {
    matches!(&statement.words[..], [first, second, ..] if first.text == "setenv" && second.text == "opt")
}

fn bypass_double_dash(word: &mut Word) {
    if let Some(name) = word.text.strip_prefix("--").filter(|name| !name.is_empty()) {
        word.text = name.to_owned();
        word.span.start += 2;
    }
}

/// Returns the name of a block that the only word of a line begins.
fn inline_tag(statement: &Statement) -> Option<String> {
    statement.name().strip_prefix('<')?.strip_suffix('>').map(str::to_owned)
}

/// Takes the lines of a block up to its end tag; `None` when that is missing.
fn inline_content<'b>(
    lines: &mut (impl Iterator<Item = (&'b [u8], u32)> + Clone),
    end: &str,
) -> Option<String> {
    let is_end = |raw: &[u8]| {
        let blank = raw.iter().take_while(|byte| lexer::is_blank(char::from(**byte))).count();
        raw.get(blank..).is_some_and(|rest| rest.starts_with(end.as_bytes()))
    };
    // Sized beforehand: a string that grows leaves copies of the secret behind.
    let block: Vec<_> = lines
        .clone()
        .map(|(raw, _)| raw)
        .take_while(|raw| !is_end(raw))
        .map(String::from_utf8_lossy)
        .collect();
    lines.nth(block.len())?;
    let mut content = String::with_capacity(block.iter().map(|line| line.len()).sum());
    content.extend(block.iter().map(|line| &**line));
    Some(content)
}

/// Makes words and an origin of one option of the command line.
fn command_origin(command: &[String]) -> (Vec<Word>, Origin) {
    let mut text = String::new();
    let mut words = Vec::new();
    for arg in command {
        if !text.is_empty() {
            text.push(' ');
        }
        let start = text.len();
        // A line break would break the picture of the line.
        text.extend(arg.chars().map(|c| if c.is_control() { ' ' } else { c }));
        words.push(Word { text: arg.clone(), span: start..text.len() });
    }
    if let Some(first) = words.first_mut() {
        first.text = first.text.strip_prefix("--").unwrap_or(&first.text).to_owned();
    }
    (words, Origin { file: COMMAND_LINE.into(), line: 1, text: without_pin(&text).into(), span: 0..0 })
}
