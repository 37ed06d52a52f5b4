//! The old wire: what stands around payloads inside the encryption, for peers that want it.
//!
//! A peer whose packets are an AEAD's and bare has no [`Legacy`], and nothing of this is on its way. For the others,
//! sending: inner packet, compression framing, fragment header, encryption; receiving the other way round.
//! Source: protocol document, "Data channel".

mod framing;

use culvert_offload::{Framing, PeerSpec, Shape};

use self::framing::MAX_FRAMING;

/// The state of a peer of the old wire.
#[derive(Debug)]
pub(crate) struct Legacy {
    framing: Framing,
}

/// Buffers of a worker for packets of the old wire, which do not stay where they were opened.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

impl Legacy {
    /// What a peer needs; `None` for the fast path.
    pub(crate) fn of(spec: &PeerSpec) -> Option<Self> {
        let Shape { data_v1: _, epoch: _, framing } = spec.shape;
        (framing != Framing::None || !spec.cipher.is_aead()).then_some(Self { framing })
    }

    /// The most bytes that [`Legacy::frame`] adds.
    pub(crate) const fn room(&self) -> usize {
        MAX_FRAMING
    }

    /// Frames a payload in place: `buf` holds `len` bytes and has [`Legacy::room`] for more. Returns the new length.
    pub(crate) fn frame(&self, buf: &mut [u8], len: usize) -> usize {
        framing::frame(self.framing, buf, len)
    }

    /// Takes off what stands around the opened payload. `None`: malformed.
    pub(crate) fn unframe(&self, scratch: &mut Scratch) -> Option<()> {
        let buf = &mut scratch.payload;
        let len = buf.len();
        let len = framing::unframe(self.framing, buf, len)?;
        buf.truncate(len);
        Some(())
    }
}
