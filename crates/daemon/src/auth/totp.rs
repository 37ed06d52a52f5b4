//! One-time codes from a shared secret and the time of day (RFC 6238): HMAC-SHA-1, 30 seconds, 6 digits, which is what
//! every authenticator application takes.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use zeroize::Zeroizing;

/// Seconds for which a code stands.
const STEP: u64 = 30;
/// Digits of a code.
pub(super) const DIGITS: usize = 6;
/// Steps before and after the current one that are taken too: clocks differ.
const TOLERANCE: u64 = 1;
/// Bytes of a new secret: as long as the hash (RFC 4226, section 4, R6).
const SECRET_LEN: usize = 20;

/// A secret that an application and the server share.
pub(super) struct TotpSecret(Zeroizing<Vec<u8>>);

/// The half minute that a time belongs to.
pub(super) const fn step(unix: u64) -> u64 {
    unix / STEP
}

/// Whether codes of a half minute are still taken.
pub(super) const fn is_current(it: u64, now: u64) -> bool {
    it + TOLERANCE >= step(now)
}

impl TotpSecret {
    /// Reads base32, in either case, with or without padding and blanks; at least 128 bits (RFC 4226, R6).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let (mut buffer, mut bits) = (0_u32, 0);
        for c in text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')) {
            let value = match c.to_ascii_uppercase() {
                c @ 'A'..='Z' => u32::from(c) - u32::from('A'),
                c @ '2'..='7' => u32::from(c) - u32::from('2') + 26,
                _ => return None,
            };
            buffer = buffer << 5 | value;
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from(buffer >> bits & 0xFF).ok()?);
                buffer &= (1 << bits) - 1;
            }
        }
        (bytes.len() >= 16).then_some(Self(bytes))
    }

    /// Draws a new one, as base32.
    pub(super) fn generate() -> Zeroizing<String> {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        crate::random::fill(&mut *secret);
        let mut text = Zeroizing::new(String::with_capacity(SECRET_LEN * 8 / 5));
        for five in secret.chunks_exact(5) {
            let bits = five.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            for shift in (0..8).rev() {
                let index = usize::try_from(bits >> (shift * 5) & 31).unwrap_or(0);
                text.push(char::from(ALPHABET[index]));
            }
        }
        text
    }

    /// Returns the step that a code belongs to, if it is one of now and later than `after`: each is good once.
    pub(super) fn step_of(&self, code: &str, now: u64, after: Option<u64>) -> Option<u64> {
        let current = step(now);
        let steps = current.saturating_sub(TOLERANCE)..=current + TOLERANCE;
        // All are compared, also after a hit: how long it takes says nothing.
        let mut found = None;
        for step in steps {
            let is_equal = culvert_crypto::constant_time_eq(self.code(step).as_bytes(), code.as_bytes());
            if is_equal && after.is_none_or(|after| step > after) {
                found = Some(step);
            }
        }
        found
    }

    fn code(&self, step: u64) -> Zeroizing<String> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104)")]
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes any key");
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        // RFC 4226, 5.3: four bytes at a place that the last one names, without the sign.
        let offset = usize::from(hash[hash.len() - 1] & 15);
        let mut four = [0; 4];
        four.copy_from_slice(&hash[offset..offset + 4]);
        let number = (u32::from_be_bytes(four) & 0x7FFF_FFFF) % 10_u32.pow(6);
        Zeroizing::new(format!("{number:06}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: the secret of SHA-1 and the last six of eight digits.
    fn rfc() -> TotpSecret {
        TotpSecret::parse("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let vectors = [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ];
        for (time, code) in vectors {
            assert_eq!(rfc().step_of(code, time, None), Some(time / STEP), "{time}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_one_step_and_no_more() {
        for (now, accepted) in [(0, true), (59, true), (89, true), (90, false), (1000, false)] {
            assert_eq!(rfc().step_of("287082", now, None).is_some(), accepted, "{now}");
        }
    }

    #[test]
    fn a_code_is_good_once() {
        let step = rfc().step_of("287082", 59, None).unwrap();
        assert_eq!(rfc().step_of("287082", 59, Some(step)), None);
        assert_eq!(rfc().step_of("287082", 59, Some(step - 1)), Some(step));
    }

    #[test]
    fn secrets_are_base32_of_128_bits_at_least() {
        assert_eq!(*TotpSecret::parse("gezd gnbv gy3t qojq gezd gnbv gy3t qojq====").unwrap().0, *rfc().0);
        for bad in ["", "JBSWY3DPEHPK3PXP", "0EZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"] {
            assert!(TotpSecret::parse(bad).is_none(), "{bad}");
        }
        let (one, other) = (TotpSecret::generate(), TotpSecret::generate());
        assert_eq!(TotpSecret::parse(&one).unwrap().0.len(), SECRET_LEN);
        assert_ne!(*one, *other);
    }
}
