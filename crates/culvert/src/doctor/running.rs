//! What the processes say that run here, over their control sockets.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use crate::{control, finding::Finding};

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// One finding for each process.
pub(super) fn examine() -> Vec<Finding> {
    control::running(&culvert_daemon::control_directory()).iter().map(|path| ask(path)).collect()
}

fn ask(path: &Path) -> Finding {
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let answer = UnixStream::connect(path).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"status\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    });
    let line = match answer {
        Ok(line) => line,
        Err(failure) => {
            let text = format!("{name} does not answer on {}: {failure}", path.display());
            return Finding::warning("running", text, "ask as the user that it runs as; see its log");
        }
    };
    let status: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    if let Some(error) = status["error"].as_str() {
        return Finding::warning(
            "running",
            format!("{name} runs, but {error}"),
            "see its log, or `culvert watch`",
        );
    }
    match (status["clients"].as_array(), status["state"].as_str()) {
        (Some(clients), _) => {
            Finding::good("running", format!("{name} runs, a server with {} clients", clients.len()))
        }
        (None, Some("CONNECTED")) => {
            let carrier = status["offload"]["kind"].as_str().unwrap_or("nobody");
            Finding::good("running", format!("{name} runs and is connected; data is carried by: {carrier}"))
        }
        (None, state) => Finding::warning(
            "running",
            format!("{name} runs, but is not connected: its state is {}", state.unwrap_or("unknown")),
            "see its log, or examine its configuration: culvert doctor FILE",
        ),
    }
}
