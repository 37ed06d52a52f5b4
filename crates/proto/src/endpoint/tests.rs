use std::time::Instant;

use culvert_crypto::{AuthDigest, KeyDirection, KeyMaterial};
use culvert_testkit::vectors::vector;
use culvert_wire::{PeerId, SessionId, data};
use proptest::prelude::*;

use super::*;
use crate::wrap::EARLY_NEGOTIATION_START;

const FROM: &str = "192.0.2.1:1194";

fn now() -> Now {
    // One instant for all: budgets do not refill between the steps of a test.
    static NOW: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    Now { mono: *NOW, unix: 1_700_000_000 }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn key(byte: u8) -> KeyMaterial {
    KeyMaterial::from_slice(&[byte; 256]).unwrap()
}

fn config(wrap: Option<WrapKeys>) -> EndpointConfig {
    EndpointConfig {
        transport: Transport::Udp,
        wrap: wrap.map(Arc::new),
        tls_crypt_v2: None,
        force_cookie: false,
        replay: ReplayLimits::default(),
        hand_window: Duration::from_secs(60),
        initial_rate: None,
        session_rate: None,
        max_half_open: 256,
    }
}

fn v2_config() -> EndpointConfig {
    EndpointConfig { tls_crypt_v2: Some(Arc::new(v2_server())), ..config(None) }
}

fn v2_server() -> TlsCryptV2ServerKey {
    TlsCryptV2ServerKey::from_slice(&[9; 128]).unwrap()
}

fn endpoint(config: EndpointConfig) -> Endpoint {
    Endpoint::new(config, &[5; 32])
}

/// A client's side of the stateless exchange.
struct Client {
    wrapping: Wrapping,
    sid: SessionId,
    from: SocketAddr,
    v2: bool,
}

impl Client {
    fn new(keys: WrapKeys) -> Self {
        let wrapping = Wrapping::new(Arc::new(keys), ReplayLimits::default());
        Self { wrapping, sid: SessionId::new(*b"clientid").unwrap(), from: addr(FROM), v2: false }
    }

    fn plain() -> Self {
        Self::new(WrapKeys::none())
    }

    fn v2(sent: u32) -> Self {
        let wkc = v2_server().wrap(&key(3), b"\0metadata").unwrap();
        let keys = Arc::new(WrapKeys::tls_crypt_v2_client(key(3), &wkc).unwrap());
        let wrapping = Wrapping::continuing(keys, ReplayLimits::default(), sent);
        Self { wrapping, v2: true, ..Self::plain() }
    }

    fn named(mut self, sid: u8) -> Self {
        self.sid = SessionId::new([sid; 8]).unwrap();
        self
    }

    fn at(mut self, from: &str) -> Self {
        self.from = addr(from);
        self
    }

    fn reset(&mut self) -> Vec<u8> {
        let opcode = if self.v2 { Opcode::HardResetClientV3 } else { Opcode::HardResetClientV2 };
        self.packet(opcode, &[], None, Some(0))
    }

    fn third(&mut self, server: SessionId) -> Vec<u8> {
        let opcode = if self.v2 { Opcode::ControlWkcV1 } else { Opcode::ControlV1 };
        self.packet(opcode, &[0], Some(server), Some(1))
    }

    fn packet(
        &mut self,
        opcode: Opcode,
        acks: &[u32],
        echoed: Option<SessionId>,
        message_id: Option<u32>,
    ) -> Vec<u8> {
        let packet = Control {
            header: ControlHeader { opcode, key_id: KeyId::FIRST, session_id: self.sid },
            acks: acks.iter().copied().map(MessageId).collect(),
            echoed,
            message_id: message_id.map(MessageId),
            payload: &[],
        };
        let mut out = [0; 2048];
        let len = self.wrapping.wrap(now(), &packet, &mut out).unwrap();
        out[..len].to_vec()
    }

    /// Sends its reset, reads the reply, returns the server's session id.
    fn begin(&mut self, endpoint: &mut Endpoint) -> SessionId {
        let reset = self.reset();
        let mut buf = [0; MAX_FIRST_PACKET];
        let EndpointAction::Reply(reply) = endpoint.handle_datagram(now(), self.from, &reset, &mut buf)
        else {
            panic!("no reply")
        };
        let mut scratch = [0; 2048];
        let reply = self.wrapping.unwrap(now(), reply, &mut scratch).unwrap();
        assert_eq!(reply.header.opcode, Opcode::HardResetServerV2);
        assert_eq!((reply.message_id, reply.echoed), (Some(MessageId(0)), Some(self.sid)));
        assert_eq!(reply.acks.as_slice(), [MessageId(0)]);
        let tlv: &[u8] = if self.v2 { &[0, 1, 0, 2, 0, 1] } else { &[] };
        assert_eq!(reply.payload, tlv);
        reply.header.session_id
    }

    fn enter(&mut self, endpoint: &mut Endpoint) -> Accepted {
        let server = self.begin(endpoint);
        let third = self.third(server);
        accepted(endpoint, self.from, &third)
    }
}

fn handle(endpoint: &mut Endpoint, from: SocketAddr, packet: &[u8]) -> Outcome {
    match endpoint.handle_datagram(now(), from, packet, &mut [0; MAX_FIRST_PACKET]) {
        EndpointAction::Reply(reply) => Outcome::Reply(reply.len()),
        EndpointAction::Accept(accepted) => Outcome::Accept(accepted),
        EndpointAction::Route(handle) => Outcome::Route(handle),
        EndpointAction::Drop(reason) => Outcome::Drop(reason),
    }
}

enum Outcome {
    Reply(usize),
    Accept(Box<Accepted>),
    Route(Handle),
    Drop(DropReason),
}

fn accepted(endpoint: &mut Endpoint, from: SocketAddr, packet: &[u8]) -> Accepted {
    match handle(endpoint, from, packet) {
        Outcome::Accept(accepted) => *accepted,
        Outcome::Drop(reason) => panic!("dropped: {reason:?}"),
        _ => panic!("not accepted"),
    }
}

fn dropped(endpoint: &mut Endpoint, from: SocketAddr, packet: &[u8]) -> DropReason {
    match handle(endpoint, from, packet) {
        Outcome::Drop(reason) => reason,
        _ => panic!("not dropped"),
    }
}

fn replies(endpoint: &mut Endpoint, from: SocketAddr, packet: &[u8]) -> Option<usize> {
    match handle(endpoint, from, packet) {
        Outcome::Reply(len) => Some(len),
        _ => None,
    }
}

/// An endpoint and a client that fit, for each wrapping.
fn pairs() -> Vec<(&'static str, Endpoint, Client)> {
    let auth = |direction| WrapKeys::tls_auth(key(1), AuthDigest::Sha256, direction);
    let crypt = |role| WrapKeys::tls_crypt(key(2), role).unwrap();
    vec![
        ("none", endpoint(config(Some(WrapKeys::none()))), Client::plain()),
        (
            "tls-auth",
            endpoint(config(Some(auth(KeyDirection::Normal)))),
            Client::new(auth(KeyDirection::Inverse)),
        ),
        ("tls-crypt", endpoint(config(Some(crypt(TlsRole::Server)))), Client::new(crypt(TlsRole::Client))),
        ("tls-crypt-v2", endpoint(v2_config()), Client::v2(EARLY_NEGOTIATION_START)),
    ]
}

#[test]
fn a_client_enters_through_the_cookie() {
    for (name, mut endpoint, mut client) in pairs() {
        let server = client.begin(&mut endpoint);
        assert_eq!(endpoint.half_open(), 0, "{name}: nothing is kept before the cookie returns");
        let third = client.third(server);
        let mut accepted = accepted(&mut endpoint, client.from, &third);
        assert_eq!(accepted.start, Start::AfterCookie(LocalSid(server)), "{name}");
        assert_eq!(accepted.remote_sid, RemoteSid(client.sid), "{name}");
        let metadata = (name == "tls-crypt-v2").then(|| b"\0metadata".to_vec());
        assert_eq!(accepted.metadata, metadata, "{name}");
        assert!(accepted.wrapping.unwrap(now(), &third, &mut [0; 2048]).is_ok(), "{name}");
        let again = handle(&mut endpoint, client.from, &third);
        assert!(matches!(again, Outcome::Route(to) if to == accepted.handle), "{name}");
    }
}

#[test]
fn the_session_goes_on_with_the_second_replay_id() {
    for (name, mut endpoint, mut client) in pairs() {
        let mut accepted = client.enter(&mut endpoint);
        let header = ControlHeader {
            opcode: Opcode::AckV1,
            key_id: KeyId::FIRST,
            session_id: SessionId::new([1; 8]).unwrap(),
        };
        let acks = AckBlock::from_iter([MessageId(1)]);
        let packet = Control { header, acks, echoed: Some(client.sid), message_id: None, payload: &[] };
        let mut out = [0; 200];
        let len = accepted.wrapping.wrap(now(), &packet, &mut out).unwrap();
        let read = client.wrapping.unwrap(now(), &out[..len], &mut [0; 200]).map(|_| ());
        assert_eq!(read, Ok(()), "{name}: the client takes it for a replay of the reset");
    }
}

#[test]
fn sec_ctl_3_replies_have_the_known_sizes() {
    let sizes = [("none", 14, 26), ("tls-auth", 54, 66), ("tls-crypt", 54, 66), ("tls-crypt-v2", 353, 72)];
    for ((name, mut endpoint, mut client), (of, request, reply)) in pairs().into_iter().zip(sizes) {
        let reset = client.reset();
        assert_eq!((name, reset.len()), (of, request));
        assert_eq!(replies(&mut endpoint, client.from, &reset), Some(reply), "{name}");
    }
}

#[test]
fn sec_ctl_1_a_cookie_counts_only_for_its_address_and_session() {
    for (name, mut endpoint, mut client) in pairs() {
        let server = client.begin(&mut endpoint);
        let third = client.third(server);
        for other in ["192.0.2.1:1195", "192.0.2.2:1194", "[::ffff:192.0.2.1]:1194"] {
            assert_eq!(dropped(&mut endpoint, addr(other), &third), DropReason::Cookie, "{name}");
        }
        let mut stranger = client.named(7);
        let third = stranger.third(server);
        assert_eq!(dropped(&mut endpoint, stranger.from, &third), DropReason::Cookie, "{name}");
    }
}

#[test]
fn each_wrong_bit_of_a_third_packet_keeps_it_out() {
    for (name, mut endpoint, mut client) in pairs() {
        let server = client.begin(&mut endpoint);
        let third = client.third(server);
        for bit in 8..third.len() * 8 {
            // Without wrapping only the two session ids are protected.
            if name == "none" && !(8..72).contains(&bit) && !(112..176).contains(&bit) {
                continue;
            }
            let mut wrong = third.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let outcome = handle(&mut endpoint, client.from, &wrong);
            assert!(matches!(outcome, Outcome::Drop(_)), "{name}: bit {bit}");
        }
        assert_eq!(endpoint.half_open(), 0, "{name}");
        accepted(&mut endpoint, client.from, &third);
    }
}

#[test]
fn a_third_packet_may_be_an_acknowledgement() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let server = client.begin(&mut endpoint);
    let ack = client.packet(Opcode::AckV1, &[0], Some(server), None);
    accepted(&mut endpoint, client.from, &ack);
}

