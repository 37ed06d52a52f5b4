//! A TCP stream, before and after the module takes its data packets.
//!
//! Before, it is a plain stream: frames are taken from it whole, since what was read of a frame could not be given back. After,
//! the module parses it: each read gives one control frame with its length in front, each write has to be one frame.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use culvert_sys::{Eventfd, TcpSocket, wait_writable};
use culvert_wire::{
    Opcode, Transmit,
    tcp::{FRAME_PREFIX_LEN, frame_prefix, split_frame},
};

use super::waiting::{Direction, Waiter, Waiting};
use crate::{ControlBatch, ControlPacket, ControlReceiver, ControlSender, TransportSpec};

/// The longest frame of a stranger (SEC-CTL: lengths before authentication).
const MAX_STRANGER_FRAME: usize = 2048;

/// The longest frame at all, with its prefix.
const BUFFER: usize = FRAME_PREFIX_LEN + 65_535;

/// How long the rest of a control packet may take to leave before the module takes the stream over. Others wait
/// meanwhile: a peer that does not read has itself to blame.
const FLUSH: Duration = Duration::from_millis(50);

/// A stream to one peer.
#[derive(Debug)]
pub(super) struct Tcp {
    remote: SocketAddr,
    waiter: Arc<Waiter>,
    waiting: Arc<Waiting>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once closed or broken.
    stream: Option<TcpSocket>,
    /// The module has it.
    attached: bool,
    /// What is left of a frame that the stream took a part of.
    unsent: Vec<u8>,
}

impl Tcp {
    pub(super) fn adopt(stream: OwnedFd, remote: SocketAddr, waiting: &Arc<Waiting>) -> io::Result<Self> {
        let stream = TcpSocket::adopt(stream)?;
        let waiter = waiting.add(&stream)?;
        let state = State { stream: Some(stream), attached: false, unsent: Vec::new() };
        Ok(Self { remote, waiter, waiting: Arc::clone(waiting), state: Mutex::new(state) })
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.lock().stream.as_ref()?.local_addr().ok()
    }

    /// Hands the stream to the module by `attach`. Nobody reads or writes meanwhile.
    pub(super) fn attach<E: From<io::Error>>(
        &self,
        attach: impl FnOnce(&TcpSocket) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        state.flush(FLUSH)?;
        let stream = state.stream.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        stream.set_low_water(1)?;
        attach(stream)?;
        state.attached = true;
        drop(state);
        // What was read before came frame by frame; from here on it comes otherwise.
        self.waiter.wake();
        Ok(())
    }

    /// The module has given the stream back.
    pub(super) fn detached(&self) {
        self.lock().attached = false;
    }

    /// The stream is of no use any more.
    pub(super) fn break_off(&self) {
        let stream = self.lock().stream.take();
        if let Some(stream) = stream {
            self.waiting.remove(&stream, &self.waiter);
            stream.shutdown();
        }
    }

