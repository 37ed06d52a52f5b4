//! Pushed options as messages: splitting what is sent, accumulating what is received, hiding secrets in the log.
//!
//! Meaning and admissibility of options are not judged here: the driver filters them against the option table.
//! Source: protocol document, "PUSH_REPLY" and "PUSH_UPDATE".

/// A push message grows to less than this many characters; the rest of its 1024 bytes is for the continuation mark.
const SAFE_LEN: usize = 940;
/// Payload of one `PUSH_UPDATE` message: 1024 less 84 for the mark, less `PUSH_UPDATE,`.
const UPDATE_PAYLOAD: usize = 1024 - 84 - 12;
/// All continuations of one push together (SEC-CTL-12).
const MAX_ACCUMULATED: usize = 256 * 1024;
/// Options of one push (SEC-CTL-12 speaks of 4096 routes; a few more options must fit beside them).
const MAX_OPTIONS: usize = 4096 + 256;

/// An option cannot be pushed: it leaves no room for itself in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionTooLong(pub(crate) String);

/// Makes the messages of one push reply.
///
/// # Errors
/// When an option is too long for a message.
pub(crate) fn split_reply(options: &[String]) -> Result<Vec<String>, OptionTooLong> {
    const WORD: &str = "PUSH_REPLY";
    let mut messages = Vec::new();
    let mut message = WORD.to_owned();
    for option in options {
        if message.len().saturating_add(option.len()) >= SAFE_LEN && message.len() > WORD.len() {
            message.push_str(",push-continuation 2");
            messages.push(std::mem::replace(&mut message, WORD.to_owned()));
        }
        if message.len().saturating_add(option.len()) >= SAFE_LEN {
            return Err(OptionTooLong(option.clone()));
        }
        message.push(',');
        message.push_str(option);
    }
    if !messages.is_empty() {
        message.push_str(",push-continuation 1");
    }
    messages.push(message);
    Ok(messages)
}

/// Makes the messages of one push update. `items` is the comma-separated text after `PUSH_UPDATE,`.
///
/// # Errors
/// When an item is too long for a message.
pub fn split_update(items: &str) -> Result<Vec<String>, String> {
    split_update_at(items, UPDATE_PAYLOAD)
}

fn split_update_at(items: &str, cap: usize) -> Result<Vec<String>, String> {
    let mut messages = Vec::new();
    let mut rest = items;
    while rest.len() > cap {
        // The last comma that leaves at most `cap` characters in front of it.
        let cut = rest.char_indices().take_while(|&(at, _)| at <= cap).filter(|&(_, c)| c == ',').last();
        let Some((cut, _)) = cut.filter(|&(at, _)| at > 0) else { return Err(rest.to_owned()) };
        let (now, later) = rest.split_at(cut);
        messages.push(format!("PUSH_UPDATE,{now},push-continuation 2"));
        rest = later.strip_prefix(',').unwrap_or(later);
    }
    let mark = if messages.is_empty() { "" } else { ",push-continuation 1" };
    messages.push(format!("PUSH_UPDATE,{rest}{mark}"));
    Ok(messages)
}

/// One item of a push update: `[-][?]option …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateItem<'a> {
    /// `-`: takes the option away.
    pub removes: bool,
    /// `?`: may be ignored where the option cannot be updated.
    pub optional: bool,
    /// The option with its arguments.
    pub option: &'a str,
}

impl<'a> UpdateItem<'a> {
    /// Takes an item apart. `None` for an empty one and for `?-`, which has the marks in the wrong order.
    #[must_use]
    pub fn parse(item: &'a str) -> Option<Self> {
        let item = item.trim_start();
        let (removes, rest) = item.strip_prefix('-').map_or((false, item), |rest| (true, rest));
        let (optional, option) = rest.strip_prefix('?').map_or((false, rest), |rest| (true, rest));
        let well_formed = !option.is_empty() && !option.starts_with(['-', '?']);
        well_formed.then_some(Self { removes, optional, option })
    }

    /// The option's name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.option.split(' ').next().unwrap_or_default()
    }

    /// Returns whether this option can change without a new connection; another one, unless optional, asks for one.
    #[must_use]
    pub fn is_updatable(&self) -> bool {
        UPDATABLE.contains(&self.name())
    }
}

