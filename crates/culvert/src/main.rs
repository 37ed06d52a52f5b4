//! culvert: OpenVPN with data channel offload.
//!
//! `main` is a table of modes. A first word that is one of [`verb::VERBS`] is culvert's own command; everything else is
//! OpenVPN's command line: [`start`] takes it through the stages of a start, of which [`answers`] are one. A configuration
//! file that is called like a verb is `./check`, or `--config check`. One more word is for culvert alone: with
//! [`name_keeper::WORD`] it starts itself.

#![forbid(unsafe_code)]

mod answers;
#[cfg(feature = "bench")]
mod bench;
mod check;
mod control;
mod doctor;
mod finding;
mod passwd;
mod reload;
mod start;
mod unblock;
mod verb;

use std::{io::Write as _, process::ExitCode};

use culvert_daemon::name_keeper;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let [word, rest @ ..] = arguments.as_slice()
        && word == name_keeper::WORD
    {
        return name_keeper::serve(rest);
    }
    match verb::find(&arguments) {
        Some((verb, rest)) => (verb.run)(rest),
        None => start::start(&arguments),
    }
}

/// Prints to standard output. Whoever closed the other end (`| head`) has read enough.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
