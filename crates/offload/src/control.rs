use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

use culvert_wire::Transmit;

/// The receiving end of a transport's control port. It has one reader.
pub trait ControlReceiver: Send {
    /// Appends the control packets that have arrived. `Ready(Ok(()))` with an unchanged batch means the transport is
    /// closed (TCP: by the peer).
    ///
    /// # Errors
    /// When the transport failed and will give nothing more.
    fn poll_recv(&mut self, cx: &mut Context<'_>, batch: &mut ControlBatch) -> Poll<io::Result<()>>;
}

/// The sending end of a transport's control port. It may have many writers.
pub trait ControlSender: Send + Sync {
    /// Sends one packet. UDP never pends: a full socket drops, the protocol repeats.
    ///
    /// # Errors
    /// When the system refused the packet for a lasting reason; on TCP, when the stream is broken.
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>>;
}

/// Control packets as they arrived, oldest first.
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
    pub to: Option<std::net::IpAddr>,
    /// The packet, without the length prefix of TCP.
    pub bytes: Vec<u8>,
}