#[test]
fn a_third_packet_that_knows_too_much_is_refused() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let server = Some(client.begin(&mut endpoint));
    for (acks, message) in [(&[0, 2][..], 1), (&[0], 2), (&[1, 0, 2], 0), (&[u32::MAX], 1)] {
        let third = client.packet(Opcode::ControlV1, acks, server, Some(message));
        assert_eq!(dropped(&mut endpoint, client.from, &third), DropReason::NotThirdPacket);
    }
    let third = client.packet(Opcode::ControlV1, &[], None, Some(1));
    assert_eq!(dropped(&mut endpoint, client.from, &third), DropReason::NotThirdPacket);
    for name in ["packet_client_ack_123_none_random_id", "packet_client_control_none_random_id"] {
        let packet = vector(name).input_hex("packet_hex");
        let reason = dropped(&mut endpoint, client.from, &packet);
        assert!(matches!(reason, DropReason::NotThirdPacket | DropReason::Malformed(_)), "{reason:?}");
    }
}

#[test]
fn a_third_packet_without_cookie_is_refused_under_tls_auth() {
    let packet = vector("tls_auth_client_control").input_hex("packet_hex");
    let key = KeyMaterial::from_slice(&vector("static_key_v1").input_hex("hex_2048_bits")).unwrap();
    let keys = WrapKeys::tls_auth(key, AuthDigest::Sha1, KeyDirection::Normal);
    let mut endpoint = endpoint(config(Some(keys)));
    assert_eq!(dropped(&mut endpoint, addr(FROM), &packet), DropReason::NotThirdPacket);
}

