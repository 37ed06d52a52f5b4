//! Rules, written in the order in which nft(8) says them.
//!
//! Each method appends expressions of the kernel (linux/netfilter/nf_tables.h). They form a small machine: a load puts
//! bytes into a register, a comparison ends the rule for packets that differ.

use std::net::IpAddr;

use netlink_bindings::{
    nftables::{
        CmpOps, MetaKeys, PayloadBase, PushExprAttrs, PushExprListAttrs, PushRuleAttrs, Registers,
        RejectTypes, VerdictCode,
    },
    utils::{self, Pusher},
};

use crate::Family;

/// Bytes of a device's name with its final zero (linux/if.h).
pub(super) const IFNAMSIZ: u32 = 16;

// linux/netfilter.h, linux/in.h
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_ICMPV6: u8 = 58;

/// Where a header has its destination (RFC 791, 3.1; RFC 8200, 3).
const IPV4_DESTINATION_OFFSET: u32 = 16;
const IPV6_DESTINATION_OFFSET: u32 = 24;

/// The type octet of an ICMPv6 message and one of its values; a code of that type (RFC 4443, 3.1).
const ICMPV6_TYPE_OFFSET: u32 = 0;
const ICMPV6_UNREACHABLE: u8 = 1;
const ICMPV6_NO_ROUTE: u8 = 0;

/// The flags octet of a TCP header, and two of its bits (RFC 9293, 3.1).
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
/// The option "maximum segment size": kind 2, length 4, then two bytes of value.
const TCPOPT_MAXSEG: u8 = 2;
const TCPOPT_MAXSEG_VALUE: u32 = 2;

/// Where an expression keeps its own attributes (`NFTA_EXPR_DATA`).
const EXPR_DATA: u16 = 2;

// The expression "lookup": NFTA_LOOKUP_*. Release 0.3.5 of the library has other numbers than the kernel.
const LOOKUP_SET: u16 = 1;
const LOOKUP_SREG: u16 = 2;

// The expression "exthdr", which the library does not have: NFTA_EXTHDR_*, NFT_EXTHDR_OP_TCPOPT.
const EXTHDR_TYPE: u16 = 2;
const EXTHDR_OFFSET: u16 = 3;
const EXTHDR_LEN: u16 = 4;
const EXTHDR_OP: u16 = 6;
const EXTHDR_SREG: u16 = 7;
const EXTHDR_OP_TCPOPT: u32 = 1;

/// Every rule loads into the first register and compares at once.
const REGISTER: u32 = Registers::Reg1 as u32;

type Expressions<'a> = PushExprListAttrs<PushRuleAttrs<&'a mut Vec<u8>>>;

/// Returns a device's name as the kernel compares it, or `None` when it is longer than any device's.
pub(super) fn name_key(device: &str) -> Option<[u8; IFNAMSIZ as usize]> {
    let mut key = [0; IFNAMSIZ as usize];
    let (_, room) = key.split_last_mut()?;
    room.get_mut(..device.len())?.copy_from_slice(device.as_bytes());
    Some(key)
}

/// A protocol with ports, at the beginning of its header: source, then destination.
#[derive(Clone, Copy)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// A rule under construction.
#[must_use]
pub(super) struct Rule<'a> {
    expressions: Expressions<'a>,
}

impl<'a> Rule<'a> {
    pub(super) fn new(expressions: Expressions<'a>) -> Self {
        Self { expressions }
    }

    /// `iifname "DEVICE"`. A name that no device can have (the caller checks) matches nothing.
    pub(super) fn incoming(self, device: &str) -> Self {
        self.load_meta(MetaKeys::Iifname).equals(&name_key(device).unwrap_or_default())
    }

    /// `oifname "DEVICE"`.
    pub(super) fn outgoing(self, device: &str) -> Self {
        self.load_meta(MetaKeys::Oifname).equals(&name_key(device).unwrap_or_default())
    }

    /// `iifname @SET`
    pub(super) fn incoming_in(self, set: &str) -> Self {
        self.load_meta(MetaKeys::Iifname).found_in(set)
    }

