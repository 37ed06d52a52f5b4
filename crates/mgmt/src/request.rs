use culvert_config::lexer::{self, LexError, Word};
use zeroize::Zeroizing;

use crate::{ProxyChoice, reply};

/// A client of a server, by its number: the CID.
pub type ClientName = u64;

/// A key of a client of a server: CID and KID. Each login and each renegotiation has a KID of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The client.
    pub client: ClientName,
    /// The key.
    pub key: u32,
}

/// A setting that is shown or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetNumber {
    /// Without argument.
    Show,
    /// To this. What is not a number counts as 0, as C's `atoi` has it.
    To(i64),
}

/// `hold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Without argument.
    Show,
    /// `on`.
    On,
    /// `off`.
    Off,
    /// `release`.
    Release,
}

/// Which history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryOf {
    /// `log`.
    Log,
    /// `echo`.
    Echo,
    /// `state`.
    State,
}

impl HistoryOf {
    /// Returns the command's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Echo => "echo",
            Self::State => "state",
        }
    }
}

/// One argument of `log`, `echo` or `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// `on` or `off`: tell what comes, or no longer.
    RealTime(bool),
    /// `all`.
    All,
    /// The last so many.
    Last(usize),
    /// Something else, which is an error.
    Unknown,
}

/// Whom `kill` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillTarget {
    /// All clients of a common name.
    CommonName(String),
    /// `udp:192.0.2.1:1194`: the words, not looked at yet.
    Address {
        /// `tcp` or `udp`.
        protocol: String,
        /// The address.
        ip: String,
        /// The port.
        port: String,
    },
}

