use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

use culvert_wire::{SessionId, Transmit};

/// The receiving end of a transport's control port. It has one reader.
pub trait ControlReceiver: Send {
    /// Appends the control packets that have arrived. `Ready(Ok(()))` with an unchanged batch means the transport is
    /// closed (TCP: by the peer).
    ///
    /// # Errors
    /// When the transport failed and will give nothing more.
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>>;

    /// Packets under this session id of the sender's come before those of strangers from now on, and a flood of strangers
    /// displaces none of them. Who guesses 64 random bits may have them. An offload that leaves control packets in
    /// a socket's queue cannot tell them apart and does nothing.
    fn prefer(&mut self, sender: SessionId) {
        let _ = sender;
    }

    /// Ends [`Self::prefer`].
    fn forget(&mut self, sender: SessionId) {
        let _ = sender;
    }
}

/// The sending end of a transport's control port. It may have many writers.
pub trait ControlSender: Send + Sync {
    /// Sends one packet. UDP never pends: a full socket drops, the protocol repeats.
    ///
    /// # Errors
    /// When the system refused the packet for a lasting reason; on TCP, when the stream is broken.
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>>;
}

/// Control packets: those of preferred senders first, each kind as it arrived.
#[derive(Debug, Default)]
pub struct ControlBatch {
    /// The packets.
    pub packets: Vec<ControlPacket>,
}

/// One control packet: any legal opcode that is not data. Data that no peer claims is counted and dropped below.
#[derive(Clone, Debug)]
pub struct ControlPacket {
    /// When the data plane read it.
    pub at: Instant,
    /// Who sent it.
    pub from: SocketAddr,
    /// The local address that it was sent to, where the transport knows it.
    pub to: Option<culvert_wire::LocalAddress>,
    /// The packet, without the length prefix of TCP.
    pub bytes: Vec<u8>,
}
