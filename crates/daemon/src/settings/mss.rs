//! The MSS that TCP connections inside the tunnel are clamped to (`mssfix`).
//!
//! Source: protocol document, "MTU and MSS".

use culvert_config::{
    Profile,
    profile::{MssFix, Mtu},
};
use culvert_proto::NegotiatedParams;
use culvert_wire::CipherName;

use super::wrapping::digest;

/// How packets travel, as far as it costs bytes.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Encapsulation {
    /// Over TCP instead of UDP.
    pub(crate) tcp: bool,
    /// Over IPv6.
    pub(crate) ipv6: bool,
    /// With a peer id.
    pub(crate) data_v2: bool,
    /// How payloads are protected.
    pub(crate) protection: Protection,
    /// With a byte of compression framing.
    pub(crate) framing_byte: bool,
    /// Bytes of a packet beside the MTU (`tun-mtu-extra`): on a TAP device the Ethernet header, and more.
    pub(crate) extra: u32,
}

/// How payloads are protected, as far as it costs bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// AEAD; in the epoch format or not.
    Aead { epoch: bool },
    /// A cipher without tag, and the length of the HMAC.
    Old { cipher: CipherName, mac: u32 },
}

impl Protection {
    /// What was negotiated.
    pub(crate) fn of(params: &NegotiatedParams, profile: &Profile) -> Self {
        let Some(cipher) = params.cipher.filter(|cipher| !cipher.is_aead()) else {
            return Self::Aead { epoch: params.flags.aead_epoch };
        };
        let mac = digest(profile.data.auth).and_then(|digest| u32::try_from(digest.len()).ok());
        Self::Old { cipher, mac: mac.unwrap_or_default() }
    }

    /// Bytes outside of the encryption. CFB and OFB pay for the packet id twice, as they do with OpenVPN.
    fn outside(self) -> u32 {
        match self {
            Self::Aead { epoch } => 16 + if epoch { 8 } else { 4 },
            Self::Old { cipher: CipherName::None, mac } => mac + 4,
            Self::Old { cipher, mac } => match cipher.padded_block() {
                Some(block) => mac + u32::from(block),
                None => mac + 16 + 8,
            },
        }
    }

    /// The most that fits into `room` bytes behind the header: payload, and with CBC the packet id.
    fn fit(self, room: u32) -> Option<u32> {
        match self {
            Self::Old { cipher, .. } => fit_blocks(room, cipher.padded_block()),
            Self::Aead { .. } => Some(room),
        }
    }

    /// Bytes of a packet id that is encrypted with the payload.
    fn inside(self) -> u32 {
        match self {
            Self::Old { cipher, .. } if cipher.padded_block().is_some() => 4,
            Self::Old { .. } | Self::Aead { .. } => 0,
        }
    }
}

/// Whole blocks, of which padding takes a byte at least.
fn fit_blocks(room: u32, block: Option<u8>) -> Option<u32> {
    match block {
        None => Some(room),
        Some(block) => (room - room % u32::from(block)).checked_sub(1),
    }
}

/// The default of `mssfix` where `tun-mtu` is the default too, outer headers included.
const DEFAULT_MTU: u32 = 1492;

/// Inner IPv4 and TCP headers.
const INNER_HEADERS: u32 = 40;

/// Returns the MSS for connections over IPv4 (20 less over IPv6); `None` leaves them alone.
pub(crate) fn clamp(mtu: &Mtu, encapsulation: &Encapsulation) -> Option<u16> {
    let (size, outer) = match mtu.mssfix {
        MssFix::Off => return None,
        MssFix::Fixed(mss) => return fit(mss.checked_sub(INNER_HEADERS)?),
        MssFix::Default if mtu.tun_mtu != 1500 => return fit(mtu.tun_mtu.checked_sub(INNER_HEADERS)?),
        MssFix::Default => (DEFAULT_MTU, true),
        MssFix::Mtu(size) => (size, true),
        MssFix::Payload(size) => (size, false),
    };
    let room = size.checked_sub(encapsulation.header(outer))?;
    let protection = encapsulation.protection;
    let cut = if mtu.fragment.is_some() { FRAGMENT_HEADER } else { 0 };
    let payload = u32::from(encapsulation.framing_byte) + protection.inside() + cut + INNER_HEADERS;
    fit(protection.fit(room)?.checked_sub(payload.saturating_add(encapsulation.extra))?)
}

/// In front of each piece of a payload.
const FRAGMENT_HEADER: u32 = 4;

/// The most bytes of a piece, for `fragment SIZE`; the second value is whether SIZE counts outer headers (`mtu`).
pub(crate) fn fragment((size, outer): (u32, bool), encapsulation: &Encapsulation) -> u16 {
    let protection = encapsulation.protection;
    let room = size.saturating_sub(encapsulation.header(outer));
    let piece =
        protection.fit(room).unwrap_or_default().saturating_sub(FRAGMENT_HEADER + protection.inside());
    u16::try_from(piece).unwrap_or(u16::MAX)
}

impl Encapsulation {
    /// Bytes in front of what is encrypted, `outer` headers of the system included or not.
    fn header(&self, outer: bool) -> u32 {
        let Self { tcp, ipv6, data_v2, protection, .. } = *self;
        let pick = |condition, yes: u32, no: u32| if condition { yes } else { no };
        let outer_headers = pick(tcp, 20, 8) + pick(ipv6, 40, 20);
        pick(tcp, 2, 0) + pick(data_v2, 4, 1) + protection.outside() + pick(outer, outer_headers, 0)
    }
}

fn fit(mss: u32) -> Option<u16> {
    u16::try_from(mss).ok().filter(|&mss| mss > 0)
}

