//! Messages about a configuration: OpenVPN's own line first, then the place, the reason and the remedy.

use crate::origin::Origin;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the start.
    pub severity: Severity,
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
    /// Returns the message as text, without colours: OpenVPN's line, then the block that explains it.
    pub fn render(&self) -> String {
        self.openvpn_line.clone()
    }
}

/// Renders all, and OpenVPN's last line where one of them is an error.
pub fn render_all(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| d.render() + "\n").collect()
}
