//! Streams through a pair of engines, held against the oracle of `culvert_testkit::inner`: what is sent, super-packets
//! cut one by one, is what has to come out, flow by flow and byte by byte.

use culvert_testkit::{
    inner::{Choices, Delivered, Mix, VnetHeader, compare, cut, super_frame},
    sim::SimRandom,
};

use super::{End, PATIENCE};

/// What may be under way at once: socket buffers of a process without privileges take that much.
const WINDOW: usize = 48 << 10;
const WINDOW_PACKETS: usize = 48;

/// A frame for the device, and the packets that the other end is to deliver for it.
#[derive(Clone, Debug)]
pub struct Sending {
    frame: Vec<u8>,
    becomes: Vec<Vec<u8>>,
}

impl Sending {
    /// A frame that a kernel makes.
    pub fn frame(frame: Vec<u8>) -> Self {
        let becomes = cut(&frame).expect("a frame that a kernel makes");
        Self { frame, becomes }
    }

    /// A single packet, checksums and all.
    pub fn packet(packet: Vec<u8>) -> Self {
        Self { frame: VnetHeader::default().with(&packet), becomes: vec![packet] }
    }
}

/// What one direction is to carry: a mixture of packets, and super-packets where the device has such.
pub fn traffic(seed: u64, supers: bool, mtu: usize) -> Vec<Sending> {
    let mut random = SimRandom::new(seed);
    let mut bytes = [0; 200];
    random.fill(&mut bytes);
    let mut traffic: Vec<_> = Mix::hostile(&bytes, mtu).map(Sending::packet).collect();
    if supers {
        for _ in 0..6 {
            random.fill(&mut bytes);
            let frame = super_frame(&mut Choices::new(&bytes), mtu);
            let at = usize::try_from(random.below(traffic.len() as u64)).unwrap();
            traffic.insert(at, Sending::frame(frame));
        }
    }
    traffic
}

/// One direction under way.
pub struct Stream<'a> {
    from: &'a End,
    to: &'a End,
    /// What the receiving device may have taken as one.
    joins: bool,
    traffic: std::vec::IntoIter<Sending>,
    sent: Vec<Vec<u8>>,
    delivered: Vec<Delivered>,
}

impl<'a> Stream<'a> {
    pub fn new(from: &'a End, to: &'a End, traffic: Vec<Sending>, joins: bool) -> Self {
        Self { from, to, joins, traffic: traffic.into_iter(), sent: Vec::new(), delivered: Vec::new() }
    }

    /// Sends as much as may be under way.
    fn send(&mut self) {
        let (mut bytes, mut packets) = (0, 0);
        while bytes < WINDOW && packets < WINDOW_PACKETS {
            let Some(Sending { frame, becomes }) = self.traffic.next() else { return };
            bytes += becomes.iter().map(Vec::len).sum::<usize>();
            packets += becomes.len();
            self.from.host.send_frame(frame);
            self.sent.extend(becomes);
        }
    }

    /// Takes all of it; `false` when some is missing.
    fn receive(&mut self) -> bool {
        while self.delivered.len() < self.sent.len() {
            let Some(packet) = self.to.host.recv_timeout(PATIENCE) else { return false };
            self.delivered.push(Delivered { packet, joined: self.joins });
        }
        true
    }

    /// Moves everything, in windows, in all directions at once. Ends at a loss, which [`Stream::check`] reports.
    pub fn run(streams: &mut [Self]) {
        while streams.iter().any(|stream| stream.traffic.len() > 0) {
            streams.iter_mut().for_each(Self::send);
            if !streams.iter_mut().all(Self::receive) {
                return;
            }
        }
    }

    /// What came is what was sent, and nothing else.
    pub fn check(&self) -> Result<(), String> {
        compare(&self.sent, &self.delivered)?;
        match self.to.host.try_recv() {
            None => Ok(()),
            Some(packet) => Err(format!("more came than was sent: {packet:02x?}")),
        }
    }
}