/// A command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the commands")]
pub enum Request {
    AuthRetry(Option<String>),
    Bytecount(i64),
    Certificate,
    /// Its options follow as a block.
    ClientAuth(KeyName),
    ClientAuthNt(KeyName),
    ClientDeny {
        key: KeyName,
        reason: String,
        client_reason: Option<String>,
    },
    ClientKill {
        client: ClientName,
        message: Option<String>,
    },
    ClientPendingAuth {
        key: KeyName,
        extra: String,
        timeout: u32,
    },
    CrResponse(String),
    EnvFilter(i64),
    Exit,
    ForgetPasswords,
    Help,
    History(HistoryOf, Vec<History>),
    Hold(Hold),
    /// `None`: its word names nobody.
    Kill(Option<KillTarget>),
    LoadStats,
    Mute(SetNumber),
    NClients,
    NeedOk {
        name: String,
        answer: String,
    },
    NeedStr {
        name: String,
        answer: Zeroizing<String>,
    },
    Net,
    /// Without a password it follows as a block.
    Password {
        kind: String,
        password: Option<Zeroizing<String>>,
    },
    Pid,
    Pkcs11IdCount,
    Pkcs11IdGet(i64),
    /// Under the name it was called by: `pk-sig` or `rsa-sig`.
    PkSig(&'static str),
    /// `None`: its words make no sense.
    Proxy(Option<ProxyChoice>),
    PushUpdateBroad(String),
    PushUpdateCid {
        /// `None`: it is no number.
        client: Option<ClientName>,
        options: String,
    },
    Remote(Vec<String>),
    RemoteEntryCount,
    RemoteEntryGet {
        from: String,
        to: Option<String>,
    },
    Signal(String),
    Status(i64),
    Test(i64),
    Username {
        kind: String,
        name: String,
    },
    Verb(SetNumber),
    /// Without argument that of this daemon is asked for. What is not a number counts as -1.
    Version(Option<i64>),
}

/// Why a line is no command; printed, it is the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody knows it.
    #[error("{}", reply::unknown(.0))]
    Unknown(String),
    /// Arguments are missing.
    #[error("ERROR: the '{command}' command requires {}{count} parameter{}", if *.or_more { "at least " } else { "" }, if *.count > 1 { "s" } else { "" })]
    Missing {
        /// The command.
        command: String,
        /// How many it needs.
        count: usize,
        /// Or more.
        or_more: bool,
    },
    /// An argument is no number.
    #[error("ERROR: cannot parse {0}")]
    Number(&'static str),
    /// `hold` with another word.
    #[error("ERROR: bad hold command parameter")]
    Hold,
    /// Quotes or backslashes are wrong; the text is OpenVPN's.
    #[error("ERROR: {0}")]
    Words(String),
}

impl Request {
    /// Reads one line; an empty one, or a comment, is nothing.
    ///
    /// # Errors
    /// With the answer to the client.
    pub fn parse(line: &str) -> Result<Option<Self>, RequestError> {
        let words: Vec<Word> =
            lexer::split(line).map_err(|error| RequestError::Words(describe(line, error)))?;
        let words: Vec<Zeroizing<String>> =
            words.into_iter().take(lexer::MAX_WORDS).map(|word| Zeroizing::new(word.text)).collect();
        let Some((command, arguments)) = words.split_first() else { return Ok(None) };
        command_of(command, &Arguments { command, words: arguments }).map(Some)
    }
}

fn command_of(command: &str, a: &Arguments<'_>) -> Result<Request, RequestError> {
    Ok(match command {
        "exit" | "quit" => Request::Exit,
        "help" => Request::Help,
        "version" => Request::Version(a.get(0).map(|word| if is_number(word) { atoi(word) } else { -1 })),
        "pid" => Request::Pid,
        "nclients" => Request::NClients,
        "env-filter" => Request::EnvFilter(a.get(0).map_or(0, atoi)),
        "signal" => Request::Signal(a.need(1)?.text(0)),
        "load-stats" => Request::LoadStats,
        "status" => Request::Status(a.get(0).map_or(0, atoi)),
        "kill" => Request::Kill(a.need(1)?.victim()),
        "verb" => Request::Verb(a.number()),
        "mute" => Request::Mute(a.number()),
        "auth-retry" => Request::AuthRetry(a.get(0).map(str::to_owned)),
        "state" if a.words.is_empty() => Request::History(HistoryOf::State, vec![History::Last(1)]),
        "state" => Request::History(HistoryOf::State, a.histories()),
        "log" => Request::History(HistoryOf::Log, a.need_at_least(1)?.histories()),
        "echo" => Request::History(HistoryOf::Echo, a.need_at_least(1)?.histories()),
        "forget-passwords" => Request::ForgetPasswords,
        "net" => Request::Net,
        "hold" => Request::Hold(a.hold()?),
        "bytecount" => Request::Bytecount(a.need(1)?.get(0).map_or(0, atoi)),
        "rsa-sig" => Request::PkSig("rsa-sig"),
        "pk-sig" => Request::PkSig("pk-sig"),
        "certificate" => Request::Certificate,
        "pkcs11-id-count" => Request::Pkcs11IdCount,
        "pkcs11-id-get" => Request::Pkcs11IdGet(a.need(1)?.get(0).map_or(0, atoi)),
        "remote-entry-count" => Request::RemoteEntryCount,
        "remote-entry-get" => {
            Request::RemoteEntryGet { from: a.need_at_least(1)?.text(0), to: a.get(1).map(str::to_owned) }
        }
        "proxy" => Request::Proxy(ProxyChoice::parse(&a.need_at_least(1)?.texts())),
        "remote" => Request::Remote(a.need_at_least(1)?.texts()),
        "cr-response" => Request::CrResponse(a.need(1)?.text(0)),
        "push-update-broad" => Request::PushUpdateBroad(a.need(1)?.text(0)),
        "push-update-cid" => Request::PushUpdateCid { client: a.need(2)?.client(0).ok(), options: a.text(1) },
        "test" => Request::Test(a.need(1)?.get(0).map_or(0, atoi)),
        _ => return login_or_client(command, a),
    })
}

/// Commands about logins: those of this end, and those of a server's clients.
fn login_or_client(command: &str, a: &Arguments<'_>) -> Result<Request, RequestError> {
    Ok(match command {
        "username" => Request::Username { kind: a.need(2)?.text(0), name: a.text(1) },
        "password" => Request::Password { kind: a.need_at_least(1)?.text(0), password: a.secret(1) },
        "needok" => Request::NeedOk { name: a.need(2)?.text(0), answer: a.text(1) },
        "needstr" => Request::NeedStr { name: a.need(2)?.text(0), answer: a.secret(1).unwrap_or_default() },
        "client-kill" => Request::ClientKill {
            client: a.need_at_least(1)?.client(0)?,
            message: a.get(1).map(str::to_owned),
        },
        "client-deny" => Request::ClientDeny {
            key: a.need_at_least(3)?.key()?,
            reason: a.text(2),
            client_reason: a.get(3).map(str::to_owned),
        },
        "client-auth" => Request::ClientAuth(a.need(2)?.key()?),
        "client-auth-nt" => Request::ClientAuthNt(a.need(2)?.key()?),
        "client-pending-auth" => Request::ClientPendingAuth {
            key: a.need(4)?.key()?,
            extra: a.text(2),
            timeout: a
                .get(3)
                .and_then(leading_digits)
                .and_then(|n| u32::try_from(n).ok())
                .ok_or(RequestError::Number("TIMEOUT"))?,
        },
        other => return Err(RequestError::Unknown(other.to_owned())),
    })
}

struct Arguments<'a> {
    command: &'a str,
    words: &'a [Zeroizing<String>],
}

