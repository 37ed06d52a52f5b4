//! Logins that end early: of users who are taken out of their file, of clients that are killed while they wait, of names and
//! clients that nobody is asked about.

use std::fs;
use std::path::Path;

use culvert_testkit::{Login, Management, Release, Role, Signal, TempDir, Tunnel, TunnelSpec, eventually};

use crate::authentication::{HANDSHAKE, RECOVERY, WithUsers, another, code, culvert};
use crate::challenges::judging;
use crate::{SOON, World};

const FAILED: &str = "AUTH: Received control message: AUTH_FAILED";

/// A change of the file of users counts at once, and for nobody but whom it is about.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_user_who_is_removed_or_changed_is_out_at_once_and_others_stay() {
    let mut users = WithUsers::new("duplicate-cn");
    // Nobody is asked to renegotiate meanwhile.
    users.spec.server_extra = users.spec.server_extra.replace("reneg-sec 5", "reneg-sec 3600");
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().unwrap();
    let login = format!("soprano{}", code());
    let (carol, _namespace) = another(&tunnel, 2, &users.folder, ("carol", &login));
    carol.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let file = users.folder.path().join("users").display().to_string();

    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    tunnel.server.wait_for("clients that are connected stay, nobody new is let in", SOON).unwrap();
    fs::write(&file, text).unwrap();

    culvert(&["passwd", &file, "alice"], "another horse\n");
    tunnel.server.wait_for("password or second factor of 'alice' changed", SOON).unwrap();
    // It comes back with its token, which is worth nothing any more, and then with the password, which is another.
    tunnel.client.wait_for("AUTH_FAILED,SESSION: token expired", RECOVERY).unwrap();
    tunnel.client.wait_for(FAILED, RECOVERY).unwrap();
    assert!(carol.lines_with("Connection reset, restarting").is_empty(), "{}", carol.tail());
    assert!(!tunnel.server.has_logged("of 'carol' changed"), "{}", tunnel.server.tail());

    culvert(&["passwd", &file, "carol", "--delete"], "");
    tunnel.server.wait_for("user 'carol' was removed or disabled", SOON).unwrap();
    carol.wait_for(FAILED, RECOVERY).unwrap();
}

/// The file said yes, and another judge takes its time: what the file says by then counts.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_user_who_is_removed_while_the_login_waits_for_another_judge_does_not_get_in() {
    let mut users = WithUsers::new("");
    let answer = users.folder.path().join("answer");
    let text = format!("#!/bin/sh\necho \"$auth_control_file\" >{}\nexit 2\n", answer.display());
    let script = users.folder.write_script("judge", &text).unwrap();
    users
        .spec
        .server_extra
        .push_str(&format!("\nscript-security 2\nauth-user-pass-verify {} via-file", script.display()));
    let tunnel = users.start("alice", "correct horse");
    let asked = || fs::read_to_string(&answer).ok().filter(|path| path.ends_with('\n'));
    eventually(SOON, || asked().map(drop).ok_or_else(|| "nobody asked".to_owned()));
    let file = users.folder.path().join("users").display().to_string();
    culvert(&["passwd", &file, "alice", "--delete"], "");
    // The server looks once a second, at a file that has rested for one.
    std::thread::sleep(std::time::Duration::from_secs(4));
    fs::write(asked().unwrap().trim(), "1").unwrap();
    tunnel.client.wait_for(FAILED, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let why = "client has been rejected: auth-users: user 'alice' was removed or disabled";
    assert!(tunnel.server.has_logged(why), "{}", tunnel.server.tail());
}

/// `override-username` changes what others see, not whose file it is.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_with_another_name_keeps_its_own_file() {
    let mut users = WithUsers::new("username-as-common-name");
    let files = TempDir::new().unwrap();
    let write = |push: &str| files.write("alice", &format!("override-username boss\n{push}\n")).unwrap();
    write("");
    users
        .spec
        .server_extra
        .push_str(&format!("\nccd-exclusive\nclient-config-dir {}", files.path().display()));
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().unwrap();
    tunnel.server.wait_for("primary virtual IP for boss", SOON).unwrap();
    write("push \"route 10.66.0.0 255.255.0.0\"");
    tunnel.server.wait_for("pushed options changed", SOON).unwrap();
    assert!(!tunnel.server.has_logged("no longer admitted"), "{}", tunnel.server.tail());
}

