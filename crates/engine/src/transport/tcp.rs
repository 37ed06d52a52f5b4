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
use culvert_wire::tcp::{FRAME_PREFIX_LEN, frame_prefix, split_frame};

use super::Backpressure;
use crate::peer::Peer;

/// The longest frame once the stream has a peer: what a packet of the largest tunnel MTU needs.
pub(crate) const MAX_FRAME: usize = 65_535;
/// The longest frame before that: control packets of strangers (SEC-CTL: frame length before authentication).
const MAX_STRANGER_FRAME: usize = 2048;
/// Bytes of data that may wait for the stream: about the 64 packets of OpenVPN's `tcp-queue-limit`. While more wait, data
/// is dropped (its senders slow down); so the queue never holds more than this and one batch, far below the 1 MiB at
/// which a peer would have to go.
const MAX_QUEUED: usize = 128 << 10;
/// The same for control packets: more than all windows of a session hold.
const MAX_URGENT: usize = 32 << 10;
/// Bytes that the system takes without having sent them. More would only be a longer queue, and control packets cannot
/// pass it any more: left to itself it grows to megabytes, seconds on a slow line.
const MAX_UNSENT: u32 = 128 << 10;

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

/// What waits to be written. Control frames go before the data that waits, but not into the middle of a frame.
#[derive(Default)]
struct Writer {
    data: Frames,
    control: Frames,
    /// The TOS byte that was set.
    tos: Option<u8>,
    /// A control packet that waits for room.
    waker: Option<Waker>,
}

/// Frames one after the other; the first may be written in part.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// How much of `bytes` is written already.
    written: usize,
    /// The first end of a frame at `written` or behind it.
    boundary: usize,
}

