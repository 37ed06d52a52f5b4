use std::borrow::Cow;

use rustls::CertificateError;

/// Why a peer's certificate is refused: what the log says, what the peer is told, what the operator can do.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// OpenVPN's lines, in order; the last one is the reason.
    pub lines: Vec<String>,
    /// Chooses the alert.
    pub alert: CertificateError,
    /// An action in the imperative.
    pub hint: Option<Cow<'static, str>>,
}

impl Refusal {
    pub(super) fn new(line: impl Into<String>, alert: CertificateError) -> Self {
        Self { lines: vec![line.into()], alert, hint: None }
    }

    /// `VERIFY ERROR: depth=0, error=certificate has expired: CN=alice, serial=7`.
    pub(super) fn verify(
        depth: usize,
        error: &str,
        subject: &str,
        serial: &str,
        alert: CertificateError,
    ) -> Self {
        Self::new(format!("VERIFY ERROR: depth={depth}, error={error}: {subject}, serial={serial}"), alert)
    }

    pub(super) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts what was logged before in front.
    pub(super) fn after(mut self, mut lines: Vec<String>) -> Self {
        lines.append(&mut self.lines);
        self.lines = lines;
        self
    }

    /// The lines and the hint as one text.
    pub(super) fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        if let Some(hint) = &self.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }
}