#[test]
fn packets_that_cannot_begin_anything_are_dropped_by_name() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let from = client.from;
    let data = data::v2_header(KeyId::FIRST, PeerId::new(1));
    assert_eq!(dropped(&mut endpoint, from, &data), DropReason::Unexpected(Opcode::DataV2));
    for opcode in [Opcode::SoftResetV1, Opcode::HardResetServerV2] {
        let packet = client.packet(opcode, &[], None, Some(0));
        assert_eq!(dropped(&mut endpoint, from, &packet), DropReason::Unexpected(opcode));
    }
    let mut packet = client.reset();
    packet[0] |= 1;
    assert_eq!(dropped(&mut endpoint, from, &packet), DropReason::KeyId);
    let mut packet = client.reset();
    packet.resize(MAX_FIRST_PACKET + 1, 0);
    assert_eq!(dropped(&mut endpoint, from, &packet), DropReason::Oversize);
    assert!(matches!(dropped(&mut endpoint, from, &[0x38; 8]), DropReason::Malformed(_)));
}

#[test]
fn sec_ctl_8_a_hard_reset_with_a_message_id_other_than_0_is_dropped() {
    for (name, mut endpoint, mut client) in pairs() {
        let opcode = if client.v2 { Opcode::HardResetClientV3 } else { Opcode::HardResetClientV2 };
        let packet = client.packet(opcode, &[], None, Some(1));
        assert_eq!(dropped(&mut endpoint, client.from, &packet), DropReason::NotThirdPacket, "{name}");
    }
}