impl Arguments<'_> {
    fn get(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(|word| word.as_str())
    }

    fn text(&self, index: usize) -> String {
        self.get(index).unwrap_or_default().to_owned()
    }

    fn texts(&self) -> Vec<String> {
        self.words.iter().map(|word| (**word).clone()).collect()
    }

    fn secret(&self, index: usize) -> Option<Zeroizing<String>> {
        self.words.get(index).cloned()
    }

    fn number(&self) -> SetNumber {
        self.get(0).map_or(SetNumber::Show, |word| SetNumber::To(atoi(word)))
    }

    fn need(&self, count: usize) -> Result<&Self, RequestError> {
        self.enough(count, false)
    }

    fn need_at_least(&self, count: usize) -> Result<&Self, RequestError> {
        self.enough(count, true)
    }

    fn enough(&self, count: usize, or_more: bool) -> Result<&Self, RequestError> {
        if self.words.len() >= count {
            return Ok(self);
        }
        Err(RequestError::Missing { command: self.command.to_owned(), count, or_more })
    }

    /// The first two arguments of `log` and its relatives; OpenVPN looks at no more.
    fn histories(&self) -> Vec<History> {
        let one = |word: &Zeroizing<String>| match word.as_str() {
            "on" => History::RealTime(true),
            "off" => History::RealTime(false),
            "all" => History::All,
            number => match usize::try_from(atoi(number)) {
                Ok(n) if n > 0 => History::Last(n),
                _ => History::Unknown,
            },
        };
        self.words.iter().take(2).map(one).collect()
    }

    fn hold(&self) -> Result<Hold, RequestError> {
        match self.get(0) {
            None => Ok(Hold::Show),
            Some("on") => Ok(Hold::On),
            Some("off") => Ok(Hold::Off),
            Some("release") => Ok(Hold::Release),
            Some(_) => Err(RequestError::Hold),
        }
    }

    fn victim(&self) -> Option<KillTarget> {
        let victim = self.get(0).unwrap_or_default();
        let mut parts = victim.splitn(4, ':');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        match (part(), part(), part()) {
            (name, ..) if name.is_empty() => None,
            (protocol, ip, port) if !ip.is_empty() && !port.is_empty() => {
                Some(KillTarget::Address { protocol, ip, port })
            }
            (name, ..) => Some(KillTarget::CommonName(name)),
        }
    }

    fn client(&self, index: usize) -> Result<ClientName, RequestError> {
        self.get(index).and_then(leading_digits).ok_or(RequestError::Number("CID"))
    }

    fn key(&self) -> Result<KeyName, RequestError> {
        let client = self.client(0)?;
        let key = self.get(1).and_then(leading_digits).and_then(|key| u32::try_from(key).ok());
        Ok(KeyName { client, key: key.ok_or(RequestError::Number("KID"))? })
    }
}

/// C's `atoi`, as OpenVPN reads numbers here: leading blanks and a sign, then digits; anything else is 0.
fn atoi(word: &str) -> i64 {
    let word = word.trim_start();
    let (sign, digits) = match word.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let number = leading_digits(digits).unwrap_or(0);
    i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(sign)
}

/// Whether C's `atoi` finds a number.
fn is_number(word: &str) -> bool {
    let word = word.trim_start();
    word.strip_prefix(['-', '+']).unwrap_or(word).starts_with(|c: char| c.is_ascii_digit())
}

fn leading_digits(word: &str) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word.get(..end).filter(|digits| !digits.is_empty())?.parse().ok()
}

