//! Compression framing around every payload. Nothing is ever compressed (SEC-DATA-6).
//!
//! | framing | sent | accepted, and where peers may compress |
//! |---|---|---|
//! | `Lzo` | `FA`, payload | the same; `66`, LZO1X stream |
//! | `Swap` | `FB`, payload without its first byte, that byte | the same; `69`, swapped alike, LZ4 block |
//! | `V2` | payload; `50 00` in front of it if it begins with 50 | the same; `50 01`, LZ4 block |
//!
//! What is compressed becomes as many bytes as the tunnel's packets may have, at most. Source: OpenVPN 2.7 `comp.c`, `comp.h` (constants).

use culvert_offload::Framing;

use super::{Scratch, lzo};

const NO_COMPRESS: u8 = 0xFA;
const NO_COMPRESS_SWAP: u8 = 0xFB;
const LZO: u8 = 0x66;
const LZ4: u8 = 0x69;
const V2_ESCAPE: u8 = 0x50;
const V2_UNCOMPRESSED: u8 = 0x00;
const V2_LZ4: u8 = 0x01;

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

/// Takes the framing off; `decompress`: also what is compressed is taken, up to so many bytes. `None` for what is unknown,
/// broken or longer.
pub(super) fn unframe(framing: Framing, decompress: Option<u16>, scratch: &mut Scratch) -> Option<()> {
    let Scratch { payload, spare } = scratch;
    let most = decompress.map(usize::from);
    match (framing, *payload.first()?) {
        (Framing::None, _) => {}
        (Framing::Lzo, NO_COMPRESS) => drop(payload.drain(..1)),
        (Framing::Lzo, LZO) => {
            lzo::decompress(payload.get(1..)?, spare, most?)?;
            payload.clear();
            payload.extend_from_slice(spare);
        }
        (Framing::Swap, NO_COMPRESS_SWAP) if payload.len() > 1 => {
            *payload.first_mut()? = payload.pop()?;
        }
        (Framing::Swap, LZ4) if payload.len() > 1 => {
            let most = most?;
            *payload.first_mut()? = payload.pop()?;
            unpack_lz4(payload, 0, spare, most)?;
        }
        (Framing::V2, V2_ESCAPE) => match *payload.get(1)? {
            V2_UNCOMPRESSED => drop(payload.drain(..2)),
            V2_LZ4 => unpack_lz4(payload, 2, spare, most?)?,
            _ => return None,
        },
        (Framing::V2, _) => {}
        (Framing::Lzo | Framing::Swap, _) => return None,
    }
    (!payload.is_empty()).then_some(())
}

/// Replaces what begins at `start` by what it is when decompressed, at most `most` bytes.
fn unpack_lz4(payload: &mut Vec<u8>, start: usize, spare: &mut Vec<u8>, most: usize) -> Option<()> {
    spare.resize(most, 0);
    let len = lz4_flex::block::decompress_into(payload.get(start..)?, spare).ok()?;
    payload.clear();
    payload.extend_from_slice(spare.get(..len)?);
    Some(())
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

    fn unframed(framing: Framing, decompress: Option<u16>, payload: &[u8]) -> Option<Vec<u8>> {
        let mut scratch = Scratch { payload: payload.to_vec(), spare: Vec::new() };
        unframe(framing, decompress, &mut scratch).map(|()| scratch.payload)
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
                for decompress in [None, Some(1600)] {
                    let back = unframed(framing, decompress, &framed(framing, payload));
                    assert_eq!(back.as_deref(), Some(payload), "{framing:?}");
                }
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
            assert_eq!(unframed(framing, None, payload), None, "{framing:?} {payload:?}");
        }
    }

    /// Made with liblzo2 and liblz4.
    #[test]
    fn compressed_payloads_come_out_where_they_are_expected() {
        let packet = [b"\x45".repeat(40), b"end".to_vec()].concat();
        let cases: [(Framing, &[u8]); 3] = [
            (Framing::Lzo, b"\x66\x02\x45\x45\x45\x45\x45\x32\x10\x00\x0f\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x45\x65\x6e\x64\x11\x00\x00"),
            (Framing::Swap, b"\x69\x45\x01\x00\x12\x50\x45\x45\x65\x6e\x64\x1f"),
            (Framing::V2, b"\x50\x01\x1f\x45\x01\x00\x12\x50\x45\x45\x65\x6e\x64"),
        ];
        for (framing, payload) in cases {
            let len = u16::try_from(packet.len()).unwrap();
            assert_eq!(unframed(framing, Some(len), payload).as_ref(), Some(&packet), "{framing:?}");
            assert_eq!(unframed(framing, Some(len - 1), payload), None, "{framing:?}: one byte too long");
            assert_eq!(unframed(framing, None, payload), None, "not asked for");
            for len in 1..payload.len() {
                let _ = unframed(framing, Some(1600), &payload[..len]);
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_largest_packet() {
        let mut bomb = vec![V2_ESCAPE, V2_LZ4, 0x1F, b'a', 1, 0];
        bomb.extend([255; 1000]); // a match of a quarter of a million
        bomb.extend([0, 0x50, 1, 2, 3, 4, 5]);
        assert_eq!(unframed(Framing::V2, Some(u16::MAX), &bomb), None);
    }
}
