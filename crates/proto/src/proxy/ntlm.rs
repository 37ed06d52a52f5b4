//! NTLM version 2: three messages, over one connection ([MS-NLMP], sections 2.2.1 and 3.3.2).
//!
//! ```text
//! all     "NTLMSSP\0" | type:32 | …             little-endian; a field is length:16 | room:16 | offset:32
//! 1       flags:32 | domain field | workstation field
//! 2       target field | flags:32 | challenge:64 | reserved:64 | target information field | …
//! 3       fields: LM response, NT response, domain, user, workstation, session key | flags:32 | what they point at
//! ```

use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::{Digest as _, Md4};
use md5::Md5;
use zeroize::Zeroizing;

use super::ProxyError;
use crate::Credentials;

/// Returns the first message: it asks for a challenge and tells nothing.
pub(super) fn negotiate() -> Vec<u8> {
    let mut message = head(1);
    message.extend(FLAGS.to_le_bytes());
    // Neither a domain nor a workstation.
    message.extend([0; 16]);
    message
}

/// Returns the third message, the answer to the second. `nonce` and `unix` (seconds since 1970) make it unique.
///
/// # Errors
/// When the second message cannot be read.
pub(super) fn authenticate(
    challenge: &[u8],
    login: &Credentials,
    nonce: [u8; 8],
    unix: u32,
) -> Result<Zeroizing<Vec<u8>>, ProxyError> {
    let challenge = Challenge::parse(challenge)?;
    let (domain, user) = login.username.split_once('\\').unwrap_or(("", &login.username));
    let told = challenge.time();
    let time = told.unwrap_or_else(|| filetime(unix).to_le_bytes());
    let mut responses = Responses::new(&challenge, (domain, user, &login.password), nonce, time);
    if told.is_some() {
        responses.lm = [0; 24]; // who tells the time wants none (section 3.1.5.1.2)
    }
    let encode = |text: &str| if challenge.unicode { utf16(text) } else { text.as_bytes().to_vec() };
    let fields = [
        responses.lm.to_vec(),
        responses.nt,
        encode(domain),
        encode(user),
        encode("culvert"),
        Vec::new(), // no session key: nothing is signed
    ];
    let mut message = Zeroizing::new(head(3));
    let mut offset = AUTHENTICATE_HEAD;
    for field in &fields {
        let len = u16::try_from(field.len()).map_err(|_| ProxyError::Ntlm("it is too long"))?;
        message.extend(len.to_le_bytes());
        message.extend(len.to_le_bytes());
        message.extend(offset.to_le_bytes());
        offset += u32::from(len);
    }
    let encoding = if challenge.unicode { UNICODE } else { OEM };
    message.extend((FLAGS & !(UNICODE | OEM) | encoding).to_le_bytes());
    message.extend(fields.concat());
    Ok(message)
}

/// The second message.
struct Challenge<'a> {
    nonce: [u8; 8],
    unicode: bool,
    target: &'a [u8],
}

impl<'a> Challenge<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ProxyError> {
        let malformed = |what| ProxyError::Ntlm(what);
        if !bytes.starts_with(&head(2)) {
            return Err(malformed("it is not a second message"));
        }
        let at = |offset: usize| bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>);
        let flags = at(20).map(|flags| u32::from_le_bytes(*flags)).ok_or(malformed("it is too short"))?;
        let nonce = bytes.get(24..).and_then(<[u8]>::first_chunk::<8>).ok_or(malformed("it is too short"))?;
        // Older servers have no target information, and other bytes there; the answer is then made without.
        let target = match (at(40), at(44)) {
            (Some(&[low, high, ..]), Some(offset)) if flags & TARGET_INFO != 0 => {
                let start = usize::try_from(u32::from_le_bytes(*offset)).unwrap_or(usize::MAX);
                let len = usize::from(u16::from_le_bytes([low, high]));
                let range = start..start.saturating_add(len);
                if len == 0 { &[] } else { bytes.get(range).ok_or(malformed("its target lies outside"))? }
            }
            _ => &[],
        };
        Ok(Self { nonce: *nonce, unicode: flags & UNICODE != 0, target })
    }

    /// The server's time (`MsvAvTimestamp`), where it tells one.
    fn time(&self) -> Option<[u8; 8]> {
        let mut rest = self.target;
        loop {
            let (&[id_low, id_high, low, high], after) = rest.split_first_chunk::<4>()?;
            let (value, next) = after.split_at_checked(u16::from_le_bytes([low, high]).into())?;
            match u16::from_le_bytes([id_low, id_high]) {
                AV_END => return None,
                AV_TIMESTAMP => return value.first_chunk::<8>().copied(),
                _ => rest = next,
            }
        }
    }
}

struct Responses {
    lm: [u8; 24],
    nt: Vec<u8>,
}

