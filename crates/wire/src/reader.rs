//! Taking fixed-size fields off the front of a slice; the one place that checks lengths.

use crate::WireError;

/// Splits the first `N` bytes off.
pub(crate) fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), WireError> {
    bytes.split_first_chunk().ok_or(WireError::Truncated { need: N, have: bytes.len() })
}

/// Takes a big-endian number off the front.
pub(crate) fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), WireError> {
    let (field, rest) = take(bytes)?;
    Ok((u32::from_be_bytes(*field), rest))
}

/// Appends fields to a caller's buffer.
pub(crate) struct Writer<'b> {
    free: &'b mut [u8],
    written: usize,
}

impl<'b> Writer<'b> {
    pub(crate) const fn new(buf: &'b mut [u8]) -> Self {
        Self { free: buf, written: 0 }
    }

    pub(crate) fn put(&mut self, field: &[u8]) -> Result<(), WireError> {
        let have = self.free.len();
        let free = std::mem::take(&mut self.free);
        let Some((slot, rest)) = free.split_at_mut_checked(field.len()) else {
            return Err(WireError::NoRoom {
                need: self.written.saturating_add(field.len()),
                have: self.written.saturating_add(have),
            });
        };
        slot.copy_from_slice(field);
        self.free = rest;
        self.written = self.written.saturating_add(field.len());
        Ok(())
    }

    pub(crate) const fn written(&self) -> usize {
        self.written
    }
}
