//! A crowd of clients against one server: each a whole session of the control channel, all in this process.
//!
//! The clients connect at once, stay, renegotiate at once, and leave. They carry no data: what is measured is the
//! server's control plane.

mod member;
mod report;
mod settings;

use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    thread,
    time::{Duration, Instant},
};

pub(crate) use settings::{HELP, Settings};

use crate::BenchError;
use member::{Failure, Member, Shared};
use report::Report;

/// What a thread of a member needs: a handshake is shallow.
const STACK: usize = 256 << 10;

/// How often the progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// What a member did.
#[derive(Debug)]
struct Visit {
    /// From its first packet to the keys.
    connect: Duration,
    /// Renegotiation, from its first packet to the new key.
    renegotiate: Duration,
}

/// Lets the crowd come, stay and leave; returns the report for people. `say` is given progress, a line at a time.
///
/// # Errors
/// Files that cannot be used, and a crowd of which somebody did not come to the end: the report is in the error.
pub(crate) fn run(settings: &Settings, say: impl Fn(&str)) -> Result<String, BenchError> {
    let step = |why: String| BenchError::Step { step: "crowd".to_owned(), why };
    culvert_sys::process::raise_descriptor_limit().map_err(|error| step(error.to_string()))?;
    let shared = Arc::new(Shared::new(settings)?);
    let (outcomes, results) = mpsc::channel();
    let start = Instant::now();
    for number in 0..settings.clients {
        let (shared, outcomes) = (Arc::clone(&shared), outcomes.clone());
        let visit = move || {
            // The other end lives as long as there are members.
            let _told = outcomes.send(visit(&shared, number));
        };
        let spawned = thread::Builder::new().name(format!("client-{number}")).stack_size(STACK).spawn(visit);
        if let Err(error) = spawned {
            // Those that wait for all would wait for ever.
            return Err(step(format!("client {number} of {}: {error}", settings.clients)));
        }
    }
    drop(outcomes);
    let mut report = Report::new(settings.clients);
    loop {
        match results.recv_timeout(PROGRESS) {
            Ok(outcome) => report.add(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let (connected, renegotiated) =
                    (shared.connected.load(Relaxed), shared.renegotiated.load(Relaxed));
                say(&format!(
                    "[{} s] {connected} of {} connected, {renegotiated} renegotiated",
                    start.elapsed().as_secs(),
                    settings.clients
                ));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    report.finish(&shared.span(start)).map_err(step)
}

/// One client's visit.
fn visit(shared: &Shared, number: usize) -> Result<Visit, Failure> {
    let mut member = Member::new(shared, number).inspect_err(|_| shared.note_failed())?;
    let connect = member.connect().inspect_err(|_| shared.note_failed())?;
    shared.note_connected();
    member.stay()?;
    let renegotiate = member.renegotiate()?;
    shared.note_renegotiated();
    member.leave();
    Ok(Visit { connect, renegotiate })
}