    /// Closes the stream here and gives it back.
    pub(super) fn close(&self) -> Option<TransportSpec> {
        let mut state = self.lock();
        let is_between_frames = state.write_unsent().unwrap_or(false);
        let stream = state.stream.take()?;
        drop(state);
        self.waiting.remove(&stream, &self.waiter);
        if !is_between_frames {
            return None; // nobody could go on with half a frame
        }
        let _ = stream.set_low_water(1); // it can hardly fail, and the next owner sets it
        Some(TransportSpec::AdoptTcp { stream: stream.try_clone_fd().ok()?, remote: self.remote })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the stream, unless it is gone.
    fn wait(&self, state: &State, direction: Direction, cx: &Context<'_>) -> io::Result<()> {
        match &state.stream {
            Some(stream) => self.waiting.wait(stream, &self.waiter, direction, cx),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl State {
    /// Reads one control packet.
    fn read<'b>(&self, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = if self.attached { stream.read(buf)? } else { read_whole_frame(stream, buf)? };
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.get(FRAME_PREFIX_LEN..len).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes what waits, without waiting. `false`: not all of it went.
    fn write_unsent(&mut self) -> io::Result<bool> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        while !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written.min(self.unsent.len()))),
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(true)
    }

    fn flush(&mut self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let never = Eventfd::new()?;
        while !self.write_unsent()? {
            let left = deadline.saturating_duration_since(Instant::now());
            let stream = self.stream.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait_writable(stream, &never, left)?;
        }
        Ok(())
    }
}

/// Takes one whole frame, or nothing: the stream then counts as readable when the rest is there.
fn read_whole_frame(stream: &TcpSocket, buf: &mut [u8]) -> io::Result<usize> {
    let head = buf.get_mut(..FRAME_PREFIX_LEN + MAX_STRANGER_FRAME).ok_or(io::ErrorKind::InvalidInput)?;
    let peeked = stream.peek(head)?;
    if peeked == 0 {
        return Ok(0);
    }
    let there = head.get(..peeked).unwrap_or_default();
    let out_of_step = |failure| io::Error::new(io::ErrorKind::InvalidData, failure);
    let Some(frame) = split_frame(there, MAX_STRANGER_FRAME).map_err(out_of_step)? else {
        let prefix = there.first_chunk().map(|prefix| usize::from(u16::from_be_bytes(*prefix)));
        stream.set_low_water(FRAME_PREFIX_LEN + prefix.unwrap_or(0))?;
        return Err(io::ErrorKind::WouldBlock.into());
    };
    let len = FRAME_PREFIX_LEN + frame.packet.len();
    stream.set_low_water(1)?;
    stream.read(head.get_mut(..len).unwrap_or_default())
}

/// The receiving end.
pub(super) struct TcpReceiver {
    tcp: Arc<Tcp>,
    buf: Box<[u8]>,
}

impl TcpReceiver {
    pub(super) fn new(tcp: Arc<Tcp>) -> Self {
        Self { tcp, buf: vec![0; BUFFER].into_boxed_slice() }
    }
}

/// Packets that are read before others get their turn.
const TURNS: usize = 16;

impl ControlReceiver for TcpReceiver {
    fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut ControlBatch) -> Poll<io::Result<()>> {
        let before = out.packets.len();
        let state = self.tcp.lock();
        let to = state.stream.as_ref().and_then(|stream| stream.local_addr().ok()).map(|local| local.ip());
        for _ in 0..TURNS {
            let packet = match state.read(&mut self.buf) {
                Ok(packet) => packet,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) if out.packets.len() > before => return Poll::Ready(Ok(())), // said again next time
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {
                    return match self.tcp.wait(&state, Direction::Read, cx) {
                        Ok(()) => Poll::Pending,
                        Err(failure) => Poll::Ready(Err(failure)),
                    };
                }
                Err(failure) if failure.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(())),
                Err(failure) => return Poll::Ready(Err(failure)),
            };
            let is_data = packet
                .first()
                .and_then(|&first| Opcode::from_header(first))
                .is_none_or(|opcode| matches!(opcode, Opcode::DataV1 | Opcode::DataV2));
            if !is_data {
                let bytes = packet.to_vec();
                out.packets.push(ControlPacket {
                    at: Instant::now(),
                    from: self.tcp.remote,
                    to: to.map(Into::into),
                    bytes,
                });
            }
        }
        if out.packets.len() > before {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl ControlSender for Tcp {
    fn poll_send(&self, cx: &mut Context<'_>, packet: &Transmit<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let mut send = || -> io::Result<bool> {
            if !state.write_unsent()? {
                return Ok(false);
            }
            let prefix = frame_prefix(packet.bytes.len())
                .map_err(|failure| io::Error::new(io::ErrorKind::InvalidInput, failure))?;
            // One write: the module takes a whole frame or nothing.
            let frame = [&prefix[..], packet.bytes].concat();
            if state.attached {
                let stream = state.stream.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
                return match stream.write(&frame) {
                    Ok(_) => Ok(true),
                    Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => Ok(false),
                    Err(failure) => Err(failure),
                };
            }
            state.unsent = frame;
            state.write_unsent()?;
            Ok(true)
        };
        match send() {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => match self.wait(&state, Direction::Write, cx) {
                Ok(()) => Poll::Pending,
                Err(failure) => Poll::Ready(Err(failure)),
            },
            Err(failure) => Poll::Ready(Err(failure)),
        }
    }
}
