//! Messages about a configuration: OpenVPN's own line first, then the place, the reason and the remedy.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::origin::Origin;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the start.
    pub severity: Severity,
    /// The `verb` from which on it is shown; errors always are.
    pub verb: u8,
    /// The line as OpenVPN prints it, `Options error: ` included where it has that.
    pub openvpn_line: String,
    /// Where; `None` for what concerns the configuration as a whole.
    pub origin: Option<Origin>,
    /// What is wrong, beyond the first line; may be empty.
    pub explanation: String,
    /// What to do, in the imperative; may be empty.
    pub remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Note,
    /// It starts, probably not as intended.
    Warning,
    /// It does not start.
    Error,
}

impl Diagnostic {
    /// Returns the message as text, without colours and with an end of line: OpenVPN's line, then the block that
    /// explains it.
    ///
    /// The block shows file, line and the place in it; a message without a place has reason and remedy alone.
    pub fn render(&self) -> String {
        let mut text = format!("{}\n", self.openvpn_line);
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        if let Some(origin) = &self.origin {
            let mut annotation = AnnotationKind::Primary.span(origin.span.clone());
            if !self.explanation.is_empty() {
                annotation = annotation.label(self.explanation.as_str());
            }
            let snippet = Snippet::source(&*origin.text)
                .line_start(usize::try_from(origin.line).unwrap_or(usize::MAX))
                .path(&*origin.file)
                .fold(false)
                .annotation(annotation);
            let group = Group::with_level(level).element(snippet);
            let group = match self.remedy.is_empty() {
                true => group,
                false => group.element(Level::HELP.with_name("remedy").message(self.remedy.as_str())),
            };
            text.push_str(&Renderer::plain().render(&[group]));
            text.push('\n');
        } else {
            for (name, part) in [("reason", &self.explanation), ("remedy", &self.remedy)] {
                if !part.is_empty() {
                    text.push_str(&format!("  = {name}: {part}\n"));
                }
            }
        }
        text
    }
}

/// Renders all, and OpenVPN's last line where one of them is an error.
pub fn render_all(diagnostics: &[Diagnostic]) -> String {
    let mut text: String = diagnostics.iter().map(Diagnostic::render).collect();
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        text.push_str("Use --help for more information.\n");
    }
    text
}

/// Returns a system error as OpenVPN prints it: text and number.
pub(crate) fn os_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    match (error.raw_os_error(), text.split_once(" (os error ")) {
        (Some(number), Some((text, _))) => format!("{text} (errno={number})"),
        (Some(number), None) => format!("{text} (errno={number})"),
        (None, _) => text,
    }
}