#[test]
fn strangers_to_the_wrapping_get_no_answer() {
    for (name, mut endpoint, mut client) in pairs() {
        for (other, _, mut stranger) in pairs() {
            if name != other {
                let packet = stranger.reset();
                let outcome = handle(&mut endpoint, client.from, &packet);
                assert!(matches!(outcome, Outcome::Drop(_)), "{other} at {name}");
            }
        }
        client.begin(&mut endpoint);
    }
}

#[test]
fn a_wrapped_key_of_another_server_is_refused() {
    let config = EndpointConfig {
        tls_crypt_v2: Some(Arc::new(TlsCryptV2ServerKey::from_slice(&[8; 128]).unwrap())),
        ..config(None)
    };
    let mut client = Client::v2(EARLY_NEGOTIATION_START);
    let reset = client.reset();
    assert_eq!(dropped(&mut endpoint(config), client.from, &reset), DropReason::WrappedKey);
}

#[test]
fn an_old_tls_crypt_v2_client_gets_state_unless_cookies_are_forced() {
    let mut client = Client::v2(0);
    let reset = client.reset();
    let accepted = accepted(&mut endpoint(v2_config()), client.from, &reset);
    assert_eq!(accepted.start, Start::FromReset);
    assert_eq!(accepted.metadata.as_deref(), Some(&b"\0metadata"[..]));
    let forced = EndpointConfig { force_cookie: true, ..v2_config() };
    assert_eq!(dropped(&mut endpoint(forced), client.from, &reset), DropReason::NoCookieSupport);
}