impl Responses {
    /// Section 3.3.2.
    fn new(
        challenge: &Challenge<'_>,
        (domain, user, password): (&str, &str, &str),
        nonce: [u8; 8],
        time: [u8; 8],
    ) -> Self {
        let hashed = Zeroizing::new(<[u8; 16]>::from(Md4::digest(&*Zeroizing::new(utf16(password)))));
        let name = [utf16(&user.to_uppercase()), utf16(domain)].concat();
        let key = Zeroizing::new(hmac_md5(&*hashed, &[&name]));
        let temp =
            [&[1, 1, 0, 0, 0, 0, 0, 0][..], &time, &nonce, &[0; 4], challenge.target, &[0; 4]].concat();
        let proof = hmac_md5(&*key, &[&challenge.nonce, &temp]);
        let mut lm = [0; 24];
        lm[..16].copy_from_slice(&hmac_md5(&*key, &[&challenge.nonce, &nonce]));
        lm[16..].copy_from_slice(&nonce);
        Self { lm, nt: [&proof[..], &temp].concat() }
    }
}

/// Hundreds of nanoseconds since 1601.
fn filetime(unix: u32) -> u64 {
    (u64::from(unix) + 11_644_473_600) * 10_000_000
}

fn head(number: u32) -> Vec<u8> {
    [&b"NTLMSSP\0"[..], &number.to_le_bytes()].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // A key of any length is taken: the error does not occur.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 16] };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

const UNICODE: u32 = 0x1;
const OEM: u32 = 0x2;
/// Besides these: a target is wanted, NTLM, signatures of version 2 (which nothing uses here).
const FLAGS: u32 = UNICODE | OEM | 0x4 | 0x200 | 0x8_0000;
/// The second message has target information.
const TARGET_INFO: u32 = 0x80_0000;
/// Up to the payload.
const AUTHENTICATE_HEAD: u32 = 64;
const AV_END: u16 = 0;
const AV_TIMESTAMP: u16 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// A field of a third message, by its place.
    fn field(message: &[u8], index: usize) -> Vec<u8> {
        let at = 12 + 8 * index;
        let number = |at: usize| usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        message[number(at + 4)..][..number(at)].to_vec()
    }

    /// \[MS-NLMP\], section 4.2.4: "Domain", "Server".
    const TARGET: &str = "02000c0044006f006d00610069006e0001000c005300650072007600650072000000 0000";

    /// A second message with this target information.
    fn challenge(target: &[u8]) -> Vec<u8> {
        let mut message = head(2);
        message.extend([0; 8]);
        message.extend((FLAGS | TARGET_INFO).to_le_bytes());
        message.extend(bytes("0123456789abcdef"));
        message.extend([0; 8]);
        let len = u16::try_from(target.len()).unwrap().to_le_bytes();
        message.extend([len, len].concat());
        message.extend(48_u32.to_le_bytes());
        message.extend(target);
        message
    }

    /// \[MS-NLMP\], section 4.2.4.3: the second message.
    const SECOND: &str =
        "4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000
        2400240044000000 060070170000000f 530065007200760065007200
        02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000";

    /// \[MS-NLMP\], section 4.2.4: the values of 4.2.1, the responses of 4.2.4.2 and those in the message of 4.2.4.3.
    #[test]
    fn responses_are_those_of_the_specification() {
        let second = bytes(SECOND);
        let challenge = Challenge::parse(&second).unwrap();
        assert_eq!(challenge.time(), None);
        let responses = Responses::new(&challenge, ("Domain", "User", "Password"), [0xaa; 8], [0; 8]);
        assert_eq!(responses.lm.to_vec(), bytes("86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa"));
        let nt =
            "68cd0ab851e51c96aabc927bebef6a1c 0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000
            02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000 00000000";
        assert_eq!(responses.nt, bytes(nt));
    }

    #[test]
    fn the_server_s_time_is_used_and_silences_the_lm_response() {
        let mut target = bytes(TARGET);
        target.splice(target.len() - 4.., bytes("0700 0800 0102030405060708 0000 0000"));
        let login = Credentials { username: "u".to_owned(), password: Zeroizing::new("p".to_owned()) };
        let message = authenticate(&challenge(&target), &login, [1; 8], 7).unwrap();
        assert_eq!(field(&message, 0), [0; 24]);
        assert_eq!(field(&message, 1)[16 + 8..16 + 16], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_domain_stands_before_the_user() {
        let login =
            Credentials { username: "DOM\\user".to_owned(), password: Zeroizing::new("p".to_owned()) };
        let message = authenticate(&challenge(&[]), &login, [1; 8], 0).unwrap();
        assert_eq!((field(&message, 2), field(&message, 3)), (utf16("DOM"), utf16("user")));
    }

    #[test]
    fn malformed_challenges_are_refused() {
        let login = Credentials { username: "u".to_owned(), password: Zeroizing::new(String::new()) };
        let good = challenge(&bytes(TARGET));
        for bad in [&good[..10], &good[..30], &good[..good.len() - 1], b"NTLMSSP\0\x03\0\0\0"] {
            assert!(authenticate(bad, &login, [0; 8], 0).is_err(), "{bad:?}");
        }
    }
}