impl Tcp {
    pub(crate) fn adopt(
        stream: OwnedFd,
        remote: SocketAddr,
        epoll: Arc<Epoll>,
        id: TransportId,
    ) -> io::Result<Self> {
        let socket = TcpSocket::adopt(stream)?;
        // Not for UNIX streams, which tests use.
        let _ = socket.set_unsent_limit(MAX_UNSENT);
        Ok(Self {
            socket,
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

    pub(crate) fn size_buffers(&self, recv: Option<u32>, send: Option<u32>) -> io::Result<()> {
        culvert_sys::sockopt::size_buffers(&self.socket, recv, send)
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

    /// Sends frames of data, whole or not at all. A TOS byte stays the stream's until the next one, as with OpenVPN: what
    /// waits, and what is sent again, goes with it, too.
    pub(super) fn send(&self, frames: &[u8], tos: Option<u8>, backpressure: Backpressure<'_>) {
        let mut writer = self.lock();
        if writer.waiting() > MAX_QUEUED || self.broken.load(Relaxed) {
            self.dropped.fetch_add(frames.len() as u64, Relaxed);
            return;
        }
        if let Some(tos) = tos.filter(|_| writer.tos != tos) {
            writer.tos = Some(tos);
            // A stream without one carries the packets all the same.
            let _ = self.socket.set_tos(tos);
        }
        self.write(&mut writer, Urgency::Data, frames);
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
        if writer.control.waiting() > MAX_URGENT {
            writer.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.write(&mut writer, Urgency::Control, &[&prefix, packet].concat());
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

    /// Writes frames behind what waits already with the same urgency.
    fn write(&self, writer: &mut Writer, urgency: Urgency, frames: &[u8]) {
        let was_waiting = writer.waiting() > 0;
        let mut written = 0;
        while !was_waiting && written < frames.len() {
            match self.socket.write(&frames[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.break_off(writer),
            }
        }
        if written == frames.len() {
            return;
        }
        let queue = match urgency {
            Urgency::Data => &mut writer.data,
            Urgency::Control => &mut writer.control,
        };
        queue.push(frames, written);
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
        while let Some((queue, end)) = writer.next() {
            match self.socket.write(&queue.bytes[queue.written..end]) {
                Ok(n) => queue.advance(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return writer.wake_if_room(),
                Err(_) => return self.break_off(writer),
            }
        }
        writer.wake_if_room();
        // An error here means that the stream is not watched any more.
        let _ = self.epoll.change(&self.socket, self.token, Interest::Read);
    }

    fn break_off(&self, writer: &mut Writer) {
        self.broken.store(true, Release);
        (writer.data, writer.control) = (Frames::default(), Frames::default());
        if let Some(waker) = writer.waker.take() {
            waker.wake();
        }
    }
}

/// What a frame carries.
#[derive(Clone, Copy)]
enum Urgency {
    Data,
    Control,
}

impl Writer {
    const fn waiting(&self) -> usize {
        self.data.waiting() + self.control.waiting()
    }

    /// Wakes who waits to write control packets, whatever data still waits.
    fn wake_if_room(&mut self) {
        if self.control.waiting() <= MAX_URGENT
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// What to write next, and up to where: the rest of a frame that was begun, then control, then data.
    fn next(&mut self) -> Option<(&mut Frames, usize)> {
        let Self { data, control, .. } = self;
        if data.written < data.boundary {
            let end = if control.waiting() > 0 { data.boundary } else { data.bytes.len() };
            return Some((data, end));
        }
        let queue = if control.waiting() > 0 { control } else { data };
        let end = queue.bytes.len();
        (queue.waiting() > 0).then_some((queue, end))
    }
}

impl Frames {
    const fn waiting(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Adds whole frames, of which so many bytes are written already, where nothing waited.
    fn push(&mut self, frames: &[u8], written: usize) {
        debug_assert!(written == 0 || self.bytes.is_empty(), "frames are written in order");
        self.bytes.extend_from_slice(frames);
        if written > 0 {
            self.advance(written);
        }
    }

    /// So many more bytes are written.
    fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        if self.waiting() == 0 {
            self.bytes.clear();
            (self.written, self.boundary) = (0, 0);
            return;
        }
        while self.boundary < self.written {
            // Frames are whole here, so the prefix is there; without it the rest is taken for one frame.
            let prefix = self.bytes[self.boundary..].first_chunk();
            let frame = prefix
                .map_or(self.bytes.len(), |len| FRAME_PREFIX_LEN + usize::from(u16::from_be_bytes(*len)));
            self.boundary = (self.boundary + frame).min(self.bytes.len());
        }
        // A stream that is always a little behind would otherwise keep all it ever wrote.
        if self.written >= MAX_QUEUED {
            self.bytes.drain(..self.written);
            self.boundary -= self.written;
            self.written = 0;
        }
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
        let start = at + FRAME_PREFIX_LEN;
        handle(&stream[start..start + len]);
        at = start + len;
    }
    Ok(at)
}

fn out_of_step(error: culvert_wire::WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_queue_that_is_never_empty_does_not_grow() {
        let frame = [&[0x03, 0xE8][..], &[7; 1000]].concat();
        let mut frames = Frames::default();
        frames.push(&frame, 0);
        for _ in 0..10_000 {
            frames.push(&frame, 0);
            frames.advance(frame.len());
            assert_eq!(frames.waiting(), frame.len());
            assert_eq!(frames.boundary, frames.written, "between two frames");
        }
        assert!(frames.bytes.len() <= MAX_QUEUED + 2 * frame.len());
    }

    /// What happens to a writer whose stream is full.
    #[derive(Clone, Debug)]
    enum Act {
        Data(Vec<u8>),
        Control(Vec<u8>),
        /// The stream takes at most so many bytes.
        Write(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let payload = || prop::collection::vec(any::<u8>(), 1..40);
        prop::collection::vec(
            prop_oneof![
                payload().prop_map(Act::Data),
                payload().prop_map(Act::Control),
                (1_usize..60).prop_map(Act::Write)
            ],
            0..60,
        )
    }

    /// A frame whose first byte says what it is, so that both kinds can be told apart in the stream.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let prefix = frame_prefix(payload.len() + 1).unwrap();
        [&prefix[..], &[kind], payload].concat()
    }

    fn write(writer: &mut Writer, most: usize, stream: &mut Vec<u8>) {
        let Some((queue, end)) = writer.next() else { return };
        let end = end.min(queue.written.saturating_add(most));
        let bytes = queue.bytes[queue.written..end].to_vec();
        queue.advance(bytes.len());
        stream.extend(bytes);
    }

    proptest! {
        #[test]
        fn control_passes_data_between_frames_and_each_keeps_its_order(acts in acts()) {
            let (mut writer, mut stream) = (Writer::default(), Vec::new());
            let mut pushed = [Vec::new(), Vec::new()];
            for act in acts {
                match act {
                    Act::Data(payload) => {
                        pushed[0].push(frame(0, &payload));
                        writer.data.push(&frame(0, &payload), 0);
                    }
                    Act::Control(payload) => {
                        pushed[1].push(frame(1, &payload));
                        writer.control.push(&frame(1, &payload), 0);
                    }
                    Act::Write(most) => write(&mut writer, most, &mut stream),
                }
            }
            while writer.waiting() > 0 {
                write(&mut writer, usize::MAX, &mut stream);
            }
            let mut arrived = [Vec::new(), Vec::new()];
            let taken = each_frame(&stream, MAX_FRAME, |packet| {
                arrived[usize::from(packet[0])].push(frame(packet[0], &packet[1..]));
            });
            prop_assert_eq!(taken.unwrap(), stream.len());
            prop_assert_eq!(arrived, pushed);
        }
    }

    #[test]
    fn a_control_packet_waits_for_no_more_than_the_frame_that_was_begun() {
        let (mut writer, mut stream) = (Writer::default(), Vec::new());
        let data: Vec<u8> = (0..100).flat_map(|number| frame(0, &[number; 50])).collect();
        // The system took the first frame and a part of the second.
        writer.data.push(&data, 60);
        writer.control.push(&frame(1, b"now"), 0);
        write(&mut writer, usize::MAX, &mut stream);
        write(&mut writer, usize::MAX, &mut stream);
        assert_eq!(stream, [&data[60..106], &frame(1, b"now")].concat());
    }
}
