//! Limits what leaves through a device: OpenVPN's `shaper`, as a queueing discipline of the kernel.
//!
//! A token bucket (tbf) at the root of the device. Its handle is culvert's own, by which ours is told from an
//! administrator's: his is never replaced or removed. `tc qdisc show dev DEVICE` shows `qdisc tbf 76: root`.

use std::io;

use netlink_bindings::tc::{Request, TcRatespec, TcTbfQopt, Tcmsg};
use netlink_socket2::{NetlinkSocket, ReplyError};

use crate::{HostError, netlink::refused};

// linux/pkt_sched.h
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// `76:`, like the protocol number of our routes.
const HANDLE: u32 = 0x0076_0000;

/// Bytes that a frame may have beyond the MTU: link headers of TUN (0) and TAP (14, 18 with a VLAN tag), rounded up.
const LINK_HEADER: u32 = 64;
/// What may leave at once, as a fraction of a second: 20 ms, several times the timer's resolution.
const BURST_PER_SECOND: u32 = 50;
/// What may wait, as a fraction of a second: 200 ms, more only makes the delay grow.
const QUEUE_PER_SECOND: u32 = 5;
/// What may wait at slow rates, in frames.
const QUEUE_FRAMES: u32 = 10;

/// Bytes of the bucket and of bucket and queue together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    burst: u32,
    limit: u32,
}

impl Sizes {
    /// A frame larger than the bucket would never leave: the bucket holds one at least.
    fn of(bytes_per_second: u32, mtu: u32) -> Self {
        let frame = mtu.saturating_add(LINK_HEADER);
        let burst = frame.max(bytes_per_second / BURST_PER_SECOND);
        let queue = frame.saturating_mul(QUEUE_FRAMES).max(bytes_per_second / QUEUE_PER_SECOND);
        Self { burst, limit: burst.saturating_add(queue) }
    }
}

/// Installs the limit, or changes it where ours stands already.
pub(crate) fn install(
    socket: &mut NetlinkSocket,
    device: &str,
    index: u32,
    mtu: u32,
    bytes_per_second: u32,
) -> Result<(), HostError> {
    let sizes = Sizes::of(bytes_per_second, mtu);
    let rate =
        TcRatespec { rate: bytes_per_second, linklayer: TC_LINKLAYER_ETHERNET, ..TcRatespec::default() };
    // Not "exclusive", not "replace": the kernel then makes ours, or changes ours, or refuses because of another.
    let mut request = Request::new().set_create().op_newqdisc_do(&header(device, index)?);
    request
        .encode()
        .nested_options_tbf()
        .push_parms(TcTbfQopt { rate, limit: sizes.limit, ..TcTbfQopt::default() })
        .push_burst(sizes.burst);
    let sent = socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
    sent.map_err(|error| {
        let what = format!("shaper of {bytes_per_second} bytes per second on {device}");
        match error.as_io_error().raw_os_error() {
            Some(2) => HostError::Unavailable {
                what,
                remedy: "load the module sch_tbf, or use a kernel built with CONFIG_NET_SCH_TBF",
                source: error.into(),
            },
            Some(17) => HostError::Refused {
                what,
                detail: Some(format!(
                    "the device has a queueing discipline of its own: tc qdisc delete dev {device} root"
                )),
                source: error.into(),
            },
            _ => refused(what, error),
        }
    })
}

/// Removes the limit; another discipline that took its place stays.
pub(crate) fn remove(socket: &mut NetlinkSocket, device: &str, index: u32) -> Result<(), HostError> {
    let request = Request::new().op_delqdisc_do(&header(device, index)?);
    let sent = socket.request(&request).map_err(ReplyError::from).and_then(|mut reply| reply.recv_ack());
    sent.map_err(|error| {
        let what = format!("shaper on {device}");
        match error.as_io_error().raw_os_error() {
            // EINVAL: the root has another handle, so that ours is gone; say so in the number for that.
            Some(22) => HostError::Refused { what, detail: None, source: io::Error::from_raw_os_error(2) },
            _ => refused(what, error),
        }
    })
}

fn header(device: &str, index: u32) -> Result<Tcmsg, HostError> {
    let ifindex = i32::try_from(index).map_err(|_| HostError::NoDevice(device.to_owned()))?;
    Ok(Tcmsg { ifindex, handle: HANDLE, parent: TC_H_ROOT, ..Tcmsg::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_holds_a_frame_at_any_rate() {
        assert_eq!(Sizes::of(100, 1500), Sizes { burst: 1564, limit: 1564 + 15_640 });
        assert_eq!(Sizes::of(100_000_000, 1500), Sizes { burst: 2_000_000, limit: 22_000_000 });
        assert!(Sizes::of(u32::MAX, u32::MAX).burst >= u32::MAX / 50);
    }
}
