//! What a key exchange waited for in vain, as far as this end can tell.

use culvert_crypto::TlsRole;

use super::Session;
use crate::wrap::WrapError;

/// Packets that were not taken, by what that says about the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    /// The last one that the wrapping refused, and why.
    wrapping: Option<&'static str>,
    /// Something else came.
    other: bool,
}

impl Refused {
    /// The wrapping refused a packet.
    pub(super) fn by_wrapping(&mut self, error: &WrapError) {
        self.wrapping = Some(match error {
            WrapError::Authentication => {
                "their HMAC is wrong: the keys of `tls-auth`, `tls-crypt` or `tls-crypt-v2` differ, or `key-direction`, or \
                 `auth` with `tls-auth`"
            }
            WrapError::Replay(_) | WrapError::TimeBacktrack => {
                "they are replays, or the peer's clock went back since its last attempt"
            }
            WrapError::Wire(_) | WrapError::UnexpectedWkc => {
                "they have another form: only one end has `tls-auth`, `tls-crypt` or `tls-crypt-v2`, or each another one"
            }
            WrapError::Exhausted | WrapError::Crypto(_) => "they cannot be opened",
        });
    }

    /// A packet was refused for another reason.
    pub(super) const fn otherwise(&mut self) {
        self.other = true;
    }
}

impl Session {
    /// The line that says what was missing when `hand-window` ended.
    pub(super) fn missing(&self) -> String {
        let remote = self.link.remote;
        if !self.started {
            return match self.refused {
                Refused { wrapping: Some(why), .. } => format!("packets came from {remote}, but {why}"),
                Refused { other: true, .. } => format!(
                    "packets came from {remote}, but none that answers ours: another program, or an older session of the \
                     same peer"
                ),
                Refused { .. } => format!(
                    "nothing was received from {remote}: it is not reachable there, a firewall or another port or protocol \
                     is in the way, or it drops our packets because its `tls-auth`, `tls-crypt` or `tls-crypt-v2` is another"
                ),
            };
        }
        if self.is_tls_handshaking() {
            return match self.refused.wrapping {
                Some(why) => format!("{remote} answered, but of its packets some were refused: {why}"),
                None => format!(
                    "{remote} answered, but TLS did not come to its end: packets are lost on the way, large ones most likely \
                     (try `max-packet-size 1000`), or the peer refused something without saying so (see its log): our certificate, \
                     perhaps, whose dates do not fit its clock"
                ),
            };
        }
        if self.peer.is_none() {
            // A TLS client is done before the server has judged its certificate.
            let judges = if self.role() == TlsRole::Client {
                ": it may have refused our certificate without saying so (see its log), because one of both clocks is \
                 wrong, or for another reason"
            } else {
                ""
            };
            return format!("TLS is up, but {remote} did not send its part of the key exchange{judges}");
        }
        "the peer sent everything, but its certificate or login was not decided in time: see scripts and plug-ins"
            .to_owned()
    }
}
