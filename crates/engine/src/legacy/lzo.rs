//! Decompression of LZO1X, for peers that compress.
//!
//! A stream is instructions, each with operands; bits of the first byte say which. Most copy a match, `length` bytes from
//! `distance` back in the output, and then up to three literals, bytes of the input. How many literals went before decides
//! what the lowest instructions mean. Lengths that do not fit go on in further bytes: zeros are worth 255 each, the first
//! other byte ends it.
//!
//! | first byte | what | then |
//! |---|---|---|
//! | `0000LLLL`, no literals before | 3 + L literals (L = 0: 18 and further bytes) | a run of literals went before |
//! | `0000DDSS H`, 1 to 3 literals before | match of 2, distance 1 + D + 4 H | S literals |
//! | `0000DDSS H`, a run before | match of 3, distance 2049 + D + 4 H | S literals |
//! | `0001HLLL`, 14 bits D, 2 bits S | match of 2 + L (0: 9), distance 16384 (1 + H) + D; 16384 ends the stream | S literals |
//! | `001LLLLL`, 14 bits D, 2 bits S | match of 2 + L (0: 33), distance 1 + D | S literals |
//! | `01LDDDSS H` | match of 3 + L, distance 1 + D + 8 H | S literals |
//! | `1LLDDDSS H` | match of 5 + L, distance 1 + D + 8 H | S literals |
//!
//! The first byte of all, if it is above 17, stands for as many literals less 17.
//! Source: the kernel's description of the format, Documentation/staging/lzo.rst. Every index is checked: the input is the peer's.

/// Literals that went before the next instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    None,
    /// One to three, behind a match.
    Few,
    /// An instruction of its own.
    Run,
}

/// A match, and the literals behind it.
struct Match {
    len: usize,
    distance: usize,
    literals: usize,
}

/// Decompresses all of `input` into `out`, which is emptied first, up to `max` bytes. `None`: it is no such stream, or longer.
pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, max: usize) -> Option<()> {
    out.clear();
    let mut stream = Stream { rest: input, out, max };
    let mut before = Before::None;
    if let Some(count @ 1..) = input.first()?.checked_sub(17) {
        stream.byte()?;
        before = stream.literals(count.into())?;
    }
    loop {
        let first = stream.byte()?;
        if first < 16 && before == Before::None {
            let count = stream.extended(usize::from(first), 15)? + 3;
            stream.literals(count)?;
            before = Before::Run;
            continue;
        }
        let found = stream.read_match(first, before)?;
        if first & 0xF0 == 16 && found.distance == 16_384 {
            // OpenVPN's library takes nothing behind the end, either.
            return stream.rest.is_empty().then_some(());
        }
        stream.copy(&found)?;
        before = stream.literals(found.literals)?;
    }
}

struct Stream<'a> {
    rest: &'a [u8],
    out: &'a mut Vec<u8>,
    max: usize,
}

impl Stream<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// A length: the bits that the instruction had for it, or, where they are zero, their largest value and what follows.
    fn extended(&mut self, bits: usize, largest: usize) -> Option<usize> {
        if bits > 0 {
            return Some(bits);
        }
        let mut len = largest;
        loop {
            match self.byte()? {
                // Bounded by the input's length: no sum can overflow.
                0 => len += 255,
                last => return Some(len + usize::from(last)),
            }
        }
    }

    /// Copies bytes of the input.
    fn literals(&mut self, count: usize) -> Option<Before> {
        let (literals, rest) = self.rest.split_at_checked(count)?;
        if self.out.len() + count > self.max {
            return None;
        }
        self.out.extend_from_slice(literals);
        self.rest = rest;
        Some(match count {
            0 => Before::None,
            1..=3 => Before::Few,
            _ => Before::Run,
        })
    }

    /// Reads the operands of a match.
    fn read_match(&mut self, first: u8, before: Before) -> Option<Match> {
        let bits = usize::from(first);
        Some(match first {
            0..16 => {
                let near = usize::from(self.byte()?) * 4 + (bits >> 2);
                let (len, distance) = if before == Before::Run { (3, near + 2049) } else { (2, near + 1) };
                Match { len, distance, literals: bits & 3 }
            }
            16..32 => {
                let len = self.extended(bits & 7, 7)? + 2;
                let (low, literals) = self.far()?;
                Match { len, distance: 16_384 + ((bits & 8) << 11) + low, literals }
            }
            32..64 => {
                let len = self.extended(bits & 31, 31)? + 2;
                let (low, literals) = self.far()?;
                Match { len, distance: low + 1, literals }
            }
            64.. => {
                let len = if first < 128 { 3 + (bits >> 5 & 1) } else { 5 + (bits >> 5 & 3) };
                let distance = usize::from(self.byte()?) * 8 + (bits >> 2 & 7) + 1;
                Match { len, distance, literals: bits & 3 }
            }
        })
    }

    /// Two bytes, the lower one first: 14 bits of distance, 2 bits of literals.
    fn far(&mut self) -> Option<(usize, usize)> {
        let operand = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?]));
        Some((operand >> 2, operand & 3))
    }

    /// Copies bytes of the output, which may be bytes that were copied just before.
    fn copy(&mut self, found: &Match) -> Option<()> {
        let from = self.out.len().checked_sub(found.distance)?;
        if self.out.len() + found.len > self.max {
            return None;
        }
        for at in from..from + found.len {
            let byte = *self.out.get(at)?;
            self.out.push(byte);
        }
        Some(())
    }
}

#[cfg(test)]
#[path = "lzo_tests.rs"]
mod tests;
