//! Clamping the MSS option of TCP SYN segments (`mssfix`).

use super::{
    TCP,
    ip::{Transport, Version},
};

const SYN: u8 = 0x02;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Lowers the MSS that a SYN announces to `limit` (IPv6: 20 less), fixing the checksum. Leaves everything else alone.
///
/// spec: protocol, "MTU and MSS": both directions, no fragments, no IPv6 extension headers, only downwards.
pub(crate) fn clamp_mss(packet: &mut [u8], limit: u16) {
    let Some(transport) = Transport::find(packet) else { return };
    if transport.protocol != TCP || packet[transport.start + 13] & SYN == 0 {
        return;
    }
    let Some(header_len) = transport.header_len(packet) else { return };
    let limit = if transport.version == Version::V6 { limit.saturating_sub(20) } else { limit };
    let segment = &mut packet[transport.start..][..header_len];
    let Some(at) = find_option(segment) else { return };
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if old <= limit {
        return;
    }
    segment[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    // An option may stand at an odd offset; its bytes then weigh the other way round in the sum.
    let (old, new) = if at % 2 == 0 { (old, limit) } else { (old.swap_bytes(), limit.swap_bytes()) };
    let sum = u16::from_be_bytes([segment[16], segment[17]]);
    segment[16..18].copy_from_slice(&update(sum, old, new).to_be_bytes());
}

/// Finds the value of the MSS option.
fn find_option(segment: &[u8]) -> Option<usize> {
    let mut at = 20;
    loop {
        match *segment.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 || at + len > segment.len() {
                    return None;
                }
                if kind == OPTION_MSS && len == 4 {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
}

/// RFC 1624, equation 3: `HC' = ~(~HC + ~m + m')`.
#[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::segment_tests::{tcp4, tcp6};

    fn syn(options: &[u8], v6: bool) -> Vec<u8> {
        let mut packet = if v6 { tcp6(7, SYN, b"") } else { tcp4(7, SYN, b"") };
        let start = if v6 { 40 } else { 20 };
        packet.extend_from_slice(options);
        packet[start + 12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        crate::packet::segment_tests::finish(&mut packet);
        packet
    }

    fn mss_after(options: &[u8], v6: bool, limit: u16) -> (Vec<u8>, bool) {
        let mut packet = syn(options, v6);
        clamp_mss(&mut packet, limit);
        let valid = Transport::find(&packet).unwrap().is_valid(&packet);
        (packet[if v6 { 60 } else { 40 }..].to_vec(), valid)
    }

    #[test]
    fn a_larger_mss_is_lowered_and_the_checksum_stays_right() {
        assert_eq!(mss_after(&[2, 4, 0x05, 0xB4], false, 1300), (vec![2, 4, 0x05, 0x14], true));
        assert_eq!(mss_after(&[2, 4, 0x05, 0xA0], true, 1300), (vec![2, 4, 0x05, 0x00], true));
    }

    #[test]
    fn an_option_at_an_odd_offset_is_found_too() {
        let (options, valid) = mss_after(&[1, 2, 4, 0x05, 0xB4, 1, 1, 0], false, 1000);
        assert_eq!((options, valid), (vec![1, 2, 4, 0x03, 0xE8, 1, 1, 0], true));
    }

    #[test]
    fn a_smaller_mss_and_broken_options_are_left_alone() {
        for options in [[2, 4, 0x02, 0x00], [2, 0, 0x05, 0xB4], [2, 40, 0x05, 0xB4], [3, 3, 0x05, 0]] {
            assert_eq!(mss_after(&options, false, 1300), (options.to_vec(), true));
        }
    }
}
