//! `culvert check`: what is right and wrong with a configuration, without starting anything.

use std::fmt::Write as _;

use crate::{
    Checked, Files, Profile, Role,
    diagnostic::{Diagnostic, Severity},
    parse,
    verdict::{Remark, Verdict, kind_name, verdict},
};

/// What `culvert check` finds without looking into any file but the configuration.
#[derive(Debug)]
pub struct Report {
    /// Everything that a start would say before the version line, in that order.
    pub diagnostics: Vec<Diagnostic>,
    /// What the configuration means; `None` where its syntax is wrong. With errors it is only good for messages.
    pub profile: Option<Profile>,
    /// Why it is refused.
    refusal: Option<&'static str>,
}

/// Checks a command line (without the program's name and the verb) as far as that goes without starting.
pub fn report(args: &[String], files: &dyn Files) -> Report {
    let mut parsed = parse(args, files);
    let mut diagnostics = std::mem::take(&mut parsed.warnings);
    if !parsed.errors.is_empty() {
        diagnostics.append(&mut parsed.errors);
        return Report { diagnostics, profile: None, refusal: Some("the syntax is wrong") };
    }
    let Checked { profile, mut errors, mut notes } = parsed.check(files);
    diagnostics.append(&mut notes);
    let refusal =
        (!errors.is_empty()).then_some("the options contradict each other, or something is missing");
    diagnostics.append(&mut errors);
    Report { diagnostics, profile: Some(profile), refusal }
}

impl Report {
    /// Returns whether culvert would start with it.
    pub fn is_accepted(&self) -> bool {
        self.refusal.is_none()
    }

    /// Returns whether a start would warn of something.
    pub fn has_warnings(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Warning)
    }

    /// Returns what each data plane says; nothing where the meaning is not known.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.profile.as_ref().map_or_else(Vec::new, |profile| verdict(profile).to_vec())
    }

    /// Returns errors, warnings and notes with the lines that they are about.
    pub fn diagnostics_text(&self) -> String {
        self.diagnostics.iter().map(Diagnostic::render).collect()
    }

    /// Returns which data planes would carry it, and why others would not.
    pub fn offload_text(&self) -> String {
        let mut text = String::new();
        if let Some(profile) = &self.profile {
            offload(&mut text, profile);
        }
        text
    }

    /// Returns the last lines: whether it is accepted, as what, or why not.
    pub fn conclusion(&self) -> String {
        let Some(why) = self.refusal else {
            let role = match self.profile.as_ref().map(Profile::role) {
                Some(Role::Server) => "a server",
                Some(Role::Client) => "a client",
                Some(Role::P2p) | None => "one of two ends",
            };
            return format!("\nThe configuration is accepted: {role}.\n");
        };
        let is_counted =
            |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error && diagnostic.origin.is_some();
        match self.diagnostics.iter().filter(is_counted).count() {
            0 => format!("\nThe configuration is refused: {why}.\n"),
            1 => format!("\nThe configuration is refused, 1 error: {why}.\n"),
            count => format!("\nThe configuration is refused, {count} errors: {why}.\n"),
        }
    }
}

/// Says which data planes would carry it: why others would not; what those that would leave to the engine, go without, or
/// do by other means.
fn offload(text: &mut String, profile: &Profile) {
    text.push_str("Offload:\n");
    for verdict in verdict(profile) {
        let answer = if verdict.accepts() { "yes" } else { "no" };
        let _ = writeln!(text, "  {:<8} {answer}", kind_name(verdict.kind));
        // What it would do with the rest matters once nothing keeps it out.
        let lists = match verdict.accepts() {
            false => vec![("", verdict.refusals)],
            true => {
                vec![("some peers", verdict.per_peer), ("without", verdict.without), ("kept", verdict.kept)]
            }
        };
        for (word, remark) in lists.iter().flat_map(|(word, list)| list.iter().map(move |one| (word, one))) {
            line(text, word, remark);
        }
    }
}

fn line(text: &mut String, word: &str, remark: &Remark) {
    let Remark { option, because, instead, .. } = remark;
    let word = if word.is_empty() { String::new() } else { format!("{word:<11} ") };
    let _ = write!(text, "           {word}{option}: {because}");
    let _ = if instead.is_empty() { writeln!(text) } else { writeln!(text, "; {instead}") };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;

    fn check(text: &str) -> Answer {
        let files = ["ca", "c", "k"].iter().fold(MemoryFiles::default(), |files, name| files.with(name, ""));
        let report = report(&["a.conf".to_owned()], &files.with("a.conf", text));
        let text = report.diagnostics_text() + &report.offload_text() + &report.conclusion();
        Answer { accepted: report.is_accepted(), text }
    }

    struct Answer {
        accepted: bool,
        text: String,
    }

    const CLIENT: &str =
        "client\ndev tun\nremote a\nca ca\ncert c\nkey k\nremote-cert-tls server\ncipher AES-256-GCM\n";

    #[test]
    fn a_good_profile_is_accepted_with_the_verdict_of_each_data_plane() {
        let report = check(&format!("{CLIENT}comp-lzo no\n"));
        assert!(report.accepted);
        let end = "Offload:\n  linux    no\n           comp-lzo: the kernel knows no compression framing; remove it on both ends, or use \
                   compress migrate on the server\n  windows  no\n           comp-lzo: the kernel knows no compression framing; \
                   remove it on both ends, or use compress migrate on the server\n  engine   yes\n\n\
                   The configuration is accepted: a client.\n";
        assert!(report.text.ends_with(end), "{}", report.text);
    }

    #[test]
    fn who_accepts_says_what_it_leaves_to_the_engine_goes_without_and_does_by_other_means() {
        let report =
            check(&format!("{CLIENT}data-ciphers AES-256-GCM:AES-256-CBC\nreplay-window 100\nshaper 1000\n"));
        let end = "Offload:\n  linux    yes\n           some peers  data-ciphers: the kernel has AEAD ciphers only: a peer with another \
                   one is left to the engine; list AEAD ciphers only\n           without     replay-window: the window of the module \
                   for data packets is fixed: 2048 packets, 30 s\n           kept        shaper: a queueing discipline of the device \
                   (tc) limits the rate\n           kept        mssfix: a rule of nftables clamps TCP connections through the \
                   tunnel\n  windows  yes\n           some peers  data-ciphers: the kernel has AEAD ciphers only: a peer with \
                   another one is left to the engine; list AEAD ciphers only\n           without     replay-window: the window of \
                   the driver for data packets is fixed\n           \
                   without     shaper: the driver sends as fast as it can; remove it\n  engine   yes\n\nThe configuration is accepted: a client.\n";
        assert!(report.accepted && report.text.ends_with(end), "{}", report.text);
    }

    #[test]
    fn who_insists_on_the_kernel_is_told_what_keeps_it_out() {
        let report = check(&format!("{CLIENT}offload kernel\ndisable-dco\ncomp-lzo no\n"));
        assert!(!report.accepted);
        let lines: Vec<_> = report.text.lines().filter(|line| line.starts_with("Options error: ")).collect();
        assert_eq!(
            lines,
            [
                "Options error: --offload kernel and --disable-dco cannot be used together",
                "Options error: --offload kernel and --comp-lzo cannot be used together",
            ]
        );
        assert!(report.text.contains("remedy: remove it, or write `offload auto`"), "{}", report.text);
    }

    #[test]
    fn a_bad_profile_is_refused_with_the_number_of_errors() {
        let report = check("client\nfoo\nverb x\n");
        assert!(!report.accepted);
        assert!(report.text.ends_with("\nThe configuration is refused, 2 errors: the syntax is wrong.\n"));
    }
}
