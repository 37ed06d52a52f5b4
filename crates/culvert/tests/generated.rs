//! Files made from the option table are those that the program prints, and do what they are for.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_culvert")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn compare(file: &str, expected: &str) {
    let path = Path::new(REPOSITORY).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is not current: run `UPDATE=1 cargo test -p culvert --test generated`"
    );
}

#[test]
fn the_manual_page_is_current() {
    compare("docs/man/culvert.8", &printed(&["help", "--man"]));
}

fn completions() -> [(&'static str, PathBuf); 3] {
    [("bash", "culvert.bash"), ("fish", "culvert.fish"), ("zsh", "_culvert")]
        .map(|(shell, file)| (shell, Path::new("packaging/completions").join(file)))
}

#[test]
fn completions_are_current() {
    for (shell, file) in completions() {
        compare(file.to_str().unwrap(), &printed(&["help", "--completion", shell]));
    }
}

#[test]
fn an_unknown_shell_is_refused() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_culvert")).args(["help", "--completion", "tcsh"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bash, fish, zsh"));
}

/// What bash offers for a line whose last word is being written.
fn offered(words: &[&str]) -> Vec<String> {
    let file = Path::new(REPOSITORY).join("packaging/completions/culvert.bash");
    let script = r#"source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _culvert; printf '%s\n' "${COMPREPLY[@]}""#;
    let output =
        Command::new("bash").args(["--norc", "-euc", script, "bash"]).arg(file).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_their_words() {
    assert_eq!(offered(&["culvert", "che"]), ["check"]);
    assert_eq!(offered(&["culvert", "--remote-cert-t"]), ["--remote-cert-tls"]);
    assert_eq!(offered(&["culvert", "check", "a.conf", "--dev-t"]), ["--dev-type"]);
    assert_eq!(offered(&["culvert", "--dev-type", "ta"]), ["tap"]);
    assert_eq!(offered(&["culvert", "help", "data-ciphers-f"]), ["data-ciphers-fallback"]);
    let all = offered(&["culvert", "--"]);
    assert!(all.len() > 200 && all.iter().all(|word| word.starts_with("--")), "{}", all.len());
}

#[test]
fn bash_leaves_files_to_readline() {
    for words in
        [&["culvert", "--ca", "/et"][..], &["culvert", "--config", ""], &["culvert", "/etc/openvpn/"]]
    {
        assert_eq!(offered(words), Vec::<String>::new(), "{words:?}");
    }
}
