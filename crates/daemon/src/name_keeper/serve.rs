//! The name keeper itself.

use std::{
    io::{BufReader, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use culvert_host::{DnsUndo, Host, Journal, Ledger, NetlinkHost, Plan, Step, run_directory};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    WORD,
    request::{self, Request, Verb},
};
use crate::network;

/// The word before the program of `dns-updown` and its arguments.
pub(super) const PROGRAM: &str = "--";

/// How long that program may run.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Serves the process at the other end of the standard input until it is gone. `arguments`: what the resolver was told
/// before, as two words, where it was; `PROGRAM` and the program of `dns-updown`, where there is one.
pub fn serve(arguments: &[String]) -> ExitCode {
    let (told, program) = match arguments.iter().position(|word| word == PROGRAM) {
        Some(at) => (&arguments[..at], Some(arguments[at + 1..].to_vec())),
        None => (arguments, None),
    };
    let told = match told {
        [kind, name] => DnsUndo::from_words([kind, name]),
        _ => None,
    };
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(socket), Ok(runtime)) = (socket, runtime) else { return ExitCode::FAILURE };
    if socket.peer_addr().is_err() {
        return complain("it is started by culvert itself");
    }
    let host = match NetlinkHost::open() {
        Ok(host) => Box::new(host),
        Err(failure) => return complain(&failure.to_string()),
    };
    let mut ledger = Journal::create(&run_directory(), WORD).map_or_else(
        |failure| {
            complain(&format!("{failure}: name servers stay set where this process is killed too"));
            Ledger::new()
        },
        Ledger::with_journal,
    );
    if let Some(told) = told {
        ledger.adopt_dns(told);
    }
    let mut keeper = Keeper { host, ledger, program, ran: None };
    runtime.block_on(async {
        // Whoever ends all processes of a service ends the owner too: this one goes when that one is done.
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let _unheeded: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
        keeper.attend(&socket).await;
        keeper.take_back().await;
    });
    ExitCode::SUCCESS
}

/// There is no log here.
fn complain(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{WORD}: {what}");
    ExitCode::FAILURE
}

struct Keeper {
    host: Box<dyn Host>,
    /// What the resolver was told.
    ledger: Ledger,
    /// Tells it instead.
    program: Option<Vec<String>>,
    /// What it was run with, until it is run to take that back.
    ran: Option<Request>,
}

impl Keeper {
    async fn attend(&mut self, socket: &UnixStream) {
        let mut from = BufReader::new(socket);
        // A request that cannot be read is the last one.
        while let Ok(Some(request)) = request::read(&mut from) {
            let answer = request::answer(self.fulfil(request).await);
            let mut to = socket;
            if to.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    async fn fulfil(&mut self, request: Request) -> Result<(), String> {
        if let Some(program) = &self.program {
            let outcome = match request.verb.hook() {
                Some(_) => run(program, &request).await,
                None => Ok(()),
            };
            self.ran = (request.verb != Verb::Down).then_some(request);
            return outcome;
        }
        match request.verb {
            Verb::Stands => Ok(()),
            Verb::Down => self.undo(),
            Verb::Up => {
                self.undo()?;
                let settings = network::import_dns(&request.variables);
                let plan = Plan::from_iter([Step::Dns { device: request.device, settings }]);
                let failures = self.ledger.apply(&mut *self.host, &plan).failures;
                failures.first().map_or(Ok(()), |failure| Err(failure.error.to_string()))
            }
        }
    }

    fn undo(&mut self) -> Result<(), String> {
        let failures = self.ledger.undo(&mut *self.host);
        failures.first().map_or(Ok(()), |failure| Err(failure.to_string()))
    }

    /// The owner is gone; nobody is left to hear of a failure.
    async fn take_back(&mut self) {
        let _ = self.undo();
        if let (Some(program), Some(ran)) = (&self.program, self.ran.take()) {
            let _ = run(program, &Request { verb: Verb::Down, ..ran }).await;
        }
    }
}

async fn run(program: &[String], request: &Request) -> Result<(), String> {
    let (Some((name, arguments)), Some(hook)) = (program.split_first(), request.verb.hook()) else {
        return Ok(());
    };
    let mut child = tokio::process::Command::new(Path::new(".").join(name)); // as other programs: not looked for elsewhere
    child
        .args(arguments)
        .env_clear()
        .envs(request.variables.iter().map(|(name, value)| (name, value)))
        .env("script_type", hook.script_type())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let failed = |what: String| format!("WARNING: Failed running command (--{}): {what}", hook.option());
    let mut child = child.spawn().map_err(|failure| failed(format!("{name}: {failure}")))?;
    match tokio::time::timeout(TIME_LIMIT, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("external program ended with {status}"))),
        Ok(Err(failure)) => Err(failed(failure.to_string())),
        Err(_) => Err(failed(format!("{name} did not end within {} seconds", TIME_LIMIT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use culvert_host::{FakeHost, recover};

    use super::*;

    /// Its own journal tells what to take back, whoever told it: killed, it can do nothing itself.
    #[test]
    fn what_the_resolver_knows_is_in_a_journal_until_it_is_taken_back() {
        let folder = culvert_testkit::TempDir::new().unwrap();
        let journal = || fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let content = || fs::read_to_string(journal()).unwrap();
        let mut ledger = Ledger::with_journal(Journal::create(folder.path(), WORD).unwrap());
        ledger.adopt_dns(DnsUndo::Resolved { device: "tun8".to_owned() });
        let mut keeper = Keeper { host: Box::new(FakeHost::new()), ledger, program: None, ran: None };
        assert_eq!(content(), "dns\tresolved\ttun8\n");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut ask = |verb| {
            let request = Request { verb, device: "tun9".to_owned(), variables: Vec::new() };
            runtime.block_on(keeper.fulfil(request)).unwrap();
        };
        ask(Verb::Down);
        assert_eq!(content(), "");
        ask(Verb::Up);
        assert_eq!(content(), "dns\tresolved\ttun9\n");
        // As if it had died: the name tells of another process.
        fs::rename(journal(), folder.path().join("1-1-test.journal")).unwrap();
        let mut host = FakeHost::new();
        assert_eq!(recover(folder.path(), &mut host).unwrap(), 1);
        assert_eq!(host.calls, ["unset dns dev tun9"]);
    }

    #[test]
    fn a_program_is_run_with_what_is_asked_and_again_when_the_owner_goes() {
        let folder = culvert_testkit::TempDir::new().unwrap();
        let log = folder.path().join("calls");
        let line = format!("echo $script_type $dev $dns_server_1_address_1 >>{}", log.display());
        let program = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut env = crate::scripts::ScriptEnv::new();
        env.set("dev", "tun9").set("dns_server_1_address_1", "10.8.0.1");
        let mut to = &ours;
        for verb in [Verb::Stands, Verb::Down, Verb::Up] {
            to.write_all(request::encode(verb, &env).as_bytes()).unwrap();
        }
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let mut keeper = Keeper {
            host: Box::new(FakeHost::new()),
            ledger: Ledger::new(),
            program: Some(program),
            ran: None,
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            keeper.attend(&theirs).await;
            keeper.take_back().await;
        });
        let calls = std::fs::read_to_string(&log).unwrap();
        assert_eq!(calls, "dns-down tun9 10.8.0.1\ndns-up tun9 10.8.0.1\ndns-down tun9 10.8.0.1\n");
    }
}
