//! culvert's control socket: `status`, `watch`, `kill NAME` and `reload`, answered in JSON, one object a line; `text` for people.
//!
//! A unix socket that the user of the process alone may open (mode 0600). It has no password: who may open it may end
//! the process anyway.

use std::{fs, io, path::PathBuf, time::Duration};

use culvert_config::profile::ControlSocket;
use culvert_mgmt::Request;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::broadcast::error::RecvError,
    time::timeout,
};
use tracing::warn;

use super::{Management, What, listen::bind_private};
use crate::ovlog;

/// The longest command.
const MAX_COMMAND: u64 = 4096;
/// How long a command may take to arrive, and a line to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

impl Management {
    /// Where the control socket is; `None`: it was switched off.
    fn control_path(&self) -> Option<PathBuf> {
        match &self.settings().control {
            ControlSocket::Off => None,
            ControlSocket::At(path) => Some(path.clone()),
            ControlSocket::Default => {
                Some(culvert_host::run_directory().join(format!("{}.sock", self.shared.config_name)))
            }
        }
    }

    /// Opens the control socket. Without it the process runs all the same, unless the profile names it.
    ///
    /// # Errors
    /// When a socket that the profile names cannot be opened.
    pub(crate) fn open_control(&self) -> Result<(), String> {
        let Some(path) = self.control_path() else { return Ok(()) };
        let is_default = self.settings().control == ControlSocket::Default;
        if let Some(directory) = path.parent().filter(|_| is_default) {
            // What is wrong with the directory is told by the socket.
            let _there_already = fs::create_dir_all(directory);
        }
        let listener = match bind_private(&path, 0o600) {
            Ok(listener) => listener,
            Err(failure) => {
                let text = format!("control-socket {}: {failure}", path.display());
                if !is_default {
                    return Err(text);
                }
                ovlog!(3, "{text}; `culvert status` will not find this process");
                return Ok(());
            }
        };
        ovlog!(3, "control socket: {}", path.display());
        self.lock().control = Some(path);
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(this.clone().serve_control(stream))),
                    Err(failure) => {
                        warn!("control socket: accept failed: {failure}; pausing");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(())
    }

    pub(super) fn remove_control_socket(&self) {
        if let Some(path) = self.lock().control.take() {
            // With privileges gone it stays; the next start replaces it.
            let _left_behind = fs::remove_file(path);
        }
    }

    /// Answers one command; `watch` goes on until the other end leaves.
    async fn serve_control(self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let Some(command) = read_command(reader, PATIENCE).await else { return };
        let answer = match command.trim_end().split_once(' ').unwrap_or((command.trim_end(), "")) {
            ("status", "") => self.with_state(&self.ask_json(What::JsonStatus).await),
            ("text", "") => {
                let text = self.ask_role(What::Request(Request::Status(1)), "status").await;
                text.trim_end().replace('\r', "")
            }
            ("kill", name) if !name.is_empty() => self.ask_json(What::JsonKill(name.to_owned())).await,
            ("reload", "") => self.ask_json(What::JsonReload).await,
            ("watch", "") => return self.watch(&mut writer).await,
            (other, _) => json!({ "error": format!("unknown command '{other}'") }).to_string(),
        };
        let _gone = send_line(&mut writer, &answer).await;
    }

    /// Adds the present state, by the management interface's name: CONNECTED, WAIT, RECONNECTING, …
    fn with_state(&self, answer: &str) -> String {
        let Ok(mut object) = serde_json::from_str::<serde_json::Value>(answer) else {
            return answer.to_owned();
        };
        let state = self.lock().states.last().map(|line| line.state.name());
        if let Some(members) = object.as_object_mut() {
            members.insert("state".to_owned(), state.into());
        }
        object.to_string()
    }

    async fn ask_json(&self, what: What) -> String {
        let answer = self.ask_role(what, "").await;
        if answer.starts_with('{') {
            answer
        } else {
            json!({ "error": "nothing runs yet: held, or between two attempts" }).to_string()
        }
    }

    async fn watch(&self, writer: &mut (impl tokio::io::AsyncWrite + Unpin)) {
        let mut events = self.shared.events.subscribe();
        let first =
            json!({ "event": "watching", "pid": std::process::id(), "config": self.shared.config_name });
        if send_line(writer, &first.to_string()).await.is_err() {
            return;
        }
        loop {
            let line = match events.recv().await {
                Ok(line) => line,
                Err(RecvError::Lagged(missed)) => json!({ "event": "missed", "count": missed }).to_string(),
                Err(RecvError::Closed) => return,
            };
            if send_line(writer, &line).await.is_err() {
                return;
            }
        }
    }
}

/// Reads a command from who sends it in time.
async fn read_command(reader: impl AsyncRead + Unpin, patience: Duration) -> Option<String> {
    let mut command = String::new();
    let mut reader = BufReader::new(reader.take(MAX_COMMAND));
    let read = timeout(patience, reader.read_line(&mut command)).await;
    matches!(read, Ok(Ok(_))).then_some(command)
}

/// Sends a line to who reads it in time.
async fn send_line(writer: &mut (impl tokio::io::AsyncWrite + Unpin), line: &str) -> io::Result<()> {
    let sent = timeout(PATIENCE, writer.write_all(format!("{line}\n").as_bytes())).await;
    sent.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_not_awaited_for_ever() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"sta").await.unwrap();
        assert_eq!(read_command(near, Duration::from_millis(50)).await, None);
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"status\n").await.unwrap();
        assert_eq!(read_command(near, PATIENCE).await.as_deref(), Some("status\n"));
    }
}
