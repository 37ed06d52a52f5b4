//! Questions that nobody answers: they hold nothing up, and end with what asked them.

use std::os::unix::process::ExitStatusExt as _;

use culvert_testkit::{Daemon, Release, Role, Signal, TempDir, Terminal, Tunnel, TunnelSpec};

use crate::challenges::{judging, pending};
use crate::{SOON, World};

/// A server, and its client at a terminal.
struct Asked {
    tunnel: Tunnel,
    client: Daemon,
    terminal: Terminal,
}

impl Asked {
    fn new(spec: &TunnelSpec) -> Self {
        let world = World::new();
        let mut tunnel = world.start(Role::Client, Release::V2_6, spec);
        tunnel.client.kill();
        let config = tunnel.folder.path().join("client.conf");
        let (client, terminal) =
            Terminal::start(&tunnel.lab.client, &world.subject, "client at a terminal", &config).unwrap();
        Self { tunnel, client, terminal }
    }

    /// A client whose number is asked for with each login, and not shown; it is up.
    fn for_a_number(folder: &TempDir, options: &str) -> Self {
        let script = "[ \"$p\" = SCRV1:Y29ycmVjdCBob3JzZQ==:MTIzNDU2 ]";
        let options = format!("static-challenge \"Your number?\" 0\nauth-nocache\n{options}");
        let mut asked = Self::new(&judging(folder, script, &options));
        asked.terminal.answer(NUMBER, "123456", SOON).unwrap();
        asked.client.wait_up(SOON).map_err(|failure| asked.tunnel.with_logs(&failure)).unwrap();
        asked
    }

    /// It ends at once by SIGTERM, and leaves the terminal as it was.
    fn ends(mut self) {
        self.client.signal(Signal::Terminate).unwrap();
        assert!(self.client.wait_exit(SOON).unwrap().success(), "{}", self.client.tail());
        assert!(self.terminal.is_echoing().unwrap());
    }
}

const NUMBER: &str = "Your number?";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_question_of_a_session_does_not_take_the_answer_to_the_next_ones() {
    let folder = TempDir::new().unwrap();
    let mut spec = pending(&folder, "crtext", "CR_TEXT:R:The number, please", "");
    spec.client_extra = "setenv IV_SSO crtext".to_owned();
    let mut asked = Asked::new(&spec);
    asked.terminal.wait_asked("The number, please", SOON).unwrap();
    asked.terminal.type_keys("12").unwrap();
    asked.client.signal(Signal::Restart).unwrap();
    asked.terminal.answer("The number, please", "123456", SOON).unwrap();
    asked.client.wait_up(SOON).map_err(|failure| asked.tunnel.with_logs(&failure)).unwrap();
    asked.tunnel.wait_traffic(SOON).unwrap();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_asks_before_an_attempt_hears_signals() {
    let folder = TempDir::new().unwrap();
    let mut asked = Asked::for_a_number(&folder, "");
    // The second restart comes while the question of the first is open: it is the same life that asks again.
    for _again in 0..2 {
        asked.client.signal(Signal::Restart).unwrap();
        asked.terminal.wait_asked(NUMBER, SOON).unwrap();
    }
    let restarts = asked.client.lines_with("SIGUSR1[hard,] received, process restarting").len();
    assert_eq!(restarts, 2, "{}", asked.client.tail());
    asked.ends();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_key_that_waits_for_its_login_keeps_nothing_else_waiting() {
    let folder = TempDir::new().unwrap();
    let mut asked = Asked::for_a_number(&folder, "reneg-sec 3");
    asked.terminal.answer(NUMBER, "123456", SOON).unwrap();
    // The next key is asked for only after this one was let in.
    asked.terminal.wait_asked(NUMBER, SOON).unwrap();
    asked.tunnel.wait_traffic(SOON).unwrap();
    asked.ends();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_session_that_ends_takes_the_question_of_its_key_along() {
    let folder = TempDir::new().unwrap();
    let mut asked = Asked::for_a_number(&folder, "reneg-sec 3\nping-restart 5\npull-filter ignore ping");
    asked.terminal.wait_asked(NUMBER, SOON).unwrap();
    asked.tunnel.server.kill();
    asked.client.wait_for("Inactivity timeout (--ping-restart), restarting", SOON).unwrap();
    asked.terminal.wait_asked(NUMBER, SOON).unwrap();
    asked.ends();
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_gives_up_at_a_hidden_question_has_a_terminal_that_echoes() {
    let folder = TempDir::new().unwrap();
    let mut asked = Asked::new(&judging(&folder, "exit 0", "static-challenge \"Your number?\" 0"));
    asked.terminal.wait_asked(NUMBER, SOON).unwrap();
    assert!(!asked.terminal.is_echoing().unwrap());
    asked.terminal.type_keys("\x03").unwrap();
    let end = asked.client.wait_exit(SOON).unwrap();
    // A shell has what it starts in the background ignore this signal: then the question alone is given up.
    assert!(end.signal() == Some(2) || end.code() == Some(1), "{end} {}", asked.client.tail());
    assert!(asked.terminal.is_echoing().unwrap());
}
