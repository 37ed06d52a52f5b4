//! How much one key may carry.
//!
//! AES-GCM loses confidentiality margin with each packet `q` and each 16-byte block `s`: `q + s <= 2^36 - 1` (CFRG's
//! AEAD limits, as OpenVPN applies them). ChaCha20-Poly1305 has no limit that a connection could reach.

use culvert_wire::CipherName;

/// Highest sum of packets and blocks under one AES-GCM key.
pub const GCM_LIMIT: u64 = (1 << 36) - 1;
/// The sum at which the classic format asks for a renegotiation: 7/8 of the limit.
pub const GCM_RENEGOTIATE: u64 = GCM_LIMIT / 8 * 7;
/// Failed authentications under one key after which to renegotiate (classic) or to move to the next epoch.
pub const FAILURES_RENEGOTIATE: u64 = 1 << 35;
/// Failed authentications under one key after which everything under it is dropped.
pub const FAILURES_DROP: u64 = 1 << 36;
/// Classic packet id at which to ask for a renegotiation (SEC-DATA-2; OpenVPN asks at 0xFF000000).
pub const PACKET_ID_RENEGOTIATE: u32 = 1 << 31;
/// Classic packet ids from this one on are never sent (SEC-DATA-2).
pub const PACKET_ID_STOP: u32 = u32::MAX - 0xFFFF;
/// Send epoch from which on to renegotiate, as OpenVPN 2.7 does.
pub const EPOCH_RENEGOTIATE: u16 = 0xF000;

/// The usage limit of a key of this cipher, in packets plus blocks; `None` when there is none.
#[must_use]
pub const fn usage_limit(cipher: CipherName) -> Option<u64> {
    if cipher.is_gcm() { Some(GCM_LIMIT) } else { None }
}

/// What one packet of `payload_len` bytes costs: one for the packet, one for each block, rounded up.
#[must_use]
pub const fn usage_of(payload_len: usize) -> u64 {
    payload_len.div_ceil(16) as u64 + 1
}
