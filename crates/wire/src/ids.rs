use std::fmt;

/// What a packet is: the upper five bits of its first byte.
///
/// Source: openvpn-rfc, "Packet opcodes". Key-method-1 opcodes (1, 2) are not represented: they are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// Starts a renegotiation on an existing session.
    SoftResetV1 = 3,
    /// TLS bytes.
    ControlV1 = 4,
    /// Acknowledgements only.
    AckV1 = 5,
    /// Data without peer id.
    DataV1 = 6,
    /// First packet of a TLS client.
    HardResetClientV2 = 7,
    /// First packet of a TLS server.
    HardResetServerV2 = 8,
    /// Data with a 24-bit peer id.
    DataV2 = 9,
    /// First packet of a TLS client that appends its wrapped tls-crypt-v2 key.
    HardResetClientV3 = 10,
    /// Like `ControlV1`, with the wrapped client key appended again.
    ControlWkcV1 = 11,
}

impl Opcode {
    /// Reads the opcode out of a packet's first byte; `None` for values that are not legal on receipt.
    #[must_use]
    pub const fn from_header(first: u8) -> Option<Self> {
        Some(match first >> 3 {
            3 => Self::SoftResetV1,
            4 => Self::ControlV1,
            5 => Self::AckV1,
            6 => Self::DataV1,
            7 => Self::HardResetClientV2,
            8 => Self::HardResetServerV2,
            9 => Self::DataV2,
            10 => Self::HardResetClientV3,
            11 => Self::ControlWkcV1,
            _ => return None,
        })
    }

    /// Returns whether this is a data packet, hence the offload's.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self, Self::DataV1 | Self::DataV2)
    }

    /// Makes a packet's first byte.
    #[must_use]
    pub const fn header(self, key: KeyId) -> u8 {
        (self as u8) << 3 | key.get()
    }
}

/// Number of a key within a session: 0..=7. The first key of a session is 0, then 1..=7 around, never 0 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyId(u8);

impl KeyId {
    /// The first key of a session.
    pub const FIRST: Self = Self(0);

    /// Makes a key id of 0..=7.
    #[must_use]
    pub const fn new(raw: u8) -> Option<Self> {
        if raw <= 7 { Some(Self(raw)) } else { None }
    }

    /// Reads the key id out of a packet's first byte (its lower three bits).
    #[must_use]
    pub const fn from_header(first: u8) -> Self {
        Self(first & 7)
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The id of the key that follows this one in a renegotiation: 7 is followed by 1.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 >= 7 { Self(1) } else { Self(self.0.wrapping_add(1)) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a peer in data packets: 24 bits. 0xFFFFFF on the wire means "none" and is not representable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u32);

impl PeerId {
    /// What stands on the wire for "no peer id".
    pub const UNDEFINED_WIRE: u32 = 0x00FF_FFFF;

    /// The first id that a server gives; names the only peer where ids are not used.
    pub const FIRST: Self = Self(0);

    /// Makes a peer id below 0xFFFFFF.
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        if raw < Self::UNDEFINED_WIRE { Some(Self(raw)) } else { None }
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The packet counter of the control wrappings and of the classic data format. 0 is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketId(u32);

impl PacketId {
    /// The first id of a key.
    pub const FIRST: Self = Self(1);

    /// Makes a packet id; 0 is invalid.
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Number of a key epoch in the epoch data format: 1..=0xFFFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpochId(u16);

impl EpochId {
    /// The first epoch of a key.
    pub const FIRST: Self = Self(1);

    /// Makes an epoch id; 0 is invalid.
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }

    /// The raw number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The epoch after this one; `None` after the last.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

/// Eight random bytes that name one side's TLS session. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 8]);

impl SessionId {
    /// Makes a session id; all zeros are invalid.
    #[must_use]
    pub fn new(raw: [u8; 8]) -> Option<Self> {
        (raw != [0; 8]).then_some(Self(raw))
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SessionId {
    /// Two groups of eight hexadecimal digits, as OpenVPN logs them: `sid=8hex 8hex`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x} {e:02x}{g:02x}{h:02x}{i:02x}")
    }
}

/// The session id that this side chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalSid(pub SessionId);

/// The session id that the peer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteSid(pub SessionId);

/// Which of a peer's two data keys: the one that sends, or the other that also decrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Sends and receives.
    Primary,
    /// Receives only.
    Secondary,
}
