//! How each option fares with a kernel's offload: the tables of `docs/offload.md`, made from the option table.

use std::fmt::Write as _;

use crate::{
    help::kinds,
    table::{Effect, Extent, OptionRow, Status, table},
};

/// Returns the tables, in Markdown.
pub fn compatibility() -> String {
    let mut text = String::new();
    remarks(&mut text, Extent::Profile, "Options that keep the kernel out");
    remarks(&mut text, Extent::Peer, "Options that leave single peers to the engine");
    remarks(&mut text, Extent::WithoutEffect, "Options without effect, said once at the start");
    remarks(&mut text, Extent::Kept, "Options kept by other means");
    let without: Vec<_> = table()
        .filter(|row| matches!(row.status, Status::NoEffect(_)))
        .map(|row| format!("`{}`", row.name))
        .collect();
    let _ = writeln!(
        text,
        "### Options without effect anywhere\n\nWith the engine and with a kernel alike: {}.\n\n\
         Every option that is not named here does the same with every data plane.",
        without.join(", ")
    );
    text
}

fn remarks(text: &mut String, extent: Extent, title: &str) {
    let (head, rule) = match extent {
        Extent::Kept => ("| option | when | with | by |", "|---|---|---|---|"),
        Extent::Profile | Extent::Peer | Extent::WithoutEffect => {
            ("| option | when | with | because | instead |", "|---|---|---|---|---|")
        }
    };
    let _ = writeln!(text, "### {title}\n\n{head}\n{rule}");
    for row in table() {
        for effect in row.offload.iter().filter(|effect| effect.extent == extent) {
            let mut cells = vec![option(row), when(effect), kinds(effect), effect.because.to_owned()];
            if extent != Extent::Kept {
                cells.push(effect.instead.to_owned());
            }
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text.push('\n');
}

fn option(row: &OptionRow) -> String {
    format!("`{}`", row.name)
}

fn when(effect: &Effect) -> String {
    effect.when.map_or(String::new(), |condition| condition.text.to_owned())
}
