//! The old wire: what stands around payloads inside the encryption, for peers that want it.
//!
//! A peer whose packets are an AEAD's and bare has no [`Legacy`], and nothing of this is on its way. For the others,
//! sending: inner packet, compression framing, fragment header, encryption; receiving the other way round.
//! Source: protocol document, "Data channel".

mod fragment;
mod framing;
mod lzo;

use std::sync::{Mutex, MutexGuard, PoisonError};

use culvert_offload::{Framing, PeerSpec, Shape};

use self::{
    fragment::{Cutter, Joined, Joiner},
    framing::MAX_FRAMING,
};

/// The state of a peer of the old wire.
#[derive(Debug)]
pub(crate) struct Legacy {
    framing: Framing,
    /// The most bytes that a compressed payload becomes; `None`: such payloads are refused.
    decompress: Option<u16>,
    fragments: Option<Fragments>,
    pass_tos: bool,
}

/// Both directions of `fragment`.
#[derive(Debug)]
struct Fragments {
    cutter: Mutex<Cutter>,
    joiner: Mutex<Joiner>,
}

/// Buffers of a worker for packets of the old wire, which do not stay where they were opened.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The payload.
    pub(crate) payload: Vec<u8>,
    /// Where it is decompressed.
    pub(crate) spare: Vec<u8>,
}

/// What a received packet brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unframed {
    /// A payload.
    Payload,
    /// A piece of one.
    Piece,
}

/// Why a payload is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// No datagram is that large, or it would take too many pieces.
    TooLarge,
    /// The key sends no more.
    KeySpent,
}

impl Legacy {
    /// What a peer needs; `None` for the fast path.
    pub(crate) fn of(spec: &PeerSpec) -> Option<Self> {
        let Shape { data_v1: _, epoch: _, framing, decompress, fragment, pass_tos } = spec.shape;
        if framing == Framing::None && fragment.is_none() && spec.cipher.is_aead() && !pass_tos {
            return None;
        }
        Some(Self { pass_tos, ..Self::new(framing, decompress, fragment) })
    }

    pub(crate) fn new(framing: Framing, decompress: Option<u16>, fragment: Option<u16>) -> Self {
        let fragments =
            |max| Fragments { cutter: Mutex::new(Cutter::new(max)), joiner: Mutex::new(Joiner::default()) };
        Self { framing, decompress, fragments: fragment.map(fragments), pass_tos: false }
    }

    /// The outer packet gets the inner one's TOS byte.
    pub(crate) const fn passes_tos(&self) -> bool {
        self.pass_tos
    }

    /// Payloads that are too large are cut (`fragment`).
    pub(crate) const fn cuts(&self) -> bool {
        self.fragments.is_some()
    }

    /// The most bytes that [`Legacy::frame`] adds.
    pub(crate) const fn room(&self) -> usize {
        MAX_FRAMING
    }

    /// Bytes that stand around a payload that is sent in one piece.
    pub(crate) const fn overhead(&self) -> usize {
        let framing = match self.framing {
            Framing::Lzo | Framing::Swap => 1,
            Framing::None | Framing::V2 => 0,
        };
        framing + if self.fragments.is_some() { fragment::HEADER_LEN } else { 0 }
    }

    /// Frames a payload in place: `buf` holds `len` bytes and has [`Legacy::room`] for more. Returns the new length.
    pub(crate) fn frame(&self, buf: &mut [u8], len: usize) -> usize {
        framing::frame(self.framing, buf, len)
    }

    /// Gives a framed payload in the pieces in which it is to be sent, each with what stands in front of it, until `send`
    /// fails.
    ///
    /// # Errors
    /// As `send`, or when it would take too many pieces.
    pub(crate) fn pieces(
        &self,
        framed: &[u8],
        mut send: impl FnMut(&[u8], &[u8]) -> Result<(), Unsent>,
    ) -> Result<(), Unsent> {
        let Some(fragments) = &self.fragments else { return send(&[], framed) };
        let cut = lock(&fragments.cutter).cut(framed.len()).ok_or(Unsent::TooLarge)?;
        (0..cut.count()).try_for_each(|index| {
            let (header, range) = cut.piece(index);
            send(&header, framed.get(range).unwrap_or_default())
        })
    }

    /// Takes off what stands around the opened payload. `now` is in milliseconds. `None`: malformed.
    pub(crate) fn unframe(&self, scratch: &mut Scratch, now: u64) -> Option<Unframed> {
        if let Some(fragments) = &self.fragments
            && lock(&fragments.joiner).take(&mut scratch.payload, now)? == Joined::Incomplete
        {
            return Some(Unframed::Piece);
        }
        framing::unframe(self.framing, self.decompress, scratch)?;
        Some(Unframed::Payload)
    }
}

/// A panic while it was held left nothing half done that matters: the worst is a payload of mixed pieces.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
