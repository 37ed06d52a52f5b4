//! `culvert passwd FILE USER [--totp | --delete]`: adds, changes or removes a user of `auth-users`.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use culvert_daemon::{
    auth::users::{self, Change},
    credentials::{Echo, Prompter},
};
use zeroize::Zeroizing;

use crate::{print, start::FAILURE};

/// Longest password that is read.
const MAX_PASSWORD: usize = 1024;

/// Does it; 0: the file is changed.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match change(arguments) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(FAILURE)
        }
    }
}

fn change(arguments: &[String]) -> Result<String, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (file, user, change) = match *words {
        [file, user] => (file, user, Change::Password(password(user)?)),
        [file, user, "--totp"] => (file, user, Change::PasswordAndTotp(password(user)?)),
        [file, user, "--delete"] => (file, user, Change::Delete),
        _ => {
            return Err("`culvert passwd` needs a file and a user\nhint: culvert passwd FILE USER, with --totp for a second \
                        factor, with --delete to remove the user; the password is asked for, or read from standard input"
                .to_owned());
        }
    };
    let secret = users::change(Path::new(file), user, &change)?;
    Ok(secret.map_or(String::new(), |secret| {
        format!(
            "otpauth://totp/culvert:{}?secret={}&issuer=culvert\nhint: enter the secret into an authenticator \
             application, or let it read this line as a QR code (`qrencode -t ansiutf8`); it is not shown again\n",
            encoded(user),
            *secret
        )
    }))
}

/// Asks twice where somebody sits at a terminal; else reads a line from standard input.
fn password(user: &str) -> Result<Zeroizing<String>, String> {
    if io::stdin().is_terminal() {
        let ask = |question: String| {
            Prompter::TERMINAL.ask(&question, Echo::Hidden).map_err(|failure| failure.to_string())
        };
        let password = ask(format!("New password of {user}:"))?;
        if *password != *ask("The same again:".to_owned())? {
            return Err("the two passwords differ; nothing was changed".to_owned());
        }
        return Ok(password);
    }
    // With room for all of it: text that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(MAX_PASSWORD));
    io::stdin().read_line(&mut line).map_err(|failure| format!("cannot read standard input: {failure}"))?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Percent-encoding for a part of a URI (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let mut uri = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_a_uri() {
        assert_eq!(encoded("al ice@x/ü"), "al%20ice%40x%2F%C3%BC");
    }
}