#[test]
fn tls_crypt_v2_and_tls_crypt_share_a_port() {
    let keys = |role| WrapKeys::tls_crypt(key(2), role).unwrap();
    let both = EndpointConfig { wrap: Some(Arc::new(keys(TlsRole::Server))), ..v2_config() };
    let mut endpoint = endpoint(both);
    Client::v2(EARLY_NEGOTIATION_START).named(1).enter(&mut endpoint);
    Client::new(keys(TlsRole::Client)).named(2).enter(&mut endpoint);
}

#[test]
fn on_tcp_the_first_reset_is_accepted() {
    let mut endpoint =
        endpoint(EndpointConfig { transport: Transport::Tcp, ..config(Some(WrapKeys::none())) });
    let mut client = Client::plain();
    let reset = client.reset();
    assert_eq!(accepted(&mut endpoint, client.from, &reset).start, Start::FromReset);
    let mut other = Client::plain().named(7);
    let control = other.packet(Opcode::ControlV1, &[0], Some(client.sid), Some(1));
    assert_eq!(dropped(&mut endpoint, other.from, &control), DropReason::Unexpected(Opcode::ControlV1));
}

#[test]
fn on_tcp_a_stream_carries_one_session() {
    let mut endpoint =
        endpoint(EndpointConfig { transport: Transport::Tcp, ..config(Some(WrapKeys::none())) });
    let mut client = Client::plain();
    let reset = client.reset();
    let first = accepted(&mut endpoint, client.from, &reset).handle;
    let mut second = Client::plain().named(7);
    let reset = second.reset();
    assert_eq!(
        dropped(&mut endpoint, client.from, &reset),
        DropReason::Unexpected(Opcode::HardResetClientV2)
    );
    assert_eq!(endpoint.address(first), Some(client.from));
}

#[test]
fn sec_ctl_4_replies_end_when_the_prefix_has_no_budget_left() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let reset = client.reset();
    for _ in 0..100 {
        assert!(replies(&mut endpoint, client.from, &reset).is_some());
    }
    assert_eq!(dropped(&mut endpoint, client.from, &reset), DropReason::RateLimit);
    assert!(replies(&mut endpoint, addr("198.51.100.1:1"), &reset).is_some());
}

#[test]
fn sec_ctl_4_a_site_behind_one_address_reconnects_at_once() {
    let (_, mut endpoint, _) = pairs().remove(0);
    let mut site: Vec<_> =
        (1..=100_u8).map(|n| Client::plain().named(n).at(&format!("192.0.2.1:{n}"))).collect();
    let greeted: Vec<_> = site.iter_mut().map(|client| client.begin(&mut endpoint)).collect();
    for (client, server) in site.iter_mut().zip(greeted) {
        let third = client.third(server);
        accepted(&mut endpoint, client.from, &third);
    }
}

#[test]
fn connect_freq_limits_everybody_together_and_connect_freq_initial_each_host() {
    let rate = Some(Rate { count: 1, per: Duration::from_secs(10) });
    let plain = || config(Some(WrapKeys::none()));
    let mut limited = endpoint(EndpointConfig { initial_rate: rate, ..plain() });
    let reset = Client::plain().reset();
    assert!(replies(&mut limited, addr("192.0.2.1:1"), &reset).is_some());
    assert_eq!(dropped(&mut limited, addr("192.0.2.1:2"), &reset), DropReason::RateLimit);
    assert!(replies(&mut limited, addr("198.51.100.1:1"), &reset).is_some());
    let mut limited = endpoint(EndpointConfig { session_rate: rate, ..plain() });
    Client::plain().enter(&mut limited);
    let mut second = Client::plain().at("198.51.100.1:1");
    let server = second.begin(&mut limited);
    let third = second.third(server);
    assert_eq!(dropped(&mut limited, second.from, &third), DropReason::RateLimit);
}

