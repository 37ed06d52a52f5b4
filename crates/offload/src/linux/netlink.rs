//! Requests to the kernel over netlink, one after the other, each with its answer.
//!
//! The messages are those of `netlink-bindings`, generated from the kernel's own specifications; this is only the way
//! they travel. Answers are matched by sequence number; a late one of a request that timed out is passed over.

use std::{fmt, io, time::Duration};

use culvert_sys::{NetlinkFamily, NetlinkSocket};
use netlink_bindings::{
    builtin::{NlmsgerrAttrs, Nlmsghdr},
    traits::{NetlinkRequest, Protocol},
    utils,
};
use zeroize::Zeroizing;

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Types below are netlink's own.
const NLMSG_MIN_TYPE: u16 = 0x10;
const HEADER_LEN: usize = Nlmsghdr::len();

/// How long the kernel may take for one request (SEC-OFF-2).
const PATIENCE: Duration = Duration::from_secs(2);

/// The largest datagram of answers: the kernel fills dumps up to 32 KiB.
const BUFFER: usize = 32 << 10;

/// A connection for requests.
pub(super) struct Requests {
    socket: NetlinkSocket,
    sequence: u32,
    answers: Box<[u8]>,
    /// The number of the generic family that requests are for, once it is known.
    pub(super) generic_family: u16,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The kernel's error, or that of the connection.
    pub(super) source: io::Error,
    /// The kernel's explanation, where it gave one.
    pub(super) text: Option<String>,
}

impl Refused {
    /// The error number, where it is one of the system's.
    pub(super) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// The error with the explanation in it.
    pub(super) fn into_io(self) -> io::Error {
        match self.text {
            Some(_) => io::Error::new(self.source.kind(), self.to_string()),
            None => self.source,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({text})", self.source),
            None => self.source.fmt(f),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(source: io::Error) -> Self {
        Self { source, text: None }
    }
}

impl Requests {
    /// Opens the connection, in the network namespace of the calling thread.
    pub(super) fn open(family: NetlinkFamily) -> io::Result<Self> {
        let socket = NetlinkSocket::open(family)?;
        socket.set_recv_timeout(PATIENCE)?;
        Ok(Self { socket, sequence: 0, answers: vec![0; BUFFER].into_boxed_slice(), generic_family: 0 })
    }

    /// Makes a request and gives each message of the answer to `each`.
    pub(super) fn call<R: NetlinkRequest>(
        &mut self,
        request: &R,
        mut each: impl FnMut(R::ReplyType<'_>),
    ) -> Result<(), Refused> {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = request.payload();
        let header = Nlmsghdr {
            len: u32::try_from(HEADER_LEN + payload.len())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
            r#type: match request.protocol() {
                Protocol::Raw { request_type, .. } => request_type,
                Protocol::Generic(_) => self.generic_family,
            },
            flags: request.flags() | NLM_F_REQUEST | NLM_F_ACK,
            seq: self.sequence,
            pid: 0,
        };
        // It may hold keys.
        let mut message = Zeroizing::new(Vec::with_capacity(HEADER_LEN + payload.len()));
        message.extend_from_slice(header.as_slice());
        message.extend_from_slice(payload);
        self.socket.send(&message)?;
        loop {
            let len = self.socket.recv(&mut self.answers).map_err(timed_out)?;
            for answer in Messages(self.answers.get(..len).unwrap_or_default()) {
                if answer.header.seq != self.sequence {
                    continue;
                }
                match answer.header.r#type {
                    NLMSG_ERROR | NLMSG_DONE => return outcome(&answer),
                    NLMSG_MIN_TYPE.. => each(R::decode_reply(answer.payload)),
                    _ => {}
                }
            }
        }
    }

    /// Makes a request whose answer is only whether it was done.
    pub(super) fn order<R: NetlinkRequest>(&mut self, request: &R) -> Result<(), Refused> {
        self.call(request, |_| {})
    }
}

/// A socket's timeout looks like a socket without data.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer a netlink request")
        }
        _ => error,
    }
}

