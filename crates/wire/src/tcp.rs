//! Framing of packets in a TCP stream: each is preceded by its length in two bytes.
//!
//! ```text
//! u16  length      of the packet, without these two bytes; 0 is an error
//!      packet[length]
//! ```

use crate::WireError;

/// Bytes of the length prefix.
pub const FRAME_PREFIX_LEN: usize = 2;

/// The first packet of a stretch of stream, and what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One packet, without its length prefix.
    pub packet: &'a [u8],
    /// The bytes after it.
    pub rest: &'a [u8],
}

/// Splits the first packet off bytes read from a stream. `Ok(None)` means that more bytes are needed.
///
/// Call it again with [`Frame::rest`] until it gives `None`, then keep what is left for the next read.
///
/// # Errors
/// When the prefix says 0 or more than `max`: the stream is out of step and has to be closed.
pub fn split_frame(stream: &[u8], max: usize) -> Result<Option<Frame<'_>>, WireError> {
    let Some((prefix, rest)) = stream.split_first_chunk() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes(*prefix));
    if len == 0 || len > max {
        return Err(WireError::FrameLength { len, max });
    }
    Ok(rest.split_at_checked(len).map(|(packet, rest)| Frame { packet, rest }))
}

/// Makes the length prefix of a packet.
///
/// # Errors
/// When the packet is empty or longer than 65,535 bytes.
pub fn frame_prefix(packet_len: usize) -> Result<[u8; FRAME_PREFIX_LEN], WireError> {
    match u16::try_from(packet_len) {
        Ok(len) if len > 0 => Ok(len.to_be_bytes()),
        _ => Err(WireError::FrameLength { len: packet_len, max: usize::from(u16::MAX) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_or_not_at_all() {
        let stream = [0, 3, b'a', b'b', b'c', 0, 2, b'd'];
        let Frame { packet, rest } = split_frame(&stream, 10).unwrap().unwrap();
        assert_eq!(packet, b"abc");
        assert_eq!(split_frame(rest, 10), Ok(None));
        assert_eq!(split_frame(&rest[..1], 10), Ok(None));
    }

    #[test]
    fn empty_and_oversize_frames_are_refused_before_their_bytes_arrive() {
        assert_eq!(split_frame(&[0, 0], 10), Err(WireError::FrameLength { len: 0, max: 10 }));
        assert_eq!(split_frame(&[0, 11], 10), Err(WireError::FrameLength { len: 11, max: 10 }));
    }
}
