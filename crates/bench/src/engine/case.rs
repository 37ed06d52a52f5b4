//! What is measured of the engine.

use std::hint::black_box;

use culvert_engine::parts::{Format, Join, KeyPair, Peers, Transmit, cut, super_packet};
use culvert_wire::{CipherName, PeerId};

use crate::BenchError;

/// One thing to measure.
pub struct Case {
    /// `part/variant/size`.
    pub name: String,
    /// Items (packets, lookups) of one run.
    pub items: u32,
    /// Payload bytes of one item; 0 where bytes mean nothing.
    pub bytes: usize,
    what: What,
}

/// What is repeated.
pub trait Work {
    /// Makes ready for one run: not measured.
    fn prepare(&mut self) {}
    /// One run.
    fn run(&mut self);
}

#[derive(Clone, Copy)]
enum What {
    Seal(CipherName, Format),
    Open(CipherName, Format),
    Transmit(CipherName),
    Join,
    Lookup { routes: u32 },
    Connect { peers: u32 },
}

/// Packets of a batch: what the kernel takes in one segmented message.
const BATCH: u32 = 64;
/// Payload of packets: the smallest in use, a full one, and one of a large MTU.
const SIZES: [usize; 3] = [64, 1400, 16_384];
/// A full super-packet of the device.
const SUPER_PACKET: u16 = 65_000;
const SEGMENT: u16 = 1400;
/// Lookups of a run.
const LOOKUPS: u32 = 1000;
/// Peers that share the routes where routes are counted.
const PEERS: u32 = 100;

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    let ciphers = [
        (CipherName::Aes128Gcm, Format::Classic, ""),
        (CipherName::Aes192Gcm, Format::Classic, ""),
        (CipherName::Aes256Gcm, Format::Classic, ""),
        (CipherName::Aes256Gcm, Format::Epoch, "-epoch"),
        (CipherName::ChaCha20Poly1305, Format::Classic, ""),
    ];
    let mut cases = Vec::new();
    for (cipher, format, suffix) in ciphers {
        for bytes in SIZES {
            for (verb, what) in [("seal", What::Seal(cipher, format)), ("open", What::Open(cipher, format))] {
                cases.push(Case {
                    name: format!("{verb}/{cipher}{suffix}/{bytes}"),
                    items: BATCH,
                    bytes,
                    what,
                });
            }
        }
    }
    let segments = u32::from(SUPER_PACKET.div_ceil(SEGMENT));
    let bytes = usize::from(SEGMENT);
    for cipher in [CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305] {
        let name = format!("cut-and-seal/{cipher}/65000");
        cases.push(Case { name, items: segments, bytes, what: What::Transmit(cipher) });
    }
    cases.push(Case { name: "join/tcp/65000".to_owned(), items: segments, bytes, what: What::Join });
    for routes in [100, 10_000, 100_000] {
        let what = What::Lookup { routes };
        cases.push(Case { name: format!("lookup/{routes}"), items: LOOKUPS, bytes: 0, what });
    }
    for peers in [100, 10_000, 100_000] {
        let what = What::Connect { peers };
        cases.push(Case { name: format!("connect-disconnect/{peers}"), items: 1, bytes: 0, what });
    }
    cases
}

impl Case {
    /// Builds what the case works on.
    ///
    /// # Errors
    /// When the engine refuses: no such cipher, or the process has no sockets left.
    pub fn prepare(&self) -> Result<Box<dyn Work>, BenchError> {
        Ok(match self.what {
            What::Seal(cipher, format) => Box::new(Seal(Train::new(cipher, format, self.bytes)?)),
            What::Open(cipher, format) => {
                let train = Train::new(cipher, format, self.bytes)?;
                Box::new(Open { out: vec![0; train.size], train })
            }
            What::Transmit(cipher) => Box::new(Cutting {
                transmit: Transmit::new(cipher)?,
                frame: super_packet(SUPER_PACKET, SEGMENT),
            }),
            What::Join => Box::new(Joining {
                join: Join::default(),
                packets: cut(&super_packet(SUPER_PACKET, SEGMENT)),
            }),
            What::Lookup { routes } => {
                Box::new(Lookup { peers: Peers::new(PEERS, routes / PEERS)?, routes, next: 0 })
            }
            What::Connect { peers } => {
                let next = PeerId::new(peers).unwrap_or(PeerId::FIRST);
                Box::new(Connect { peers: Peers::new(peers, 1)?, next })
            }
        })
    }
}

/// Packets one behind the other, and their key.
struct Train {
    pair: KeyPair,
    size: usize,
    bytes: Vec<u8>,
}

impl Train {
    fn new(cipher: CipherName, format: Format, payload: usize) -> Result<Self, BenchError> {
        let pair = KeyPair::new(cipher, format)?;
        let size = payload + pair.overhead();
        Ok(Self { bytes: vec![0xA5; size * BATCH as usize], pair, size })
    }

    fn seal(&mut self) -> usize {
        self.pair.seal(&mut self.bytes, self.size)
    }
}

/// Seals a batch in its place. What is sealed the next time is the ciphertext of this one: nothing depends on it.
struct Seal(Train);

impl Work for Seal {
    fn run(&mut self) {
        black_box(self.0.seal());
    }
}

/// Opens a batch that was sealed for this run: no packet is opened twice.
struct Open {
    train: Train,
    out: Vec<u8>,
}

impl Work for Open {
    fn prepare(&mut self) {
        self.train.seal();
    }

    fn run(&mut self) {
        black_box(self.train.pair.open(&self.train.bytes, self.train.size, &mut self.out));
    }
}

struct Cutting {
    transmit: Transmit,
    frame: Vec<u8>,
}

impl Work for Cutting {
    fn run(&mut self) {
        black_box(self.transmit.send(black_box(&self.frame)));
    }
}

struct Joining {
    join: Join,
    packets: Vec<Vec<u8>>,
}

impl Work for Joining {
    fn run(&mut self) {
        black_box(self.join.join(black_box(&self.packets)));
    }
}

/// Looks up addresses all over the table.
struct Lookup {
    peers: Peers,
    routes: u32,
    next: u32,
}

impl Work for Lookup {
    fn run(&mut self) {
        for _ in 0..LOOKUPS {
            // A large prime: neighbours in time are far apart in the table.
            self.next = (self.next + 1_000_003) % self.routes;
            black_box(self.peers.finds(black_box(self.next)));
        }
    }
}

/// Adds a peer to the table, and takes it out.
struct Connect {
    peers: Peers,
    next: PeerId,
}

impl Work for Connect {
    fn run(&mut self) {
        // Cannot fail: the id is one above the table's.
        let _ = black_box(self.peers.connect(self.next));
        let _ = black_box(self.peers.disconnect(self.next));
    }
}
