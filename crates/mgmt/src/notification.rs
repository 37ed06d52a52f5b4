use std::fmt::{self, Write as _};

use zeroize::Zeroizing;

use crate::{ClientName, KeyName, StateLine};

/// How a log line is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFlag {
    /// `I`: of verbosity 1.
    Info,
    /// `F`: the end.
    Fatal,
    /// `N`: an error that is not.
    Error,
    /// `W`.
    Warning,
    /// `D`.
    Debug,
    /// Nothing.
    Other,
}

impl LogFlag {
    const fn letter(self) -> &'static str {
        match self {
            Self::Info => "I",
            Self::Fatal => "F",
            Self::Error => "N",
            Self::Warning => "W",
            Self::Debug => "D",
            Self::Other => "",
        }
    }
}

/// Something that is asked of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A password, for the private key.
    Password {
        /// What for: `Private Key`.
        kind: String,
    },
    /// A user name alone, of a client that knows this question.
    Username {
        /// What for: `Auth`.
        kind: String,
    },
    /// User name and password.
    Login {
        /// What for: `Auth`.
        kind: String,
        /// `static-challenge`: whether the answer is shown, whether it is joined to the password, the question.
        challenge: Option<(bool, bool, String)>,
    },
    /// `ok` or `cancel`.
    Confirmation {
        /// Its name.
        name: String,
        /// The question.
        text: String,
    },
    /// A text.
    Text {
        /// Its name.
        name: String,
        /// The question.
        text: String,
    },
    /// Which remote to take.
    Remote {
        /// The host.
        host: String,
        /// The port.
        port: String,
        /// The protocol, as `remote` names it.
        protocol: String,
    },
    /// Which proxy to use.
    Proxy {
        /// The number of the connection, from 1.
        index: usize,
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The host.
        host: String,
    },
    /// A certificate.
    Certificate {
        /// `management-external-cert`.
        hint: String,
    },
    /// A signature.
    Signature {
        /// What to sign, in base64.
        data: String,
        /// With what; `None` for clients that do not read it.
        algorithm: Option<SignatureAlgorithm>,
        /// The client is older than `>PK_SIGN`.
        rsa: bool,
    },
}

/// How a client is to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// PKCS #1 version 1.5; the data is a DigestInfo.
    RsaPkcs1,
    /// None: the data is padded already.
    RsaNoPadding,
    /// ECDSA; the data is a hash.
    Ecdsa,
    /// PSS with this hash (`SHA256`) and a salt as long; the data is a hash, or with `true` the message itself.
    RsaPss(&'static str, bool),
    /// ECDSA over the message itself, hashed with this.
    EcdsaMessage(&'static str),
    /// PKCS #1 over the message itself, hashed with this.
    RsaPkcs1Message(&'static str),
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1 => f.write_str("RSA_PKCS1_PADDING"),
            Self::RsaNoPadding => f.write_str("RSA_NO_PADDING"),
            Self::Ecdsa => f.write_str("ECDSA"),
            Self::RsaPss(hash, message) => {
                write!(f, "RSA_PKCS1_PSS_PADDING,hashalg={hash},saltlen=digest")?;
                if *message { f.write_str(",data=message") } else { Ok(()) }
            }
            Self::EcdsaMessage(hash) => write!(f, "ECDSA,hashalg={hash},data=message"),
            Self::RsaPkcs1Message(hash) => write!(f, "RSA_PKCS1_PADDING,hashalg={hash},data=message"),
        }
    }
}

/// What happened to a client of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the lines")]
pub enum ClientEvent {
    Connect(KeyName),
    Reauth(KeyName),
    Established(ClientName),
    Disconnect(ClientName),
    CrResponse(KeyName, String),
}

impl fmt::Display for ClientEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(key) => write!(f, "CONNECT,{},{}", key.client, key.key),
            Self::Reauth(key) => write!(f, "REAUTH,{},{}", key.client, key.key),
            Self::Established(client) => write!(f, "ESTABLISHED,{client}"),
            Self::Disconnect(client) => write!(f, "DISCONNECT,{client}"),
            Self::CrResponse(key, answer) => {
                write!(f, "CR_RESPONSE,{},{},{}", key.client, key.key, one_line(answer))
            }
        }
    }
}