    /// `oifname @SET`
    pub(super) fn outgoing_in(self, set: &str) -> Self {
        self.load_meta(MetaKeys::Oifname).found_in(set)
    }

    /// `meta nfproto ipv4`
    pub(super) fn family(self, family: Family) -> Self {
        let number = match family {
            Family::V4 => NFPROTO_IPV4,
            Family::V6 => NFPROTO_IPV6,
        };
        self.load_meta(MetaKeys::Nfproto).equals(&[number])
    }

    /// `ip daddr ADDRESS`, or `ip6 daddr ADDRESS`.
    pub(super) fn to(self, address: IpAddr) -> Self {
        let rule = self.family(Family::of(address));
        match address {
            IpAddr::V4(v4) => rule.load_network(IPV4_DESTINATION_OFFSET, 4).equals(&v4.octets()),
            IpAddr::V6(v6) => rule.load_network(IPV6_DESTINATION_OFFSET, 16).equals(&v6.octets()),
        }
    }

    /// `tcp flags syn / syn,rst`: the two segments that negotiate.
    pub(super) fn tcp_syn(self) -> Self {
        self.load_meta(MetaKeys::L4Proto)
            .equals(&[IPPROTO_TCP])
            .load_transport(TCP_FLAGS_OFFSET, 1)
            .mask(&[TCP_SYN | TCP_RST])
            .equals(&[TCP_SYN])
    }

    /// `icmpv6 type destination-unreachable`
    pub(super) fn icmpv6_unreachable(self) -> Self {
        self.load_meta(MetaKeys::L4Proto)
            .equals(&[IPPROTO_ICMPV6])
            .load_transport(ICMPV6_TYPE_OFFSET, 1)
            .equals(&[ICMPV6_UNREACHABLE])
    }

    /// `icmpv6 type TYPE`
    pub(super) fn icmpv6(self, kind: u8) -> Self {
        self.load_meta(MetaKeys::L4Proto)
            .equals(&[IPPROTO_ICMPV6])
            .load_transport(ICMPV6_TYPE_OFFSET, 1)
            .equals(&[kind])
    }

    /// `meta mark MARK`; the kernel compares it in its own byte order.
    pub(super) fn marked(self, mark: u32) -> Self {
        self.load_meta(MetaKeys::Mark).equals(&mark.to_ne_bytes())
    }

    /// `udp sport FROM udp dport TO`, or of TCP.
    pub(super) fn ports(self, transport: Transport, from: Option<u16>, to: u16) -> Self {
        let number = match transport {
            Transport::Tcp => IPPROTO_TCP,
            Transport::Udp => IPPROTO_UDP,
        };
        let rule = self.load_meta(MetaKeys::L4Proto).equals(&[number]);
        let rule = match from {
            Some(from) => rule.load_transport(0, 2).equals(&from.to_be_bytes()),
            None => rule,
        };
        rule.load_transport(2, 2).equals(&to.to_be_bytes())
    }

