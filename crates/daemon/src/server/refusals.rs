//! Why strangers get no answer: the log says it, seldom enough that a flood cannot fill it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use culvert_proto::{endpoint::DropReason, wrap::WrapError};

use crate::{address::AfAddress, ovlog};

/// Between two lines about the packets of one port.
const QUIET: Duration = Duration::from_secs(10);

/// The lines of one port.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// A stranger's packet was dropped.
    pub(super) fn tell(&mut self, from: SocketAddr, reason: DropReason) {
        let Some(meaning) = meaning(reason) else { return };
        let now = Instant::now();
        if self.told.is_some_and(|told| now < told + QUIET) {
            self.untold += 1;
            return;
        }
        self.told = Some(now);
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" ({untold} more packets were dropped since the last such line)"),
        };
        ovlog!(error 1, "TLS Error: a first packet from {} is not answered: {meaning}{others}", AfAddress(from));
    }
}

/// What a dropped packet says about who sent it; `None` where that is nothing to act upon.
fn meaning(reason: DropReason) -> Option<&'static str> {
    Some(match reason {
        DropReason::Wrapping(WrapError::Authentication) => {
            "its HMAC is wrong: the client has another key of `tls-auth` or `tls-crypt`, another `key-direction`, or another `auth`"
        }
        DropReason::Wrapping(WrapError::Replay(_) | WrapError::TimeBacktrack) => {
            "it is a replay, or the client's clock is wrong"
        }
        DropReason::Wrapping(WrapError::UnexpectedWkc) => {
            "the client has a `tls-crypt-v2` key, which is not set here"
        }
        DropReason::WrappedKey => "its `tls-crypt-v2` key was not made for the key of this server",
        DropReason::NoCookieSupport => {
            "the client is older than 2.6, and `tls-crypt-v2 … force-cookie` keeps such clients out"
        }
        DropReason::Malformed(_) => {
            "it has another form than is set here: `tls-auth`, `tls-crypt` or `tls-crypt-v2` at one end only, or no OpenVPN client at all"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_and_counted() {
        let mut refusals = Refusals::default();
        let from = "192.0.2.1:5".parse().unwrap();
        for _ in 0..5 {
            refusals.tell(from, DropReason::WrappedKey);
        }
        assert_eq!(refusals.untold, 4);
        refusals.tell(from, DropReason::RateLimit);
        assert_eq!(refusals.untold, 4, "that a limit holds is no fault of a client's");
    }
}
