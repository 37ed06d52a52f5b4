//! culvert's own commands: the table of first words.

use std::process::ExitCode;

use crate::{answers, check, control, doctor, passwd, start, unblock};

/// A command: a first word of the command line.
pub(crate) struct Verb {
    /// The word.
    pub(crate) name: &'static str,
    /// Its arguments, for the summary.
    pub(crate) arguments: &'static str,
    /// What it does, in one line.
    pub(crate) help: &'static str,
    /// Does it, with the words that follow.
    pub(crate) run: fn(&[String]) -> ExitCode,
}

/// All of them.
pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "check",
        arguments: "[--strict] [--json] FILE [OPTIONS]",
        help: "tells what is right, wrong and weak about a configuration without starting it",
        run: check::run,
    },
    Verb {
        name: "doctor",
        arguments: "[--json] [FILE [OPTIONS]]",
        help: "finds out why a tunnel does not come up, and what to do: reachability, certificates, clock, device, firewall",
        run: doctor::run,
    },
    Verb {
        name: "help",
        arguments: "[OPTION | --man | --completion SHELL]",
        help: "explains an option, or lists all; prints the manual page, completions for bash, fish or zsh",
        run: answers::help::verb,
    },
    Verb {
        name: "genkey",
        arguments: "[KIND [FILE [METADATA]]]",
        help: "makes a key: as --genkey",
        run: genkey,
    },
    Verb {
        name: "passwd",
        arguments: "FILE USER [--totp|--delete]",
        help: "adds, changes or removes a user of auth-users",
        run: passwd::run,
    },
    Verb {
        name: "status",
        arguments: "[--json] [NAME|PATH]",
        help: "shows what a running process carries",
        run: control::status,
    },
    Verb {
        name: "watch",
        arguments: "[NAME|PATH]",
        help: "shows what happens in a running process, as JSON lines",
        run: control::watch,
    },
    Verb {
        name: "kill",
        arguments: "COMMON-NAME [NAME|PATH]",
        help: "ends the sessions of a running server's client",
        run: control::kill,
    },
    Verb {
        name: "reload",
        arguments: "[NAME|PATH|PIDFILE]",
        help: "has a running server read its configuration again, and shows what came of it",
        run: control::reload,
    },
    Verb {
        name: "unblock",
        arguments: "[--force]",
        help: "lifts the kill switch of a culvert that ended unasked",
        run: unblock::run,
    },
    #[cfg(feature = "bench")]
    Verb {
        name: "bench",
        arguments: "engine | path | plot | table",
        help: "measures the engine, and whole VPN paths against each other: see culvert bench --help",
        run: crate::bench::run,
    },
];

/// Returns the command that the first word names, and the words after it.
pub(crate) fn find(arguments: &[String]) -> Option<(&'static Verb, &[String])> {
    let (first, rest) = arguments.split_first()?;
    VERBS.iter().find(|verb| verb.name == first).map(|verb| (verb, rest))
}

fn genkey(rest: &[String]) -> ExitCode {
    let arguments: Vec<String> = std::iter::once("--genkey".to_owned()).chain(rest.iter().cloned()).collect();
    start::start(&arguments)
}
