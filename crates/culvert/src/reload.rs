//! `culvert reload` with the file of `writepid`: SIGHUP to the process that wrote the file. What came of it stands in that process's log.

use std::{fs, process::ExitCode};

use culvert_sys::process::{KillSignal, kill};

use crate::{print, start::FAILURE};

/// Sends the signal; 0: it was sent.
pub(crate) fn by_signal(file: &str) -> ExitCode {
    match signal(file) {
        Ok(process) => {
            print(&format!("process {process} reads its configuration again; its log says what changed\n"));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::from(FAILURE)
        }
    }
}

fn signal(file: &str) -> Result<u32, String> {
    let text = fs::read_to_string(file).map_err(|failure| format!("cannot read {file}: {failure}"))?;
    let process: u32 = text.trim().parse().map_err(|_| format!("{file} holds no process id"))?;
    kill(process, KillSignal::Hangup)
        .map_err(|failure| format!("cannot signal process {process}, which {file} names: {failure}"))?;
    Ok(process)
}
