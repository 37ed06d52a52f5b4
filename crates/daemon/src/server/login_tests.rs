use std::{path::Path, time::Duration};

use culvert_config::{
    Profile,
    profile::{AuthUserPassVerify, ScriptSecurity, VerifyVia},
    value,
};
use culvert_testkit::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::{hooks::Hooks, log::Logger, management::Management};

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
    let admission = Admission::new(&profile, Arc::new(Hooks::new(&profile, management)), decisions);
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
    let login = Login { session: SESSION, from: HOME, is_first, request: request(username), env, deadline };
    admission.run_login(&login).await
}

fn wait(admission: &Admission, username: &str) -> Option<Duration> {
    admission.throttle.admit(username, HOME, clock::now().mono).map(|turn| turn.wait)
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
        assert_eq!(wait(&admission, "alice"), Some(Duration::ZERO));
        assert_eq!(log_in(&admission, true, "alice").await, Authorization::Deny(None));
    }
    assert!(wait(&admission, "alice") > Some(Duration::ZERO));
    for _ in 0..10 {
        admission.throttle.failed("alice", HOME, clock::now().mono);
    }
    while wait(&admission, "alice").is_some() {}
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
    while wait(&admission, "alice").is_some() {}
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
        assert_eq!(wait(&admission, "alice"), Some(Duration::ZERO), "{reason}");
    }
}

#[tokio::test]
async fn a_login_that_waits_ends_with_its_client_and_leaves_no_files() {
    let folder = TempDir::new().unwrap();
    let (admission, mut inbox) = admission(judged_by("exit 2"), &folder).await;
    admission.judge_login(SESSION, (HOME, true), true, request("alice"), ScriptEnv::new);
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
    admission.judge_login(SESSION, (HOME, true), true, request("alice"), ScriptEnv::new);
    // And the one with name and password.
    wait_for_files(&folder, 5).await;
    admission.under_way.end(SESSION);
    wait_for_files(&folder, 1).await;
}
