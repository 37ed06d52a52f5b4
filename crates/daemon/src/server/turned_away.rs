//! A client for which there is no place now: it shall come again.
//!
//! A plain `AUTH_FAILED` says "wrong password". OpenVPN's client exits on it, and apps on openvpn3 ask their user for another
//! one; nobody would come back when a place is free.

use std::time::Duration;

use culvert_proto::Command;

use super::{Server, SessionKey};
use crate::ovlog;

/// How long a client stays away that had no place.
const AWAY: Duration = Duration::from_secs(30);

/// What follows `AUTH_FAILED,` for a client that shall come here again: read by clients from 2.6 on and by openvpn3. Others
/// are told to restart, which they do after a pause of their own.
pub(super) fn come_back(after: Duration, reason: &str) -> String {
    format!("TEMP[backoff {},advance no]:{reason}", after.as_secs())
}

impl Server {
    /// Sends a client away that may be admitted later.
    pub(super) fn turn_away(&mut self, key: SessionKey, reason: &str) {
        self.send_away(key, AWAY, reason, reason);
    }

    /// The same, for so long, with other words for the client than for the log.
    pub(super) fn send_away(&mut self, key: SessionKey, after: Duration, reason: &str, shown: &str) {
        let Some(client) = self.clients.get(&key) else { return };
        {
            let _in = client.span.enter();
            ovlog!(error 1, "MULTI: client is told to come back: {reason}");
        }
        self.tell(key, Command::Refuse(Some(come_back(after, shown))));
    }
}
