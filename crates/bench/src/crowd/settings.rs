//! What `culvert bench crowd` is told.

use std::{
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    time::Duration,
};

use crate::{BenchError, words::Words};

pub(crate) const HELP: &str = "
culvert bench crowd SERVER:PORT --ca FILE --cert FILE --key FILE [OPTIONS]
    Connects many clients to an OpenVPN server over UDP, all at once and all from this process; they stay, renegotiate
    at once, and leave. The server needs `duplicate-cn`, addresses for all, and no tls-auth or tls-crypt.

    --clients N                 how many (default: 100)
    --stay SECONDS              how long they stay before they renegotiate (default: 2)
    --sources ADDRESS           their addresses: this and those that follow, a client each; the machine must have them
    --patience SECONDS          how long a client tries (default: 60)
";

/// The words of the command line, understood.
pub(crate) struct Settings {
    pub(super) server: SocketAddr,
    pub(super) clients: usize,
    pub(super) stay: Duration,
    pub(super) patience: Duration,
    pub(super) sources: Option<Ipv4Addr>,
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Settings {
    /// Reads the words.
    ///
    /// # Errors
    /// With what does not make sense.
    pub(crate) fn parse(words: &[String]) -> Result<Self, BenchError> {
        let (mut server, mut ca, mut cert, mut key) = (None, None, None, None);
        let (mut clients, mut stay, mut patience, mut sources) = (100, 2, 60, None);
        let mut words = Words::new(words, HELP);
        while let Some(word) = words.next_option()? {
            match word.as_str() {
                "--clients" => clients = words.value_as(|value| value.parse().ok().filter(|&n| n > 0))?,
                "--stay" => stay = words.value_as(|value| value.parse().ok())?,
                "--patience" => patience = words.value_as(|value| value.parse().ok())?,
                "--sources" => sources = Some(words.value_as(|value| value.parse().ok())?),
                "--ca" => ca = Some(words.value()?.into()),
                "--cert" => cert = Some(words.value()?.into()),
                "--key" => key = Some(words.value()?.into()),
                address if server.is_none() && !address.starts_with('-') => {
                    let found = address.to_socket_addrs().ok().and_then(|mut found| found.next());
                    server = Some(found.ok_or_else(|| words.unknown())?);
                }
                _ => return Err(words.unknown()),
            }
        }
        let missing = |what: &str| BenchError::Usage {
            what: format!("`culvert bench crowd` needs {what}"),
            hint: HELP.trim().to_owned(),
        };
        Ok(Self {
            server: server.ok_or_else(|| missing("the server's address and port"))?,
            clients,
            stay: Duration::from_secs(stay),
            patience: Duration::from_secs(patience),
            sources,
            ca: ca.ok_or_else(|| missing("--ca FILE"))?,
            cert: cert.ok_or_else(|| missing("--cert FILE"))?,
            key: key.ok_or_else(|| missing("--key FILE"))?,
        })
    }
}
