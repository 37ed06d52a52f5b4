//! Control messages: NUL-terminated text inside the TLS stream of an active key.
//!
//! Only taking apart and recognising; what a message does is the session's business.
//! Source: protocol document, "Control messages".

use crate::{Advance, AuthFailure, TemporaryFailure};

/// Longest run of plaintext that is kept while messages are not yet read (SEC-CTL-12).
pub(crate) const MAX_PENDING: usize = 64 * 1024;

/// One message, or the reason why its bytes were not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Extracted {
    /// Printable text without line ends.
    Message(String),
    /// Contains something unprintable or is not UTF-8 (SEC-PARSE-3).
    Unprintable,
}

/// Takes `plaintext` apart at its NULs. Text after the last NUL is dropped: senders terminate every message.
pub(crate) fn split(plaintext: &[u8]) -> Vec<Extracted> {
    let mut rest = plaintext;
    let mut messages = Vec::new();
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let (message, tail) = rest.split_at(end);
        messages.push(sanitise(message));
        rest = tail.get(1..).unwrap_or_default();
    }
    messages
}

fn sanitise(raw: &[u8]) -> Extracted {
    let Ok(text) = std::str::from_utf8(raw) else { return Extracted::Unprintable };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.chars().all(is_printable) { Extracted::Message(text.to_owned()) } else { Extracted::Unprintable }
}

