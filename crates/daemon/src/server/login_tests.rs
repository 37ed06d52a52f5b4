use std::{path::Path, time::Duration};

use culvert_config::{
    Profile,
    profile::{AuthUserPassVerify, ScriptSecurity, VerifyVia},
    value,
};
use culvert_testkit::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{auth::memory::LoginMemory, hooks::Hooks, log::Logger, management::Management};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const SESSION: SessionKey = SessionKey(1);

/// A server's judges: the profile's, with their files in this folder.
pub(in crate::server) async fn admission(
    mut profile: Profile,
    folder: &TempDir,
) -> (Admission, mpsc::Receiver<Decision>) {
    profile.process.tmp_dir = Some(folder.path().to_owned());
    let (management, _signals) = Management::new(&profile, &Logger::silent(), None);
    let (decisions, inbox) = mpsc::channel(8);
    let hooks = Arc::new(Hooks::new(&profile, management));
    let admission = Admission::new(&profile, hooks, decisions, &mut LoginMemory::default());
    admission.under_way.begin(SESSION);
    (admission, inbox)
}

/// A profile whose logins this shell script judges.
fn judged_by(script: &str) -> Profile {
    let argv = ["/bin/sh", "-c", script, "judge"].map(str::to_owned).to_vec();
    let mut profile = Profile::default();
    profile.scripts.security = ScriptSecurity::Scripts;
    profile.server.auth_user_pass_verify =
        Some(AuthUserPassVerify { command: value::Command { argv }, via: VerifyVia::File });
    profile
}

fn request(username: &str) -> AuthRequest {
    AuthRequest {
        key: KeyId::FIRST,
        username: username.to_owned(),
        password: Zeroizing::new("secret".to_owned()),
        peer_info: Arc::default(),
    }
}

async fn log_in(admission: &Admission, is_first: bool, username: &str) -> Authorization {
    let deadline = Instant::now() + admission.patience;
    let env = ScriptEnv::new();
    let (request, earlier) = (request(username), Earlier::Nothing);
    let login = Login { session: SESSION, from: HOME, is_first, request, earlier, env, deadline };
    admission.run_login(&login).await
}

