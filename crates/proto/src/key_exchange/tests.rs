use proptest::prelude::*;

use super::*;

fn source() -> KeySource {
    let mut next = 0_u8;
    let mut random: RandomSource = Box::new(move |out: &mut [u8]| {
        for byte in out {
            next = next.wrapping_add(1);
            *byte = next;
        }
    });
    KeySource::generate(TlsRole::Client, &mut random)
}

fn message(username: &str, password: &str, peer_info: Option<&str>) -> KeyMessage {
    KeyMessage {
        source: source(),
        options: "V4,tls-client".to_owned(),
        username: username.to_owned(),
        password: Zeroizing::new(password.to_owned()),
        peer_info: peer_info.map(str::to_owned),
    }
}

#[test]
fn empty_strings_are_two_zero_bytes_and_others_count_their_nul() {
    // trap 20
    let bytes = message("", "", Some("IV_PROTO=2\n")).encode(TlsRole::Client);
    let strings = &bytes[4 + 1 + 48 + 64..];
    assert_eq!(strings, b"\0\x0eV4,tls-client\0\0\0\0\0\0\x0cIV_PROTO=2\n\0");
}

#[test]
fn a_server_sends_no_pre_master_secret() {
    let client = message("", "", None).encode(TlsRole::Client).len();
    assert_eq!(message("", "", None).encode(TlsRole::Server).len() + 48, client);
}

#[test]
fn peer_info_may_be_absent_and_may_be_followed_by_a_control_message() {
    let mut bytes = message("u", "p", None).encode(TlsRole::Client).to_vec();
    bytes.truncate(bytes.len() - 2);
    let (decoded, taken) = KeyMessage::decode(TlsRole::Client, &bytes).unwrap();
    assert_eq!((decoded.peer_info, taken), (None, bytes.len()));
    let end = bytes.len();
    bytes.extend_from_slice(b"PUSH_REQUEST\0");
    let (decoded, taken) = KeyMessage::decode(TlsRole::Client, &bytes).unwrap();
    assert_eq!((decoded.peer_info, taken), (None, end));
}

#[test]
fn limits_are_enforced() {
    // SEC-CTL-12
    let decode = |message: &KeyMessage| {
        KeyMessage::decode(TlsRole::Client, &message.encode(TlsRole::Client)).map(|(_, taken)| taken)
    };
    assert!(decode(&message(&"u".repeat(4095), "", Some(""))).is_ok());
    assert_eq!(
        decode(&message(&"u".repeat(4096), "", Some(""))),
        Err(KeyMessageError::TooLong("the user name"))
    );
    assert_eq!(decode(&message("", "", Some(&"x".repeat(9000)))), Err(KeyMessageError::TooLong("peer info")));
}

#[test]
fn strings_may_be_empty_and_carry_a_terminator_nevertheless() {
    // minivpn, `bytesx.EncodeOptionStringToBytes`: an empty string is a NUL of length 1. OpenVPN takes it, and an options
    // string without content.
    let nothing = KeyMessage { options: String::new(), ..message("", "", Some("")) };
    let mut bytes = nothing.encode(TlsRole::Client).to_vec();
    let strings = bytes.len() - 8;
    assert_eq!(bytes[strings..], [0; 8]);
    let (decoded, _) = KeyMessage::decode(TlsRole::Client, &bytes).unwrap();
    assert_eq!((decoded.options.as_str(), decoded.peer_info.as_deref()), ("", Some("")));
    bytes.truncate(strings);
    bytes.extend_from_slice(&[0, 1, 0].repeat(4));
    let (decoded, taken) = KeyMessage::decode(TlsRole::Client, &bytes).unwrap();
    assert_eq!(
        (decoded.options.as_str(), decoded.username.as_str(), decoded.password.as_str()),
        ("", "", "")
    );
    assert_eq!((decoded.peer_info.as_deref(), taken), (Some(""), bytes.len()));
}

#[test]
fn another_key_method_is_refused() {
    let mut bytes = message("", "", None).encode(TlsRole::Client).to_vec();
    bytes[4] = 1;
    assert_eq!(KeyMessage::decode(TlsRole::Client, &bytes).err(), Some(KeyMessageError::Method(1)));
}

#[test]
fn a_user_name_arrives_as_it_was_sent_for_whoever_judges_it() {
    let bytes = message("a\nb", "p", None).encode(TlsRole::Client);
    assert_eq!(KeyMessage::decode(TlsRole::Client, &bytes).unwrap().0.username, "a\nb");
}

#[test]
fn a_peer_stays_who_it_was() {
    // SEC-AUTH-2
    let identity = |name: &str, cert: u8| {
        let (common_name, chain) = (name.to_owned(), vec![vec![cert]]);
        Some(Arc::new(PeerIdentity { common_name, chain, ..PeerIdentity::default() }))
    };
    use TlsRole::{Client, Server};
    let first = Binding::new("joe", identity("cn", 1));
    for peer in [Client, Server] {
        assert_eq!(first.change(&Binding::new("joe", identity("cn", 1)), peer), None);
        assert!(first.change(&Binding::new("jim", identity("cn", 1)), peer).unwrap().contains("username"));
        assert!(first.change(&Binding::new("joe", identity("nc", 1)), peer).unwrap().contains("CN"));
        assert!(first.change(&Binding::new("joe", None), peer).is_some());
    }
    let renewed = Binding::new("joe", identity("cn", 2));
    assert!(first.change(&renewed, Client).unwrap().contains("certificate"));
    assert_eq!(first.change(&renewed, Server), None);
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = KeyMessage::decode(TlsRole::Client, &bytes);
        let _ = KeyMessage::decode(TlsRole::Server, &bytes);
    }

    #[test]
    fn decode_returns_what_encode_was_given(
        username in "[a-z]{0,40}", password in "[ -~]{0,40}", info in "[A-Z=\n]{0,40}",
    ) {
        let original = message(&username, &password, Some(&info));
        let bytes = original.encode(TlsRole::Client);
        let (decoded, taken) = KeyMessage::decode(TlsRole::Client, &bytes).unwrap();
        prop_assert_eq!(taken, bytes.len());
        prop_assert_eq!(decoded.username, username);
        prop_assert_eq!(decoded.password.as_str(), password);
        prop_assert_eq!(decoded.peer_info.as_deref(), Some(info.as_str()));
        prop_assert_eq!(decoded.source.random2, original.source.random2);
    }
}
