//! The program's face to wrappers, installers and configuration checkers: the order of a start, the standalone answers, and
//! culvert's own commands. Needs neither root nor network: nothing here gets as far as opening a device.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{
    path::Path,
    process::{Command, Output},
};

use culvert_testkit::{Algorithm, Pki, TempDir};

/// What a run left behind.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn assert_says(&self, text: &str) {
        assert!(
            self.stdout.contains(text),
            "no `{text}` in:\n{}\nand on stderr:\n{}",
            self.stdout,
            self.stderr
        );
    }

    fn assert_silent_about(&self, text: &str) {
        assert!(!self.stdout.contains(text), "`{text}` in:\n{}", self.stdout);
    }
}

/// Runs culvert in a directory.
fn run_in(directory: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    let Output { status, stdout, stderr } = command.args(arguments).current_dir(directory).output().unwrap();
    Run {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

fn run(arguments: &[&str]) -> Run {
    run_in(Path::new("/"), arguments)
}

/// Well-formed; names a file that is missing.
const MISSING_FILES: &str = "client\ndev tun\nremote 192.0.2.1\nca no-ca.crt\ncert no.crt\nkey no.key\n";
/// Does not parse.
const BAD_SYNTAX: &str = "client\ndev tun\nremote 192.0.2.1\nverb many\n";

fn folder(name: &str, text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    folder.write(name, text).unwrap();
    folder
}

#[test]
fn a_syntax_error_comes_before_everything_else() {
    let run = run(&["--no-such-option", "--show-digests", "--ca", "/nowhere", "--version"]);
    assert_eq!(run.code, 1);
    run.assert_says(
        "Options error: Unrecognized option or missing or extra parameter(s) in [CMD-LINE]:1: no-such-option (",
    );
    run.assert_says("Use --help for more information.");
    run.assert_silent_about("OpenVPN 2.");
    run.assert_silent_about("digest size");
    run.assert_silent_about("/nowhere");
}

#[test]
fn a_version_before_the_syntax_error_is_answered() {
    let run = run(&["--version", "--no-such-option"]);
    assert_eq!(run.code, 0);
    run.assert_silent_about("Options error");
}

#[test]
fn the_first_line_of_version_is_the_title() {
    let run = run(&["--version"]);
    assert_eq!(run.code, 0);
    let title = run.stdout.lines().next().unwrap();
    let words: Vec<&str> = title.split(' ').collect();
    assert_eq!(words[0], "OpenVPN");
    assert!(words[1].split('.').all(|number| number.parse::<u16>().is_ok()), "{title}");
    assert_eq!(words[2].split('-').count(), 4, "{title}");
    assert!(title.contains(" [culvert "), "{title}");
    assert!(run.stdout.lines().nth(1).unwrap().starts_with("library versions: "));
}

#[test]
fn help_ends_with_1_and_names_the_options() {
    for arguments in [&["--help"][..], &[]] {
        let run = run(arguments);
        assert_eq!(run.code, 1);
        run.assert_says("--remote HOST");
    }
}

#[test]
fn a_question_tells_whether_a_file_is_well_formed() {
    let missing = folder("client.conf", MISSING_FILES);
    let answered = run_in(missing.path(), &["--config", "client.conf", "--show-digests"]);
    assert_eq!(answered.code, 0);
    answered.assert_says("SHA256 256 bit digest size");

    let bad = folder("client.conf", BAD_SYNTAX);
    let refused = run_in(bad.path(), &["--config", "client.conf", "--show-digests"]);
    assert_eq!(refused.code, 1);
    refused.assert_silent_about("digest size");
    refused.assert_says("client.conf:4");
}

#[test]
fn all_missing_files_are_named_and_the_version_line_is_not_reached() {
    let folder = folder("client.conf", MISSING_FILES);
    let run = run_in(folder.path(), &["client.conf"]);
    assert_eq!(run.code, 1);
    for line in [
        "Options error: --ca fails with 'no-ca.crt': No such file or directory (errno=2)",
        "Options error: --cert fails with 'no.crt': No such file or directory (errno=2)",
        "Options error: --key fails with 'no.key': No such file or directory (errno=2)",
        "Options error: Please correct these errors.",
        "Use --help for more information.",
    ] {
        assert!(run.stdout.lines().any(|printed| printed == line), "no line `{line}` in:\n{}", run.stdout);
    }
    run.assert_silent_about("library versions");
}

#[test]
fn errors_of_all_stages_go_where_the_first_log_option_says() {
    let folder = folder("client.conf", &format!("log second.log\n{MISSING_FILES}"));
    for (arguments, expected) in [
        (&["--log", "first.log", "--config", "client.conf"][..], "--ca fails with"),
        (&["--log", "first.log", "--config", "client.conf", "--bogus"], "bogus"),
        (&["--log", "first.log", "--config", "client.conf", "--show-digests"], "digest size"),
        (&["--log", "first.log", "--daemon", "--config", "client.conf", "--syslog"], "--ca fails with"),
    ] {
        let run = run_in(folder.path(), arguments);
        assert_eq!(run.stdout, "", "{arguments:?}");
        let log = std::fs::read_to_string(folder.path().join("first.log")).unwrap();
        assert!(log.contains(expected), "{arguments:?}: {log}");
        assert!(!folder.path().join("second.log").exists());
    }
}

#[test]
fn log_append_keeps_what_was_there() {
    let folder = folder("kept.log", "before\n");
    run_in(folder.path(), &["--log-append", "kept.log", "--show-digests"]);
    let log = std::fs::read_to_string(folder.path().join("kept.log")).unwrap();
    assert!(log.starts_with("before\n") && log.contains("SHA256"), "{log}");
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_start() {
    let run = run(&["--log", "/nowhere/at/all.log", "--version"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/nowhere/at/all.log"), "{}", run.stderr);
}

#[test]
fn the_list_of_ciphers_has_the_form_that_scripts_cut() {
    let run = run(&["--show-ciphers"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.starts_with("The following"));
    let (_, list) = run.stdout.split_once("\n\n").unwrap();
    let names: Vec<&str> =
        list.lines().filter(|line| !line.is_empty()).map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.contains(&"AES-256-GCM") && names.contains(&"CHACHA20-POLY1305"), "{names:?}");
    assert!(list.contains("AES-256-GCM  (256 bit key, 128 bit block"), "{list}");
}

#[test]
fn every_listed_cipher_and_none_pass_the_self_test() {
    for (legacy, count) in [(&[][..], 17), (&["--providers", "legacy", "default"][..], 19)] {
        let list = run(&[&["--show-ciphers"], legacy].concat()).stdout;
        let names: Vec<_> = list
            .lines()
            .filter(|line| line.contains("bit key"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(names.len(), count, "{names:?}");
        for cipher in names {
            let run = run(&[&["--test-crypto", "--cipher", cipher], legacy].concat());
            assert_eq!(run.code, 0, "{cipher}: {}", run.stdout);
        }
    }
    let without = run(&["--test-crypto", "--cipher", "BF-CBC"]);
    assert_eq!(without.code, 1, "{}", without.stdout);
    for cipher in ["aes-256-gcm", "none"] {
        let run = run(&["--test-crypto", "--cipher", cipher]);
        assert_eq!(run.code, 0, "{cipher}: {}", run.stdout);
        run.assert_says("OpenVPN crypto self-test mode SUCCEEDED.");
    }
    let unknown = run(&["--test-crypto", "--cipher", "ROT13"]);
    assert_eq!(unknown.code, 1);
    unknown.assert_says("Cipher ROT13 not supported\n");
    unknown.assert_says("Exiting due to fatal error\n");
}

#[test]
fn the_lists_of_tls_name_what_is_there() {
    let tls = run(&["--show-tls"]);
    tls.assert_says("For TLS 1.3 and newer (--tls-ciphersuites):\n\nTLS_AES_256_GCM_SHA384\n");
    tls.assert_says("\nTLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384\n");
    for question in ["--show-groups", "--show-curves"] {
        run(&[question]).assert_says("\nX25519MLKEM768\n");
    }
    assert_eq!(run(&["--show-engines"]).code, 0);
}

#[test]
fn keys_are_made_to_standard_output_or_to_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder("old.key", "too open");
    for (kind, label) in [
        ("secret", "OpenVPN Static key V1"),
        ("tls-auth", "OpenVPN Static key V1"),
        ("tls-crypt", "OpenVPN Static key V1"),
        ("tls-crypt-v2-server", "OpenVPN tls-crypt-v2 server key"),
        ("auth-token", "OpenVPN auth-token server key"),
    ] {
        let printed = run_in(folder.path(), &["--genkey", kind]);
        assert_eq!(printed.code, 0);
        printed.assert_says(&format!("-----BEGIN {label}-----\n"));
        let written = run_in(folder.path(), &["genkey", kind, "old.key"]);
        assert_eq!((written.code, written.stdout.as_str()), (0, ""));
        let path = folder.path().join("old.key");
        assert!(std::fs::read_to_string(&path).unwrap().contains(label));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_client_key_needs_its_servers_key() {
    let folder = TempDir::new().unwrap();
    assert_eq!(run_in(folder.path(), &["--genkey", "tls-crypt-v2-server", "server.key"]).code, 0);
    let arguments = ["--tls-crypt-v2", "server.key", "--genkey", "tls-crypt-v2-client", "client.key"];
    assert_eq!(run_in(folder.path(), &arguments).code, 0);
    let key = std::fs::read_to_string(folder.path().join("client.key")).unwrap();
    assert!(culvert_proto::static_key::parse_tls_crypt_v2_client_key(&key).is_ok());

    let without = run_in(folder.path(), &["--genkey", "tls-crypt-v2-client", "client.key"]);
    assert_eq!(without.code, 1);
    let mut with_metadata = arguments.to_vec();
    with_metadata.push("no base64!");
    let refused = run_in(folder.path(), &with_metadata);
    assert_eq!(refused.code, 1);
    refused.assert_says("failed to base64 decode provided metadata");
    let long = "AAAA".repeat(245);
    with_metadata[5] = &long;
    let refused = run_in(folder.path(), &with_metadata);
    assert_eq!(refused.code, 1);
    refused.assert_says("ERROR: metadata too long (735 bytes, max 733 bytes)\n");
    with_metadata[5] = "aGVsbG8=";
    assert_eq!(run_in(folder.path(), &with_metadata).code, 0);
}

#[test]
fn the_old_form_of_genkey_writes_the_file_of_secret() {
    let folder = TempDir::new().unwrap();
    let made = run_in(folder.path(), &["--suppress-timestamps", "--genkey", "--secret", "ta.key"]);
    assert_eq!(made.code, 0);
    assert_eq!(
        made.stdout,
        "DEPRECATED OPTION: The option --secret is deprecated.\nWARNING: Using --genkey --secret filename is \
         DEPRECATED.  Use --genkey secret filename instead.\n"
    );
    let key = std::fs::read_to_string(folder.path().join("ta.key")).unwrap();
    assert!(culvert_proto::static_key::parse_static_key(&key).is_ok());
    let both = run_in(folder.path(), &["--genkey", "secret", "b.key", "--secret", "ta.key"]);
    assert_eq!(both.code, 1);
    both.assert_says("Options error: You must provide a filename to either --genkey or --secret, not both\n");
    assert!(!folder.path().join("b.key").exists());
}

/// Complete, but for keys: the file is empty.
fn folder_with_tap() -> TempDir {
    let folder = folder("key", "");
    let text = "dev tap\ntls-client\nremote 192.0.2.1\nifconfig 10.8.0.1 255.255.255.0\nca key\ncert key\nkey key\nverb 3\n";
    folder.write("p2p.conf", text).unwrap();
    folder
}

#[test]
fn what_keys_are_not_is_said_after_the_version_line_and_after_the_notes() {
    let folder = folder_with_tap();
    let run = run_in(folder.path(), &["p2p.conf"]);
    assert_eq!(run.code, 1);
    let position =
        |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("no `{text}` in:\n{}", run.stdout));
    let order = [
        "Note: dev-type not tun, disabling data channel offload.",
        "OpenVPN 2.",
        "library versions: ",
        "DCO version: ",
        "Exiting due to fatal error",
    ];
    let found = order.map(position);
    assert!(found.is_sorted(), "{found:?}");
    // The accepted configuration is announced in the log, with time stamps.
    let line_with = |text: &str| run.stdout.lines().find(|line| line.contains(text)).unwrap();
    assert!(line_with("library versions").starts_with("20"));
}

#[test]
fn cd_is_the_directory_of_all_files_that_follow() {
    let folder = folder_with_tap();
    let parent = folder.path().parent().unwrap();
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    let run = run_in(parent, &["--cd", name, "--config", "p2p.conf"]);
    run.assert_says("library versions");
    run.assert_silent_about("No such file");
}

#[test]
fn a_name_that_is_to_be_looked_up_once_ends_the_process() {
    let pki = Pki::new(Algorithm::Ec).unwrap();
    // An empty label is refused by the resolver itself, without a network.
    let client =
        "client\ndev null\nnobind\nremote a..b\nresolv-retry 0\nca ca.crt\ncert client.crt\nkey client.key\n";
    pki.folder().write("once.conf", client).unwrap();
    let once = run_in(pki.folder().path(), &["once.conf"]);
    once.assert_says(
        "RESOLVE: Cannot resolve host address: a..b:1194 (Name or service not known)(I would have retried",
    );
    once.assert_says("Exiting due to fatal error");
    assert_eq!(once.code, 1);
}

#[test]
fn suppressed_time_stamps_are_suppressed_from_the_first_line_on() {
    let folder = folder_with_tap();
    let run = run_in(folder.path(), &["--config", "p2p.conf", "--suppress-timestamps"]);
    assert!(run.stdout.starts_with("WARNING: "), "{}", run.stdout);
    assert!(run.stdout.contains("\nOpenVPN 2."), "{}", run.stdout);
}

#[test]
fn check_shows_every_error_with_its_line_and_a_remedy() {
    let folder = folder("bad.conf", "client\nremote 192.0.2.1\nfragmnt 1300\nverb many\n");
    let run = run_in(folder.path(), &["check", "bad.conf"]);
    assert_eq!(run.code, 1);
    run.assert_says("bad.conf:3: fragmnt");
    run.assert_says("^^^^^^^");
    run.assert_says("did you mean `fragment`?");
    run.assert_says("Cannot parse argument 'many' as non-negative integer");
    run.assert_says("The configuration is refused, 2 errors");
}

/// Those of a certificate authority for tests.
const KEYS: &str = "ca ca.crt\ncert client.crt\nkey client.key\n";

#[test]
fn check_says_which_data_planes_accept() {
    let folder = folder_with_tap();
    let blocked = run_in(folder.path(), &["check", "p2p.conf"]);
    assert_eq!(blocked.code, 1);
    blocked.assert_says("  linux    no\n           dev: the kernel has tun devices only");

    let pki = Pki::new(Algorithm::Ec).unwrap();
    let text = std::fs::read_to_string(folder.path().join("p2p.conf")).unwrap();
    let text = text.replace("dev tap", "dev tun").replace("255.255.255.0", "10.8.0.2");
    pki.folder().write("p2p.conf", &text.replace("ca key\ncert key\nkey key\n", KEYS)).unwrap();
    let run = run_in(pki.folder().path(), &["check", "p2p.conf"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    run.assert_says("  engine   yes\n");
    run.assert_says("The configuration is accepted: one of two ends.");
}

#[test]
fn check_takes_options_in_place_of_a_file_and_wants_one_of_them() {
    let run_with = run(&["check", "--client", "--remote", "192.0.2.1"]);
    assert_eq!(run_with.code, 1);
    run_with.assert_says("Options error: ");
    let without = run(&["check"]);
    assert_eq!(without.code, 1);
    assert!(without.stderr.contains("hint: culvert check FILE"), "{}", without.stderr);
}

#[test]
fn a_file_that_is_called_like_a_command_is_reached_by_its_path() {
    let folder = folder("check", BAD_SYNTAX);
    for arguments in [&["./check"][..], &["--config", "check"]] {
        let run = run_in(folder.path(), arguments);
        assert_eq!(run.code, 1);
        run.assert_says("check:4");
    }
    let verb = run_in(folder.path(), &["check"]);
    assert!(verb.stderr.contains("needs a configuration"), "{}", verb.stderr);
}

#[test]
fn help_explains_an_option() {
    let known = run(&["help", "--verify-x509-name"]);
    assert_eq!(known.code, 0);
    known.assert_says("verify-x509-name NAME");
    let unknown = run(&["help", "fragmnt"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("did you mean `fragment`?"), "{}", unknown.stderr);
}

#[test]
fn a_reader_that_closes_early_is_no_error() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_culvert"))
        .arg("help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
}

#[test]
#[cfg(feature = "bench")]
fn the_ruler_explains_itself_and_refuses_what_it_does_not_know() {
    let help = run(&["bench", "--help"]);
    assert_eq!(help.code, 0);
    help.assert_says("culvert bench path [OPTIONS]");
    for (words, said) in [
        (&["bench"][..], "needs to know what to measure"),
        (&["bench", "paths"], "does not know `paths`"),
        (&["bench", "engine", "no-such-case"], "no case of the engine contains `no-such-case`"),
        (&["bench", "path", "--contender", "ipsec"], "--contender cannot be `ipsec`"),
        (&["bench", "plot", "/nonexistent.json"], "error: /nonexistent.json: "),
    ] {
        let refused = run(words);
        assert_eq!(refused.code, 1, "{words:?}");
        assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
    }
}

#[test]
fn passwd_takes_the_password_from_standard_input_and_keeps_the_file_private() {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _, process::Stdio};
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.current_dir(folder.path()).args(["passwd", "users", "alice", "--totp"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("otpauth://totp/culvert:alice?secret="));
    let users = folder.path().join("users");
    let text = std::fs::read_to_string(&users).unwrap();
    assert!(text.starts_with("alice:$argon2id$") && !text.contains("correct horse"), "{text}");
    assert_eq!(std::fs::metadata(&users).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = run_in(folder.path(), &["passwd", "users", "bob", "--delete"]);
    assert_eq!((refused.code, refused.stderr.as_str()), (1, "error: users has no user 'bob'\n"));
    assert_eq!(run_in(folder.path(), &["passwd", "users"]).code, 1);
}
