//! Options of one client: files of `client-config-dir` and what `client-connect` writes.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use culvert_wire::CipherName;

use crate::{
    args::Args,
    diagnostic::{Diagnostic, Severity},
    lexer::{self, LIMIT},
    origin::Origin,
    table::{CCD, MOST, find},
    title::OPENVPN_VERSION,
    value::{Net4, Net6, PingAction},
};

/// What a server does differently for one client.
#[derive(Clone, Debug, Default)]
pub struct ClientOverrides {
    /// `ifconfig-push LOCAL MASK-OR-REMOTE [ALIAS]`.
    pub ifconfig_push: Option<(Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>)>,
    /// `ifconfig-ipv6-push ADDR/BITS [REMOTE]`.
    pub ifconfig_ipv6_push: Option<(Net6, Option<Ipv6Addr>)>,
    /// `iroute`.
    pub iroutes: Vec<Net4>,
    /// `iroute-ipv6`.
    pub iroutes6: Vec<Net6>,
    /// `push`, `push-remove`, `push-reset`, in order.
    pub push: Vec<PushEdit>,
    /// `disable`: the client is refused.
    pub disable: bool,
    /// `override-username`.
    pub override_username: Option<String>,
    /// `max-routes-per-client`.
    pub max_routes_per_client: Option<u32>,
    /// `data-ciphers`, normalised, in order of preference.
    pub data_ciphers: Option<Vec<CipherName>>,
    /// `cipher`, `data-ciphers-fallback`: the name for a client that names none.
    pub cipher: Option<CipherName>,
    /// `data-ciphers-fallback` was written: the name counts also where the server itself has no fallback.
    pub fallback: bool,
    /// `vlan-pvid`.
    pub vlan_pvid: Option<u16>,
    /// `inactive`.
    pub inactive: Option<(Duration, u64)>,
    /// `session-timeout`.
    pub session_timeout: Option<Duration>,
    /// `ping`.
    pub ping: Option<Duration>,
    /// `ping-exit`, `ping-restart`.
    pub ping_timeout: Option<(Duration, PingAction)>,
}

/// One change to the list of options pushed to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEdit {
    /// `push`.
    Add(String),
    /// `push-remove`: every entry that begins so.
    Remove(String),
    /// `push-reset`: everything so far.
    Reset,
}

impl ClientOverrides {
    /// Returns what is pushed to this client, given what is pushed to all.
    pub fn push_list(&self, global: &[String]) -> Vec<String> {
        let mut list = global.to_vec();
        for edit in &self.push {
            match edit {
                PushEdit::Add(option) => list.push(option.clone()),
                PushEdit::Remove(prefix) => list.retain(|option| !option.starts_with(prefix.as_str())),
                PushEdit::Reset => list.clear(),
            }
        }
        list
    }
}

/// Reads the options of one client. `name` is the file's name, for messages.
///
/// Lines that are wrong are left out and reported; OpenVPN logs them and goes on, so does the daemon.
pub fn parse_ccd(text: &str, name: &str) -> (ClientOverrides, Vec<Diagnostic>) {
    let mut overrides = ClientOverrides::default();
    let mut found = Vec::new();
    let file: Arc<str> = name.into();
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    for (line, number) in text.lines().zip(1u32..) {
        let origin = Origin { file: file.clone(), line: number, text: line.into(), span: 0..line.len() };
        if let Err((severity, line, span)) = take(line, name, number, &mut overrides) {
            let origin = span.map_or(origin.clone(), |span| origin.pointing_at(span));
            found.push(Diagnostic {
                severity,
                verb: 1,
                openvpn_line: line,
                origin: Some(origin),
                explanation: String::new(),
                remedy: String::new(),
            });
        }
    }
    (overrides, found)
}

/// A message, and the bytes of the line it is about.
type Complaint = (Severity, String, Option<Range<usize>>);

fn take(line: &str, file: &str, number: u32, overrides: &mut ClientOverrides) -> Result<(), Complaint> {
    let error = |text: String, span| Err((Severity::Error, format!("Options error: {text}"), span));
    if line.len() + 1 >= LIMIT {
        let start: String = line.chars().take(60).collect();
        let text = format!(
            "In {file}:{number}: Maximum option line length ({LIMIT}) exceeded, line starts with {start}"
        );
        return error(text, None);
    }
    let Ok(mut words) = lexer::split(line) else {
        return error(format!("quotes or backslashes are wrong in {file}:{number}"), None);
    };
    let Some(first) = words.first_mut() else { return Ok(()) };
    first.text = first.text.strip_prefix("--").unwrap_or(&first.text).to_owned();
    let Some((name, arguments)) = words.split_first() else { return Ok(()) };
    let here = Some(name.span.clone());
    let row = find(&name.text)
        .filter(|row| row.is_known() && (row.arity.0..=row.arity.1).contains(&arguments.len().min(MOST)));
    let Some(row) = row else {
        let text = format!(
            "Unrecognized option or missing or extra parameter(s) in {file}:{number}: {} ({OPENVPN_VERSION})",
            name.text
        );
        return error(text, here);
    };
    match (row.contexts.has(CCD), row.client) {
        (false, _) => error(format!("option '{}' cannot be used in this context ({file})", row.name), here),
        (true, None) => {
            let text = format!("Note: option '{}' has no effect for one client", row.name);
            Err((Severity::Warning, text, here))
        }
        (true, Some(set)) => set(overrides, &Args { name: row.name, words: arguments, inline: None })
            .or_else(|problem| {
                let word = problem.argument.and_then(|argument| arguments.get(argument)).unwrap_or(name);
                error(problem.text, Some(word.span.clone()))
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_one_client_is_read() {
        let text = "# office\r\nifconfig-push 10.8.0.5 255.255.255.0\niroute 192.168.7.0 255.255.255.0\n\
                    iroute-ipv6 fd00:7::/64\npush \"route 10.1.0.0 255.255.0.0\"\npush-remove route-gateway\ndisable\n";
        let (overrides, found) = parse_ccd(text, "ccd/alice");
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(overrides.ifconfig_push, Some(([10, 8, 0, 5].into(), [255, 255, 255, 0].into(), None)));
        assert_eq!(overrides.iroutes, [Net4 { address: [192, 168, 7, 0].into(), bits: 24 }]);
        assert!(overrides.disable);
        let list = overrides.push_list(&["route-gateway 10.8.0.1".to_owned(), "topology subnet".to_owned()]);
        assert_eq!(list, ["topology subnet", "route 10.1.0.0 255.255.0.0"]);
    }

    #[test]
    fn push_reset_forgets_what_was_before_and_not_what_comes_after() {
        let (overrides, _) = parse_ccd("push \"a\"\npush-reset\npush \"b\"\n", "x");
        assert_eq!(overrides.push_list(&["c".to_owned()]), ["b"]);
    }

    #[test]
    fn wrong_lines_are_reported_and_the_others_hold() {
        let (overrides, found) = parse_ccd("iroute 10.0.0.0 255.0.255.0\nca x\nfoo\ndisable\n", "ccd/bob");
        let lines: Vec<_> = found.iter().map(|d| d.openvpn_line.as_str()).collect();
        assert_eq!(
            lines,
            [
                "Options error: in --iroute 10.0.0.0 255.0.255.0 : Bad network/subnet specification",
                "Options error: option 'ca' cannot be used in this context (ccd/bob)",
                "Options error: Unrecognized option or missing or extra parameter(s) in ccd/bob:3: foo (2.7.8)",
            ]
        );
        assert!(overrides.disable);
    }
}
