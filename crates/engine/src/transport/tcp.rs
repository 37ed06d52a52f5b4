use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use arc_swap::ArcSwapOption;
use culvert_offload::{TransportId, TransportSpec};
use culvert_sys::{Epoll, Interest, TcpSocket};
use culvert_wire::tcp::{frame_prefix, split_frame};

use super::Backpressure;
use crate::peer::Peer;

/// The longest frame once the stream has a peer: what a packet of the largest tunnel MTU needs.
pub(crate) const MAX_FRAME: usize = 65_535;
/// The longest frame before that: control packets of strangers (SEC-CTL: frame length before authentication).
const MAX_STRANGER_FRAME: usize = 2048;
/// Bytes that may wait for the stream: about the 64 packets of OpenVPN's `tcp-queue-limit`. While more wait, data is
/// dropped (its senders slow down) and control packets wait; so the queue never holds more than this, one batch and one
/// control packet, far below the 1 MiB at which a peer would have to go.
const MAX_QUEUED: usize = 128 << 10;

/// A TCP stream: frames in both directions, whole ones only.
pub(crate) struct Tcp {
    socket: TcpSocket,
    remote: SocketAddr,
    /// The peer at the other end, once it has one.
    pub(crate) peer: ArcSwapOption<Peer>,
    writer: Mutex<Writer>,
    /// The stream counts as readable only with more than a byte (see `receive_exactly`).
    waits_for_more: AtomicBool,
    /// Incomplete frame of the last read. Only the receiving worker takes it.
    partial: Mutex<Vec<u8>>,
    /// The worker's readiness set, to be told when there is something to write.
    epoll: Arc<Epoll>,
    token: u64,
    broken: AtomicBool,
    /// Bytes of data dropped because the stream was slower than the tunnel.
    dropped: AtomicU64,
}

/// What waits to be written; it begins in the middle of a frame if the system took part of it.
#[derive(Default)]
struct Writer {
    queue: Vec<u8>,
    /// How much of `queue` is written already.
    written: usize,
    waker: Option<Waker>,
}

impl Tcp {
    pub(crate) fn adopt(
        stream: OwnedFd,
        remote: SocketAddr,
        epoll: Arc<Epoll>,
        id: TransportId,
    ) -> io::Result<Self> {
        Ok(Self {
            socket: TcpSocket::adopt(stream)?,
            remote,
            peer: ArcSwapOption::empty(),
            writer: Mutex::default(),
            waits_for_more: AtomicBool::new(false),
            partial: Mutex::default(),
            epoll,
            token: token(id),
            broken: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        })
    }

    /// Who is at the other end.
    pub(crate) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Starts waiting for something to read, and for room if something waits to be written already.
    pub(crate) fn watch(&self) -> io::Result<()> {
        let writer = self.lock();
        let interest = if writer.waiting() > 0 { Interest::ReadWrite } else { Interest::Read };
        self.epoll.add(&self.socket, self.token, interest)
    }

    /// Stops waiting for the stream.
    pub(crate) fn unwatch(&self) {
        // Not being watched is what is wanted.
        let _ = self.epoll.remove(&self.socket);
    }

    /// The local address.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads whole frames into `buf` and gives each to `handle`. Without a peer, no byte beyond the last whole frame
    /// is taken from the stream, so that another data plane could continue with it.
    ///
    /// # Errors
    /// When the stream ended or broke, or a frame's length is impossible.
    pub(crate) fn receive(&self, buf: &mut [u8], handle: impl FnMut(&[u8])) -> io::Result<()> {
        if self.peer.load().is_some() {
            self.receive_eagerly(buf, handle)
        } else {
            self.receive_exactly(buf, handle)
        }
    }

