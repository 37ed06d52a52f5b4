//! What proxies send.

use culvert_proto::{
    Credentials,
    proxy::{
        Authorization, Dialogue, HttpDialogue, HttpRequest, Offer, Progress, SocksDialogue, SocksRequest,
    },
};
use culvert_wire::socks;
use zeroize::Zeroizing;

fn login() -> Credentials {
    Credentials { username: "u".to_owned(), password: Zeroizing::new("p".to_owned()) }
}

fn request() -> HttpRequest {
    let (host, version) = ("vpn.example".to_owned(), "1.0".to_owned());
    HttpRequest { host, port: 1194, version, agent: None, headers: Vec::new() }
}

/// Feeds a dialogue to its end; nothing is to be sent behind it.
fn feed(mut dialogue: impl Dialogue, bytes: &[u8]) -> Option<Progress> {
    assert!(dialogue.poll_transmit().is_some(), "this end speaks first");
    for byte in bytes {
        match dialogue.handle_byte(*byte).ok()? {
            Progress::More => drop(dialogue.poll_transmit()),
            progress => {
                assert!(dialogue.poll_transmit().is_none(), "it is over");
                return Some(progress);
            }
        }
    }
    None
}

/// Answers without a login and within NTLM; every digest that is asked for can be answered or is refused.
pub(crate) fn http(bytes: &[u8]) {
    let ntlm = Authorization::Ntlm2 { login: login(), nonce: [1; 8], unix: 1 };
    for authorization in [Authorization::None, ntlm] {
        let Ok(dialogue) = HttpDialogue::new(request(), authorization) else { continue };
        if let Some(Progress::Refused(offers)) = feed(dialogue, bytes)
            && let Some(Offer::Digest(challenge)) = offers.choose(false)
        {
            let challenge = challenge.clone();
            let digest = Authorization::Digest { challenge, login: login(), cnonce: [1; 8] };
            let Ok(mut dialogue) = HttpDialogue::new(request(), digest) else { continue };
            let sent = dialogue.poll_transmit().unwrap_or_default();
            let lines = sent.split(|byte| *byte == b'\n').count();
            assert_eq!(lines, 5, "what the proxy sent adds no line to the request");
        }
    }
}

pub(crate) fn http_answers() -> Vec<Vec<u8>> {
    [
        "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n",
        "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"a\", Digest realm=\"b\", nonce=\"c\", qop=\"auth\"\r\n\r\n",
        "HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM TlRMTVNTUAACAAAAAAAAADgAAAABAoAAASNFZ4mrze8AAAAAAAAAAA==\r\n         Content-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn socks(bytes: &[u8]) {
    let connect = SocksRequest::Connect { host: "vpn.example".to_owned(), port: 1194 };
    for request in [connect, SocksRequest::UdpAssociate { ipv6: false }] {
        if let Ok(dialogue) = SocksDialogue::new(request, Some(login())) {
            feed(dialogue, bytes);
        }
    }
}

pub(crate) fn socks_answers() -> Vec<Vec<u8>> {
    vec![
        vec![5, 0, 5, 0, 0, 1, 192, 0, 2, 1, 4, 170],
        vec![5, 2, 1, 0, 5, 0, 0, 3, 1, b'a', 0, 1],
        vec![5, 2, 1, 1],
    ]
}

pub(crate) fn datagram(bytes: &[u8]) {
    if let Ok((Some(from), datagram)) = socks::split_header(bytes) {
        let mut again = Vec::new();
        socks::push_header(from, &mut again);
        again.extend_from_slice(datagram);
        // The first two bytes are reserved, and not looked at.
        assert_eq!(bytes.get(2..), again.get(2..), "what was accepted prints as it was");
    }
}

pub(crate) fn datagrams() -> Vec<Vec<u8>> {
    let mut v4 = Vec::new();
    socks::push_header(([192, 0, 2, 1], 1194).into(), &mut v4);
    let mut v6 = Vec::new();
    socks::push_header(([8, 1, 0, 0, 0, 0, 0, 1], 443).into(), &mut v6);
    vec![v4, v6, vec![0, 0, 0, 3, 2, b'a', b'b', 4, 170, 7]]
}
