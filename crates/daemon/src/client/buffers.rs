//! Buffers of the socket, sized by the server. Source: OpenVPN 2.7 `init.c` (`OPT_P_SOCKBUF`).

use culvert_config::Pushed;
use culvert_offload::{Offload, OffloadError, TransportId};
use tracing::warn;

use crate::ovlog;

/// Gives the socket the buffers that a server pushed. They say nothing where a kernel carries the data.
pub(super) fn size(offload: &dyn Offload, transport: TransportId, pushed: &Pushed) {
    if pushed.rcvbuf.is_none() && pushed.sndbuf.is_none() {
        return;
    }
    match offload.size_buffers(transport, pushed.rcvbuf, pushed.sndbuf) {
        Ok(()) => ovlog!(3, "OPTIONS IMPORT: --sndbuf/--rcvbuf options modified"),
        Err(OffloadError::Unsupported(_)) => {
            ovlog!(
                1,
                "Note: pushed --rcvbuf and --sndbuf have no effect: data packets do not pass the socket"
            );
        }
        Err(failure) => warn!("pushed --rcvbuf and --sndbuf: {}", crate::link::describe(&failure)),
    }
}
