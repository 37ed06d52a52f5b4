//! The Internet checksum (RFC 1071), eight bytes at a time.
//!
//! Sums are kept in the machine's byte order: the one's complement sum does not care, as long as what is added and
//! what is stored use the same order.

/// A one's complement sum that is not yet folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes. Each piece begins at an even offset of what is summed; only the last may have an odd length.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        let mut lanes = self.lanes();
        let (blocks, rest) = bytes.as_chunks();
        for block in blocks {
            add_block(&mut lanes, block);
        }
        Self::of(lanes).add_rest(rest)
    }

    /// Adds bytes, as [`Self::add`] does, and copies them to `out`, which has their length: a single pass over memory.
    pub(super) fn add_copying(self, bytes: &[u8], out: &mut [u8]) -> Self {
        let mut lanes = self.lanes();
        let (blocks, rest) = bytes.as_chunks();
        let (out_blocks, out_rest) = out.as_chunks_mut();
        for (block, out) in blocks.iter().zip(out_blocks) {
            add_block(&mut lanes, block);
            *out = *block;
        }
        out_rest.copy_from_slice(rest);
        Self::of(lanes).add_rest(rest)
    }

    const fn lanes(self) -> Lanes {
        [self.0, 0, 0, 0]
    }

    fn of(lanes: Lanes) -> Self {
        Self(add_carry(add_carry(lanes[0], lanes[1]), add_carry(lanes[2], lanes[3])))
    }

    /// Adds less than a block.
    fn add_rest(self, rest: &[u8]) -> Self {
        let mut sum = self.0;
        let (words, rest) = rest.as_chunks();
        for word in words {
            sum = add_carry(sum, u64::from_ne_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        Self(add_carry(sum, u64::from_ne_bytes(last)))
    }

    /// Adds a 16-bit number as it stands on the wire.
    pub(super) fn add_u16(self, number: u16) -> Self {
        Self(add_carry(self.0, u64::from(u16::from_ne_bytes(number.to_be_bytes()))))
    }

    /// The folded sum as two bytes for the wire, not complemented: what hardware and kernel finish.
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    pub(super) fn partial(self) -> [u8; 2] {
        let mut sum = (self.0 & 0xFFFF_FFFF) + (self.0 >> 32);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        (sum as u16).to_ne_bytes()
    }

    /// The checksum as two bytes for the wire.
    pub(super) fn checksum(self) -> [u8; 2] {
        self.partial().map(|byte| !byte)
    }

    /// Returns whether the sum over something that contains its own checksum is right.
    pub(super) fn is_valid(self) -> bool {
        self.partial() == [0xFF; 2]
    }
}

/// Independent sums: an addition need not wait for the carry of the one before.
type Lanes = [u64; 4];

fn add_block(lanes: &mut Lanes, block: &[u8; 32]) {
    let (words, _) = block.as_chunks();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = add_carry(*lane, u64::from_ne_bytes(*word));
    }
}

fn add_carry(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u64::from(carry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        u16::try_from(sum).unwrap().to_be_bytes()
    }

    /// 0x0000 and 0xFFFF are the same number in one's complement.
    fn same(a: [u8; 2], b: [u8; 2]) -> bool {
        let zero = |s| s == [0, 0] || s == [0xFF, 0xFF];
        a == b || (zero(a) && zero(b))
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_rfc_1071(bytes in prop::collection::vec(any::<u8>(), 0..3000), cut in 0_usize..1500) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let sum = Sum::default().add(&bytes[..cut]).add(&bytes[cut..]).partial();
            prop_assert!(same(sum, plain(&bytes)));
            let mut copy = vec![0; bytes.len() - cut];
            prop_assert_eq!(Sum::default().add(&bytes[..cut]).add_copying(&bytes[cut..], &mut copy).partial(), sum);
            prop_assert_eq!(&copy, &bytes[cut..]);
        }
    }

    #[test]
    fn a_message_with_its_checksum_is_valid() {
        // The example of RFC 1071, section 3.
        let data = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
        let sum = Sum::default().add(&data);
        assert_eq!(sum.checksum(), [0x22, 0x0D]);
        assert!(sum.add(&[0x22, 0x0D]).is_valid());
    }
}
