//! `fragment`: payloads that do not fit into a datagram of the wanted size are cut, and put together again.
//!
//! In front of every payload there are 32 bits, most significant byte first:
//!
//! ```text
//! bits  0-1   0 whole, 1 a piece with others behind it, 2 the last piece
//! bits  2-9   sequence number, the same for the pieces of one payload
//! bits 10-14  number of the piece
//! bits 15-28  last piece: size of the others, divided by 4
//! ```
//!
//! All pieces but the last have the same size, a multiple of 4, so each says by its number where it belongs.
//! Source: protocol document, "Fragmentation".

use culvert_crypto::random_bytes;

/// In front of every payload, cut or not.
pub(super) const HEADER_LEN: usize = 4;
const WHOLE: u32 = 0;
const MORE: u32 = 1;
const LAST: u32 = 2;
/// Pieces of a payload.
const MAX_PIECES: usize = 32;
/// Payloads that are put together at a time: as many sequence numbers, up to the latest, as stock peers look back.
const MAX_OPEN: u8 = 25;
/// Milliseconds after which pieces are forgotten, counted from the last of them.
const LIFETIME: u64 = 10_000;
/// Bytes that incomplete payloads of a peer may hold: 25 of common size, or a few of the largest.
const MAX_HELD: usize = 256 << 10;
/// The largest payload.
const MAX_PAYLOAD: usize = 65_535;

/// Cuts payloads.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The most bytes of a piece, without its header: a multiple of 4.
    size: usize,
    sequence: u8,
}

/// A payload, ready to be taken piece by piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Bytes of each piece but the last.
    size: usize,
    len: usize,
    sequence: u8,
}

/// Puts payloads together.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: Vec<Partial>,
    /// The latest sequence number. Numbers come again after 256 payloads: what is incomplete by then must be gone.
    latest: Option<u8>,
}

/// A payload of which pieces are missing.
#[derive(Debug)]
struct Partial {
    sequence: u8,
    /// Size of each piece but the last.
    size: usize,
    /// A bit for each piece that is there; the last one sets all that could follow it.
    have: u32,
    bytes: Vec<u8>,
    /// Known once the last piece came.
    total: Option<usize>,
    /// When the latest piece came.
    touched: u64,
}

/// What a received payload is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Complete, now.
    Payload,
    /// A piece, with others still to come.
    Incomplete,
}

impl Cutter {
    /// Cuts what is longer than `max` bytes, header excluded.
    pub(super) fn new(max: u16) -> Self {
        let mut sequence = [0];
        // Any number does; a random one keeps pieces of another session apart. Without randomness there are no keys either.
        let _ = random_bytes(&mut sequence);
        let [sequence] = sequence;
        Self { size: usize::from(max.max(4) & !3), sequence }
    }

    /// Decides how a payload is cut; pieces are about equally long. `None`: it would take too many.
    pub(super) fn cut(&mut self, len: usize) -> Option<Cut> {
        let pieces = len.div_ceil(self.size).max(1);
        if pieces > MAX_PIECES {
            return None;
        }
        if pieces > 1 {
            self.sequence = self.sequence.wrapping_add(1);
        }
        let size = len.div_ceil(pieces).next_multiple_of(4);
        Some(Cut { size, len, sequence: self.sequence })
    }
}

impl Cut {
    /// How many pieces.
    pub(super) const fn count(&self) -> usize {
        if self.len <= self.size { 1 } else { self.len.div_ceil(self.size) }
    }

    /// The header of a piece, and where in the payload it begins and ends.
    pub(super) fn piece(&self, index: usize) -> ([u8; HEADER_LEN], std::ops::Range<usize>) {
        let (start, count) = (index * self.size, self.count());
        let end = (start + self.size).min(self.len);
        if count == 1 {
            return (WHOLE.to_be_bytes(), 0..self.len);
        }
        let place = u32::from(self.sequence) << 2 | low(index) << 10;
        let header = if index + 1 < count { MORE | place } else { LAST | place | low(self.size / 4) << 15 };
        (header.to_be_bytes(), start..end)
    }
}

