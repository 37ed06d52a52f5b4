//! Receiving from peers of the old wire: packets are opened aside, and what is in them is written into the slot.

use super::data::{Data, Run, move_peer};
use crate::{
    key::Receiving,
    legacy::{Legacy, Unframed},
    peer::DropReason,
};

impl Data {
    /// As [`Data::handle_packet`].
    pub(super) fn handle_old_packet(
        &mut self,
        run: &Run<'_>,
        legacy: &Legacy,
        receiving: &mut Receiving<'_>,
        packet: &[u8],
    ) -> Result<Option<usize>, DropReason> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.payload.clear();
        scratch.payload.resize(packet.len(), 0);
        let result = match receiving.open(run.v1, packet, &mut scratch.payload, self.now / 1000) {
            Err(refused) => Err(refused.into()),
            Ok(opened) => {
                if opened.newest
                    && let Some(from) = run.strange
                {
                    move_peer(&self.shared, run.peer, from, run.to, self.now);
                }
                scratch.payload.truncate(opened.len);
                match legacy.unframe(&mut scratch, self.now) {
                    None => Err(DropReason::Malformed),
                    Some(Unframed::Piece) => Ok(None),
                    Some(Unframed::Payload) => {
                        self.coalescer.slot(scratch.payload.len()).copy_from_slice(&scratch.payload);
                        self.settle(run.peer, scratch.payload.len())
                    }
                }
            }
        };
        self.scratch = scratch;
        result
    }
}