/// What clients of the interface are told without asking. Printed, every line ends with CR LF. What comes from a peer
/// cannot make a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the lines")]
pub enum Notification {
    State(StateLine),
    Log {
        time: u64,
        flag: LogFlag,
        text: String,
    },
    Echo {
        time: u64,
        text: String,
    },
    Fatal(String),
    Bytecount {
        received: u64,
        sent: u64,
    },
    BytecountClient {
        client: ClientName,
        received: u64,
        sent: u64,
    },
    /// With the seconds that a restart would have paused.
    Hold(u64),
    Need(Need),
    /// A password was wrong; for a login with what the server said.
    VerificationFailed {
        kind: String,
        reason: Option<String>,
    },
    AuthToken(String),
    InfoMessage(String),
    UpDown {
        up: bool,
        env: Vec<(String, String)>,
    },
    Notify {
        severity: String,
        kind: String,
        text: String,
    },
    /// With variables, the newest first. A value may be a password.
    Client {
        event: ClientEvent,
        env: Vec<(String, Zeroizing<String>)>,
    },
    /// `true`: its own address, not a network behind it.
    ClientAddress {
        client: ClientName,
        address: String,
        primary: bool,
    },
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, ">STATE:{state}")?,
            Self::Log { time, flag, text } => {
                write!(f, ">LOG:{time},{},{}", flag.letter(), one_line(text))?;
            }
            Self::Echo { time, text } => write!(f, ">ECHO:{time},{}", one_line(text))?,
            Self::Fatal(text) => write!(f, ">FATAL:{}", one_line(text))?,
            Self::Bytecount { received, sent } => write!(f, ">BYTECOUNT:{received},{sent}")?,
            Self::BytecountClient { client, received, sent } => {
                write!(f, ">BYTECOUNT_CLI:{client},{received},{sent}")?;
            }
            Self::Hold(seconds) => write!(f, ">HOLD:Waiting for hold release:{seconds}")?,
            Self::Need(need) => write!(f, "{need}")?,
            Self::VerificationFailed { kind, reason: None } => {
                write!(f, ">PASSWORD:Verification Failed: '{kind}'")?;
            }
            Self::VerificationFailed { kind, reason: Some(reason) } => {
                write!(f, ">PASSWORD:Verification Failed: '{kind}' ['{}']", one_line(reason))?;
            }
            Self::AuthToken(token) => write!(f, ">PASSWORD:Auth-Token:{}", one_line(token))?,
            Self::InfoMessage(text) => write!(f, ">INFOMSG:{}", one_line(text))?,
            Self::UpDown { up, env } => {
                write!(f, ">UPDOWN:{}\r\n", if *up { "UP" } else { "DOWN" })?;
                return write_env(f, "UPDOWN", env);
            }
            Self::Notify { severity, kind, text } => {
                write!(f, ">NOTIFY:{severity},{kind},{}", one_line(text))?;
            }
            Self::Client { event, env } => {
                write!(f, ">CLIENT:{event}\r\n")?;
                return write_env(f, "CLIENT", env);
            }
            Self::ClientAddress { client, address, primary } => {
                write!(f, ">CLIENT:ADDRESS,{client},{address},{}", u8::from(*primary))?;
            }
        }
        f.write_str("\r\n")
    }
}

