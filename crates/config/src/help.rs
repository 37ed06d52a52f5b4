//! Help, made from the table: `--help`, `help OPTION`, and the reference page.

use std::fmt::Write as _;

use crate::{
    suggest,
    table::{
        CCD, CLIENT, CONNECTION, Contexts, Effect, Extent, Group, INLINE, OptionRow, P2P, PUSH, Roles,
        SERVER, Status, UPDATE, find, table,
    },
    title::title,
    verdict::kind_name,
};

/// The width of `--help`.
const WIDTH: usize = 100;
/// Where the description begins in `--help`.
const COLUMN: usize = 34;

/// How a file with culvert's own options remains one that OpenVPN reads.
pub(crate) const OWN: &str = "Where OpenVPN is to read the same file, write `setenv opt` before these.";

/// Returns the text of `--help`.
pub fn help() -> String {
    let mut text = format!("{}\n\n", title());
    for group in Group::ALL.into_iter().filter(|group| *group != Group::Legacy) {
        let _ = writeln!(text, "{}:", group.title());
        if group.is_culverts_own() {
            let _ = writeln!(text, "{OWN}");
        }
        for row in table().filter(|row| row.group == group && row.is_known()) {
            help_line(&mut text, row);
        }
        text.push('\n');
    }
    text.push_str("`culvert help OPTION` says more about one of them.\n");
    text
}

