use std::time::Instant;

use culvert_testkit::vectors::{numbers, vector};

use super::*;

fn at(unix: u64) -> Now {
    Now { mono: Instant::now(), unix: u32::try_from(unix).unwrap() }
}

fn cookies() -> Cookies {
    Cookies::new(CookieKey::new([7; 16]), Duration::from_secs(60))
}

fn client() -> RemoteSid {
    RemoteSid(SessionId::new(*b"clientid").unwrap())
}

const FROM: &str = "192.0.2.1:1194";

#[test]
fn a_cookie_is_accepted_within_its_slots_only() {
    let v = vector("session_id_cookie_window");
    let cookies = Cookies::new(CookieKey::new([7; 16]), Duration::from_secs(v.input_u64("hand_window")));
    assert_eq!(u64::from(cookies.slot_secs), v.input_u64("slot_length"));
    let from = FROM.parse().unwrap();
    let cookie = cookies.issue(at(v.input_u64("issued_at")), from, client());
    for now in numbers(&v.expected()["accepted_at"]) {
        assert!(cookies.verify(at(now), from, client(), cookie), "at {now}");
    }
    for now in numbers(&v.expected()["rejected_at"]) {
        assert!(!cookies.verify(at(now), from, client(), cookie), "at {now}");
    }
}

#[test]
fn sec_ctl_1_a_cookie_from_the_next_slot_is_refused() {
    let (cookies, from) = (cookies(), FROM.parse().unwrap());
    let next = cookies.issue(at(3_030), from, client());
    assert!(!cookies.verify(at(3_029), from, client(), next));
    assert!(cookies.verify(at(3_030), from, client(), next));
    assert!(cookies.verify(at(3_119), from, client(), next));
    assert!(!cookies.verify(at(3_120), from, client(), next));
}

#[test]
fn sec_ctl_1_each_wrong_bit_of_the_cookie_is_seen() {
    let (cookies, from) = (cookies(), FROM.parse().unwrap());
    let cookie = cookies.issue(at(3_000), from, client());
    for bit in 0..64 {
        let mut wrong = *cookie.0.as_bytes();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let wrong = LocalSid(SessionId::new(wrong).unwrap());
        assert!(!cookies.verify(at(3_000), from, client(), wrong), "bit {bit}");
    }
}

#[test]
fn sec_ctl_1_each_wrong_bit_of_the_client_is_seen() {
    let (cookies, from): (_, SocketAddr) = (cookies(), FROM.parse().unwrap());
    let cookie = cookies.issue(at(3_000), from, client());
    for bit in 0..64 {
        let mut sid = *client().0.as_bytes();
        sid[bit / 8] ^= 1 << (bit % 8);
        let other = RemoteSid(SessionId::new(sid).unwrap());
        assert!(!cookies.verify(at(3_000), from, other, cookie), "bit {bit} of the session id");
    }
    for bit in 0..32 {
        let IpAddr::V4(ip) = from.ip() else { panic!("the address is an IPv4 one") };
        let ip = std::net::Ipv4Addr::from(u32::from(ip) ^ 1 << bit);
        let other = SocketAddr::new(ip.into(), from.port());
        assert!(!cookies.verify(at(3_000), other, client(), cookie), "bit {bit} of the address");
    }
    for bit in 0..16 {
        let other = SocketAddr::new(from.ip(), from.port() ^ 1 << bit);
        assert!(!cookies.verify(at(3_000), other, client(), cookie), "bit {bit} of the port");
    }
}

#[test]
fn sec_ctl_1_each_wrong_bit_of_an_ipv6_address_and_of_the_key_is_seen() {
    let from: SocketAddr = "[2001:db8::1]:1194".parse().unwrap();
    let cookie = cookies().issue(at(3_000), from, client());
    assert!(cookies().verify(at(3_000), from, client(), cookie));
    for bit in 0..128 {
        let IpAddr::V6(ip) = from.ip() else { panic!("the address is an IPv6 one") };
        let ip = std::net::Ipv6Addr::from(u128::from(ip) ^ 1 << bit);
        let other = SocketAddr::new(ip.into(), from.port());
        assert!(!cookies().verify(at(3_000), other, client(), cookie), "bit {bit} of the address");
        let mut key = [7; 16];
        key[bit / 8] ^= 1 << (bit % 8);
        let others = Cookies::new(CookieKey::new(key), Duration::from_secs(60));
        assert!(!others.verify(at(3_000), from, client(), cookie), "bit {bit} of the key");
    }
}

#[test]
fn the_first_slots_of_time_have_no_past() {
    let (cookies, from) = (cookies(), FROM.parse().unwrap());
    let cookie = cookies.issue(at(0), from, client());
    assert!(cookies.verify(at(0), from, client(), cookie));
    assert!(cookies.verify(at(89), from, client(), cookie));
    assert!(!cookies.verify(at(90), from, client(), cookie));
}