/// Numbers that are small here.
fn low(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Joiner {
    /// Takes a payload with its header at `now`, in milliseconds; `buf` holds the payload alone when it is complete.
    /// `None`: it contradicts itself, or the other pieces.
    pub(super) fn take(&mut self, buf: &mut Vec<u8>, now: u64) -> Option<Joined> {
        let (header, piece) = buf.split_first_chunk::<HEADER_LEN>()?;
        let header = u32::from_be_bytes(*header);
        let sequence = u8::try_from(header >> 2 & 0xFF).ok()?;
        let index = (header >> 10 & 31) as usize;
        match header & 3 {
            WHOLE if header & 0x7FFC == 0 => {
                buf.drain(..HEADER_LEN);
                Some(Joined::Payload)
            }
            MORE => self.put(Piece { sequence, index, size: piece.len(), last: false }, buf, now),
            LAST => {
                let size = (header >> 15 & 0x3FFF) as usize * 4;
                self.put(Piece { sequence, index, size, last: true }, buf, now)
            }
            _ => None,
        }
    }

    fn put(&mut self, piece: Piece, buf: &mut Vec<u8>, now: u64) -> Option<Joined> {
        let bytes = buf.get(HEADER_LEN..)?;
        let Piece { sequence, index, size, last } = piece;
        let start = index * size;
        let end = start + bytes.len();
        if size == 0 || !size.is_multiple_of(4) || bytes.is_empty() || bytes.len() > size || end > MAX_PAYLOAD
        {
            return None;
        }
        self.open.retain(|partial| now.saturating_sub(partial.touched) < LIFETIME);
        self.advance(sequence);
        let at = self.find(sequence, size, now);
        let partial = self.open.get_mut(at)?;
        if partial.total.is_some_and(|total| end > total) {
            return None;
        }
        if partial.bytes.len() < end {
            partial.bytes.resize(end, 0);
        }
        partial.bytes.get_mut(start..end)?.copy_from_slice(bytes);
        if last {
            partial.total = Some(end);
            partial.bytes.truncate(end);
        }
        partial.have |= if last { u32::MAX << index } else { 1 << index };
        partial.touched = now;
        if partial.have == u32::MAX {
            *buf = self.open.swap_remove(at).bytes;
            return Some(Joined::Payload);
        }
        self.make_room(sequence);
        Some(Joined::Incomplete)
    }

    /// Forgets what is too far behind a sequence number that is ahead; everything, at one that is too far away in either
    /// direction (more was lost than is looked back, or the peer began anew).
    fn advance(&mut self, sequence: u8) {
        let ahead = sequence.wrapping_sub(self.latest.unwrap_or(sequence));
        let behind = ahead.wrapping_neg();
        if ahead.min(behind) >= MAX_OPEN {
            self.open.clear();
        } else if ahead < behind {
            self.open.retain(|partial| sequence.wrapping_sub(partial.sequence) < MAX_OPEN);
        } else if self.latest.is_some() {
            return; // one of those before
        }
        self.latest = Some(sequence);
    }

    /// The place of a payload, which is begun anew if pieces of another size are there.
    fn find(&mut self, sequence: u8, size: usize, now: u64) -> usize {
        if let Some(at) = self.open.iter().position(|partial| partial.sequence == sequence) {
            if self.open[at].size != size {
                self.open[at] = Partial::new(sequence, size, now);
            }
            return at;
        }
        self.open.push(Partial::new(sequence, size, now));
        self.open.len() - 1
    }

    /// Forgets the oldest of all but one until what remains may be held.
    fn make_room(&mut self, but: u8) {
        while self.open.len() > 1
            && self.open.iter().map(|partial| partial.bytes.len()).sum::<usize>() > MAX_HELD
        {
            self.forget_oldest(but);
        }
    }

    fn forget_oldest(&mut self, but: u8) {
        let others = self.open.iter().enumerate().filter(|(_, partial)| partial.sequence != but);
        if let Some((at, _)) = others.min_by_key(|(_, partial)| partial.touched) {
            self.open.swap_remove(at);
        }
    }
}

/// What a header says.
struct Piece {
    sequence: u8,
    index: usize,
    size: usize,
    last: bool,
}

impl Partial {
    const fn new(sequence: u8, size: usize, now: u64) -> Self {
        Self { sequence, size, have: 0, bytes: Vec::new(), total: None, touched: now }
    }
}

#[cfg(test)]
#[path = "fragment_tests.rs"]
mod tests;
