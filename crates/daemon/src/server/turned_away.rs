//! A client for which there is no place now: it shall come again.
//!
//! A plain `AUTH_FAILED` says "wrong password". OpenVPN's client exits on it, and apps on openvpn3 ask their user for another
//! one; nobody would come back when a place is free.

use culvert_proto::{Command, peer_info::proto_bit};

use super::{Server, SessionKey};
use crate::ovlog;

/// Read by clients from 2.6 on and by openvpn3: try again in half a minute, here.
const COME_BACK: &str = "TEMP[backoff 30,advance no]:the server is full";
/// Read by all: connect again, after the client's own pause.
const RESTART: &str = "RESTART";

impl Server {
    /// Sends a client away that may be admitted later.
    pub(super) fn turn_away(&mut self, key: SessionKey, reason: &str) {
        let Some(client) = self.clients.get(&key) else { return };
        {
            let _in = client.span.enter();
            ovlog!(error 1, "MULTI: client is told to come back: {reason}");
        }
        if client.peer_info.has(proto_bit::AUTH_FAIL_TEMP) {
            return self.tell(key, Command::Refuse(Some(COME_BACK.to_owned())));
        }
        client.handle.command(Command::SendMessage(RESTART.to_owned()));
        self.remove(key, "SIGTERM[soft,server-full] received, client-instance exiting");
    }
}
