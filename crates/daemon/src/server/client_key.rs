//! What is known of a client's own key (tls-crypt-v2): when it was made, what the administrator wrote into it.

use culvert_proto::endpoint::Accepted;

use super::admission::Admission;
use crate::{
    clock, ovlog,
    scripts::{ExchangeFile, Hook, ScriptEnv},
    session_task::SessionKey,
};

/// The metadata of a key that says when it was made: this byte, then eight of Unix seconds.
const TIMESTAMP: u8 = 1;
const DAY: i64 = 24 * 60 * 60;

/// Checks `tls-crypt-v2-max-age`; a client without a key of its own has nothing that could be too old.
pub(super) fn check_age(accepted: &Accepted, days: Option<u32>) -> Result<(), &'static str> {
    match (&accepted.metadata, days) {
        (Some(metadata), Some(days)) => check(metadata, days, i64::from(clock::unix_seconds())),
        _ => Ok(()),
    }
}

fn check(metadata: &[u8], days: u32, now: i64) -> Result<(), &'static str> {
    let (&kind, made) =
        metadata.split_first().ok_or("Client key metadata is too small to contain a timestamp.")?;
    if kind != TIMESTAMP {
        return Err("Client key does not have a timestamp.");
    }
    let made = made.first_chunk().ok_or("Client key metadata is too small to contain a timestamp.")?;
    let age = now.saturating_sub(i64::from_be_bytes(*made));
    if age > i64::from(days) * DAY { Err("Client key is too old.") } else { Ok(()) }
}

impl Admission {
    /// Asks `tls-crypt-v2-verify`; the program sees nothing but the metadata: its type, and the rest in a file.
    /// It ends with the session, and is no judgement of one that is gone.
    pub(super) async fn judge_client_key(
        self,
        session: SessionKey,
        metadata: Vec<u8>,
    ) -> Result<(), &'static str> {
        let asked = self.ask_about_key(session, metadata);
        self.under_way.while_there(session, asked).await.unwrap_or(Err("the client has left"))
    }

    async fn ask_about_key(&self, session: SessionKey, metadata: Vec<u8>) -> Result<(), &'static str> {
        let Some(command) = &self.key_verify else { return Ok(()) };
        let (kind, content) = metadata.split_first().ok_or("the client's key has no metadata")?;
        let file = ExchangeFile::of_bytes(&self.tmp_dir, "tls_crypt_v2_metadata", content).map_err(|failure| {
            ovlog!(warn 1, "ERROR: could not write metadata to file: {}: {failure}", self.tmp_dir.display());
            "tls-crypt-v2-verify could not be asked about the client's key"
        })?;
        let mut env = ScriptEnv::new();
        env.set("metadata_type", kind).set("metadata_file", file.path().display());
        let runner = self.hooks.runner.for_client(session.0);
        if runner.run_logged(Hook::TlsCryptV2Verify, command, &[], &env).await {
            ovlog!(3, "TLS CRYPT V2 VERIFY SCRIPT OK");
            Ok(())
        } else {
            ovlog!(3, "TLS CRYPT V2 VERIFY SCRIPT ERROR");
            Err("tls-crypt-v2-verify refused the client's key")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_too_old_after_so_many_days_and_must_say_when_it_was_made() {
        let made = |seconds: i64| [&[TIMESTAMP][..], &seconds.to_be_bytes()].concat();
        assert_eq!(check(&made(1000), 2, 1000 + 2 * DAY), Ok(()));
        assert_eq!(check(&made(1000), 2, 1001 + 2 * DAY), Err("Client key is too old."));
        assert_eq!(check(&made(i64::MIN), 2, 0), Err("Client key is too old."));
        assert_eq!(check(&[0, 1, 2], 2, 0), Err("Client key does not have a timestamp."));
        assert!(check(&[], 2, 0).is_err() && check(&made(0)[..5], 2, 0).is_err());
    }
}
