//! `culvert bench`: its words, and what they do.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{BenchError, crowd, engine, path, plot, results::Results, table, words::Words};

const HELP: &str = "\
culvert bench engine [FILTER]
    Measures the engine's parts in this process: sealing and opening by cipher and size, cutting super-packets, joining
    packets, lookups and connects among many peers. With FILTER, those with that in their name.

culvert bench plot RESULTS.json [-o FILE.svg]
    Draws the results of `path`; without FILE.svg, prints the picture.

culvert bench table RESULTS.json [--into FILE.md]
    Prints the results of `path` as a table in Markdown; with FILE.md, puts it between the markers there.

";

/// Runs `culvert bench WORDS`.
///
/// # Errors
/// With what went wrong, for people.
pub fn run(words: &[String]) -> Result<(), BenchError> {
    let Some((verb, rest)) = words.split_first() else {
        return Err(usage("`culvert bench` needs to know what to measure".to_owned()));
    };
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print(&help());
        return Ok(());
    }
    match verb.as_str() {
        "engine" => match rest {
            [] => engine::run("", print),
            [filter] => engine::run(filter, print),
            [_, extra, ..] => Err(usage(format!("`{extra}` is one word too many"))),
        },
        "path" => measure_path(rest),
        "crowd" => {
            print(&crowd::run(&crowd::Settings::parse(rest)?, |line| eprintln!("{line}"))?);
            Ok(())
        }
        "plot" => {
            let (results, output) = results_and(rest, &["-o", "--output"])?;
            deliver(&plot::svg(&results), output.as_deref())
        }
        "table" => {
            let (results, document) = results_and(rest, &["--into"])?;
            put_table(&table::markdown(&results), document.as_deref())
        }
        other => Err(usage(format!("`culvert bench` does not know `{other}`"))),
    }
}

fn help() -> String {
    format!("{HELP}{}{}", path::HELP, crowd::HELP)
}

fn measure_path(words: &[String]) -> Result<(), BenchError> {
    let settings = path::Settings::parse(words)?;
    let results = path::run(&settings, |line| eprintln!("{line}"))?;
    results.write(&settings.output)?;
    print(&table::markdown(&results));
    eprintln!("results in {}", settings.output.display());
    match results.errors.len() {
        0 => Ok(()),
        count => Err(BenchError::Step {
            step: "measure".to_owned(),
            why: format!("{count} steps failed, see above"),
        }),
    }
}

/// Reads `RESULTS.json`, and the value of an option that may follow.
fn results_and(words: &[String], option: &[&str]) -> Result<(Results, Option<PathBuf>), BenchError> {
    let (mut results, mut value) = (None, None);
    let mut words = Words::new(words, HELP);
    while let Some(word) = words.next_option()? {
        if option.contains(&word.as_str()) {
            value = Some(PathBuf::from(words.value()?));
        } else if results.is_none() && !word.starts_with('-') {
            results = Some(Results::read(Path::new(&word))?);
        } else {
            return Err(words.unknown());
        }
    }
    let results = results.ok_or_else(|| usage("a file of results is missing".to_owned()))?;
    Ok((results, value))
}

fn put_table(table: &str, document: Option<&Path>) -> Result<(), BenchError> {
    let Some(path) = document else { return deliver(table, None) };
    let text =
        fs::read_to_string(path).map_err(|source| BenchError::File { path: path.to_owned(), source })?;
    let text = table::insert(&text, table).ok_or_else(|| BenchError::Results {
        path: path.to_owned(),
        why: "it has no markers between which the table would go".to_owned(),
    })?;
    deliver(&text, Some(path))
}

fn deliver(text: &str, path: Option<&Path>) -> Result<(), BenchError> {
    match path {
        Some(path) => {
            fs::write(path, text).map_err(|source| BenchError::File { path: path.to_owned(), source })
        }
        None => {
            print(text);
            Ok(())
        }
    }
}

/// Prints to standard output. Whoever closed the other end has read enough.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn usage(what: String) -> BenchError {
    BenchError::Usage { what, hint: help().trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
    }

    #[test]
    fn the_documents_show_the_results_that_lie_beside_them() {
        let results = Results::read(&document("performance.json")).unwrap();
        let picture = fs::read_to_string(document("performance.svg")).unwrap();
        assert!(picture == plot::svg(&results), "draw docs/performance.svg anew: culvert bench plot");
        let page = fs::read_to_string(document("performance.md")).unwrap();
        let with_table = table::insert(&page, &table::markdown(&results)).unwrap();
        assert!(page == with_table, "put the table into docs/performance.md anew: culvert bench table");
    }
}
