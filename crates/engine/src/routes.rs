//! Longest-prefix match: a trie whose nodes are never changed, only replaced.
//!
//! A change makes new nodes along one path and shares all others with the trie before it: it costs the length of the
//! prefix, however many routes there are, and disturbs no worker that still reads the old trie. A lookup visits one
//! node for each six bits in which the routes on its way differ: three for a full pool of 65,536 addresses.
//!
//! Layout of a node: W. Eatherton, G. Varghese, Z. Dittia, "Tree Bitmap: Hardware/Software IP Lookups with Incremental
//! Updates" (2004); beside that, nodes that would have a single child are left out.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Bits of an address that a node decides on: a bit of a `u64` stands for each value.
const STRIDE: u32 = 6;
/// Bits before an address, all 0, so that hosts end where nodes end: 4 + 32 = 6 · 6, 4 + 128 = 22 · 6.
const START: u32 = 4;
/// Bits of an address with those before it.
const LEN: u32 = START + 128;

/// From prefixes to whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routes<V> {
    v4: Option<Tree<V>>,
    v6: Option<Tree<V>>,
}

/// The first `len` bits of an address, from the highest, counted with those [before it](START); all others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    bits: u128,
    len: u32,
}

/// One or more routes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree<V> {
    Route(Prefix, V),
    Node(Arc<Node<V>>),
}

/// Two or more routes, told apart by the six bits after their common beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node<V> {
    /// The common beginning: a multiple of [`STRIDE`] bits, the highest possible.
    prefix: Prefix,
    /// Which [`Place::Child`]s are taken.
    children: u64,
    /// Which [`Place::End`]s are taken.
    ends: u64,
    /// What is there: the children in order, then the routes that end in this node in order.
    trees: Box<[Tree<V>]>,
}

/// A place in a node.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// For what continues beyond the node, by its next six bits.
    Child(u32),
    /// For the route that ends in the node after `n < 6` bits: 2^n + those bits. Longer routes have higher places.
    End(u32),
}

impl<V> Default for Routes<V> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<V> Routes<V> {
    /// Returns the owner of the longest prefix that holds the address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<&V> {
        match address {
            IpAddr::V4(ip) => self.v4.as_ref()?.find(v4_bits(ip)),
            IpAddr::V6(ip) => self.v6.as_ref()?.find(ip.to_bits()),
        }
    }

    /// Returns the owner of exactly this prefix.
    pub(crate) fn get(&self, prefix: (IpAddr, u8)) -> Option<&V> {
        let tree = if prefix.0.is_ipv4() { &self.v4 } else { &self.v6 };
        tree.as_ref()?.get(Prefix::from(prefix))
    }
}

impl<V: Clone> Routes<V> {
    /// Adds a route, or gives it to another owner.
    pub(crate) fn insert(&mut self, prefix: (IpAddr, u8), owner: V) {
        let tree = if prefix.0.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let prefix = Prefix::from(prefix);
        *tree = Some(match tree {
            Some(tree) => tree.with(prefix, owner),
            None => Tree::Route(prefix, owner),
        });
    }

    /// Removes a route, if it is there.
    pub(crate) fn remove(&mut self, prefix: (IpAddr, u8)) {
        let tree = if prefix.0.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if let Some(old) = tree {
            *tree = old.without(Prefix::from(prefix));
        }
    }
}

impl<V> Tree<V> {
    fn find(&self, address: u128) -> Option<&V> {
        let mut tree = self;
        let mut best = None;
        loop {
            tree = match tree {
                Self::Route(prefix, owner) if prefix.holds(address) => return Some(owner),
                Self::Node(node) if node.prefix.holds(address) => {
                    // Where the route is matters only if no longer one is found, so its place is enough for now.
                    best = node.longest(address).map(|end| (node, end)).or(best);
                    match node.tree(Place::Child(six_bits(address, node.prefix.len))) {
                        Some(child) => child,
                        None => break,
                    }
                }
                _ => break,
            }
        }
        let (node, end) = best?;
        match node.tree(end)? {
            Self::Route(_, owner) => Some(owner),
            Self::Node(_) => None,
        }
    }

    fn get(&self, prefix: Prefix) -> Option<&V> {
        match self {
            Self::Route(own, owner) => (*own == prefix).then_some(owner),
            Self::Node(node) if node.prefix.contains(prefix) => node.tree(node.place(prefix))?.get(prefix),
            Self::Node(_) => None,
        }
    }

    fn prefix(&self) -> Prefix {
        match self {
            Self::Route(prefix, _) => *prefix,
            Self::Node(node) => node.prefix,
        }
    }
}

