use crate::MessageId;

/// The acknowledged message ids of one control packet: at most eight, in wire order.
///
/// ```text
/// u8   count            0..=8
/// u32  id[count]
/// ```
///
/// Source: openvpn-rfc, "Ack packet". Ids acknowledged before are normal: peers from 2.6 on repeat recent ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckBlock {
    ids: [MessageId; Self::MAX],
    len: usize,
}

impl AckBlock {
    /// Most ids that one packet may acknowledge.
    pub const MAX: usize = 8;

    /// A block without ids.
    #[must_use]
    pub const fn new() -> Self {
        Self { ids: [MessageId(0); Self::MAX], len: 0 }
    }

    /// Appends an id; returns `false` when the block is full.
    pub fn push(&mut self, id: MessageId) -> bool {
        match self.ids.get_mut(self.len) {
            Some(slot) => {
                *slot = id;
                self.len = self.len.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// The ids in wire order.
    #[must_use]
    pub fn as_slice(&self) -> &[MessageId] {
        self.ids.get(..self.len).unwrap_or_default()
    }

    /// Number of ids.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing is acknowledged.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl FromIterator<MessageId> for AckBlock {
    /// Takes the first eight ids.
    fn from_iter<I: IntoIterator<Item = MessageId>>(ids: I) -> Self {
        let mut block = Self::new();
        for id in ids.into_iter().take(Self::MAX) {
            block.push(id);
        }
        block
    }
}
