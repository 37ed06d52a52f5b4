//! What becomes of Ethernet frames that peers send.

use std::sync::Arc;

use culvert_offload::{DeviceMode, Station};

use super::data::{Data, Delivery, adjust};
use crate::{
    bridge::{self, Frame},
    packet::ethernet::{self, Header, Outbound, TAG_LEN, is_group},
    peer::{DropReason, Peer},
    transport::Backpressure,
};

impl Data {
    /// Decides about the frame in the slot.
    pub(super) fn deliver_frame(&mut self, peer: &Arc<Peer>, len: usize) -> Result<Delivery, DropReason> {
        let shared = Arc::clone(&self.shared);
        let bridge = shared.table.bridge().ok_or(DropReason::Malformed)?;
        let frame = &mut self.coalescer.opened(len)[..len];
        let header = Header::parse(frame).ok_or(DropReason::Malformed)?;
        if let Some(packet) = ethernet::inner(frame) {
            adjust(peer, packet);
        }
        if shared.table.mode() == DeviceMode::PointToPoint {
            return Ok(Delivery::Tunnel(len));
        }
        let vlan = peer.port.vlan;
        // A peer is in one VLAN, and does not choose.
        if bridge.vlans().is_some() && header.is_in_vlan() {
            return Err(DropReason::Source);
        }
        if !bridge::admit(&shared, bridge, peer, Station { mac: header.source, vlan }, self.now) {
            return Err(DropReason::Source);
        }
        if shared.client_to_client {
            let to = Station { mac: header.destination, vlan };
            let group = is_group(header.destination);
            let other = if group { None } else { bridge.find(to, self.now) };
            if group || other.is_some() {
                self.moved.clear();
                self.moved.extend_from_slice(frame);
                let frame = Frame { bytes: &self.moved, untag: false };
                match other {
                    None => {
                        bridge::broadcast(
                            &shared,
                            &mut self.outbox,
                            frame,
                            vlan,
                            Some(peer),
                            Backpressure::Drop,
                        );
                    }
                    Some(other) => {
                        if !Arc::ptr_eq(&other, peer) {
                            self.outbox.push(&shared, &other, &frame, Backpressure::Drop);
                        }
                        return Ok(Delivery::Switched(len));
                    }
                }
            }
        }
        match bridge.vlans().map_or(Outbound::AsItIs, |vlans| ethernet::to_device(vlans, vlan)) {
            Outbound::AsItIs => Ok(Delivery::Tunnel(len)),
            // What stood around the sealed frame leaves more room than a tag needs.
            Outbound::Tag(vlan) => ethernet::tag(self.coalescer.opened(len + TAG_LEN), len, vlan)
                .map(Delivery::Tunnel)
                .ok_or(DropReason::Malformed),
            Outbound::Drop => Err(DropReason::Source),
        }
    }
}
