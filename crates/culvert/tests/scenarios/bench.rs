//! `culvert bench path`: that it measures, says what it cannot measure, and leaves nothing behind. What it measures is no matter
//! of a test.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use culvert_sys::process::{KillSignal, kill};
use culvert_testkit::TempDir;

use crate::SOON;

const CULVERT: &str = env!("CARGO_BIN_EXE_culvert");

/// Starts `culvert bench WORDS`.
fn start(words: &[&str]) -> Child {
    let mut command = Command::new(CULVERT);
    command.arg("bench").args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs it to its end; returns what it printed.
fn run(words: &[&str]) -> String {
    let output = start(words).wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{words:?}: {}\n{err}\n{out}", output.status);
    out
}

/// The namespaces of a measurement, while it runs and after.
fn namespaces(process: u32) -> [bool; 2] {
    ["s", "c"].map(|end| Path::new(&format!("/run/netns/cvb{process}{end}")).exists())
}

fn folder(process: u32) -> bool {
    std::env::temp_dir().join(format!("culvert-bench-{process}")).exists()
}

#[test]
#[ignore = "needs root, network namespaces and iperf3: run ./test"]
fn the_ruler_measures_and_names_what_is_not_there() {
    let temp = TempDir::new().unwrap();
    let results = temp.path().join("results.json").display().to_string();
    let measure = "path --rounds 1 --seconds 1 --tests tcp1,udp1300,load --contender none --contender culvert \
                   --contender openvpn-9=/nonexistent/openvpn --output";
    let measure: Vec<&str> = measure.split_whitespace().chain([results.as_str()]).collect();
    let child = start(&measure);
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    let (table, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{log}\n{table}");
    assert_eq!((namespaces(process), folder(process)), ([false; 2], false));
    assert!(table.starts_with("| | none | culvert |\n"), "{table}");
    assert!(table.contains("openvpn-9 was not measured: no program /nonexistent/openvpn."), "{table}");

    assert_eq!(run(&["table", &results]), table);
    let picture = run(&["plot", &results]);
    // A bar is drawn of what is greater than nothing.
    for title in ["1 TCP stream, up", "1 TCP stream, down", "UDP 1300 B", "VPN CPU"] {
        let (_, panel) =
            picture.split_once(title).unwrap_or_else(|| panic!("no panel `{title}` in\n{picture}"));
        assert!(panel.contains("bar own"), "{title}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and iperf3: run ./test"]
fn a_measurement_that_is_interrupted_leaves_nothing_behind() {
    let words =
        "path --rounds 1 --seconds 60 --tests tcp1 --contender culvert --output /nonexistent/results.json";
    let child = start(&words.split_whitespace().collect::<Vec<_>>());
    let process = child.id();
    let deadline = Instant::now() + SOON;
    while namespaces(process) != [true; 2] {
        assert!(Instant::now() < deadline, "no namespaces appeared");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    kill(process, KillSignal::Term).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().ends_with("error: interrupted\n"));
    assert_eq!((namespaces(process), folder(process)), ([false; 2], false));
}
