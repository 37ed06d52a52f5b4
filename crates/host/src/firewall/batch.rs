//! Several nftables requests that the kernel carries out together or not at all.

use netlink_bindings::{
    builtin::Nlmsghdr,
    nftables::{Nfgenmsg, PROTONUM},
    traits::{NetlinkChained, NetlinkRequest, Protocol},
    utils,
};
use netlink_socket2::NetlinkSocket;

// linux/netlink.h, linux/netfilter/nfnetlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// Requests in order, not yet numbered.
///
/// The library has a chain of its own, which waits for an acknowledgement per message and tells the messages that have
/// none (the two ends, before Linux 6.10) by comparing function addresses, which the compiler does not promise to keep
/// apart. Here the last request alone is acknowledged: errors arrive unasked, and before it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self::default();
        batch.push_end(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// Appends a request.
    pub(super) fn push(&mut self, request: &impl NetlinkRequest) {
        if let Protocol::Raw { request_type, .. } = request.protocol() {
            self.messages.push(Message {
                kind: request_type,
                flags: request.flags() | NLM_F_REQUEST,
                payload: request.payload().to_vec(),
            });
        }
    }

    /// Numbers the messages; the result is ready to be sent through `socket`.
    pub(super) fn finish(mut self, socket: &mut NetlinkSocket) -> Transaction {
        if let Some(last) = self.messages.last_mut() {
            last.flags |= NLM_F_ACK;
        }
        self.push_end(NFNL_MSG_BATCH_END);
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let first = socket.reserve_seq(count);
        let mut bytes = Vec::new();
        let mut number = first;
        for message in &self.messages {
            let len = Nlmsghdr::len() + utils::nla_align_up(message.payload.len());
            let header = Nlmsghdr {
                len: u32::try_from(len).unwrap_or(u32::MAX),
                r#type: message.kind,
                flags: message.flags,
                seq: number,
                pid: 0,
            };
            bytes.extend_from_slice(header.as_slice());
            bytes.extend_from_slice(&message.payload);
            utils::align(&mut bytes);
            number = number.wrapping_add(1);
        }
        Transaction { bytes, first, count }
    }

    fn push_end(&mut self, kind: u16) {
        let mut header = Nfgenmsg::new();
        header.set_res_id(NFNL_SUBSYS_NFTABLES);
        self.messages.push(Message { kind, flags: NLM_F_REQUEST, payload: header.as_slice().to_vec() });
    }
}

/// A batch on the wire. The library sees one message: it ends with the acknowledgement or with the first error.
#[derive(Debug)]
pub(super) struct Transaction {
    bytes: Vec<u8>,
    first: u32,
    count: u32,
}

impl NetlinkChained for Transaction {
    fn protonum(&self) -> u16 {
        PROTONUM
    }

    fn payload(&self) -> &[u8] {
        &self.bytes
    }

    fn chain_len(&self) -> usize {
        1
    }

    fn get_index(&self, seq: u32) -> Option<usize> {
        (seq.wrapping_sub(self.first) < self.count).then_some(0)
    }

    fn name(&self, _index: usize) -> &'static str {
        "nftables"
    }
}