/// Options that a push update may change. Source: protocol document, "PUSH_UPDATE".
const UPDATABLE: [&str; 16] = [
    "block-ipv6",
    "block-outside-dns",
    "dhcp-option",
    "dns",
    "ifconfig",
    "ifconfig-ipv6",
    "keepalive",
    "push-continuation",
    "redirect-gateway",
    "redirect-private",
    "route",
    "route-gateway",
    "route-ipv6",
    "route-metric",
    "topology",
    "tun-mtu",
];

/// Collects the options of a push over its continuations.
#[derive(Debug, Default)]
pub(crate) struct Accumulator {
    options: Vec<String>,
    len: usize,
}

/// What a message did to the accumulator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Accumulated {
    /// More messages follow.
    Continues,
    /// The push is complete: all its options.
    Complete(Vec<String>),
    /// More was pushed than a peer may hold here.
    TooMuch,
}

impl Accumulator {
    /// Takes the options of one message (without its leading word). Empty items are kept out.
    pub(crate) fn add(&mut self, items: &str) -> Accumulated {
        self.len = self.len.saturating_add(items.len());
        let mut continuation = None;
        for item in items.split(',').filter(|item| !item.trim().is_empty()) {
            match item.trim_start().strip_prefix("push-continuation ") {
                Some(value) => continuation = value.trim().parse::<u8>().ok(),
                None => self.options.push(item.to_owned()),
            }
        }
        if self.len > MAX_ACCUMULATED || self.options.len() > MAX_OPTIONS {
            *self = Self::default();
            return Accumulated::TooMuch;
        }
        if continuation == Some(2) {
            return Accumulated::Continues;
        }
        Accumulated::Complete(std::mem::take(self).options)
    }
}

