//! `culvert help [OPTION]`: the option table speaks, beside it culvert's own commands.

use std::process::ExitCode;

use crate::{print, start::FAILURE, verb::VERBS};

/// Answers `culvert help [OPTION]`.
pub(crate) fn verb(rest: &[String]) -> ExitCode {
    let Some(name) = rest.first() else {
        print(&format!("{}\n{}", commands(), culvert_config::help()));
        return ExitCode::SUCCESS;
    };
    match culvert_config::explain(name) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("error: {text}\nhint: `culvert help` lists all");
            ExitCode::from(FAILURE)
        }
    }
}

fn commands() -> String {
    let mut text = String::new();
    for verb in VERBS {
        text += &format!("culvert {} {}\n    {}\n", verb.name, verb.arguments, verb.help);
    }
    text + "culvert [FILE | OPTIONS]\n    runs as OpenVPN does\n"
}
