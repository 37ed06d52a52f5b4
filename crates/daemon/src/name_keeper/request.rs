//! What passes between a process and its name keeper.
//!
//! A request is a line with the verb, lines `NAME=VALUE` with `dev` and the variables of `dns-updown` (`dns_…`), and an empty
//! line. The answer is one line: [`DONE`], or what went wrong.

use std::io::{self, BufRead, Read as _};

use crate::scripts::{Hook, ScriptEnv};

/// The answer that all went well.
pub(super) const DONE: &str = "done";
/// Bytes of an answer at most, its end included.
pub(super) const MAX_ANSWER: usize = 4096;
/// Bytes of a request at most; what a server can push is less.
const MAX_REQUEST: u64 = 256 * 1024;
/// Bytes of a device's name at most (`IFNAMSIZ`, with its end).
const MAX_DEVICE: usize = 15;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Tell the resolver.
    Up,
    /// Take it back.
    Down,
    /// The program of `dns-updown` told it already.
    Stands,
}

impl Verb {
    const ALL: [(Self, &'static str); 3] = [(Self::Up, "up"), (Self::Down, "down"), (Self::Stands, "stands")];

    /// The hook that a program is run as.
    pub(super) fn hook(self) -> Option<Hook> {
        match self {
            Self::Up => Some(Hook::DnsUp),
            Self::Down => Some(Hook::DnsDown),
            Self::Stands => None,
        }
    }
}

/// A request as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) device: String,
    /// The variables, `dev` among them; no other names but `dns_…`.
    pub(super) variables: Vec<(String, String)>,
}

pub(super) fn encode(verb: Verb, env: &ScriptEnv) -> String {
    let word = Verb::ALL.iter().find(|(known, _)| *known == verb).map_or("", |(_, word)| word);
    let variables: String = env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("{word}\n{variables}\n")
}

/// The line that says how it went; of a long failure the beginning.
pub(super) fn answer(outcome: Result<(), String>) -> String {
    let mut line = match outcome {
        Ok(()) => DONE.to_owned(),
        Err(failure) => failure.replace('\n', " "),
    };
    // Whoever reads no further than that would take the rest for the next answer.
    line.truncate(line.floor_char_boundary(MAX_ANSWER - 1));
    line.push('\n');
    line
}

/// Reads the next request. `None`: the owner is gone.
///
/// # Errors
/// When it is none of ours.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut from = from.take(MAX_REQUEST);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        match line.strip_suffix('\n') {
            Some("") => break,
            Some(line) => lines.push(line.to_owned()),
            None if lines.is_empty() && line.is_empty() => return Ok(None),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    decode(&lines).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn decode(lines: &[String]) -> Option<Request> {
    let (first, rest) = lines.split_first()?;
    let (verb, _) = *Verb::ALL.iter().find(|(_, word)| word == first)?;
    let mut device = None;
    let mut variables = Vec::new();
    for line in rest {
        let (name, value) = line.split_once('=')?;
        let is_word =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_word || value.chars().any(char::is_control) {
            return None;
        }
        match name {
            "dev" if is_device(value) => device = Some(value.to_owned()),
            _ if name.starts_with("dns_") => {}
            _ => return None,
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Some(Request { verb, device: device?, variables })
}

/// Whether a text can be the name of a device, and no option of a program that takes one.
fn is_device(name: &str) -> bool {
    (1..=MAX_DEVICE).contains(&name.len())
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(variables: &[(&str, &str)]) -> ScriptEnv {
        let mut env = ScriptEnv::new();
        for (name, value) in variables {
            env.set(name, value);
        }
        env
    }

    #[test]
    fn a_request_arrives_as_it_was_sent_and_the_end_is_no_request() {
        let sent = env(&[("dev", "tun0"), ("dns_server_1_address_1", "10.8.0.1")]);
        let text = encode(Verb::Up, &sent);
        let mut from = text.as_bytes();
        let request = read(&mut from).unwrap().unwrap();
        assert_eq!((request.verb, request.device.as_str()), (Verb::Up, "tun0"));
        assert_eq!(request.variables.len(), 2);
        assert_eq!(read(&mut from).unwrap(), None);
    }

    #[test]
    fn nothing_but_names_of_devices_and_variables_of_dns_passes() {
        for wrong in [
            "up\n\n",
            "run\ndev=tun0\n\n",
            "up\ndev=tun0\nLD_PRELOAD=/tmp/x.so\n\n",
            "up\ndev=tun0\nPATH=/tmp\n\n",
            "up\ndev=--help\n\n",
            "up\ndev=../../etc\n\n",
            "up\ndev=tun0\ndns_x=a\u{1b}b\n\n",
            "up\ndev=tun0",
        ] {
            assert!(read(&mut wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_is_one_line_however_much_went_wrong() {
        assert_eq!(answer(Ok(())), "done\n");
        assert_eq!(answer(Err("one\ntwo".to_owned())), "one two\n");
        for failure in ["x".repeat(MAX_ANSWER - 1), "é".repeat(MAX_ANSWER)] {
            let line = answer(Err(failure.clone()));
            assert!((MAX_ANSWER - 1..=MAX_ANSWER).contains(&line.len()), "{}", line.len());
            assert!(failure.starts_with(line.strip_suffix('\n').unwrap()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_hold_what_they_must(bytes in proptest::collection::vec(any::<u8>(), 0..200),
                                                       start in "(up|down|stands)?\n?(dev=)?") {
            let bytes = [start.as_bytes(), &bytes].concat();
            if let Ok(Some(request)) = read(&mut bytes.as_slice()) {
                prop_assert!(is_device(&request.device));
                prop_assert!(request.variables.iter().all(|(name, _)| name == "dev" || name.starts_with("dns_")));
            }
        }
    }
}