/// A control message as it may stand in a log: secrets of known options and messages replaced.
#[must_use]
pub(crate) fn redacted(message: &str) -> String {
    const SECRET: [&str; 2] = ["auth-token ", "SESS_ID_AT_"];
    // The state in a challenge stands for a password that was right.
    for secret in ["CR_RESPONSE,", "AUTH_FAILED,CRV1:"] {
        if message.starts_with(secret) {
            return format!("{secret}[redacted]");
        }
    }
    message
        .split(',')
        .map(|item| match SECRET.iter().find(|secret| item.trim_start().starts_with(**secret)) {
            Some(secret) => format!("{secret}[redacted]").replace("SESS_ID_AT_", ""),
            None => item.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(n: usize, len: usize) -> Vec<String> {
        (0..n).map(|i| format!("{i:03}{}", "x".repeat(len - 3))).collect()
    }

    #[test]
    fn a_small_reply_is_one_message_without_continuation() {
        assert_eq!(
            split_reply(&["ping 1".into(), "peer-id 0".into()]).unwrap(),
            ["PUSH_REPLY,ping 1,peer-id 0"]
        );
        assert_eq!(split_reply(&[]).unwrap(), ["PUSH_REPLY"]);
    }

    #[test]
    fn a_long_reply_is_split_and_accumulates_to_the_same_options() {
        for len in [10, 99, 255, 929] {
            let pushed = options(150, len);
            let messages = split_reply(&pushed).unwrap();
            assert!(messages.iter().all(|message| message.len() < 1024));
            let (last, first) = messages.split_last().unwrap();
            let mut accumulator = Accumulator::default();
            for message in first {
                assert!(message.ends_with(",push-continuation 2"), "{message}");
                let items = message.strip_prefix("PUSH_REPLY,").unwrap();
                assert_eq!(accumulator.add(items), Accumulated::Continues);
            }
            assert!(last.ends_with(",push-continuation 1"), "{last}");
            let items = last.strip_prefix("PUSH_REPLY,").unwrap();
            assert_eq!(accumulator.add(items), Accumulated::Complete(pushed));
        }
    }

    #[test]
    fn an_option_of_930_characters_is_refused() {
        assert!(split_reply(&["x".repeat(929)]).is_ok());
        assert!(split_reply(&["x".repeat(930)]).is_err());
        assert!(split_reply(&["ping 1".into(), "x".repeat(930)]).is_err());
    }

    #[test]
    fn endless_continuations_are_refused() {
        // SEC-CTL-12
        let mut accumulator = Accumulator::default();
        let chunk = format!("{},push-continuation 2", "route 10.0.0.0 255.0.0.0,".repeat(36));
        let refused = (0..400).any(|_| accumulator.add(&chunk) == Accumulated::TooMuch);
        assert!(refused);
    }

    #[test]
    fn updates_are_split_as_openvpn_splits_them() {
        // vector: push_update_split, with its bundle of 184 bytes
        let split = |items: &str| split_update_at(items, 184 - 84 - 12).unwrap();
        let many = |n: usize| "a,".repeat(n);
        assert_eq!(
            split("redirect-gateway local,route 192.168.1.0 255.255.255.0"),
            ["PUSH_UPDATE,redirect-gateway local,route 192.168.1.0 255.255.255.0"]
        );
        assert_eq!(
            split(
                "-dhcp-option, blablalalalalalalalalalalalalf, lalalalalalalalalalalalalalaf, \
                 akakakakakakakakakakakaf,dhcp-option DNS 8.8.8.8, redirect-gateway local, \
                 route 192.168.1.0 255.255.255.0,"
            ),
            [
                "PUSH_UPDATE,-dhcp-option, blablalalalalalalalalalalalalf, lalalalalalalalalalalalalalaf,\
                 push-continuation 2",
                "PUSH_UPDATE, akakakakakakakakakakakaf,dhcp-option DNS 8.8.8.8, redirect-gateway local,\
                 push-continuation 2",
                "PUSH_UPDATE, route 192.168.1.0 255.255.255.0,,push-continuation 1",
            ]
        );
        assert_eq!(split(","), ["PUSH_UPDATE,,"]);
        assert_eq!(split(",,"), ["PUSH_UPDATE,,,"]);
        assert_eq!(
            split(&",".repeat(106)),
            [
                format!("PUSH_UPDATE,{},push-continuation 2", ",".repeat(88)),
                format!("PUSH_UPDATE,{},push-continuation 1", ",".repeat(17)),
            ]
        );
        let last = format!("{}a", many(199));
        let split_last = split(&last);
        assert_eq!(split_last.len(), 5);
        assert_eq!(split_last[0], format!("PUSH_UPDATE,{}a,push-continuation 2", many(43)));
        assert_eq!(split_last[4], format!("PUSH_UPDATE,{}a,push-continuation 1", many(23)));
        assert_eq!(
            split(&format!("{}a,,,,,,a,abc", many(39))),
            [
                format!("PUSH_UPDATE,{}a,,,,,,a,push-continuation 2", many(39)),
                "PUSH_UPDATE,abc,push-continuation 1".to_owned(),
            ]
        );
        let long = "a".repeat(87);
        assert_eq!(
            split(&format!("a,{long},a")),
            [
                "PUSH_UPDATE,a,push-continuation 2".to_owned(),
                format!("PUSH_UPDATE,{long},push-continuation 2"),
                "PUSH_UPDATE,a,push-continuation 1".to_owned(),
            ]
        );
        assert!(split_update_at(&"a".repeat(100), 88).is_err());
    }

    #[test]
    fn update_items_are_read_as_openvpn_reads_them() {
        // vector: push_update_parse
        let applies = |items: &str| {
            items
                .split(',')
                .all(|item| UpdateItem::parse(item).is_some_and(|item| item.optional || item.is_updatable()))
        };
        assert!(applies("dhcp-option DNS 8.8.8.8, route 0.0.0.0 0.0.0.0 10.10.10.1"));
        assert!(applies(" -?dns, route something, ?dhcp-option DNS 8.8.8.8"));
        assert!(!applies(" -dhcp-option, ?-dns"));
        assert!(!applies(" dev tun"));
        assert!(applies(
            "-dhcp-option,dhcp-option DNS 8.8.8.8,redirect-gateway local,route 192.168.1.0 255.255.255.0"
        ));
        assert_eq!(
            UpdateItem::parse(" -?dns"),
            Some(UpdateItem { removes: true, optional: true, option: "dns" })
        );
        let mut accumulator = Accumulator::default();
        let continued = accumulator.add(" route 10.1.0.0 255.255.0.0,push-continuation 2");
        assert_eq!(continued, Accumulated::Continues);
    }

    #[test]
    fn tokens_do_not_reach_the_log() {
        let shown = redacted("PUSH_REPLY,ping 1,auth-token SESS_ID_AT_abc,peer-id 0");
        assert_eq!(shown, "PUSH_REPLY,ping 1,auth-token [redacted],peer-id 0");
    }
}