async fn wait(admission: &Admission, username: &str) -> Option<Duration> {
    admission.throttle.admit(username, HOME).await.map(|turn| turn.wait)
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Waits until a folder has so many files.
async fn wait_for_files(folder: &TempDir, wanted: usize) {
    let there = async {
        while files(folder.path()) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("the files come and go");
}

#[tokio::test]
async fn sec_auth_8_the_brake_holds_whoever_judges() {
    let folder = TempDir::new().unwrap();
    let (admission, _inbox) = admission(judged_by("exit 1"), &folder).await;
    for _ in 0..5 {
        assert_eq!(wait(&admission, "alice").await, Some(Duration::ZERO));
        assert_eq!(log_in(&admission, true, "alice").await, Authorization::Deny(None));
    }
    assert!(wait(&admission, "alice").await > Some(Duration::ZERO));
    for _ in 0..10 {
        admission.throttle.failed("alice", HOME, clock::now().mono);
    }
    while wait(&admission, "alice").await.is_some() {}
    let Authorization::Deny(Some(reason)) = log_in(&admission, true, "alice").await else {
        panic!("refused with a reason");
    };
    assert!(reason.starts_with("TEMP[backoff 20"), "{reason}");
}

#[tokio::test]
async fn guesses_of_others_put_nobody_out_who_is_in() {
    let folder = TempDir::new().unwrap();
    let (admission, _inbox) = admission(judged_by("exit 0"), &folder).await;
    for _ in 0..20 {
        admission.throttle.failed("alice", HOME, clock::now().mono);
    }
    while wait(&admission, "alice").await.is_some() {}
    assert_eq!(log_in(&admission, false, "alice").await, Authorization::Accept);
}

#[tokio::test]
async fn a_question_and_a_judge_without_time_are_no_failures() {
    for reason in ["CRV1:R:x:YQ==:Which number?", "TEMP[backoff 5]:later"] {
        let folder = TempDir::new().unwrap();
        let script = format!("echo '{reason}' >\"$auth_failed_reason_file\"; exit 1");
        let (admission, _inbox) = admission(judged_by(&script), &folder).await;
        for _ in 0..6 {
            let answer = log_in(&admission, true, "alice").await;
            assert_eq!(answer, Authorization::Deny(Some(reason.to_owned())));
        }
        assert_eq!(wait(&admission, "alice").await, Some(Duration::ZERO), "{reason}");
    }
}

#[tokio::test]
async fn a_login_that_waits_ends_with_its_client_and_leaves_no_files() {
    let folder = TempDir::new().unwrap();
    let (admission, mut inbox) = admission(judged_by("exit 2"), &folder).await;
    admission.judge_login(SESSION, (HOME, true), true, (request("alice"), Earlier::Nothing), ScriptEnv::new);
    // Its three files, once the program has ended.
    wait_for_files(&folder, 3).await;
    while admission.under_way.deferred_login(SESSION).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    admission.under_way.end(SESSION);
    wait_for_files(&folder, 0).await;
    assert!(admission.under_way.deferred_login(SESSION).is_none());
    assert!(inbox.try_recv().is_err(), "nobody is told of a decision");
}

#[tokio::test]
async fn a_program_that_judges_somebody_who_left_is_ended() {
    let folder = TempDir::new().unwrap();
    let began = folder.path().join("began");
    let script = format!("echo $$ >{}; exec sleep 1000", began.display());
    let (admission, _inbox) = admission(judged_by(&script), &folder).await;
    admission.judge_login(SESSION, (HOME, true), true, (request("alice"), Earlier::Nothing), ScriptEnv::new);
    // And the one with name and password.
    wait_for_files(&folder, 5).await;
    admission.under_way.end(SESSION);
    wait_for_files(&folder, 1).await;
}

/// Judges with a file of one user, `alice` with the password `secret`, which the test may change.
async fn with_users(folder: &TempDir) -> (Admission, std::path::PathBuf) {
    let path = folder.path().join("users");
    std::fs::write(&path, format!("alice:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let mut profile = Profile::default();
    profile.server.auth_users = Some(path.clone());
    (admission(profile, folder).await.0, path)
}

#[tokio::test]
async fn who_is_in_stays_while_the_file_of_users_cannot_be_read_and_nobody_new_comes_in() {
    let folder = TempDir::new().unwrap();
    let (admission, path) = with_users(&folder).await;
    let users = admission.users.clone().unwrap();
    let now = clock::wall();
    let confirm = |is_in| admission.confirm_user(&users, "alice", now, is_in);
    assert_eq!(confirm(false).await, Authorization::Accept);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(confirm(true).await, Authorization::Accept);
    let refused = confirm(false).await;
    assert!(
        matches!(&refused, Authorization::Deny(Some(reason)) if reason.starts_with("TEMP")),
        "{refused:?}"
    );
    std::fs::write(&path, "").unwrap();
    assert_eq!(confirm(true).await, Authorization::Deny(None), "it can be read, and nobody is in it");
}

#[tokio::test]
async fn with_external_auth_the_file_of_users_takes_a_good_token_for_what_it_is() {
    let folder = TempDir::new().unwrap();
    let (admission, _path) = with_users(&folder).await;
    let mut request = request("alice");
    request.password = Zeroizing::new("SESS_ID_AT_of-some-session".to_owned());
    let deadline = Instant::now() + admission.patience;
    let env = ScriptEnv::new();
    let earlier = Earlier::Since(clock::wall());
    let mut login = Login { session: SESSION, from: HOME, is_first: true, request, earlier, env, deadline };
    assert_eq!(admission.run_login(&login).await, Authorization::Accept);
    for _ in 0..20 {
        admission.throttle.failed("alice", HOME, clock::now().mono);
    }
    while wait(&admission, "alice").await.is_some() {}
    assert_eq!(admission.run_login(&login).await, Authorization::Accept, "a good token is no guess");
    (login.earlier, login.is_first) = (Earlier::Expired, false);
    assert_eq!(admission.run_login(&login).await, Authorization::Deny(Some(EXPIRED.to_owned())));
    login.earlier = Earlier::Nothing;
    assert_eq!(admission.run_login(&login).await, Authorization::Deny(None), "a password that is wrong");
}

#[tokio::test]
async fn sec_auth_8_an_own_token_that_ran_out_is_no_guess() {
    let folder = TempDir::new().unwrap();
    let (admission, _path) = with_users(&folder).await;
    for _ in 0..40 {
        let deadline = Instant::now() + admission.patience;
        let (request, earlier, env) = (request("alice"), Earlier::Expired, ScriptEnv::new());
        let login = Login { session: SESSION, from: HOME, is_first: true, request, earlier, env, deadline };
        assert_eq!(admission.run_login(&login).await, Authorization::Deny(Some(EXPIRED.to_owned())));
    }
    assert_eq!(wait(&admission, "bob").await, Some(Duration::ZERO), "the office is not braked");
}

#[tokio::test]
async fn a_program_that_judges_the_key_of_a_client_that_left_is_ended() {
    let folder = TempDir::new().unwrap();
    let mut profile = judged_by("exit 0");
    let argv = ["/bin/sh", "-c", "exec sleep 1000", "judge"].map(str::to_owned).to_vec();
    profile.tls.tls_crypt_v2_verify = Some(value::Command { argv });
    let (admission, _inbox) = admission(profile, &folder).await;
    let judged = tokio::spawn(admission.clone().judge_client_key(SESSION, vec![1, 2, 3]));
    wait_for_files(&folder, 1).await;
    admission.under_way.end(SESSION);
    assert_eq!(judged.await.unwrap(), Err("the client has left"));
    assert_eq!(files(folder.path()), 0);
}
