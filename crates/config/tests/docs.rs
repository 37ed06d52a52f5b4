//! Pages made from the table are those that the table gives.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
const OFFLOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/offload.md");

/// The line before and the line after what is made, in a page that is otherwise written.
const BEGIN: &str = "<!-- made from the option table: begin -->\n";
const END: &str = "<!-- made from the option table: end -->\n";

fn compare(path: &str, found: &str, expected: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, expected).unwrap();
    } else {
        assert!(
            found == expected,
            "{path} is not current: run `UPDATE=1 cargo test -p culvert-config --test docs`"
        );
    }
}

#[test]
fn the_reference_page_is_current() {
    let found = std::fs::read_to_string(REFERENCE).unwrap_or_default();
    compare(REFERENCE, &found, &culvert_config::reference());
}

#[test]
fn the_tables_of_the_page_about_offload_are_current() {
    let found = std::fs::read_to_string(OFFLOAD).unwrap();
    let (before, rest) = found.split_once(BEGIN).expect("the page has a line that begins the tables");
    let (_, after) = rest.split_once(END).expect("the page has a line that ends the tables");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", culvert_config::compatibility());
    compare(OFFLOAD, &found, &expected);
}