#[test]
fn sec_ctl_5_half_open_sessions_are_bounded_per_prefix() {
    let max_half_open = 4 * MAX_HALF_OPEN_PER_PREFIX;
    let mut endpoint = endpoint(EndpointConfig { max_half_open, ..config(Some(WrapKeys::none())) });
    let mut handles = Vec::new();
    for n in 0..max_half_open / 2 {
        handles.push(Client::plain().at(&format!("192.0.2.1:{}", n + 1)).enter(&mut endpoint).handle);
    }
    let mut late = Client::plain().at("192.0.2.1:999");
    let server = late.begin(&mut endpoint);
    let third = late.third(server);
    assert_eq!(dropped(&mut endpoint, late.from, &third), DropReason::HalfOpen);
    Client::plain().at("192.0.2.2:1").enter(&mut endpoint);
    for handle in &handles[..2] {
        endpoint.established(*handle);
    }
    accepted(&mut endpoint, late.from, &third);
}

#[test]
fn sec_ctl_5_a_silent_half_open_session_gives_way_an_active_one_only_when_it_is_old() {
    let mut endpoint = endpoint(EndpointConfig { max_half_open: 2, ..config(Some(WrapKeys::none())) });
    let mut first = Client::plain().at("192.0.2.1:1");
    let active = first.enter(&mut endpoint);
    let silent = Client::plain().at("192.0.2.2:1").enter(&mut endpoint);
    let [third, last] = ["192.0.2.3:1", "192.0.2.4:1"].map(|from| {
        let mut client = Client::plain().at(from);
        let server = client.begin(&mut endpoint);
        (client.from, client.third(server))
    });
    let ack = first.packet(Opcode::AckV1, &[0], Some(first.sid), None);
    let mut at = |seconds, (from, packet): &(SocketAddr, Vec<u8>)| {
        let now = Now { mono: now().mono + Duration::from_secs(seconds), ..now() };
        match endpoint.handle_datagram(now, *from, packet, &mut [0; MAX_FIRST_PACKET]) {
            EndpointAction::Accept(accepted) => Ok(accepted.evicted),
            EndpointAction::Drop(reason) => Err(Some(reason)),
            _ => Err(None),
        }
    };
    let (ack, refused) = ((first.from, ack), Err(Some(DropReason::HalfOpen)));
    assert_eq!(at(0, &third), refused);
    assert_eq!(at(9, &ack), Err(None));
    assert_eq!(at(9, &third), refused);
    assert_eq!(at(11, &third), Ok(vec![silent.handle]));
    assert_eq!(at(18, &third), Err(None));
    assert_eq!(at(18, &ack), Err(None));
    assert_eq!(at(27, &last), refused);
    assert_eq!(at(27, &third), Err(None));
    assert_eq!(at(27, &ack), Err(None));
    assert_eq!(at(31, &last), Ok(vec![active.handle]));
}

#[test]
fn sec_ctl_5_a_prefix_with_more_than_its_share_gives_way_to_others() {
    let max_half_open = 2 * MAX_HALF_OPEN_PER_PREFIX + 2;
    let mut endpoint = endpoint(EndpointConfig { max_half_open, ..config(Some(WrapKeys::none())) });
    let mut enter = |from: String| Client::plain().at(&from).enter(&mut endpoint);
    let first = enter("192.0.2.1:1".to_owned());
    (2..=17).for_each(|n| assert!(enter(format!("192.0.2.1:{n}")).evicted.is_empty()));
    (1..=17).for_each(|n| assert!(enter(format!("198.51.{n}.1:1")).evicted.is_empty()));
    assert_eq!(enter("203.0.113.1:1".to_owned()).evicted, [first.handle]);
    let mut late = Client::plain().at("203.0.113.2:1");
    let server = late.begin(&mut endpoint);
    let third = late.third(server);
    assert_eq!(
        dropped(&mut endpoint, late.from, &third),
        DropReason::HalfOpen,
        "nobody has more than sixteen"
    );
}

