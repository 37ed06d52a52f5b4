//! The manual page, made from the table: `culvert help --man`.

use std::fmt::Write as _;

use crate::{
    help::{OWN, contexts, offload, roles, status},
    table::{CONFIG, Group, OptionRow, SERVER, table},
    title::{CULVERT_VERSION, OPENVPN_VERSION},
};

/// One of the program's own commands: a first word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subcommand {
    /// The word.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

/// Returns the manual page, for section 8, in the macros of man(7).
pub fn man(commands: &[Subcommand]) -> String {
    let mut page = format!(
        ".\\\" Made from the option table by `culvert help --man`.\n\
         .TH CULVERT 8 \"2026-11-25\" \"culvert {CULVERT_VERSION}\" \"System Manager's Manual\"\n\
         .SH NAME\nculvert \\- OpenVPN with data channel offload\n\
         .SH SYNOPSIS\n.B culvert\n.RI [ FILE ]\n.RI [ OPTIONS ]\n.br\n.B culvert\n.I COMMAND\n.RI [ ARGUMENTS ]\n\
         .SH DESCRIPTION\n"
    );
    let paragraphs = [
        "culvert runs tunnels that OpenVPN runs: it takes the same command line and the same files as OpenVPN \
         V, and its peers cannot tell the difference. Data packets are carried by the kernel where that has the module for \
         it, else by a data plane of its own.",
        "A first word that is one of the commands below is a command of culvert's own; everything else is OpenVPN's command \
         line. A file that is called like a command is ./check, or --config check.",
        "In files, options are written without the two dashes. The order of a start is OpenVPN's: the syntax of everything, \
         then questions (--version, --show-ciphers and the like), then contradictions and missing files, then the version \
         line; all errors of one kind are reported at once.",
    ];
    let paragraphs = paragraphs.map(|text| escaped(&text.replace(" V,", &format!(" {OPENVPN_VERSION},"))));
    let _ = writeln!(page, "{}", paragraphs.join("\n.PP\n"));
    page.push_str(".SH COMMANDS\n");
    for command in commands {
        let usage = format!("culvert {} {}", command.name, command.arguments);
        let _ = writeln!(page, ".TP\n.B {}\n{}", escaped(usage.trim_end()), escaped(command.help));
    }
    page.push_str(".SH OPTIONS\n");
    for group in Group::ALL.into_iter().filter(|group| *group != Group::Legacy) {
        let _ = writeln!(page, ".SS {}", escaped(group.title()));
        if group.is_culverts_own() {
            let _ = writeln!(page, "{}", escaped(OWN));
        }
        for row in table().filter(|row| row.group == group && row.is_known()) {
            option(&mut page, row);
        }
    }
    page.push_str(END);
    page
}

fn option(page: &mut String, row: &OptionRow) {
    let _ = write!(page, ".TP\n\\fB{}\\fR", escaped(&format!("--{}", row.name)));
    let _ = match row.args {
        "" => writeln!(page),
        args => writeln!(page, " {}", escaped(args)),
    };
    let _ = writeln!(page, "{}.", escaped(row.help));
    if !row.default.is_empty() {
        let _ = writeln!(page, "Default: {}.", escaped(row.default));
    }
    let mut facts =
        vec![format!("For: {}", roles(row.roles)), format!("stands: {}", contexts(row)), status(row)];
    if row.roles.has(SERVER) && row.contexts.has(CONFIG) && row.is_live() {
        facts.push("a running server takes another value (SIGHUP)".to_owned());
    }
    let _ = writeln!(page, ".br\n{}.", escaped(&facts.join("; ")));
    for line in offload(row) {
        let _ = writeln!(page, ".br\nOffload: {}.", escaped(&line));
    }
}

/// What is the same whatever the table holds.
const END: &str = "\
.SH EXIT STATUS
.TP
.B 0
The tunnel ended as it was asked to, a question was answered; as in OpenVPN also after a refused login.
.TP
.B 1
Every failure, \\-\\-help, a retry limit that was reached. Commands of culvert's own: what was asked for could not be done;
.B culvert check:
the configuration would not start, or, with \\-\\-strict, there are warnings;
.B culvert doctor:
something keeps the tunnel from working.
.TP
.BR 3 \", \" 4 \", \" 5
Only with \\-\\-exit\\-codes distinct: the login was refused; the peer was not reached (\\-\\-connect\\-retry\\-max) or fell silent
(\\-\\-ping\\-exit); TLS failed (\\-\\-tls\\-exit). Each of them is worth another reaction of who started culvert.
.TP
.B 2
.B culvert doctor:
nothing keeps the tunnel from working, but something should be looked at.
.SH SIGNALS
.TP
.B SIGHUP
The configuration is read again. A server applies what it can and drops no client that is not concerned; others restart.
.TP
.B SIGUSR1
Reconnect, without reading the configuration again.
.TP
.B SIGUSR2
Statistics are written to the log, or to the file of status.
.TP
.BR SIGTERM \", \" SIGINT
End, with a notice to the peer where explicit\\-exit\\-notify asks for one; a second signal ends at once.
.SH SEE ALSO
.BR openvpn (8),
.BR openvpn\\-examples (5),
.BR systemd.unit (5)
";

/// Returns text that roff takes literally, beginning of lines included.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '…' => out.push_str("..."),
            '`' => out.push_str("\\(ga"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_taken_for_a_request() {
        assert_eq!(escaped(".so a\\b-c"), "\\&.so a\\eb\\-c");
        assert_eq!(escaped("'quoted'"), "\\&'quoted'");
    }

    #[test]
    fn every_known_option_and_every_command_has_its_place() {
        let page = man(&[Subcommand { name: "check", arguments: "FILE", help: "validates" }]);
        assert!(page.contains(".TP\n.B culvert check FILE\nvalidates\n"), "{page}");
        for row in table().filter(|row| row.is_known() && row.group != Group::Legacy) {
            assert!(
                page.contains(&format!("\\fB{}\\fR", escaped(&format!("--{}", row.name)))),
                "{}",
                row.name
            );
        }
        // No line begins like a request that man(7) does not have.
        let known = ["TH", "SH", "SS", "TP", "PP", "B", "I", "BR", "RI", "br", "\\\""];
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.trim_start_matches('.').split(' ').next().unwrap_or_default();
            assert!(known.contains(&request), "{line}");
        }
    }
}