impl<V: Clone> Tree<V> {
    fn with(&self, prefix: Prefix, owner: V) -> Self {
        match self {
            Self::Node(node) if node.prefix.contains(prefix) => {
                let place = node.place(prefix);
                let tree = match node.tree(place) {
                    Some(tree) => tree.with(prefix, owner),
                    None => Self::Route(prefix, owner),
                };
                Self::Node(Arc::new(node.replace(place, Some(tree))))
            }
            Self::Route(own, _) if *own == prefix => Self::Route(prefix, owner),
            // They part before this tree begins: a node above both.
            _ => {
                let node = Node::new(self.prefix().common(prefix));
                let node = node.replace(node.place(self.prefix()), Some(self.clone()));
                let node = node.replace(node.place(prefix), Some(Self::Route(prefix, owner)));
                Self::Node(Arc::new(node))
            }
        }
    }

    /// `None`: nothing is left.
    fn without(&self, prefix: Prefix) -> Option<Self> {
        match self {
            Self::Route(own, _) if *own == prefix => None,
            Self::Node(node) if node.prefix.contains(prefix) => {
                let place = node.place(prefix);
                let node = node.replace(place, node.tree(place).and_then(|tree| tree.without(prefix)));
                match &*node.trees {
                    [only] => Some(only.clone()),
                    _ => Some(Self::Node(Arc::new(node))),
                }
            }
            _ => Some(self.clone()),
        }
    }
}

impl<V> Node<V> {
    fn new(prefix: Prefix) -> Self {
        Self { prefix, children: 0, ends: 0, trees: Box::default() }
    }

    /// The place of a longer prefix.
    const fn place(&self, prefix: Prefix) -> Place {
        let next = six_bits(prefix.bits, self.prefix.len);
        match prefix.len - self.prefix.len {
            n @ 0..STRIDE => Place::End((1 << STRIDE | next) >> (STRIDE - n)),
            _ => Place::Child(next),
        }
    }

    fn tree(&self, place: Place) -> Option<&Tree<V>> {
        if self.is_taken(place) { self.trees.get(self.rank(place)) } else { None }
    }

    const fn is_taken(&self, place: Place) -> bool {
        match place {
            Place::Child(at) => self.children & 1 << at != 0,
            Place::End(at) => self.ends & 1 << at != 0,
        }
    }

    /// Where in `trees` a place is.
    const fn rank(&self, place: Place) -> usize {
        let before = match place {
            Place::Child(at) => (self.children & ((1 << at) - 1)).count_ones(),
            Place::End(at) => self.children.count_ones() + (self.ends & ((1 << at) - 1)).count_ones(),
        };
        before as usize
    }

    /// The place of the longest route that ends in this node and holds the address.
    fn longest(&self, address: u128) -> Option<Place> {
        let ends = self.ends & ENDS[six_bits(address, self.prefix.len) as usize];
        ends.checked_ilog2().map(Place::End)
    }
}

impl<V: Clone> Node<V> {
    fn replace(&self, place: Place, tree: Option<Tree<V>>) -> Self {
        let (mut children, mut ends) = (self.children, self.ends);
        let (map, at) = match place {
            Place::Child(at) => (&mut children, at),
            Place::End(at) => (&mut ends, at),
        };
        *map = *map & !(1 << at) | u64::from(tree.is_some()) << at;
        let (rank, old) = (self.rank(place), usize::from(self.is_taken(place)));
        let mut trees = self.trees.to_vec();
        trees.splice(rank..rank + old, tree);
        Self { prefix: self.prefix, children, ends, trees: trees.into() }
    }
}

impl Prefix {
    /// The highest multiple of [`STRIDE`] bits that both begin with.
    fn common(self, other: Self) -> Self {
        let same = START + (self.bits ^ other.bits).leading_zeros();
        let len = same.min(self.len).min(other.len) / STRIDE * STRIDE;
        Self { bits: self.bits & mask(len.saturating_sub(START)), len }
    }

    const fn holds(self, address: u128) -> bool {
        (self.bits ^ address).leading_zeros() + START >= self.len
    }

    /// Is `other` a part of it, or the same?
    const fn contains(self, other: Self) -> bool {
        other.len >= self.len && self.holds(other.bits)
    }
}

impl From<(IpAddr, u8)> for Prefix {
    fn from(prefix: (IpAddr, u8)) -> Self {
        match masked(prefix) {
            (IpAddr::V4(ip), len) => Self { bits: v4_bits(ip), len: START + u32::from(len) },
            (IpAddr::V6(ip), len) => Self { bits: ip.to_bits(), len: START + u32::from(len) },
        }
    }
}

const fn v4_bits(ip: Ipv4Addr) -> u128 {
    (ip.to_bits() as u128) << (u128::BITS - u32::BITS)
}

/// The six bits of an address from bit `from`, a multiple of six.
const fn six_bits(address: u128, from: u32) -> u32 {
    (address >> (LEN - STRIDE - from) & 0x3F) as u32
}

