//! What a server says within a session, beside its options.

use culvert_config::{PushFilter, Pushed};
use culvert_mgmt::{Notification, StateName};
use culvert_proto::{Command, PeerMessage};
use tracing::debug;

use super::{Advance, Client, Outcome, Restart, drive::Progress};
use crate::{exit::Ended, ovlog, signals::Request};

impl Client {
    pub(super) async fn handle_message(
        &mut self,
        progress: &mut Progress,
        message: PeerMessage,
    ) -> Option<Outcome> {
        match message {
            PeerMessage::AuthFailed(failure) => return Some(self.login_refused(failure)),
            PeerMessage::AuthPending(seconds) => {
                self.management.set_state(StateName::AuthPending, &format!("timeout {seconds}"));
                ovlog!(1, "AUTH_PENDING received, extending handshake timeout to {seconds} seconds")
            }
            PeerMessage::Info(text) => {
                ovlog!(1, "Info command was pushed by server ('{text}')");
                if !self.asks_management() {
                    self.ask_for_server(progress, &text);
                }
                self.management.tell(&Notification::InfoMessage(text));
            }
            PeerMessage::Restart { next_remote, keep_password, text } => {
                ovlog!(1, "Connection reset command was pushed by server ('{text}')");
                if !keep_password {
                    self.login.outdate();
                }
                let advance = if next_remote { Advance::Address } else { Advance::Usual };
                let reason = "server-pushed-connection-reset";
                self.notify(reason, text);
                return Some(Outcome::Restart(Restart { advance, ..Restart::because(reason) }));
            }
            PeerMessage::Halt(text) => {
                ovlog!(1, "Halt command was pushed by server ('{text}')");
                self.notify("server-pushed-halt", text);
                return Some(Outcome::Ended(Ended::Soft(Request::Terminate, "server-pushed-halt")));
            }
            PeerMessage::Exit => {
                self.notify("remote-exit", "EXIT".to_owned());
                return Some(Outcome::Restart(Restart::because("remote-exit")));
            }
            PeerMessage::AuthToken(options) => {
                let mut pushed = Pushed::default();
                if PushFilter::new(&self.profile.client).apply(&options.join(","), &mut pushed).is_ok() {
                    self.take_token(&pushed);
                    if let Some(login) = self.login.token() {
                        progress.link.session.command(Command::Credentials(login.clone()));
                    }
                }
            }
            PeerMessage::ChallengeResponse(_) => debug!("a challenge response, which only servers get"),
            PeerMessage::PushUpdate(_) => {} // handled by the caller
        }
        None
    }
}