    fn receive_eagerly(&self, buf: &mut [u8], handle: impl FnMut(&[u8])) -> io::Result<()> {
        self.wait_for(1)?;
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = partial.len();
        buf[..kept].copy_from_slice(&partial);
        let filled = match self.socket.read(&mut buf[kept..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => kept + n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        partial.clear();
        let used = each_frame(&buf[..filled], MAX_FRAME, handle)?;
        partial.extend_from_slice(&buf[used..filled]);
        Ok(())
    }

    fn receive_exactly(&self, buf: &mut [u8], handle: impl FnMut(&[u8])) -> io::Result<()> {
        let peeked = match self.socket.peek(buf) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let whole = whole_frames(&buf[..peeked], MAX_STRANGER_FRAME)?;
        if whole == 0 {
            // Wake up for the rest of the frame, not for the part that stays in the stream.
            let need = buf.first_chunk().map_or(2, |len| 2 + usize::from(u16::from_be_bytes(*len)));
            return self.wait_for(if peeked < 2 { 2 } else { need });
        }
        let read = self.socket.read(&mut buf[..whole])?;
        self.wait_for(1)?;
        each_frame(&buf[..read], MAX_STRANGER_FRAME, handle)?;
        Ok(())
    }

    /// Sets how many bytes make the stream readable.
    fn wait_for(&self, bytes: usize) -> io::Result<()> {
        if bytes > 1 || self.waits_for_more.load(Relaxed) {
            self.socket.set_low_water(bytes)?;
            self.waits_for_more.store(bytes > 1, Relaxed);
        }
        Ok(())
    }

    /// Sends frames of data, whole or not at all.
    pub(super) fn send(&self, frames: &[u8], backpressure: Backpressure<'_>) {
        let mut writer = self.lock();
        if writer.waiting() > MAX_QUEUED || self.broken.load(Relaxed) {
            self.dropped.fetch_add(frames.len() as u64, Relaxed);
            return;
        }
        self.write(&mut writer, frames);
        // Control packets may be queued in between, hence the lock is not held while waiting.
        while writer.waiting() > 0 && !self.broken.load(Relaxed) {
            drop(writer);
            if !backpressure.wait(&self.socket) {
                return;
            }
            writer = self.lock();
            self.drain(&mut writer);
        }
    }

    pub(super) fn poll_send_control(&self, cx: &Context<'_>, packet: &[u8]) -> Poll<io::Result<()>> {
        let prefix = match frame_prefix(packet.len()) {
            Ok(prefix) => prefix,
            Err(error) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, error))),
        };
        let mut writer = self.lock();
        if self.broken.load(Acquire) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if writer.waiting() > MAX_QUEUED {
            writer.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.write(&mut writer, &[&prefix, packet].concat());
        Poll::Ready(Ok(()))
    }

    /// The stream takes more: writes what waits.
    pub(crate) fn handle_writable(&self) {
        let mut writer = self.lock();
        self.drain(&mut writer);
    }

    /// Returns whether the stream is of no use any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    /// The stream is of no use any more: writers are told, and nothing waits for it.
    pub(crate) fn shut(&self) {
        self.unwatch();
        self.socket.shutdown();
        let mut writer = self.lock();
        self.break_off(&mut writer);
    }

    pub(super) fn give_back(&self) -> io::Result<TransportSpec> {
        self.peer.store(None);
        // Whoever waits to write holds this stream: it must hear that nothing will move any more.
        if let Some(waker) = self.lock().waker.take() {
            waker.wake();
        }
        let stream = self.socket.try_clone_fd()?;
        self.wait_for(1)?;
        Ok(TransportSpec::AdoptTcp { stream, remote: self.remote })
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes frames behind what waits already.
    fn write(&self, writer: &mut Writer, mut frames: &[u8]) {
        while writer.waiting() == 0 && !frames.is_empty() {
            match self.socket.write(frames) {
                Ok(n) => frames = frames.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.break_off(writer),
            }
        }
        if frames.is_empty() {
            return;
        }
        let was_waiting = writer.waiting() > 0;
        writer.queue.extend_from_slice(frames);
        if was_waiting {
            return;
        }
        match self.epoll.change(&self.socket, self.token, Interest::ReadWrite) {
            Ok(()) => {}
            // Its worker has not begun to watch it, and looks here when it does.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.break_off(writer),
        }
    }

    fn drain(&self, writer: &mut Writer) {
        while writer.waiting() > 0 {
            match self.socket.write(&writer.queue[writer.written..]) {
                Ok(n) => writer.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.break_off(writer),
            }
        }
        writer.queue.clear();
        writer.written = 0;
        // An error here means that the stream is not watched any more.
        let _ = self.epoll.change(&self.socket, self.token, Interest::Read);
        if let Some(waker) = writer.waker.take() {
            waker.wake();
        }
    }

    fn break_off(&self, writer: &mut Writer) {
        self.broken.store(true, Release);
        writer.queue = Vec::new();
        writer.written = 0;
        if let Some(waker) = writer.waker.take() {
            waker.wake();
        }
    }
}

impl Writer {
    const fn waiting(&self) -> usize {
        self.queue.len() - self.written
    }
}

/// The token of a transport in its worker's readiness set; 0 is the worker's own event.
pub(crate) fn token(id: TransportId) -> u64 {
    u64::from(id.0) + 1
}

/// Bytes of whole frames at the start of a stretch of stream.
fn whole_frames(stream: &[u8], max: usize) -> io::Result<usize> {
    let mut rest = stream;
    while let Some(frame) = split_frame(rest, max).map_err(out_of_step)? {
        rest = frame.rest;
    }
    Ok(stream.len() - rest.len())
}

/// Gives each whole frame to `handle`; returns how many bytes they took.
fn each_frame(stream: &[u8], max: usize, mut handle: impl FnMut(&[u8])) -> io::Result<usize> {
    let mut at = 0;
    while let Some(frame) = split_frame(&stream[at..], max).map_err(out_of_step)? {
        let len = frame.packet.len();
        let start = at + culvert_wire::tcp::FRAME_PREFIX_LEN;
        handle(&stream[start..start + len]);
        at = start + len;
    }
    Ok(at)
}

fn out_of_step(error: culvert_wire::WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