/// The attributes of a message or nest, as type (flags cleared) and value; ends at the first that contradicts itself.
///
/// For what the generated readers take for narrower than the kernel does.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const FLAGS: u16 = 0xC000;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (len, kind) = (rest.get(..2)?, rest.get(2..4)?);
        let len = usize::from(u16::from_ne_bytes(len.try_into().ok()?));
        let kind = u16::from_ne_bytes(kind.try_into().ok()?) & !FLAGS;
        let value = rest.get(4..len)?;
        rest = rest.get(utils::align_up(len, 4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Reads an attribute of netlink's type `uint`: 4 or 8 bytes, in the machine's order; also `u16`.
pub(super) fn unsigned(value: &[u8]) -> Option<u64> {
    match value.len() {
        2 => Some(u16::from_ne_bytes(value.try_into().ok()?).into()),
        4 => Some(u32::from_ne_bytes(value.try_into().ok()?).into()),
        8 => Some(u64::from_ne_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// One message of a datagram.
pub(super) struct Message<'a> {
    pub(super) header: Nlmsghdr,
    pub(super) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first that contradicts itself.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = Nlmsghdr::new_from_slice(self.0.get(..HEADER_LEN)?)?;
        let len = usize::try_from(header.len).ok()?;
        let payload = self.0.get(HEADER_LEN..len)?;
        self.0 = self.0.get(utils::align_up(len, 4)..).unwrap_or_default();
        Some(Message { header, payload })
    }
}

/// Reads an acknowledgement: error number, the request's header again, explanations.
fn outcome(answer: &Message<'_>) -> Result<(), Refused> {
    let code = answer.payload.get(..4).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    let source = match code {
        Some(0) => return Ok(()),
        Some(code) => io::Error::from_raw_os_error(code.saturating_neg()),
        None => io::ErrorKind::InvalidData.into(),
    };
    let text = explanations(answer).and_then(|bytes| {
        let attributes = NlmsgerrAttrs::new(bytes);
        match (attributes.get_msg(), attributes.get_missing_type()) {
            (Ok(text), _) => Some(text.to_string_lossy().into_owned()),
            (_, Ok(missing)) => Some(format!("attribute {missing} is missing")),
            _ => None,
        }
    });
    Err(Refused { source, text })
}

/// Finds the attributes behind the copy of the request (only its header: the copy is capped).
fn explanations<'a>(answer: &Message<'a>) -> Option<&'a [u8]> {
    if answer.header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    if answer.header.r#type == NLMSG_DONE {
        return answer.payload.get(4..);
    }
    let copied = if answer.header.flags & NLM_F_CAPPED == 0 {
        Nlmsghdr::new_from_slice(answer.payload.get(4..4 + HEADER_LEN)?)?.len as usize
    } else {
        HEADER_LEN
    };
    answer.payload.get(utils::align_up(4 + copied, 4)..)
}

#[cfg(test)]
mod tests {
    use netlink_bindings::rt_link::{self, Ifinfomsg};

    use super::*;

    #[test]
    fn what_the_kernel_refuses_comes_with_its_number() {
        let mut requests = Requests::open(NetlinkFamily::Route).unwrap();
        let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname_bytes(b"nosuchdevice");
        let refused = requests.order(&request).unwrap_err();
        assert_eq!(refused.errno(), Some(19), "ENODEV: {refused}");
    }

    #[test]
    fn a_dump_gives_every_message() {
        let mut requests = Requests::open(NetlinkFamily::Route).unwrap();
        let request = rt_link::Request::new().op_getlink_dump(&Ifinfomsg::new());
        let mut names = Vec::new();
        requests
            .call(&request, |(_, attributes)| {
                names.push(attributes.get_ifname().unwrap().to_string_lossy().into_owned());
            })
            .unwrap();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
    }

    #[test]
    fn messages_that_contradict_themselves_end_the_datagram() {
        let mut bytes = vec![0; 40];
        bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
        bytes[20..24].copy_from_slice(&400_u32.to_ne_bytes());
        assert_eq!(Messages(&bytes).count(), 1);
        assert_eq!(Messages(&bytes[..10]).count(), 0);
        bytes[..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(Messages(&bytes).count(), 0);
    }
}