fn write_env(f: &mut fmt::Formatter<'_>, prefix: &str, env: &[(String, impl AsRef<str>)]) -> fmt::Result {
    for (name, value) in env {
        write!(f, ">{prefix}:ENV,{}={}\r\n", one_line(name), *Zeroizing::new(one_line(value.as_ref())))?;
    }
    write!(f, ">{prefix}:ENV,END\r\n")
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { kind } => write!(f, ">PASSWORD:Need '{kind}' password"),
            Self::Username { kind } => write!(f, ">PASSWORD:Need '{kind}' username"),
            Self::Login { kind, challenge } => {
                write!(f, ">PASSWORD:Need '{kind}' username/password")?;
                match challenge {
                    Some((echo, concat, text)) => {
                        let flags = u8::from(*echo) | (u8::from(*concat) << 1);
                        write!(f, " SC:{flags},{}", one_line(text))
                    }
                    None => Ok(()),
                }
            }
            Self::Confirmation { name, text } => {
                write!(f, ">NEED-OK:Need '{name}' confirmation MSG:{}", one_line(text))
            }
            Self::Text { name, text } => write!(f, ">NEED-STR:Need '{name}' string MSG:{}", one_line(text)),
            Self::Remote { host, port, protocol } => write!(f, ">REMOTE:{host},{port},{protocol}"),
            Self::Proxy { index, protocol, host } => write!(f, ">PROXY:{index},{protocol},{host}"),
            Self::Certificate { hint } => write!(f, ">NEED-CERTIFICATE:{hint}"),
            Self::Signature { data, algorithm, rsa } => {
                f.write_str(if *rsa { ">RSA_SIGN:" } else { ">PK_SIGN:" })?;
                f.write_str(data)?;
                match algorithm {
                    Some(algorithm) => write!(f, ",{algorithm}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Replaces what would end a line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        let _ = if c.is_control() && c != '\t' { line.write_char('_') } else { line.write_char(c) };
        line
    })
}

/// Returns whether a variable accompanies `>CLIENT` at a level of `env-filter`.
#[must_use]
pub fn client_env_shown(name: &str, level: i64) -> bool {
    const LISTED: &[&str] = &[
        "username",
        "password",
        "X509_0_CN",
        "untrusted_ip",
        "ifconfig_local",
        "ifconfig_netmask",
        "daemon_start_time",
        "daemon_pid",
        "dev",
        "ifconfig_pool_remote_ip",
        "ifconfig_pool_netmask",
        "time_duration",
        "bytes_sent",
        "bytes_received",
        "session_id",
        "session_state",
    ];
    match level {
        ..=0 => true,
        1 if name.starts_with("X509_") => true,
        1 | 2 => name.starts_with("tls_serial_") || LISTED.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_openvpns() {
        let key = KeyName { client: 3, key: 1 };
        let env = [("n_clients", "1"), ("IV_VER", "2\n3")]
            .map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())))
            .to_vec();
        for (notification, line) in [
            (Notification::Hold(0), ">HOLD:Waiting for hold release:0\r\n"),
            (Notification::Bytecount { received: 1, sent: 2 }, ">BYTECOUNT:1,2\r\n"),
            (
                Notification::Log { time: 7, flag: LogFlag::Info, text: "x\r\n>FATAL:y".to_owned() },
                ">LOG:7,I,x__>FATAL:y\r\n",
            ),
            (
                Notification::Client { event: ClientEvent::Reauth(key), env },
                ">CLIENT:REAUTH,3,1\r\n>CLIENT:ENV,n_clients=1\r\n>CLIENT:ENV,IV_VER=2_3\r\n>CLIENT:ENV,END\r\n",
            ),
            (
                Notification::ClientAddress { client: 3, address: "10.8.0.2".to_owned(), primary: true },
                ">CLIENT:ADDRESS,3,10.8.0.2,1\r\n",
            ),
            (
                Notification::VerificationFailed { kind: "Auth".to_owned(), reason: None },
                ">PASSWORD:Verification Failed: 'Auth'\r\n",
            ),
            (
                Notification::Need(Need::Login {
                    kind: "Auth".to_owned(),
                    challenge: Some((true, false, "PIN?".to_owned())),
                }),
                ">PASSWORD:Need 'Auth' username/password SC:1,PIN?\r\n",
            ),
            (
                Notification::Need(Need::Signature {
                    data: "AAAA".to_owned(),
                    algorithm: Some(SignatureAlgorithm::RsaPss("SHA256", false)),
                    rsa: false,
                }),
                ">PK_SIGN:AAAA,RSA_PKCS1_PSS_PADDING,hashalg=SHA256,saltlen=digest\r\n",
            ),
        ] {
            assert_eq!(notification.to_string(), line);
        }
    }

    #[test]
    fn filters_let_pass_what_they_name() {
        let shown = |level| {
            ["IV_VER", "X509_0_O", "X509_0_CN", "tls_serial_hex_0", "username"]
                .into_iter()
                .filter(|name| client_env_shown(name, level))
                .count()
        };
        assert_eq!([0, 1, 2, 3].map(shown), [5, 4, 3, 0]);
    }
}
