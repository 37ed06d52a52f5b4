//! Answers, as OpenVPN words them. Without line ends, unless several lines belong together.

use std::fmt::Write as _;

/// The greeting.
#[must_use]
pub fn greeting() -> String {
    format!(">INFO:OpenVPN Management Interface Version {} -- type 'help' for more info", crate::VERSION)
}

/// The prompt for the password; no line end follows.
pub const PASSWORD_PROMPT: &str = "ENTER PASSWORD:";

/// The password was right.
pub const PASSWORD_RIGHT: &str = "SUCCESS: password is correct";

/// It was not.
pub const PASSWORD_WRONG: &str = "ERROR: bad password";

/// A command that makes no sense for what this process is.
#[must_use]
pub fn wrong_mode(command: &str) -> String {
    format!("ERROR: The '{command}' command is not supported by the current daemon mode")
}

/// A command that nobody knows.
#[must_use]
pub fn unknown(command: &str) -> String {
    format!("ERROR: unknown command [{command}], enter 'help' for more options")
}

/// Whether a command did what it should.
#[must_use]
pub fn outcome(command: &str, succeeded: bool) -> String {
    if succeeded {
        format!("SUCCESS: {command} command succeeded")
    } else {
        format!("ERROR: {command} command failed")
    }
}

/// `version` without argument.
#[must_use]
pub fn version(title: &str) -> String {
    format!("OpenVPN Version: {title}\r\nManagement Version: {}\r\nEND", crate::VERSION)
}

/// `test N`.
#[must_use]
pub fn test(count: i64) -> String {
    // What fits the queue of a client that reads; OpenVPN has no limit.
    const MOST: i64 = 8192;
    let mut text = String::new();
    for n in 0..count.min(MOST) {
        let end = if n == 0 { "" } else { "\r\n" };
        let _ =
            write!(text, "{end}[{n}] The purpose of this command is to generate large amounts of output.");
    }
    text
}

/// The commands and what they do: every line begins with the command, as OpenVPN's list.
const COMMANDS: &[(&str, &str)] = &[
    ("auth-retry t", "What follows a refused login: none, interact, nointeract."),
    ("bytecount n", "Tells bytes in and out every n seconds (0: no longer)."),
    ("certificate", "The certificate that >NEED-CERTIFICATE asks for: PEM lines, then END."),
    ("client-auth CID KID", "Lets a client in, with the options that follow up to END."),
    ("client-auth-nt CID KID", "Lets a client in."),
    ("client-deny CID KID R [CR]", "Refuses a client: R for the log, CR for the client."),
    ("client-kill CID [M]", "Ends a client's session with the message M (RESTART)."),
    ("client-pending-auth CID KID M T", "Lets a client wait T seconds, and tells it M."),
    ("cr-response R", "Sends the answer to a challenge, in base64, to the server."),
    ("echo [on|off] [N|all]", "As log, for echo lines."),
    ("env-filter [level]", "Which variables accompany >CLIENT: 0 all to 3 none."),
    ("exit|quit", "Closes this connection."),
    ("forget-passwords", "Forgets passwords that were entered."),
    ("help", "Prints this list."),
    ("hold [on|off|release]", "Shows or sets the hold flag, or starts what is held."),
    ("kill cn", "Ends all sessions of a common name."),
    ("kill udp|tcp:IP:port", "Ends the session of a client at this address."),
    ("load-stats", "Shows the number of clients and bytes in and out."),
    ("log [on|off] [N|all]", "Log lines: as they come, the last N, or all that are kept."),
    ("mute [n]", "Shows or sets how many lines of one kind in a row are logged."),
    ("nclients", "Shows the number of clients."),
    ("needok type action", "Answers >NEED-OK: ok or cancel."),
    ("needstr type text", "Answers >NEED-STR."),
    ("net", "(Windows only) Shows network and routes."),
    ("password type p", "Enters a password that was asked for."),
    ("password type", "(version >= 5) The same: base64 lines, then END."),
    ("pid", "Shows the process id."),
    ("pk-sig", "The signature that >PK_SIGN asks for: base64 lines, then END."),
    ("proxy type [host port flags]", "Answers >PROXY: NONE, HTTP or SOCKS."),
    ("push-update-broad options", "Sends options to all clients."),
    ("push-update-cid CID options", "Sends options to one client."),
    ("remote type [host port]", "Answers >REMOTE: ACCEPT, MOD or SKIP."),
    ("remote-entry-count", "Shows how many remotes there are."),
    ("remote-entry-get i|all [j]", "Shows remotes i up to j, or all."),
    ("rsa-sig", "As pk-sig, for >RSA_SIGN."),
    ("signal s", "SIGHUP, SIGTERM, SIGINT, SIGUSR1 or SIGUSR2."),
    ("state [on|off] [N|all]", "As log, for changes of state."),
    ("status [n]", "Shows the status in format n (1 to 3)."),
    ("test n", "Prints n lines."),
    ("username type u", "Enters a user name that was asked for."),
    ("verb [n]", "Shows or sets how much is logged."),
    ("version [n]", "Shows this daemon's version, or sets the client's."),
];

/// `help`.
#[must_use]
pub fn help(title: &str) -> String {
    let mut text = format!("Management Interface for {title}\r\nCommands:\r\n");
    for (command, what) in COMMANDS {
        let _ = write!(text, "{command:<31} : {what}\r\n");
    }
    text.push_str("END");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn every_command_of_the_list_is_one() {
        for (line, _) in COMMANDS {
            for name in line.split(' ').next().unwrap_or_default().split('|') {
                let answer = Request::parse(name);
                let unknown = answer.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!unknown.contains("unknown command"), "{name}");
            }
        }
    }

    #[test]
    fn a_list_ends_with_end() {
        assert!(help("x").starts_with("Management Interface for x\r\nCommands:\r\nauth-retry"));
        assert!(help("x").ends_with("\r\nEND"));
        assert_eq!(test(-1), "");
        assert_eq!(test(2).lines().count(), 2);
    }
}
