//! One line: how it looks.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It informs.
    Info,
    /// Something may be wrong.
    Warning,
    /// Something is.
    Error,
    /// The process ends.
    Fatal,
}

impl Severity {
    /// Flag bits of machine-readable output; the low four bits are the verbosity. (OpenVPN: M_FATAL 0x10,
    /// M_NONFATAL 0x20, M_WARN 0x40.)
    fn flags(self) -> u32 {
        match self {
            Self::Info => 0,
            Self::Warning => 0x40,
            Self::Error => 0x20,
            Self::Fatal => 0x10,
        }
    }

    /// The word for it in JSON.
    const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// syslog(3): LOG_ERR, LOG_WARNING, LOG_NOTICE.
    pub(super) fn syslog_level(self) -> u32 {
        match self {
            Self::Fatal | Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 5,
        }
    }
}

/// What stands in front of the text.
#[derive(Clone, Debug)]
pub(super) enum Prefix {
    /// `2026-11-22 12:05:24 `, with microseconds from verb 4 on.
    Clock { zone: TimeZone, micros: bool },
    /// `1795349124.000123 1 `.
    Machine,
    /// The line is a JSON object, which has all of it in it (`log-json`).
    Json,
    /// Nothing: `suppress-timestamps`, or the system log has its own.
    Nothing,
}

/// Returns the finished line without its end.
pub(super) fn render(
    prefix: &Prefix,
    now: Timestamp,
    verb: u8,
    severity: Severity,
    peer: Option<&str>,
    text: &str,
) -> String {
    let mut line = String::with_capacity(text.len() + 64);
    match prefix {
        Prefix::Json => return json(now, verb, severity, peer, text),
        Prefix::Nothing => {}
        Prefix::Machine => {
            // OpenVPN's M_WARN stands alone, without the verbosity from which on it appears.
            let verb = if severity == Severity::Warning && verb == 1 { 0 } else { verb };
            let flags = u32::from(verb & 0x0f) | severity.flags();
            let micros = now.subsec_microsecond();
            let _ = write!(line, "{}.{micros:06} {flags:x} ", now.as_second());
        }
        Prefix::Clock { zone, micros } => {
            clock(&mut line, now, zone);
            if *micros {
                let _ = write!(line, "us={:06} ", now.subsec_microsecond());
            }
        }
    }
    if let Some(peer) = peer {
        escape(&mut line, peer);
        line.push(' ');
    }
    escape(&mut line, text);
    line
}

/// Returns the line as a JSON object; the time is UTC (RFC 3339).
fn json(now: Timestamp, verb: u8, severity: Severity, peer: Option<&str>, text: &str) -> String {
    let escaped = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        escape(&mut escaped, text);
        escaped
    };
    let mut line = serde_json::json!({
        "time": format!("{now:.6}"),
        "severity": severity.word(),
        "verb": verb,
        "message": escaped(text),
    });
    if let Some(peer) = peer {
        line["peer"] = escaped(peer).into();
    }
    line.to_string()
}

/// Appends `YYYY-MM-DD HH:MM:SS `.
fn clock(line: &mut String, now: Timestamp, zone: &TimeZone) {
    let local = zone.to_datetime(now);
    let _ = write!(
        line,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} ",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second()
    );
}

/// Appends text, characters that could end the line, move the cursor or turn the direction of writing escaped
/// (SEC-LOG-1).
fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Timestamp {
        Timestamp::new(1_795_349_124, 123_000).expect("a time of this century")
    }

    #[test]
    fn a_classic_line_begins_with_date_and_time() {
        let prefix = Prefix::Clock { zone: TimeZone::UTC, micros: false };
        assert_eq!(
            render(&prefix, at(), 1, Severity::Info, None, "Initialization Sequence Completed"),
            "2026-11-22 12:05:24 Initialization Sequence Completed"
        );
    }

    #[test]
    fn from_verb_4_microseconds_follow_the_time() {
        let prefix = Prefix::Clock { zone: TimeZone::UTC, micros: true };
        assert_eq!(render(&prefix, at(), 4, Severity::Info, None, "x"), "2026-11-22 12:05:24 us=000123 x");
    }

    #[test]
    fn a_machine_readable_line_shows_verbosity_and_gravity() {
        for (verb, severity, flags) in [
            (1, Severity::Info, "1"),
            (4, Severity::Info, "4"),
            (1, Severity::Warning, "40"),
            (1, Severity::Error, "21"),
            (0, Severity::Fatal, "10"),
        ] {
            let line = render(&Prefix::Machine, at(), verb, severity, None, "x");
            assert_eq!(line, format!("1795349124.000123 {flags} x"));
        }
    }

    #[test]
    fn a_json_line_has_everything_in_it() {
        let peer = Some("al\"ice/udp4:192.0.2.1:4");
        let line = render(&Prefix::Json, at(), 1, Severity::Warning, peer, "WARNING: \u{1b}[31mx");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-22T12:05:24.000123Z",
            "severity": "warning",
            "verb": 1,
            "peer": "al\"ice/udp4:192.0.2.1:4",
            "message": "WARNING: \\x1b[31mx",
        });
        assert_eq!(value, expected);
        let line = render(&Prefix::Json, at(), 3, Severity::Info, None, "x");
        assert!(!line.contains("peer") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn the_peer_stands_in_front_of_its_lines() {
        let line = render(&Prefix::Nothing, at(), 1, Severity::Info, Some("alice/udp4:192.0.2.1:4"), "x");
        assert_eq!(line, "alice/udp4:192.0.2.1:4 x");
    }

    /// SEC-LOG-1
    #[test]
    fn text_of_a_peer_cannot_make_a_second_line() {
        let line = render(
            &Prefix::Nothing,
            at(),
            1,
            Severity::Info,
            Some("a\nb"),
            "x\r\n\u{1b}[2J\0\u{202e}\u{85}é",
        );
        assert_eq!(line, "a\\x0ab x\\x0d\\x0a\\x1b[2J\\x00\\u{202e}\\x85é");
    }
}