#[test]
fn sec_ctl_10_a_reset_for_the_address_of_a_session_leaves_it_alone() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let old = client.enter(&mut endpoint);
    endpoint.established(old.handle);
    let ack = client.packet(Opcode::AckV1, &[0], Some(client.sid), None);
    for n in 1..=15 {
        let mut attacker = Client::plain().named(n);
        let reset = attacker.reset();
        assert!(replies(&mut endpoint, attacker.from, &reset).is_some());
        assert!(matches!(handle(&mut endpoint, client.from, &ack), Outcome::Route(to) if to == old.handle));
    }
    let mut restarted = Client::plain().named(77);
    let new = restarted.enter(&mut endpoint);
    assert_eq!(new.evicted, []);
    assert!(matches!(handle(&mut endpoint, client.from, &ack), Outcome::Route(to) if to == old.handle));
    let again = Client::plain().named(78).enter(&mut endpoint);
    assert_eq!(again.evicted, [new.handle], "one challenger per address");
    endpoint.remove(old.handle);
    assert_eq!(dropped(&mut endpoint, client.from, &ack), DropReason::Cookie);
}

#[test]
fn a_repeated_reset_of_a_known_session_goes_to_the_session() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let session = client.enter(&mut endpoint);
    let reset = client.reset();
    assert!(matches!(handle(&mut endpoint, client.from, &reset), Outcome::Route(to) if to == session.handle));
}

#[test]
fn a_floated_session_is_found_at_its_new_address() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let session = client.enter(&mut endpoint).handle;
    let other = Client::plain().at("192.0.2.9:9").enter(&mut endpoint).handle;
    endpoint.established(other);
    assert_eq!(endpoint.float(session, addr("192.0.2.9:9")), Err(other), "SEC-DATA-4");
    assert_eq!(endpoint.address(session), Some(client.from));
    assert_eq!(endpoint.float(session, addr("192.0.2.8:8")), Ok(()));
    let ack = client.packet(Opcode::AckV1, &[5], Some(client.sid), None);
    let routed = handle(&mut endpoint, addr("192.0.2.8:8"), &ack);
    assert!(matches!(routed, Outcome::Route(to) if to == session));
    assert_eq!(dropped(&mut endpoint, client.from, &ack), DropReason::NotThirdPacket);
    endpoint.remove(session);
    assert_eq!(dropped(&mut endpoint, addr("192.0.2.8:8"), &ack), DropReason::NotThirdPacket);
}

#[test]
fn a_half_open_session_does_not_keep_others_from_its_address() {
    let (_, mut endpoint, mut client) = pairs().remove(0);
    let session = client.enter(&mut endpoint).handle;
    let mut stranger = Client::plain().named(7).at("192.0.2.9:9");
    let half_open = stranger.enter(&mut endpoint).handle;
    assert_eq!(endpoint.float(session, stranger.from), Ok(()));
    for (sender, expected) in [(&mut client, session), (&mut stranger, half_open)] {
        let sid = sender.sid;
        let ack = sender.packet(Opcode::AckV1, &[5], Some(sid), None);
        let routed = handle(&mut endpoint, addr("192.0.2.9:9"), &ack);
        assert!(matches!(routed, Outcome::Route(to) if to == expected));
    }
}

proptest! {
    #[test]
    fn random_packets_are_dropped(mut bytes in prop::collection::vec(any::<u8>(), 0..1400), opcode in 0_u8..32) {
        for (name, mut endpoint, client) in pairs() {
            if let Some(first) = bytes.first_mut() {
                *first = opcode << 3;
            }
            // Any 14 bytes with the right opcode are a reset where nothing is wrapped.
            let outcome = handle(&mut endpoint, client.from, &bytes);
            prop_assert!(matches!(outcome, Outcome::Drop(_)) || (name == "none" && opcode == 7), "{}", name);
            prop_assert_eq!(endpoint.half_open(), 0);
        }
    }
}
