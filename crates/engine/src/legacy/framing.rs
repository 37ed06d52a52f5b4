//! Compression framing around every payload. Nothing is ever compressed (SEC-DATA-6).
//!
//! | framing | sent | accepted |
//! |---|---|---|
//! | `Lzo` | `FA`, payload | the same |
//! | `Swap` | `FB`, payload without its first byte, that byte | the same |
//! | `V2` | payload; `50 00` in front of it if it begins with 50 | the same |
//!
//! Source: OpenVPN 2.7 `comp.c`, `comp.h` (constants).

use culvert_offload::Framing;

const NO_COMPRESS: u8 = 0xFA;
const NO_COMPRESS_SWAP: u8 = 0xFB;
const V2_ESCAPE: u8 = 0x50;
const V2_UNCOMPRESSED: u8 = 0x00;

/// The most that framing adds.
pub(super) const MAX_FRAMING: usize = 2;

/// Frames a payload in place: `buf` holds `len` bytes and has room for [`MAX_FRAMING`] more. Returns the new length.
pub(super) fn frame(framing: Framing, buf: &mut [u8], len: usize) -> usize {
    match framing {
        Framing::None => len,
        Framing::Lzo => {
            buf.copy_within(..len, 1);
            buf[0] = NO_COMPRESS;
            len + 1
        }
        Framing::Swap => {
            buf[len] = buf[0];
            buf[0] = NO_COMPRESS_SWAP;
            len + 1
        }
        Framing::V2 if buf[0] == V2_ESCAPE => {
            buf.copy_within(..len, 2);
            buf[..2].copy_from_slice(&[V2_ESCAPE, V2_UNCOMPRESSED]);
            len + 2
        }
        Framing::V2 => len,
    }
}

/// Takes the framing off in place and returns the payload's length; `None` for what is compressed or unknown.
pub(super) fn unframe(framing: Framing, buf: &mut [u8], len: usize) -> Option<usize> {
    match (framing, *buf.get(..len)?.first()?) {
        (Framing::None, _) => Some(len),
        (Framing::Lzo, NO_COMPRESS) => {
            buf.copy_within(1..len, 0);
            Some(len - 1)
        }
        (Framing::Swap, NO_COMPRESS_SWAP) if len > 1 => {
            buf[0] = buf[len - 1];
            Some(len - 1)
        }
        (Framing::V2, V2_ESCAPE) => {
            if *buf.get(1)? != V2_UNCOMPRESSED || len < 2 {
                return None;
            }
            buf.copy_within(2..len, 0);
            Some(len - 2)
        }
        (Framing::V2, _) => Some(len),
        (Framing::Lzo | Framing::Swap, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(framing: Framing, payload: &[u8]) -> Vec<u8> {
        let mut buf = payload.to_vec();
        buf.resize(payload.len() + MAX_FRAMING, 0xEE);
        let len = frame(framing, &mut buf, payload.len());
        buf.truncate(len);
        buf
    }

    #[test]
    fn each_framing_looks_as_stock_peers_send_it() {
        assert_eq!(framed(Framing::Lzo, b"\x45ab"), b"\xFA\x45ab");
        assert_eq!(framed(Framing::Swap, b"\x45ab"), b"\xFBab\x45");
        assert_eq!(framed(Framing::V2, b"\x45ab"), b"\x45ab");
        assert_eq!(framed(Framing::V2, b"\x50ab"), b"\x50\x00\x50ab");
    }

    #[test]
    fn what_was_framed_comes_back() {
        for framing in [Framing::None, Framing::Lzo, Framing::Swap, Framing::V2] {
            for payload in [&b"\x45"[..], b"\x50", b"\x50\x00", b"hello"] {
                let mut buf = framed(framing, payload);
                let len = buf.len();
                let len = unframe(framing, &mut buf, len).unwrap();
                assert_eq!(&buf[..len], payload, "{framing:?}");
            }
        }
    }

    #[test]
    fn compressed_and_unknown_payloads_are_refused() {
        for (framing, payload) in [
            (Framing::Lzo, &b"\x66abc"[..]),
            (Framing::Lzo, b"\x45abc"),
            (Framing::Swap, b"\x69abc"),
            (Framing::Swap, b"\xFB"),
            (Framing::V2, b"\x50\x01abc"),
            (Framing::V2, b"\x50"),
            (Framing::Lzo, b""),
        ] {
            assert_eq!(
                unframe(framing, &mut payload.to_vec(), payload.len()),
                None,
                "{framing:?} {payload:?}"
            );
        }
    }
}
