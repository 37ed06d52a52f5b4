//! Silence over UDP: a firewall and a server with another control channel key look alike, for such a server does not answer. What
//! can be told apart is: whether the machine is there at all, and whether another reading of this end's key is answered.

use std::{io, net::SocketAddr};

use culvert_config::{
    Profile,
    profile::{ConnectionEntry, DigestName},
    value::KeyDirection,
};
use culvert_daemon::probe::{Answer, Probe, tcp_stream, udp_socket};

use super::reach::{PATIENCE, is_wrapped};
use crate::finding::Finding;

/// Nothing came back, and nothing else is known.
pub(super) fn no_answer(what: &str) -> Finding {
    Finding::error(
        "no-answer",
        format!(
            "{what}: nothing came back. A firewall drops the packets, here, there or between, or nobody is there"
        ),
        "look into the server's log while this runs: if it says nothing, nothing arrives",
    )
}

/// Nothing came back over UDP: tries what the server may want instead, and whether its machine is there.
pub(super) fn explain(profile: &Profile, entry: &ConnectionEntry, address: SocketAddr) -> Finding {
    let what = format!("udp {address}");
    for reading in readings(profile, entry) {
        if is_answered(&reading, address) {
            return Finding::error(
                "control-channel-key",
                format!(
                    "{what}: an OpenVPN server is silent for this configuration, and answers {}",
                    reading.how
                ),
                reading.remedy,
            );
        }
    }
    let machine = match tcp_stream(profile, address, PATIENCE) {
        Ok(_) => "The machine is there: its TCP port of this number is open",
        Err(failure) if failure.kind() == io::ErrorKind::ConnectionRefused => {
            "The machine is there: it refuses the TCP port of this number"
        }
        Err(_) => {
            "Nor does its TCP port of this number answer, so that the machine may be down, or hidden by a firewall"
        }
    };
    if !is_wrapped(entry) {
        let mut finding = no_answer(&what);
        finding.text += &format!(
            ". {machine}. A server that wants a tls-auth, tls-crypt or tls-crypt-v2 key is silent, too"
        );
        return finding;
    }
    Finding::error(
        "no-answer",
        format!(
            "{what}: nothing came back, neither with the key nor without. {machine}. It cannot be told from here whether a firewall drops \
             UDP, or the server has another tls-auth, tls-crypt or tls-crypt-v2 key and is silent for who has not the same"
        ),
        "look into the server's log while this runs: lines about authentication mean the key; none mean that nothing arrives",
    )
}

/// What a server may want in place of what the configuration says.
struct Reading {
    profile: Profile,
    entry: ConnectionEntry,
    how: String,
    remedy: &'static str,
}

fn readings(profile: &Profile, entry: &ConnectionEntry) -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut add = |how: &str, remedy, change: &dyn Fn(&mut Profile, &mut ConnectionEntry)| {
        let (mut profile, mut entry) = (profile.clone(), entry.clone());
        change(&mut profile, &mut entry);
        readings.push(Reading { profile, entry, how: how.to_owned(), remedy });
    };
    if is_wrapped(entry) {
        let remedy = "remove tls-auth, tls-crypt or tls-crypt-v2 here, or give the server the key";
        add("without any key", remedy, &|_, entry| {
            (entry.tls_auth, entry.tls_crypt, entry.tls_crypt_v2) = (None, None, None);
        });
    }
    if let Some(key) = &entry.tls_crypt {
        let remedy = "write tls-auth with the direction that the server has not, or tls-crypt on both ends";
        for (word, direction) in DIRECTIONS {
            add(&format!("to tls-auth with the same key {word}"), remedy, &|_, entry| {
                (entry.tls_crypt, entry.tls_auth, entry.key_direction) = (None, Some(key.clone()), direction);
            });
        }
    }
    if let Some(key) = &entry.tls_auth {
        let remedy = "write tls-crypt in place of tls-auth, or tls-auth on both ends";
        add("to tls-crypt with the same key", remedy, &|_, entry| {
            (entry.tls_auth, entry.tls_crypt) = (None, Some(key.clone()));
        });
        let remedy =
            "give both ends opposite directions, 0 and 1, or none: `tls-auth FILE 1`, `key-direction 1`";
        for (word, direction) in DIRECTIONS.into_iter().filter(|(_, known)| *known != entry.key_direction) {
            add(&format!("to tls-auth {word}"), remedy, &|_, entry| entry.key_direction = direction);
        }
        let remedy = "write the same `auth` on both ends";
        for (word, digest) in DIGESTS.into_iter().filter(|(_, known)| *known != profile.data.auth) {
            add(&format!("to tls-auth with `auth {word}`"), remedy, &|profile, _| profile.data.auth = digest);
        }
    }
    readings
}

const DIRECTIONS: [(&str, Option<KeyDirection>); 3] = [
    ("with direction 1", Some(KeyDirection::Inverse)),
    ("with direction 0", Some(KeyDirection::Normal)),
    ("without a direction", None),
];

/// What configurations have in practice.
const DIGESTS: [(&str, DigestName); 3] =
    [("SHA1", DigestName::Sha1), ("SHA256", DigestName::Sha256), ("SHA512", DigestName::Sha512)];

/// Whether a server answers to it; one packet, for the way was tried several times before.
fn is_answered(reading: &Reading, address: SocketAddr) -> bool {
    let Ok(probe) = Probe::new(&reading.profile, &reading.entry) else { return false };
    let mut buffer = [0; 2048];
    let answer = udp_socket(&reading.profile, address).and_then(|socket| {
        socket.set_read_timeout(Some(PATIENCE / 4))?;
        socket.send(probe.packet())?;
        socket.recv(&mut buffer)
    });
    answer.is_ok_and(|len| probe.judge(buffer.get(..len).unwrap_or_default(), false) == Answer::Server)
}
