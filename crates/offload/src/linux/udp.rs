//! A UDP socket whose data packets the module takes: everything else is read here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use culvert_sys::{Outgoing, RecvBatch, UdpSocket, sockopt};
use culvert_wire::{Opcode, Transmit};

use super::waiting::{Direction, Waiter, Waiting};
use crate::{ControlBatch, ControlPacket, ControlReceiver, ControlSender, TransportSpec, UdpOptions};

/// A socket with the module's peers behind it.
#[derive(Debug)]
pub(super) struct Udp {
    /// `None` once closed: the port is free then, whoever still holds this.
    socket: Mutex<Option<Arc<UdpSocket>>>,
    waiter: Arc<Waiter>,
    waiting: Arc<Waiting>,
    options: UdpOptions,
}

/// Reads before others get their turn.
const TURNS: usize = 16;

impl Udp {
    pub(super) fn bind(local: SocketAddr, options: UdpOptions, waiting: &Arc<Waiting>) -> io::Result<Self> {
        let socket = UdpSocket::bind(local, |fd| options.apply(fd))?;
        Self::with_socket(socket, options, waiting)
    }

    pub(super) fn adopt(socket: OwnedFd, options: UdpOptions, waiting: &Arc<Waiting>) -> io::Result<Self> {
        Self::with_socket(UdpSocket::adopt(socket)?, options, waiting)
    }

    fn with_socket(socket: UdpSocket, options: UdpOptions, waiting: &Arc<Waiting>) -> io::Result<Self> {
        // The module sends from the address that it is told, not from the one that the socket is bound to.
        sockopt::report_local_address(&socket, true)?;
        let waiter = waiting.add(&socket)?;
        let (socket, waiting) = (Mutex::new(Some(Arc::new(socket))), Arc::clone(waiting));
        Ok(Self { socket, waiter, waiting, options })
    }

    pub(super) fn socket(&self) -> io::Result<Arc<UdpSocket>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The address that the socket is bound to.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.socket().ok()?.local_addr().ok()
    }

    /// Closes the socket here and gives it back.
    pub(super) fn close(&self) -> Option<TransportSpec> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.waiting.remove(&*socket, &self.waiter);
        let given = socket.as_fd().try_clone_to_owned().ok()?;
        Some(TransportSpec::AdoptUdp { socket: given, options: self.options.clone() })
    }
}

/// The receiving end.
pub(super) struct UdpReceiver {
    udp: Arc<Udp>,
    batch: RecvBatch,
}

impl UdpReceiver {
    pub(super) fn new(udp: Arc<Udp>) -> Self {
        Self { udp, batch: RecvBatch::new() }
    }

    /// Takes what is there; `WouldBlock` when nothing is.
    fn read(&mut self, out: &mut ControlBatch) -> io::Result<()> {
        self.udp.socket()?.recv_batch(&mut self.batch)?;
        let at = Instant::now();
        for message in self.batch.messages() {
            let packets = message.bytes.chunks(message.segment.max(1)).filter(|bytes| is_control(bytes));
            out.packets.extend(packets.map(|bytes| ControlPacket {
                at,
                from: message.from,
                to: message.to.map(Into::into),
                bytes: bytes.to_vec(),
            }));
        }
        Ok(())
    }
}

/// Data comes up only while the socket has no peer.
fn is_control(packet: &[u8]) -> bool {
    packet
        .first()
        .and_then(|&first| Opcode::from_header(first))
        .is_some_and(|opcode| !matches!(opcode, Opcode::DataV1 | Opcode::DataV2))
}

impl ControlReceiver for UdpReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut ControlBatch) -> Poll<io::Result<()>> {
        let before = out.packets.len();
        for _ in 0..TURNS {
            let failure = match self.read(out) {
                Ok(()) if out.packets.len() > before => return Poll::Ready(Ok(())),
                Ok(()) => continue,
                Err(failure) => failure,
            };
            match failure.kind() {
                io::ErrorKind::NotConnected => return Poll::Ready(Ok(())), // closed
                io::ErrorKind::WouldBlock => {
                    let Ok(socket) = self.udp.socket() else { return Poll::Ready(Ok(())) };
                    return match self.udp.waiting.wait(&*socket, &self.udp.waiter, Direction::Read, cx) {
                        Ok(()) => Poll::Pending,
                        // Closed in between.
                        Err(_) if self.udp.socket().is_err() => Poll::Ready(Ok(())),
                        Err(failure) => Poll::Ready(Err(failure)),
                    };
                }
                // What became of an earlier packet: the socket itself is well.
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl ControlSender for Udp {
    fn poll_send(&self, _cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        let send = || {
            let message = Outgoing {
                bytes: packet.bytes,
                segment: None,
                to: Some(packet.to),
                from: packet.from.map(Into::into),
                tos: None,
            };
            self.socket()?.send_batch(&[message]).map(drop)
        };
        Poll::Ready(match send() {
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => Ok(()), // the protocol repeats
            sent => sent,
        })
    }
}