const fn mask(len: u32) -> u128 {
    match u128::MAX.checked_shr(len) {
        Some(rest) => !rest,
        None => u128::MAX,
    }
}

/// By the next six bits of an address: the [`Place::End`]s of all routes that hold it.
const ENDS: [u64; 64] = {
    let mut ends = [0; 64];
    let mut next = 0;
    while next < 64 {
        let mut place = (64 | next) >> 1;
        while place > 0 {
            ends[next] |= 1 << place;
            place >>= 1;
        }
        next += 1;
    }
    ends
};

/// A prefix without host bits; a length beyond the address counts as a host.
pub(crate) fn masked((address, len): (IpAddr, u8)) -> (IpAddr, u8) {
    match address {
        IpAddr::V4(ip) => {
            let len = len.min(32);
            let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
            (Ipv4Addr::from_bits(ip.to_bits() & !host).into(), len)
        }
        IpAddr::V6(ip) => {
            let len = len.min(128);
            (Ipv6Addr::from_bits(ip.to_bits() & mask(len.into())).into(), len)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn naive(prefixes: &BTreeMap<(IpAddr, u8), u32>, address: IpAddr) -> Option<&u32> {
        (0..=128_u8).rev().find_map(|len| {
            let fits = len <= if address.is_ipv4() { 32 } else { 128 };
            fits.then(|| prefixes.get(&masked((address, len)))).flatten()
        })
    }

    /// Addresses that differ in few bits, near the ends and the middle, so that prefixes nest and touch.
    fn address() -> impl Strategy<Value = IpAddr> {
        let byte = prop_oneof![Just(0_u8), Just(255), 0..8_u8, 248..=255_u8];
        (byte.clone(), byte.clone(), byte, any::<bool>(), any::<bool>()).prop_map(|(a, b, d, fill, v6)| {
            let fill = if fill { 255 } else { 0 };
            if v6 {
                let mut octets = [fill; 16];
                (octets[0], octets[7], octets[15]) = (a, b, d);
                IpAddr::from(octets)
            } else {
                IpAddr::from([a, fill, b, d])
            }
        })
    }

    fn prefix() -> impl Strategy<Value = (IpAddr, u8)> {
        let len = prop_oneof![0..=128_u8, Just(32), Just(128), 24..=32_u8];
        (address(), len).prop_map(masked)
    }

    proptest! {
        #[test]
        fn after_any_changes_it_finds_what_a_search_from_longest_to_shortest_finds(
            changes in prop::collection::vec((prefix(), prop::option::weighted(0.7, any::<u32>())), 0..80),
            probes in prop::collection::vec(address(), 1..40),
        ) {
            let (mut routes, mut model) = (Routes::default(), BTreeMap::new());
            for (prefix, owner) in &changes {
                match owner {
                    Some(owner) => {
                        routes.insert(*prefix, *owner);
                        model.insert(*prefix, *owner);
                    }
                    None => {
                        routes.remove(*prefix);
                        model.remove(prefix);
                    }
                }
                prop_assert_eq!(routes.get(*prefix), model.get(prefix));
            }
            for (prefix, _) in &changes {
                prop_assert_eq!(routes.get(*prefix), model.get(prefix), "{:?}", prefix);
            }
            for probe in probes.into_iter().chain(changes.iter().map(|((address, _), _)| *address)) {
                prop_assert_eq!(routes.find(probe), naive(&model, probe), "{}", probe);
            }
        }

        #[test]
        fn removed_routes_leave_nothing_behind(
            kept in prop::collection::btree_map(prefix(), any::<u32>(), 0..40),
            removed in prop::collection::btree_set(prefix(), 0..40),
        ) {
            let mut fresh = Routes::default();
            kept.iter().for_each(|(prefix, owner)| fresh.insert(*prefix, *owner));
            let mut routes = Routes::default();
            removed.iter().for_each(|prefix| routes.insert(*prefix, 0));
            kept.iter().rev().for_each(|(prefix, owner)| routes.insert(*prefix, *owner));
            removed.iter().filter(|prefix| !kept.contains_key(prefix)).for_each(|prefix| routes.remove(*prefix));
            prop_assert_eq!(routes, fresh);
        }

        #[test]
        fn a_change_leaves_the_trie_before_it_as_it_was(
            before in prop::collection::btree_map(prefix(), any::<u32>(), 0..20),
            changes in prop::collection::vec((prefix(), any::<bool>()), 0..20),
        ) {
            let mut routes = Routes::default();
            before.iter().for_each(|(prefix, owner)| routes.insert(*prefix, *owner));
            let old = routes.clone();
            for (prefix, insert) in changes {
                if insert { routes.insert(prefix, 0) } else { routes.remove(prefix) }
            }
            for (prefix, owner) in &before {
                prop_assert_eq!(old.get(*prefix), Some(owner));
            }
        }
    }
}
