//! The MSS that TCP connections inside the tunnel are clamped to (`mssfix`).
//!
//! Source: protocol document, "MTU and MSS".

use culvert_config::profile::{MssFix, Mtu};

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
    /// In the epoch format.
    pub(crate) epoch: bool,
    /// With a byte of compression framing.
    pub(crate) framing_byte: bool,
    /// Bytes of a packet beside the MTU (`tun-mtu-extra`): on a TAP device the Ethernet header, and more.
    pub(crate) extra: u32,
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
    let Encapsulation { tcp, ipv6, data_v2, epoch, framing_byte, extra } = *encapsulation;
    let pick = |condition, yes: u32, no: u32| if condition { yes } else { no };
    let outer_headers = pick(tcp, 20, 8) + pick(ipv6, 40, 20);
    let header =
        pick(tcp, 2, 0) + pick(data_v2, 4, 1) + pick(epoch, 8, 4) + 16 + pick(outer, outer_headers, 0);
    fit(size
        .checked_sub(header.saturating_add(u32::from(framing_byte) + INNER_HEADERS).saturating_add(extra))?)
}

fn fit(mss: u32) -> Option<u16> {
    u16::try_from(mss).ok().filter(|&mss| mss > 0)
}

#[cfg(test)]
mod tests {
    use culvert_testkit::vectors::{self, vector};

    use super::*;

    const UDP4: Encapsulation =
        Encapsulation { tcp: false, ipv6: false, data_v2: true, epoch: false, framing_byte: false, extra: 0 };

    #[test]
    fn the_defaults_are_those_that_openvpn_was_seen_to_use() {
        let mtu = Mtu::default();
        let seen = vector("mssfix_default_observed");
        let mss = |encapsulation| clamp(&mtu, &encapsulation).map(u64::from);
        assert_eq!(mss(UDP4), Some(seen.expected_u64("legacy_format_mss")));
        assert_eq!(mss(Encapsulation { epoch: true, ..UDP4 }), Some(seen.expected_u64("epoch_format_mss")));
        assert_eq!(clamp(&mtu, &Encapsulation { tcp: true, ..UDP4 }), Some(1386));
    }

    #[test]
    fn a_size_without_outer_headers_pays_for_header_packet_id_and_tag() {
        // The vector's other cases are of ciphers without tag, which are not carried yet.
        let aead = vector("mssfix").cases().iter().find(|case| case["cipher"] == "AES-256-GCM").unwrap();
        assert_eq!(aead["mss"], "mssfix - 4 - 4 - 16 - 40");
        let range = vectors::numbers(&aead["mssfix_range"]);
        for size in range[0]..=range[1] {
            let size = u32::try_from(size).unwrap();
            let mtu = Mtu { mssfix: MssFix::Payload(size), ..Mtu::default() };
            assert_eq!(clamp(&mtu, &UDP4).map(u32::from), Some(size - 4 - 4 - 16 - 40));
        }
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
