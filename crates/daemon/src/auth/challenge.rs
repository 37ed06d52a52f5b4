//! Challenges and their answers as they travel inside user name, password and `AUTH_FAILED`.
//!
//! Source: OpenVPN's `doc/management-notes.txt`, "Challenge/Response"; protocol document, 5.4.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// A password field, taken apart.
pub(crate) enum PasswordField {
    /// Just a password.
    Plain(Zeroizing<String>),
    /// `SCRV1:PASSWORD:RESPONSE`, both base64: the answer to a `static-challenge`.
    Static(Zeroizing<String>, Zeroizing<String>),
    /// `CRV1::STATE::RESPONSE`: the answer to a challenge of ours.
    Dynamic(String, Zeroizing<String>),
}

impl PasswordField {
    /// Takes a field apart. What has not quite one of the forms is a plain password.
    pub(crate) fn parse(field: &str) -> Self {
        let plain = || Self::Plain(Zeroizing::new(field.to_owned()));
        if let Some((password, response)) = field.strip_prefix("SCRV1:").and_then(|rest| rest.split_once(':'))
        {
            return match (decode(password), decode(response)) {
                (Some(password), Some(response)) => Self::Static(password, response),
                _ => plain(),
            };
        }
        match field.strip_prefix("CRV1::").and_then(|rest| rest.split_once("::")) {
            Some((state, response)) => Self::Dynamic(state.to_owned(), Zeroizing::new(response.to_owned())),
            None => plain(),
        }
    }
}

/// A challenge that a server sends instead of letting somebody in: `CRV1:FLAGS:STATE:USER:TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DynamicChallenge {
    /// `E`: the answer may be shown while it is typed.
    pub(crate) echo: bool,
    /// `R`: an answer is wanted. Without it the text is only shown.
    pub(crate) wants_response: bool,
    /// Goes back as it came.
    pub(crate) state: String,
    /// The user name to log in with.
    pub(crate) username: String,
    /// The question.
    pub(crate) text: String,
}

impl DynamicChallenge {
    /// Reads the reason of `AUTH_FAILED`; `None` where it is no challenge.
    pub(crate) fn parse(reason: &str) -> Option<Self> {
        let mut fields = reason.strip_prefix("CRV1:")?.splitn(4, ':');
        let flags = fields.next()?;
        let state = fields.next()?.to_owned();
        let username = decode(fields.next()?)?.to_string();
        let text = fields.next()?.to_owned();
        let has = |flag: &str| flags.split(',').any(|word| word == flag);
        Some(Self { echo: has("E"), wants_response: has("R"), state, username, text })
    }

    /// Returns it as a reason of `AUTH_FAILED`.
    pub(crate) fn reason(&self) -> String {
        let flags: Vec<_> = [("R", self.wants_response), ("E", self.echo)]
            .into_iter()
            .filter_map(|(flag, set)| set.then_some(flag))
            .collect();
        format!("CRV1:{}:{}:{}:{}", flags.join(","), self.state, STANDARD.encode(&self.username), self.text)
    }

    /// Returns the password field that answers it.
    pub(crate) fn answer(&self, response: &str) -> Zeroizing<String> {
        Zeroizing::new(["CRV1::", &self.state, "::", response].concat())
    }
}

/// A question inside a session that is already there: `CR_TEXT:FLAGS:TEXT`, answered by `CR_RESPONSE,BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextChallenge {
    /// The answer may be shown while it is typed.
    pub(crate) echo: bool,
    /// The question.
    pub(crate) text: String,
}

impl TextChallenge {
    /// Reads the text of `INFO_PRE`; `None` where it is something else, or wants no answer.
    pub(crate) fn parse(info: &str) -> Option<Self> {
        let (flags, text) = info.strip_prefix("CR_TEXT:")?.split_once(':')?;
        let has = |flag: &str| flags.split(',').any(|word| word == flag);
        has("R").then(|| Self { echo: has("E"), text: text.to_owned() })
    }

    /// Returns the control message that answers it.
    pub(crate) fn answer(response: &str) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(response));
        Zeroizing::new(["CR_RESPONSE,", &encoded].concat())
    }
}

fn decode(text: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What a peer sends never makes it panic, and what is written is read again.
        #[test]
        fn no_text_makes_it_panic(text in "(SCRV1:|CRV1:|CRV1::|CR_TEXT:)?[:RE,=A-Za-z0-9\\PC]{0,60}") {
            let _field = PasswordField::parse(&text);
            let _text = TextChallenge::parse(&text);
            if let Some(challenge) = DynamicChallenge::parse(&text) {
                proptest::prop_assert_eq!(DynamicChallenge::parse(&challenge.reason()), Some(challenge));
            }
        }
    }

    #[test]
    fn password_fields_are_taken_apart() {
        let PasswordField::Static(password, code) = PasswordField::parse("SCRV1:cGFzcw==:MTIzNDU2") else {
            panic!("a static challenge's answer");
        };
        assert_eq!((password.as_str(), code.as_str()), ("pass", "123456"));
        let PasswordField::Dynamic(state, code) = PasswordField::parse("CRV1::Om01u7Fh4Lr==::123456") else {
            panic!("a dynamic challenge's answer");
        };
        assert_eq!((state.as_str(), code.as_str()), ("Om01u7Fh4Lr==", "123456"));
        for plain in ["SCRV1:no base64:x", "SCRV1:", "CRV1:x", "CRV1::x", "pass"] {
            assert!(matches!(PasswordField::parse(plain), PasswordField::Plain(text) if *text == plain));
        }
    }

    #[test]
    fn a_dynamic_challenge_reads_what_it_writes() {
        // The manual's example.
        let text = "CRV1:R,E:Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l:Y3Ix:Please enter token PIN";
        let challenge = DynamicChallenge::parse(text).unwrap();
        assert_eq!((challenge.username.as_str(), challenge.text.as_str()), ("cr1", "Please enter token PIN"));
        assert!(challenge.echo && challenge.wants_response);
        assert_eq!(challenge.reason(), text);
        assert_eq!(challenge.answer("8675309").as_str(), "CRV1::Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l::8675309");
        assert_eq!(DynamicChallenge::parse("CRV1:R:state:!!:text"), None);
        assert_eq!(DynamicChallenge::parse("wrong password"), None);
    }

    #[test]
    fn a_text_challenge_that_wants_an_answer_is_one() {
        let challenge = TextChallenge::parse("CR_TEXT:E,R:Please enter your TOTP code: now").unwrap();
        assert_eq!(
            challenge,
            TextChallenge { echo: true, text: "Please enter your TOTP code: now".to_owned() }
        );
        assert_eq!(TextChallenge::parse("CR_TEXT:E:Just so you know"), None);
        assert_eq!(TextChallenge::parse("WEB_AUTH::https://example.org"), None);
        assert_eq!(TextChallenge::answer("123456").as_str(), "CR_RESPONSE,MTIzNDU2");
    }
}