/// Returns whether a character may stand in text of a peer: printable ASCII and letters of other alphabets.
pub(crate) fn is_printable(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

/// A message, by its leading word. The order of the tests is OpenVPN's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlMessage<'a> {
    AuthFailed(Option<&'a str>),
    PushRequest,
    /// The options, without the word.
    PushReply(&'a str),
    /// The items, without the word.
    PushUpdate(&'a str),
    Restart(Departure<'a>),
    Halt(&'a str),
    Info(&'a str),
    ChallengeResponse(&'a str),
    AuthPending(&'a str),
    Exit,
    Unknown,
}

/// `RESTART[,[flags]text]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Departure<'a> {
    pub(crate) keep_password: bool,
    pub(crate) next_remote: bool,
    pub(crate) text: &'a str,
}

impl<'a> ControlMessage<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        if let Some(rest) = text.strip_prefix("AUTH_FAILED") {
            return Self::AuthFailed(rest.strip_prefix(',').filter(|reason| !reason.is_empty()));
        }
        if text.starts_with("PUSH_") {
            return Self::parse_push(text);
        }
        if let Some(rest) = text.strip_prefix("RESTART") {
            return Self::Restart(Departure::parse(rest.strip_prefix(',').unwrap_or_default()));
        }
        if let Some(rest) = text.strip_prefix("HALT") {
            return Self::Halt(rest.strip_prefix(',').unwrap_or_default());
        }
        if let Some(rest) = text.strip_prefix("INFO_PRE,").or_else(|| text.strip_prefix("INFO,")) {
            return Self::Info(rest);
        }
        if let Some(rest) = text.strip_prefix("CR_RESPONSE,") {
            return Self::ChallengeResponse(rest);
        }
        if let Some(rest) = text.strip_prefix("AUTH_PENDING") {
            return Self::AuthPending(rest.strip_prefix(',').unwrap_or_default());
        }
        if text.starts_with("EXIT") { Self::Exit } else { Self::Unknown }
    }

    fn parse_push(text: &'a str) -> Self {
        // The word ends here or at a comma: `PUSH_UPDATEerr` is not an update.
        let (word, rest) = text.split_once(',').unwrap_or((text, ""));
        match word {
            "PUSH_REQUEST" => Self::PushRequest,
            "PUSH_REPLY" => Self::PushReply(rest),
            "PUSH_UPDATE" => Self::PushUpdate(rest),
            _ => Self::Unknown,
        }
    }
}

impl<'a> Departure<'a> {
    fn parse(rest: &'a str) -> Self {
        let Some((flags, text)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            return Self { text: rest, ..Self::default() };
        };
        Self { keep_password: flags.contains('P'), next_remote: flags.contains('N'), text }
    }
}

impl AuthFailure {
    /// Takes the text after `AUTH_FAILED,` apart. Unknown flags of `TEMP` are ignored.
    pub(crate) fn parse(reason: Option<&str>) -> Self {
        Self {
            reason: reason.map(str::to_owned),
            temporary: reason.and_then(|reason| reason.strip_prefix("TEMP")).map(TemporaryFailure::parse),
        }
    }
}

impl TemporaryFailure {
    /// Whether a reason to refuse somebody is one: `TEMP`, with or without flags and text, not any word that begins so.
    #[must_use]
    pub fn is_meant_by(reason: &str) -> bool {
        reason.strip_prefix("TEMP").is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', ':']))
    }

    /// Parses what follows `TEMP`: `[flag,…]:text`, both optional.
    fn parse(rest: &str) -> Self {
        let (flags, text) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((flags, text)) => (flags, text),
            None => ("", rest),
        };
        let mut parsed = Self { text: text.strip_prefix(':').unwrap_or(text).to_owned(), ..Self::default() };
        for flag in flags.split(',') {
            match flag.trim().split_once(' ') {
                Some(("backoff", seconds)) => parsed.backoff = seconds.trim().parse().ok(),
                Some(("advance", "no")) => parsed.advance = Some(Advance::No),
                Some(("advance", "remote")) => parsed.advance = Some(Advance::Remote),
                Some(("advance", "addr")) => parsed.advance = Some(Advance::Address),
                _ => {}
            }
        }
        parsed
    }
}

/// The `timeout N` of `AUTH_PENDING,timeout N,…`.
pub(crate) fn auth_pending_timeout(keywords: &str) -> Option<u32> {
    keywords.split(',').find_map(|word| word.trim().strip_prefix("timeout ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_at_nul_and_sanitised() {
        // vector: control_message_split
        let messages = split(b"valid control message\r\n\0\0Invalid\r\none\0valid one again\0");
        assert_eq!(
            messages,
            [
                Extracted::Message("valid control message".into()),
                Extracted::Message(String::new()),
                Extracted::Unprintable,
                Extracted::Message("valid one again".into()),
            ]
        );
    }

    #[test]
    fn text_without_terminator_is_dropped() {
        assert_eq!(split(b"EXIT"), []);
    }

    #[test]
    fn the_whole_message_is_checked_for_unprintable_bytes() {
        // SEC-PARSE-3
        assert_eq!(split(b"PUSH_REPLY,\x1b[2J\0"), [Extracted::Unprintable]);
        assert_eq!(split(b"INFO,\xff\0"), [Extracted::Unprintable]);
        assert_eq!(split("INFO,Grüße\0".as_bytes()), [Extracted::Message("INFO,Grüße".into())]);
    }

    #[test]
    fn temporary_failures_carry_their_flags() {
        // vector: auth_failed_temp
        let plain = AuthFailure::parse(Some("TEMP:There are no flags here [really not]"));
        assert_eq!(plain.temporary.unwrap().text, "There are no flags here [really not]");
        let no_advance = AuthFailure::parse(Some("TEMP[backoff 42,advance no]")).temporary.unwrap();
        assert_eq!((no_advance.backoff, no_advance.advance), (Some(42), Some(Advance::No)));
        assert_eq!(no_advance.text, "");
        let remote = AuthFailure::parse(Some("TEMP[advance remote,backoff 77]:go round and round"));
        let remote = remote.temporary.unwrap();
        assert_eq!((remote.backoff, remote.advance), (Some(77), Some(Advance::Remote)));
        assert_eq!(remote.text, "go round and round");
    }

    #[test]
    fn messages_are_recognised_by_their_first_word() {
        use ControlMessage as M;
        assert_eq!(M::parse("AUTH_FAILED"), M::AuthFailed(None));
        assert_eq!(M::parse("AUTH_FAILED,CRV1:R:x"), M::AuthFailed(Some("CRV1:R:x")));
        assert_eq!(M::parse("PUSH_REPLY"), M::PushReply(""));
        assert_eq!(
            M::parse("PUSH_REPLY,ping 1,route-gateway 10.0.0.1"),
            M::PushReply("ping 1,route-gateway 10.0.0.1")
        );
        assert_eq!(M::parse("PUSH_UPDATEerr,dhcp-option DNS 8.8.8.8"), M::Unknown);
        assert_eq!(M::parse("PUSH_UPDATE ,dhcp-option DNS 8.8.8.8"), M::Unknown);
        assert_eq!(M::parse("INFO_PRE,WEB_AUTH::https://x"), M::Info("WEB_AUTH::https://x"));
        assert_eq!(M::parse("EXIT"), M::Exit);
        assert_eq!(M::parse("ACC,2,muh"), M::Unknown);
    }

    #[test]
    fn restart_carries_flags() {
        let parse = |text| match ControlMessage::parse(text) {
            ControlMessage::Restart(departure) => departure,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("RESTART"), Departure::default());
        assert_eq!(parse("RESTART,[N]"), Departure { next_remote: true, ..Departure::default() });
        assert_eq!(
            parse("RESTART,[P]soon"),
            Departure { keep_password: true, text: "soon", next_remote: false }
        );
        assert_eq!(parse("RESTART,soon"), Departure { text: "soon", ..Departure::default() });
    }

    #[test]
    fn the_wait_of_auth_pending_is_found_among_its_keywords() {
        assert_eq!(auth_pending_timeout("timeout 120,foo"), Some(120));
        assert_eq!(auth_pending_timeout("foo"), None);
    }
}