/// OpenVPN's words about a line that cannot be split. It names the source `TCP` whatever the socket is.
fn describe(line: &str, error: LexError) -> String {
    match error {
        LexError::Unclosed { quote: '"', .. } => "Options error: No closing quotation (\") in TCP:0".to_owned(),
        LexError::Unclosed { .. } => "Options error: No closing single quotation (') in TCP:0".to_owned(),
        LexError::LongWord(at) => {
            let rest = line.get(at..).unwrap_or_default().trim_start_matches(['"', '\'']);
            // Its buffer ends with a NUL.
            let end = rest.char_indices().find(|(index, c)| index + c.len_utf8() >= lexer::LIMIT);
            let word = rest.get(..end.map_or(rest.len(), |(index, _)| index)).unwrap_or_default();
            format!("Options error: Parameter at TCP:0 is too long ({} chars max): {word}", lexer::LIMIT)
        }
        LexError::Dangling(_) => "Options error: Residual parse state (2) in TCP:0".to_owned(),
        _ => "Options warning: Bad backslash ('\\') usage in TCP:0: remember that backslashes are treated as shell-escapes \
              and if you need to pass backslash characters as part of a Windows filename, you should use double \
              backslashes such as \"c:\\\\openvpn\\\\static.key\""
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Request {
        Request::parse(line).unwrap().unwrap()
    }

    fn refused(line: &str) -> String {
        Request::parse(line).unwrap_err().to_string()
    }

    #[test]
    fn commands_have_typed_arguments() {
        assert_eq!(parsed("verb 4"), Request::Verb(SetNumber::To(4)));
        assert_eq!(parsed("verb"), Request::Verb(SetNumber::Show));
        assert_eq!(parsed("mute x"), Request::Mute(SetNumber::To(0)));
        assert_eq!(parsed("status -1"), Request::Status(-1));
        assert_eq!(
            parsed("state on all"),
            Request::History(HistoryOf::State, vec![History::RealTime(true), History::All])
        );
        assert_eq!(parsed("log 0"), Request::History(HistoryOf::Log, vec![History::Unknown]));
        assert_eq!(
            parsed("username \"Private Key\" 'a b'"),
            Request::Username { kind: "Private Key".to_owned(), name: "a b".to_owned() }
        );
        assert_eq!(
            parsed("client-deny 3 1 \"no way\" \"ask again\""),
            Request::ClientDeny {
                key: KeyName { client: 3, key: 1 },
                reason: "no way".to_owned(),
                client_reason: Some("ask again".to_owned())
            }
        );
        assert_eq!(parsed("kill alice"), Request::Kill(Some(KillTarget::CommonName("alice".to_owned()))));
        assert_eq!(
            parsed("kill 192.0.2.1:1194"),
            Request::Kill(Some(KillTarget::CommonName("192.0.2.1".to_owned()))),
            "OpenVPN 2.7 looks for the word before the colon"
        );
        assert!(matches!(parsed("kill udp:192.0.2.1:1194"), Request::Kill(Some(KillTarget::Address { .. }))));
    }

    #[test]
    fn what_only_a_server_looks_at_is_judged_there() {
        assert_eq!(parsed("kill :x"), Request::Kill(None));
        let options = "-route".to_owned();
        assert_eq!(parsed("push-update-cid x -route"), Request::PushUpdateCid { client: None, options });
    }

    #[test]
    fn nothing_is_no_command() {
        for line in ["", "   ", "# a comment", "; another"] {
            assert_eq!(Request::parse(line), Ok(None));
        }
    }

    #[test]
    fn errors_are_openvpns() {
        for (line, answer) in [
            ("frobnicate", "ERROR: unknown command [frobnicate], enter 'help' for more options"),
            ("signal", "ERROR: the 'signal' command requires 1 parameter"),
            ("username Auth", "ERROR: the 'username' command requires 2 parameters"),
            ("log", "ERROR: the 'log' command requires at least 1 parameter"),
            ("client-deny 0 0", "ERROR: the 'client-deny' command requires at least 3 parameters"),
            ("client-kill x", "ERROR: cannot parse CID"),
            ("client-auth 0 x", "ERROR: cannot parse KID"),
            ("client-pending-auth 0 0 x y", "ERROR: cannot parse TIMEOUT"),
            ("hold maybe", "ERROR: bad hold command parameter"),
            ("pid \"x", "ERROR: Options error: No closing quotation (\") in TCP:0"),
            (
                "pid \\x",
                r#"ERROR: Options warning: Bad backslash ('\') usage in TCP:0: remember that backslashes are treated as shell-escapes and if you need to pass backslash characters as part of a Windows filename, you should use double backslashes such as "c:\\openvpn\\static.key""#,
            ),
        ] {
            assert_eq!(refused(line), answer);
        }
    }

    #[test]
    fn a_word_that_is_too_long_is_shown_as_far_as_it_may_go() {
        let (long, most) = ("x".repeat(300), "x".repeat(255));
        let answer = format!("ERROR: Options error: Parameter at TCP:0 is too long (256 chars max): {most}");
        assert_eq!(refused(&format!("pid {long}")), answer);
        assert_eq!(refused(&format!("pid \"{long}\"")), answer);
    }

    #[test]
    fn a_version_is_a_number() {
        assert_eq!(parsed("version"), Request::Version(None));
        assert_eq!(parsed("version 4x"), Request::Version(Some(4)));
        assert_eq!(parsed("version x"), Request::Version(Some(-1)));
    }

    #[test]
    fn numbers_are_read_as_by_c() {
        for (word, number) in [("4", 4), (" 4x", 4), ("-3", -3), ("+2", 2), ("x", 0), ("", 0)] {
            assert_eq!(atoi(word), number, "{word}");
        }
        assert_eq!(leading_digits("99999999999999999999"), None);
    }
}
