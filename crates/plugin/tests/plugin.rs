//! Plugins of every version of the interface, compiled from `plugin.c` beside this file.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{path::PathBuf, process::Command, sync::Mutex};

use culvert_plugin::{Answer, Call, Level, Plugin, PluginError, PluginHook};
use culvert_testkit::{TempDir, c_plugin, c_plugin_with_openssl};

/// What plugins wrote into the log, of all tests together: there is one log per process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn log(level: Level, plugin: &str, text: &str) {
    LINES.lock().unwrap().push(format!("{level:?} {plugin}: {text}"));
}

fn compile(folder: &TempDir, version: u8) -> PathBuf {
    c_plugin(folder, version).unwrap()
}

fn open(folder: &TempDir, version: u8, mode: &str) -> Result<Plugin, PluginError> {
    let module = compile(folder, version);
    let arguments = [module.display().to_string(), mode.to_owned()];
    Plugin::open(&module, &arguments, &[], (2, 7, 0), log)
}

fn login(plugin: &mut Plugin, password: &str, control: &str) -> Answer {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let env = [pair("password", password), pair("auth_control_file", control)];
    let hook = PluginHook::AuthUserPassVerify;
    plugin.call(&Call { hook, arguments: &[], env: &env, client: Some(1), certificate: None })
}

fn call(hook: PluginHook, certificate: Option<(u8, &[u8])>) -> Call<'_> {
    Call { hook, arguments: &[], env: &[], client: None, certificate }
}

/// A plugin that uses OpenSSL without being linked to it.
fn open_with_openssl(folder: &TempDir, mode: &str) -> Plugin {
    let module = c_plugin_with_openssl(folder).unwrap();
    let arguments = [module.display().to_string(), mode.to_owned()];
    Plugin::open(&module, &arguments, &[], (2, 7, 0), log).unwrap()
}

#[test]
fn every_version_judges_logins() {
    let folder = TempDir::new().unwrap();
    for version in [1, 2, 3] {
        let mut plugin = open(&folder, version, "check").unwrap();
        assert_eq!(login(&mut plugin, "correct horse", ""), Answer::Success(Vec::new()), "{version}");
        assert_eq!(login(&mut plugin, "wrong", ""), Answer::Error, "{version}");
        assert_eq!(
            plugin.hooks().to_string(),
            "PLUGIN_AUTH_USER_PASS_VERIFY|PLUGIN_CLIENT_CONNECT_V2|PLUGIN_TLS_FINAL",
            "{version}"
        );
    }
}

#[test]
fn a_login_may_be_answered_later() {
    let folder = TempDir::new().unwrap();
    let mut plugin = open(&folder, 3, "defer").unwrap();
    let control = folder.write("control", "").unwrap();
    assert_eq!(login(&mut plugin, "correct horse", &control.display().to_string()), Answer::Deferred);
    assert_eq!(std::fs::read_to_string(control).unwrap(), "1");
}

#[test]
fn names_and_values_come_back() {
    let folder = TempDir::new().unwrap();
    for version in [2, 3] {
        let mut plugin = open(&folder, version, "check").unwrap();
        let call = call(PluginHook::ClientConnectV2, None);
        let route = ("config".to_owned(), "push \"route 192.0.2.0 255.255.255.0\"".to_owned());
        assert_eq!(plugin.call(&call), Answer::Success(vec![route]), "{version}");
    }
}

#[test]
fn a_hook_that_is_not_wanted_succeeds_without_a_call() {
    let folder = TempDir::new().unwrap();
    let mut plugin = open(&folder, 3, "check").unwrap();
    assert_eq!(plugin.call(&call(PluginHook::TlsVerify, None)), Answer::Success(Vec::new()));
}

#[test]
fn a_plugin_has_memory_of_each_client_until_it_is_forgotten() {
    let folder = TempDir::new().unwrap();
    let mut plugin = open(&folder, 3, "count").unwrap();
    let success = Answer::Success(Vec::new());
    let answers = [Answer::Error, success.clone(), Answer::Error];
    for answer in answers {
        assert_eq!(login(&mut plugin, "", ""), answer, "it accepts the second login of a client");
    }
    plugin.forget(1);
    assert_eq!(login(&mut plugin, "", ""), Answer::Error);
    assert_eq!(login(&mut plugin, "", ""), success);
}

