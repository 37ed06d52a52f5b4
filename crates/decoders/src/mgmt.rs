//! What clients of the management interface send.

use culvert_mgmt::{BlockOf, Codec, Input, MAX_BLOCK, Request};
use zeroize::Zeroizing;

/// A whole session: nothing is a command before the password, no block is larger than it may be.
pub(crate) fn management(bytes: &[u8]) {
    let mut codec = Codec::new(Some(Zeroizing::new("x".to_owned())));
    let mut greeted = false;
    for piece in bytes.chunks(7) {
        if codec.handle_bytes(piece).is_err() {
            return;
        }
        while let Ok(Some(input)) = codec.poll() {
            match input {
                Input::LoggedIn => greeted = true,
                Input::WrongPassword(_) => assert!(!greeted, "the password was given"),
                Input::Request(_, request) => {
                    assert!(greeted, "{request:?} before the password");
                    if let Request::ClientAuth(key) = request {
                        codec.begin_block(BlockOf::ClientAuth(key));
                    }
                }
                Input::Malformed(answer) => assert!(greeted && answer.starts_with("ERROR: "), "{answer}"),
                Input::Block(_, lines) => {
                    assert!(lines.iter().map(|line| line.len()).sum::<usize>() <= MAX_BLOCK);
                }
            }
        }
    }
}

pub(crate) fn sessions() -> Vec<Vec<u8>> {
    [
        "x\npid\r\nstate on all\nusername \"Auth\" 'a b'\nquit\n",
        "y\nx\nclient-auth 0 1\npush \"route 192.0.2.0\"\nEND\nkill udp:192.0.2.1:1194\n",
        "x\nclient-pending-auth 1 2 WEB_AUTH::https://a 30\nremote MOD a 1\nversion 5\nhold release\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
