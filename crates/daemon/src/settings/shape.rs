//! The form of a peer's data packets.

use culvert_config::{Profile, profile::Mtu, value::Compression};
use culvert_offload::{Framing, Shape};
use culvert_proto::NegotiatedParams;

use super::mss::{self, Encapsulation, Protection};

/// Bytes of an Ethernet header with a tag.
const FRAME_HEADER: u32 = 18;

/// What a peer's packets are like, and the MSS of connections in them.
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) mss: Option<u16>,
}

/// How the peer is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) tcp: bool,
    pub(crate) ipv6: bool,
}

impl Form {
    /// Decides by what was negotiated and by the options of both ends; `mtu` is what is in effect.
    pub(crate) fn new(
        profile: &Profile,
        mtu: &Mtu,
        params: &NegotiatedParams,
        compression: Framed,
        path: Path,
    ) -> Self {
        let encapsulation = Encapsulation {
            tcp: path.tcp,
            ipv6: path.ipv6,
            data_v2: params.data_v2,
            protection: Protection::of(params, profile),
            framing_byte: matches!(compression.framing, Framing::Lzo | Framing::Swap),
            extra: mtu.extra(profile.device.tap),
        };
        let shape = Shape {
            data_v1: !params.data_v2,
            epoch: params.flags.aead_epoch,
            framing: compression.framing,
            decompress: compression.decompress.then(|| largest_payload(mtu, profile.device.tap)),
            pass_tos: profile.link.pass_tos,
            // Streams are not cut.
            fragment: mtu.fragment.filter(|_| !path.tcp).map(|wanted| mss::fragment(wanted, &encapsulation)),
        };
        Self { shape, mss: mss::clamp(mtu, &encapsulation) }
    }
}

/// The most bytes of a payload that the peer compressed (SEC-DATA-6): of a packet of the largest MTU that was announced to
/// it, on a TAP device with the frame's header, which `tun-mtu-extra` may not have counted.
fn largest_payload(mtu: &Mtu, tap: bool) -> u16 {
    let packet = mtu.tun_mtu.max(mtu.tun_mtu_max).saturating_add(mtu.extra(tap));
    u16::try_from(packet.saturating_add(if tap { FRAME_HEADER } else { 0 })).unwrap_or(u16::MAX)
}

/// What a compression option asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    pub(crate) framing: Framing,
    /// The peer may send compressed payloads.
    pub(crate) decompress: bool,
}

impl Framed {
    /// Framing alone.
    pub(crate) const fn stub(framing: Framing) -> Self {
        Self { framing, decompress: false }
    }
}

impl From<Compression> for Framed {
    fn from(compression: Compression) -> Self {
        let framing = match compression {
            Compression::Off | Compression::Migrate => Framing::None,
            Compression::LzoStub | Compression::Lzo => Framing::Lzo,
            Compression::Stub | Compression::Lz4 => Framing::Swap,
            Compression::StubV2 | Compression::Lz4V2 => Framing::V2,
        };
        Self { framing, decompress: compression.expects_compressed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_compressed_may_become_as_long_as_the_largest_packet() {
        let mtu = |tun_mtu| Mtu { tun_mtu, ..Mtu::default() };
        assert_eq!(largest_payload(&mtu(1500), false), 1600, "tun-mtu-max is 1600 by default");
        assert_eq!(largest_payload(&mtu(9000), false), 9000);
        assert_eq!(largest_payload(&mtu(9000), true), 9000 + 32 + 18);
        assert_eq!(largest_payload(&mtu(70_000), true), u16::MAX);
    }
}