fn help_line(text: &mut String, row: &OptionRow) {
    let usage = format!("--{}", suggest::usage(row));
    let _ = if usage.chars().count() < COLUMN {
        write!(text, "{usage:<COLUMN$}")
    } else {
        write!(text, "{usage}\n{:COLUMN$}", "")
    };
    let mut column = COLUMN;
    let suffix = match row.status {
        Status::NoEffect(_) => " (no effect)",
        _ => "",
    };
    for word in row.help.split(' ').chain(suffix.split(' ').filter(|word| !word.is_empty())) {
        if column > COLUMN && column + 1 + word.len() > WIDTH {
            let _ = write!(text, "\n{:COLUMN$}", "");
            column = COLUMN;
        }
        if column > COLUMN {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}

/// Returns what is known about one option, or what name is near; `name` may begin with `--`.
///
/// # Errors
/// No option has this name: the text says which one has a similar one.
pub fn explain(name: &str) -> Result<String, String> {
    let name = name.strip_prefix("--").unwrap_or(name);
    let Some(row) = find(name) else {
        return Err(match suggest::nearest(name) {
            Some(near) => format!("no option is called `{name}`; did you mean `{near}`?"),
            None => format!("no option is called `{name}`"),
        });
    };
    let mut text = format!("{}\n    {}\n\n", suggest::usage(row), row.help);
    if !row.default.is_empty() {
        let _ = writeln!(text, "Default: {}", row.default);
    }
    if row.group.is_culverts_own() {
        let _ = writeln!(text, "Known to: culvert alone. {OWN}");
    }
    let _ = writeln!(text, "For: {}", roles(row.roles));
    let _ = writeln!(text, "Stands: {}", contexts(row));
    let _ = writeln!(text, "Status: {}", status(row));
    if row.roles.has(SERVER) && row.contexts.has(crate::table::CONFIG) {
        let live = row.is_live();
        let reload = if live { "a running server takes another value (SIGHUP)" } else { "needs a restart" };
        let _ = writeln!(text, "Reload: {reload}");
    }
    for line in offload(row) {
        let _ = writeln!(text, "Offload: {line}");
    }
    Ok(text)
}

/// Returns the reference page of all options, in Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Options\n\n\
         Every option of OpenVPN, what culvert makes of it, and culvert's own. This page is generated from the option table of \
         `culvert-config`; its test `docs` writes it again with `UPDATE=1`.\n\n\
         *Stands* says where an option may stand besides configuration files and the command line: in a `<connection>` block, \
         as an inline block, pushed by a server, updated by a server while the tunnel is up, in a file per client. *live*: a \
         running server takes another value at a reload (SIGHUP) and its clients stay connected; the others need a restart.\n",
    );
    for group in Group::ALL {
        let own = if group.is_culverts_own() { format!("{OWN}\n\n") } else { String::new() };
        let _ = write!(
            text,
            "\n## {}\n\n{own}| option | does | default | for | stands | status |\n|---|---|---|---|---|---|\n",
            group.title()
        );
        for row in table().filter(|row| row.group == group) {
            let cells = [
                format!("`{}`", suggest::usage(row)),
                row.help.to_owned(),
                row.default.to_owned(),
                roles(row.roles),
                contexts(row),
                [vec![status(row)], reload(row), offload(row)].concat().join("; "),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}

pub(crate) fn roles(set: Roles) -> String {
    let all = [(SERVER, "server"), (CLIENT, "client"), (P2P, "p2p")];
    let names: Vec<_> = all.iter().filter(|(role, _)| set.has(*role)).map(|(_, name)| *name).collect();
    match names.len() {
        0 => "command".to_owned(),
        3 => "all".to_owned(),
        _ => names.join(", "),
    }
}

pub(crate) fn contexts(row: &OptionRow) -> String {
    let all: [(Contexts, &str); 5] = [
        (CONNECTION, "connection"),
        (INLINE, "inline"),
        (PUSH, "pushed"),
        (UPDATE, "updated"),
        (CCD, "per client"),
    ];
    let names: Vec<_> =
        all.iter().filter(|(context, _)| row.contexts.has(*context)).map(|(_, name)| *name).collect();
    match row.contexts.has(crate::table::CONFIG) {
        true => [vec!["config"], names].concat().join(", "),
        false => names.join(", "),
    }
}

pub(crate) fn status(row: &OptionRow) -> String {
    match row.status {
        Status::Works => "works".to_owned(),
        Status::NoEffect(why) => format!("accepted without effect: {why}"),
        Status::Refused(_, remedy) => format!("refused: {remedy}"),
        Status::RefusedLater(remedy) => format!("refused: {remedy}"),
        Status::Gone(remedy) => format!("unknown: {remedy}"),
        Status::WindowsOnly => "unknown except on Windows".to_owned(),
    }
}

fn reload(row: &OptionRow) -> Vec<String> {
    if row.is_live() { vec!["live".to_owned()] } else { Vec::new() }
}

pub(crate) fn offload(row: &OptionRow) -> Vec<String> {
    row.offload
        .iter()
        .map(|effect| {
            let verb = match effect.extent {
                Extent::Profile => "not with",
                Extent::Peer => "for some peers not with",
                Extent::WithoutEffect => "without effect with",
                Extent::Kept => "kept with",
            };
            let when = match effect.when {
                Some(condition) => format!(" ({})", condition.text),
                None => String::new(),
            };
            format!("{verb} {}{when}: {}{}", kinds(effect), effect.because, cure(effect))
        })
        .collect()
}

/// Returns the names of the data planes that an effect is about.
pub(crate) fn kinds(effect: &Effect) -> String {
    effect.kinds.iter().map(|kind| kind_name(*kind)).collect::<Vec<_>>().join(", ")
}

fn cure(effect: &Effect) -> String {
    if effect.instead.is_empty() { String::new() } else { format!("; {}", effect.instead) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_its_width_and_names_every_known_option() {
        let text = help();
        for line in text.lines().skip(1) {
            assert!(line.chars().count() <= 110, "{line}");
        }
        for row in table().filter(|row| row.is_known() && row.group != Group::Legacy) {
            assert!(text.contains(&format!("\n--{}", row.name)), "{}", row.name);
        }
    }

    #[test]
    fn an_option_says_what_a_reload_makes_of_it() {
        assert!(explain("push").unwrap().contains("Reload: a running server takes another value"));
        assert!(explain("server").unwrap().contains("Reload: needs a restart"));
        assert!(!explain("iroute").unwrap().contains("Reload:"), "it stands in files per client only");
    }

    #[test]
    fn an_option_explains_itself() {
        let text = explain("--fragment").unwrap();
        assert!(text.contains("Status: works") && text.contains("not with linux, windows"), "{text}");
        assert_eq!(
            explain("fragmnt").unwrap_err(),
            "no option is called `fragmnt`; did you mean `fragment`?"
        );
    }
}
