//! `culvert help [OPTION]`: the option table speaks, beside it culvert's own commands.

use std::process::ExitCode;

use culvert_config::{Shell, Subcommand};

use crate::{print, start::FAILURE, verb::VERBS};

/// Answers `culvert help [OPTION]`, and writes the pages and scripts that are made from the table.
pub(crate) fn verb(rest: &[String]) -> ExitCode {
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let name = match words[..] {
        [] => {
            print(&format!("{}\n{}", commands(), culvert_config::help()));
            return ExitCode::SUCCESS;
        }
        ["--man"] => {
            print(&culvert_config::man(&subcommands()));
            return ExitCode::SUCCESS;
        }
        ["--completion", ..] => return completion(&words[1..]),
        [name, ..] => name,
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

fn completion(words: &[&str]) -> ExitCode {
    let shell = match words {
        [name] => Shell::ALL.into_iter().find(|shell| shell.name() == *name),
        _ => None,
    };
    let Some(shell) = shell else {
        eprintln!(
            "error: `culvert help --completion` needs the name of a shell: {}",
            Shell::ALL.map(Shell::name).join(", ")
        );
        return ExitCode::from(FAILURE);
    };
    print(&culvert_config::completion(shell, &subcommands()));
    ExitCode::SUCCESS
}

/// The commands, but for what only some builds have: the pages are the same for all.
fn subcommands() -> Vec<Subcommand> {
    let verbs = VERBS.iter().filter(|verb| verb.name != "bench");
    verbs.map(|verb| Subcommand { name: verb.name, arguments: verb.arguments, help: verb.help }).collect()
}

fn commands() -> String {
    let mut text = String::new();
    for verb in VERBS {
        text += &format!("culvert {} {}\n    {}\n", verb.name, verb.arguments, verb.help);
    }
    text + "culvert [FILE | OPTIONS]\n    runs as OpenVPN does\n"
}
