//! The reference page is the one that the table gives.

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");

#[test]
fn the_reference_page_is_current() {
    let expected = culvert_config::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, &expected).unwrap();
    }
    let found = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        found == expected,
        "docs/options.md is not current: run `UPDATE=1 cargo test -p culvert-config --test docs`"
    );
}