/// Somebody guesses a user's password where a script judges: the guesses wait, the user, elsewhere, does not.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn guesses_are_slowed_down_and_lock_nobody_out_elsewhere() {
    let folder = TempDir::new().unwrap();
    let mut spec =
        judging(&folder, "[ \"$p\" = 'correct horse' ]", "auth-retry nointeract\nconnect-retry 1 1");
    spec.server_extra.push_str("\nduplicate-cn");
    let login = folder.write("guess", "alice\nwrong horse\n").unwrap();
    spec.login = Login::Certificate;
    spec.server_extra.push_str("\nscript-security 2");
    spec.client_extra.push_str(&format!("\nauth-user-pass {}", login.display()));
    let tunnel = World::new().start(Role::Server, Release::V2_6, &spec);
    let slowed = "after failed logins of 'alice' or from its network, this one waits";
    tunnel.server.wait_for(slowed, RECOVERY * 2).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let mark = tunnel.server.mark();
    let (alice, _namespace) = another(&tunnel, 2, &folder, ("alice", "correct horse"));
    alice.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let lines = tunnel.server.lines();
    let waited = lines.iter().skip(mark).any(|line| line.contains("10.99.2.2") && line.contains(slowed));
    assert!(!waited, "{}", tunnel.server.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_name_with_control_characters_is_refused_before_anybody_is_asked() {
    let folder = TempDir::new().unwrap();
    let asked = folder.path().join("asked");
    let script = folder.write_script("judge", &format!("#!/bin/sh\ntouch {}\n", asked.display())).unwrap();
    // OpenVPN's own client leaves such characters out; others do not.
    let login = folder.write("login", "ali\u{85}ce\nsecret\n").unwrap();
    let spec = TunnelSpec {
        server_extra: format!("script-security 2\nauth-user-pass-verify {} via-file", script.display()),
        client_extra: format!("auth-user-pass {}", login.display()),
        ..TunnelSpec::default()
    };
    let world = World::new();
    let tunnel = Tunnel::start(&spec, &world.subject, &world.subject, &world.materials).unwrap();
    tunnel.client.wait_for(FAILED, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    tunnel.server.wait_for("the user name has control characters", SOON).unwrap();
    assert!(!asked.exists());
}

/// The file of users has no opinion about who gives no name: then a certificate is wanted, which nobody asked for.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn who_shows_neither_certificate_nor_login_is_let_in_by_nobody() {
    let mut users = WithUsers::new("verify-client-cert none\nauth-user-pass-optional");
    let world = World::new();
    let tunnel = world.start(Role::Server, Release::V2_6, &users.spec);
    tunnel.client.wait_for(FAILED, SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let why = "the client has no certificate, and nobody judges its login";
    assert!(tunnel.server.has_logged(why), "{}", tunnel.server.tail());
    assert!(!tunnel.server.has_logged("MULTI: primary virtual IP"), "{}", tunnel.server.tail());
    drop(tunnel);
    // With a certificate the same client may come without a name.
    users.spec.server_extra = users.spec.server_extra.replace("verify-client-cert none", "");
    world.tunnel(Role::Server, Release::V2_6, &users.spec);
}

/// A server whose script waits for `slow` itself, and lets `later` wait for an answer that does not come.
fn waiting(folder: &TempDir) -> TunnelSpec {
    let (exchanged, pid) = (folder.path().join("exchanged"), folder.path().join("pid"));
    fs::create_dir(&exchanged).unwrap();
    let text = format!(
        "#!/bin/sh\nread -r user <\"$1\"\ncase \"$user\" in\nslow) echo $$ >{}; exec sleep 1000;;\nlater) exit 2;;\nesac\n",
        pid.display()
    );
    let script = folder.write_script("judge", &text).unwrap();
    TunnelSpec {
        login: Login::Both,
        server_extra: format!(
            "auth-user-pass-verify {} via-file\nduplicate-cn\ntmp-dir {}\nmanagement {} unix",
            script.display(),
            exchanged.display(),
            folder.path().join("socket").display()
        ),
        ..TunnelSpec::default()
    }
}

fn wait_for_files(folder: &TempDir, wanted: usize) {
    eventually(SOON, || {
        let count = fs::read_dir(folder.path().join("exchanged")).unwrap().count();
        if count == wanted { Ok(()) } else { Err(format!("{count} files, not {wanted}")) }
    });
}

/// Killing a client that has not finished to log in ends what judges it, with its files.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_login_that_is_not_finished_is_killed_with_everything_that_waits_for_it() {
    let folder = TempDir::new().unwrap();
    let tunnel = World::new().tunnel(Role::Server, Release::V2_6, &waiting(&folder));
    let mut management = Management::connect(&folder.path().join("socket")).unwrap();

    let (slow, _namespace) = another(&tunnel, 2, &folder, ("slow", "x"));
    slow.wait_for(HANDSHAKE, SOON).unwrap();
    wait_for_files(&folder, 4);
    let noted = || fs::read_to_string(folder.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'));
    eventually(SOON, || noted().map(drop).ok_or_else(|| "no program".to_owned()));
    let program = Path::new("/proc").join(noted().unwrap().trim());
    assert!(program.exists());
    // Sessions are numbered; the first is the tunnel's.
    let answer = management.command("client-kill 1").unwrap();
    assert_eq!(answer, ["SUCCESS: client-kill command succeeded"]);
    wait_for_files(&folder, 0);
    eventually(SOON, || if program.exists() { Err("the program runs on".to_owned()) } else { Ok(()) });
    drop(slow);

    let (later, _namespace) = another(&tunnel, 3, &folder, ("later", "x"));
    later.wait_for(HANDSHAKE, SOON).unwrap();
    wait_for_files(&folder, 3);
    let mark = tunnel.server.mark();
    let answer = management.command("kill client").unwrap();
    assert!(answer[0].starts_with("SUCCESS"), "{answer:?}");
    tunnel.server.wait_for_after(mark, "management-kill", SOON).unwrap();
    wait_for_files(&folder, 0);
}

/// What was used up stays so when the server makes everything else anew.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_one_time_code_is_not_good_again_after_sigusr1() {
    let users = WithUsers::new("duplicate-cn\nexplicit-exit-notify 1");
    let tunnel = users.start("alice", "correct horse");
    tunnel.wait_up().map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let login = format!("soprano{}", code());
    let (carol, _namespace) = another(&tunnel, 2, &users.folder, ("carol", &login));
    carol.wait_up(SOON).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let (mark, at_client) = (tunnel.server.mark(), carol.mark());
    tunnel.server.signal(Signal::Restart).unwrap();
    tunnel.server.wait_up_after(mark, SOON).unwrap();
    // The token is still good, the code is not.
    carol.wait_up_after(at_client, RECOVERY).map_err(|failure| tunnel.with_logs(&failure)).unwrap();
    let (again, _namespace) = another(&tunnel, 3, &users.folder, ("carol", &login));
    again.wait_for(FAILED, SOON * 2).unwrap();
}