    /// `counter`
    pub(super) fn counter(mut self) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .nested_data_counter()
            .push_bytes(0)
            .push_packets(0)
            .end_nested()
            .end_nested();
        self
    }

    /// `accept`: no further rule of the chain sees the packet.
    pub(super) fn accept(self) {
        self.verdict(VerdictCode::Accept);
    }

    /// `drop`
    pub(super) fn drop_packet(self) {
        self.verdict(VerdictCode::Drop);
    }

    /// `reject with icmpv6 no-route`, for IPv6 packets only.
    pub(super) fn reject_no_route(self) {
        self.expressions
            .nested_elem()
            .nested_data_reject()
            .push_type(RejectTypes::IcmpUnreach as u32)
            .push_icmp_code(ICMPV6_NO_ROUTE);
    }

    fn verdict(self, code: VerdictCode) {
        self.expressions
            .nested_elem()
            .nested_data_immediate()
            .push_dreg(Registers::RegVerdict as u32)
            .nested_data()
            .nested_verdict()
            .push_code(code as u32);
    }

    /// `tcp option maxseg size set SIZE`. The kernel leaves a smaller value as it is, and repairs the checksum.
    pub(super) fn clamp_mss(self, size: u16) {
        let expressions = self
            .expressions
            .nested_elem()
            .nested_data_immediate()
            .push_dreg(REGISTER)
            .nested_data()
            .push_value(&size.to_be_bytes())
            .end_nested()
            .end_nested()
            .end_nested();
        expressions.nested_elem().push_name(c"exthdr").with_data(|bytes| {
            push_u32(bytes, EXTHDR_SREG, REGISTER);
            utils::push_header(bytes, EXTHDR_TYPE, 1);
            bytes.push(TCPOPT_MAXSEG);
            push_u32(bytes, EXTHDR_OFFSET, TCPOPT_MAXSEG_VALUE);
            push_u32(bytes, EXTHDR_LEN, 2);
            push_u32(bytes, EXTHDR_OP, EXTHDR_OP_TCPOPT);
        });
    }

    fn load_meta(mut self, key: MetaKeys) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .nested_data_meta()
            .push_key(key as u32)
            .push_dreg(REGISTER)
            .end_nested()
            .end_nested();
        self
    }

    fn load_transport(self, offset: u32, len: u32) -> Self {
        self.load_payload(PayloadBase::TransportHeader, offset, len)
    }

    fn load_network(self, offset: u32, len: u32) -> Self {
        self.load_payload(PayloadBase::NetworkHeader, offset, len)
    }

    fn load_payload(mut self, base: PayloadBase, offset: u32, len: u32) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .nested_data_payload()
            .push_dreg(REGISTER)
            .push_base(base as u32)
            .push_offset(offset)
            .push_len(len)
            .end_nested()
            .end_nested();
        self
    }

    fn mask(mut self, bits: &[u8]) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .nested_data_bitwise()
            .push_sreg(REGISTER)
            .push_dreg(REGISTER)
            .push_len(u32::try_from(bits.len()).unwrap_or(0))
            .nested_mask()
            .push_value(bits)
            .end_nested()
            .nested_xor()
            .push_value(&vec![0; bits.len()])
            .end_nested()
            .end_nested()
            .end_nested();
        self
    }

    fn equals(mut self, value: &[u8]) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .nested_data_cmp()
            .push_sreg(REGISTER)
            .push_op(CmpOps::Eq as u32)
            .nested_data()
            .push_value(value)
            .end_nested()
            .end_nested()
            .end_nested();
        self
    }

    fn found_in(mut self, set: &str) -> Self {
        self.expressions = self
            .expressions
            .nested_elem()
            .push_name(c"lookup")
            .with_data(|bytes| {
                utils::push_header(bytes, LOOKUP_SET, u16::try_from(set.len() + 1).unwrap_or(0));
                bytes.extend_from_slice(set.as_bytes());
                bytes.push(0);
                push_u32(bytes, LOOKUP_SREG, REGISTER);
            })
            .end_nested();
        self
    }
}

/// Expressions that are written by hand.
trait WithData {
    /// Appends the data of the expression: attributes that `write` appends.
    fn with_data(self, write: impl FnOnce(&mut Vec<u8>)) -> Self;
}

impl<Prev: Pusher> WithData for PushExprAttrs<Prev> {
    fn with_data(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let bytes = self.as_vec_mut();
        let start = utils::push_nested_header(bytes, EXPR_DATA);
        write(bytes);
        utils::finalize_nested_header(bytes, start);
        self
    }
}

/// Appends a number, in network byte order as everywhere in nftables.
fn push_u32(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    utils::push_header(bytes, kind, 4);
    bytes.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_whole_and_one_that_no_device_has_is_refused() {
        assert_eq!(name_key("tun0"), Some(*b"tun0\0\0\0\0\0\0\0\0\0\0\0\0"));
        assert_eq!(name_key("fifteen-letters"), Some(*b"fifteen-letters\0"));
        assert_eq!(name_key("sixteen--letters"), None);
    }
}