#[test]
fn what_a_plugin_says_is_formatted_and_has_its_name() {
    let folder = TempDir::new().unwrap();
    let _plugin = open(&folder, 3, "speak").unwrap();
    assert!(LINES.lock().unwrap().contains(&"Note TEST: begins as speak with 42".to_owned()));
}

#[test]
fn the_reason_of_a_failure_follows_where_a_plugin_wants_it() {
    let folder = TempDir::new().unwrap();
    let _plugin = open(&folder, 3, "fail").unwrap();
    let line = "Error TEST: cannot read it: No such file or directory (errno=2)";
    assert!(LINES.lock().unwrap().contains(&line.to_owned()));
}

#[test]
fn a_plugin_that_counts_on_openvpns_openssl_finds_this_machines() {
    let folder = TempDir::new().unwrap();
    let mut plugin = open_with_openssl(&folder, "check");
    assert_eq!(login(&mut plugin, "wrong", ""), Answer::Error);
}

#[test]
fn a_plugin_gets_a_certificate_as_an_object_of_openssl() {
    let folder = TempDir::new().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("alice.der"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    openssl.args(["-subj", "/O=A site/CN=alice", "-outform", "DER", "-keyout"]).arg(key);
    assert!(openssl.arg("-out").arg(&certificate).output().unwrap().status.success());
    let mut plugin = open_with_openssl(&folder, "check");
    let der = std::fs::read(certificate).unwrap();
    assert_eq!(plugin.call(&call(PluginHook::TlsVerify, Some((2, &der)))), Answer::Success(Vec::new()));
    let line = "Note TEST: certificate 2 is /O=A site/CN=alice";
    assert!(LINES.lock().unwrap().contains(&line.to_owned()));
}

/// A plugin takes a call without a certificate for one that is not about certificates.
#[test]
fn what_openssl_does_not_understand_is_refused_without_asking_the_plugin() {
    let mut plugin = open_with_openssl(&TempDir::new().unwrap(), "lenient");
    assert_eq!(plugin.call(&call(PluginHook::TlsVerify, None)), Answer::Success(Vec::new()));
    assert_eq!(plugin.call(&call(PluginHook::TlsVerify, Some((0, b"no certificate")))), Answer::Error);
}

/// Run by the test below in a process of its own, since it prints.
#[test]
#[ignore = "a helper: prints through the C library"]
fn prints() {
    let mut plugin = open_with_openssl(&TempDir::new().unwrap(), "check");
    assert_eq!(plugin.call(&call(PluginHook::Up, None)), Answer::Success(Vec::new()));
    println!("culvert's own next line");
}

#[test]
fn what_a_plugin_prints_is_there_before_the_next_line_and_it_has_memory_of_the_process() {
    let mut itself = Command::new(std::env::current_exe().unwrap());
    itself.args(["--ignored", "--exact", "--nocapture", "prints"]);
    let output = itself.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let place = |line: &str| text.find(line).unwrap_or_else(|| panic!("no {line} in {text}"));
    assert!(place("a line of output") < place("culvert's own next line"), "{text}");
}

/// Run by the test below in a process of its own, which can be killed.
#[test]
#[ignore = "a helper: its plugin reads"]
fn reads() {
    let mut plugin = open(&TempDir::new().unwrap(), 3, "reader").unwrap();
    assert_eq!(login(&mut plugin, "wrong", ""), Answer::Error);
}

#[test]
fn a_plugin_may_wait_for_input_on_a_thread_of_its_own() {
    let mut limited = Command::new("timeout");
    limited.args(["-s", "KILL", "20"]).arg(std::env::current_exe().unwrap());
    let output = limited.args(["--ignored", "--exact", "reads"]).output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_no_plugin_or_refuses_is_an_error() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(open(&folder, 3, "refuse"), Err(PluginError::Refused { .. })));
    assert!(matches!(open(&folder, 4, ""), Err(PluginError::TooNew { needs: 4, .. })));
    let text = folder.write("text.so", "no shared object").unwrap();
    assert!(matches!(Plugin::open(&text, &[], &[], (2, 7, 0), log), Err(PluginError::Load { .. })));
}