#[cfg(test)]
mod tests {
    use culvert_testkit::vectors::{self, vector};

    use super::*;

    const UDP4: Encapsulation = Encapsulation {
        tcp: false,
        ipv6: false,
        data_v2: true,
        protection: Protection::Aead { epoch: false },
        framing_byte: false,
        extra: 0,
    };
    const EPOCH: Encapsulation = Encapsulation { protection: Protection::Aead { epoch: true }, ..UDP4 };

    #[test]
    fn the_defaults_are_those_that_openvpn_was_seen_to_use() {
        let mtu = Mtu::default();
        let seen = vector("mssfix_default_observed");
        let mss = |encapsulation| clamp(&mtu, &encapsulation).map(u64::from);
        assert_eq!(mss(UDP4), Some(seen.expected_u64("legacy_format_mss")));
        assert_eq!(mss(EPOCH), Some(seen.expected_u64("epoch_format_mss")));
        assert_eq!(clamp(&mtu, &Encapsulation { tcp: true, ..UDP4 }), Some(1386));
    }

    #[test]
    fn a_size_without_outer_headers_pays_for_header_packet_id_and_tag() {
        let aead = vector("mssfix").cases().iter().find(|case| case["cipher"] == "AES-256-GCM").unwrap();
        assert_eq!(aead["mss"], "mssfix - 4 - 4 - 16 - 40");
        let range = vectors::numbers(&aead["mssfix_range"]);
        for size in range[0]..=range[1] {
            let size = u32::try_from(size).unwrap();
            let mtu = Mtu { mssfix: MssFix::Payload(size), ..Mtu::default() };
            assert_eq!(clamp(&mtu, &UDP4).map(u32::from), Some(size - 4 - 4 - 16 - 40));
        }
    }

    /// The vector's cases are of static keys, whose packets have no header and a packet id of 8 bytes.
    #[test]
    fn cbc_fills_whole_blocks() {
        let cases = vector("mssfix").cases().iter().filter(|case| case["cipher"] == "AES-128-CBC");
        let mut tried = 0;
        for case in cases {
            let range = vectors::numbers(&case["mssfix_range"]);
            let framing = u32::from(case["comp"] == "lzo");
            for size in range[0]..=range[1] {
                let room = u32::try_from(size).unwrap() - 16;
                let mss = fit_blocks(room, CipherName::Aes128Cbc.padded_block()).unwrap() - 8 - framing - 40;
                assert_eq!(u64::from(mss), case["mss"].as_u64().unwrap(), "{size}");
                tried += 1;
            }
        }
        assert!(tried > 20);
    }

    #[test]
    fn ciphers_without_tag_pay_for_hmac_vector_and_packet_id() {
        let with = |cipher| {
            let protection = Protection::Old { cipher, mac: 20 };
            clamp(&Mtu::default(), &Encapsulation { protection, ..UDP4 })
        };
        // 1492 - 28 outer - 4 header - 20 HMAC; CBC: - 16 vector, 1424 is 89 blocks, - 1 padding - 4 id - 40.
        assert_eq!(with(CipherName::Aes256Cbc), Some(1379));
        assert_eq!(with(CipherName::BfCbc), Some(1387));
        assert_eq!(with(CipherName::Aes256Cfb), Some(1376));
        assert_eq!(with(CipherName::None), Some(1396));
    }

    #[test]
    fn pieces_fit_with_everything_around_them() {
        // 1300 - 24 around an AEAD's payload - 4 header; outer headers are 28.
        assert_eq!(fragment((1300, false), &UDP4), 1272);
        assert_eq!(fragment((1300, true), &UDP4), 1244);
        // 1300 - 4 - 20 - 16 is 1260, 78 blocks of 16 less a byte of padding, 4 of packet id, 4 of header.
        let protection = Protection::Old { cipher: CipherName::Aes128Cbc, mac: 20 };
        assert_eq!(fragment((1300, false), &Encapsulation { protection, ..UDP4 }), 1239);
        assert_eq!(fragment((30, true), &UDP4), 0);
        let cut = Mtu { mssfix: MssFix::Payload(1300), fragment: Some((1300, false)), ..Mtu::default() };
        assert_eq!(clamp(&cut, &UDP4), Some(1232));
    }

    #[test]
    fn another_tun_mtu_is_taken_as_it_is_and_zero_turns_clamping_off() {
        assert_eq!(clamp(&Mtu { tun_mtu: 1400, ..Mtu::default() }, &UDP4), Some(1360));
        assert_eq!(clamp(&Mtu { mssfix: MssFix::Off, ..Mtu::default() }, &UDP4), None);
    }

    #[test]
    fn what_a_tap_adds_to_a_packet_is_paid_for_but_where_the_mss_itself_is_given() {
        let mss = |mtu: Mtu, tap| clamp(&mtu, &Encapsulation { extra: mtu.extra(tap), ..UDP4 });
        let tun = mss(Mtu::default(), false).unwrap();
        assert_eq!(mss(Mtu::default(), true), Some(tun - 32));
        assert_eq!(mss(Mtu { tun_mtu_extra: Some(18), ..Mtu::default() }, true), Some(tun - 18));
        let fixed = Mtu { mssfix: MssFix::Fixed(1400), ..Mtu::default() };
        assert_eq!(mss(fixed, true), Some(1360));
    }

    #[test]
    fn a_size_too_small_for_the_headers_clamps_nothing() {
        assert_eq!(clamp(&Mtu { mssfix: MssFix::Payload(30), ..Mtu::default() }, &UDP4), None);
    }
}
