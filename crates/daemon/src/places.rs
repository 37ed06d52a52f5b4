//! Places that strangers take for a while, shared out so that nobody who has many keeps others from having one.
//!
//! Whoever comes to a full house is weighed against those who are inside: by their net (IPv4 /24, IPv6 /48), and within
//! a net by their host (IPv4 address, IPv6 /64). The net with most places gives the oldest of its greediest host.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Returns what counts as one host: an IPv4 address, an IPv6 /64.
pub(crate) fn host(address: IpAddr) -> IpAddr {
    Source::of(address).host
}

/// What becomes of a newcomer when no net has clearly more places than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The oldest leaves: for what should be over soon anyway.
    OldestLeaves,
    /// The newcomer does.
    NewcomerLeaves,
    /// The oldest does if it is older than this, else the newcomer.
    OldestLeavesAfter(Duration),
}

/// A house with so many places.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    when_full: WhenFull,
    taken: Mutex<Taken>,
}

/// Who is inside. Every change keeps the order in which places are given up, so that a flood at a full house costs a
/// look at the top of it and no walk.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By age.
    guests: BTreeMap<u64, Guest>,
    nets: HashMap<IpAddr, Net>,
    /// The greediest is the last.
    ranks: BTreeSet<(NetRank, IpAddr)>,
}

/// The guests of a net.
#[derive(Debug, Default)]
struct Net {
    guests: usize,
    /// By host, and by age.
    hosts: HashMap<IpAddr, BTreeSet<u64>>,
    /// The greediest is the last.
    ranks: BTreeSet<(HostRank, IpAddr)>,
}

/// How greedy a net is: by its guests, then by those of its greediest host. Of equals the one with the oldest guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NetRank {
    guests: usize,
    of: HostRank,
}

/// How greedy a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HostRank {
    guests: usize,
    oldest: Reverse<u64>,
}

#[derive(Debug)]
struct Guest {
    source: Source,
    since: Instant,
    lost: Arc<Notify>,
}

/// Where somebody comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source {
    net: IpAddr,
    host: IpAddr,
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(host) => {
                let net = Ipv4Addr::from_bits(host.to_bits() >> 8 << 8);
                Self { net: net.into(), host: host.into() }
            }
            IpAddr::V6(address) => {
                let prefix = |rest: u32| Ipv6Addr::from_bits(address.to_bits() >> rest << rest).into();
                Self { net: prefix(80), host: prefix(64) }
            }
        }
    }
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    lost: Arc<Notify>,
}

impl Place {
    /// Waits until somebody else got the place.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().leave(self.number);
    }
}

impl Places {
    pub(crate) fn new(most: usize, when_full: WhenFull) -> Arc<Self> {
        Arc::new(Self { most, when_full, taken: Mutex::default() })
    }

    /// Gives somebody from this address a place; `None`: there is none.
    pub(crate) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let source = Source::of(from);
        let mut taken = self.lock();
        if taken.guests.len() >= self.most {
            let leaves = taken.who_leaves(source, self.when_full)?;
            if let Some(guest) = taken.leave(leaves) {
                guest.lost.notify_one();
            }
        }
        let lost = Arc::new(Notify::new());
        let number = taken.enter(source, Guest { source, since: Instant::now(), lost: Arc::clone(&lost) });
        Some(Place { places: Arc::clone(self), number, lost })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn enter(&mut self, source: Source, guest: Guest) -> u64 {
        let number = self.next;
        self.next += 1;
        self.guests.insert(number, guest);
        self.change(source, |of_host| of_host.insert(number));
        number
    }

    fn leave(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        self.change(guest.source, |of_host| of_host.remove(&number));
        Some(guest)
    }

    /// Changes who is there of a host, and the rank of its net.
    fn change(&mut self, source: Source, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let net = self.nets.entry(source.net).or_default();
        if let Some(rank) = net.rank() {
            self.ranks.remove(&(rank, source.net));
        }
        net.change(source.host, change);
        match net.rank() {
            Some(rank) => _ = self.ranks.insert((rank, source.net)),
            None => _ = self.nets.remove(&source.net),
        }
    }

    /// The guest that leaves for a newcomer.
    fn who_leaves(&self, newcomer: Source, when_full: WhenFull) -> Option<u64> {
        let &(NetRank { guests, of: HostRank { oldest: Reverse(of_all), .. } }, _) = self.ranks.last()?;
        let net = self.nets.get(&newcomer.net);
        // Two more: with one more they would take the place from each other for ever.
        if guests >= net.map_or(0, |net| net.guests).saturating_add(2) {
            return Some(of_all);
        }
        if let Some(net) = net
            && let Some((of_net, _)) = net.ranks.last()
            && of_net.guests >= net.hosts.get(&newcomer.host).map_or(0, BTreeSet::len).saturating_add(2)
        {
            return Some(of_net.oldest.0);
        }
        match when_full {
            WhenFull::OldestLeaves => Some(of_all),
            WhenFull::NewcomerLeaves => None,
            WhenFull::OldestLeavesAfter(age) => {
                let (&oldest, guest) = self.guests.first_key_value()?;
                (guest.since.elapsed() >= age).then_some(oldest)
            }
        }
    }
}

impl Net {
    fn change(&mut self, host: IpAddr, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let of_host = self.hosts.entry(host).or_default();
        self.guests -= of_host.len();
        if let Some(rank) = HostRank::of(of_host) {
            self.ranks.remove(&(rank, host));
        }
        change(of_host);
        self.guests += of_host.len();
        match HostRank::of(of_host) {
            Some(rank) => _ = self.ranks.insert((rank, host)),
            None => _ = self.hosts.remove(&host),
        }
    }

    /// `None`: nobody is there.
    fn rank(&self) -> Option<NetRank> {
        self.ranks.last().map(|&(of, _)| NetRank { guests: self.guests, of })
    }
}

impl HostRank {
    fn of(guests: &BTreeSet<u64>) -> Option<Self> {
        Some(Self { guests: guests.len(), oldest: Reverse(*guests.first()?) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn neighbour(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_lost(place: &Place) -> bool {
        pin!(place.lost()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn one_host_may_have_all_places_until_others_come() {
        let places = Places::new(4, WhenFull::NewcomerLeaves);
        let greedy: Vec<_> = (0..4).filter_map(|_| places.take(neighbour(1))).collect();
        assert_eq!(greedy.len(), 4);
        assert!(places.take(neighbour(1)).is_none(), "it has enough");
        let _neighbour = places.take(neighbour(2)).expect("a neighbour gets one");
        let _other = places.take([198, 51, 100, 1].into()).expect("another net gets one");
        assert_eq!(greedy.iter().map(is_lost).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(places.take([203, 0, 113, 1].into()).is_some());
    }

    #[test]
    fn among_equals_the_newcomer_leaves_or_the_oldest() {
        let nets = |n: u8| IpAddr::from([10, 0, n, 1]);
        for (when_full, gets_in) in [(WhenFull::NewcomerLeaves, false), (WhenFull::OldestLeaves, true)] {
            let places = Places::new(3, when_full);
            let guests: Vec<_> = (0..3).filter_map(|n| places.take(nets(n))).collect();
            assert_eq!(places.take(nets(9)).is_some(), gets_in);
            assert_eq!(guests.iter().map(is_lost).collect::<Vec<_>>(), [gets_in, false, false]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn among_equals_who_came_just_now_stays_and_who_is_old_leaves() {
        let nets = |n: u8| IpAddr::from([10, 0, n, 1]);
        let places = Places::new(3, WhenFull::OldestLeavesAfter(Duration::from_secs(10)));
        let guests: Vec<_> = (0..3).filter_map(|n| places.take(nets(n))).collect();
        assert!(places.take(nets(9)).is_none(), "nobody is old");
        tokio::time::advance(Duration::from_secs(10)).await;
        let _newcomer = places.take(nets(9)).expect("now somebody is");
        assert_eq!(guests.iter().map(is_lost).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn addresses_of_one_ipv6_48_are_one_net_and_of_one_64_one_host() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff::4"));
        assert_eq!(source("2001:db8:1:2::3").net, source("2001:db8:1:ffff::3").net);
        assert_ne!(source("2001:db8:1:2::3").net, source("2001:db8:2:2::3").net);
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }

    #[test]
    fn who_leaves_makes_room() {
        let places = Places::new(1, WhenFull::NewcomerLeaves);
        let first = places.take(neighbour(1)).expect("it is empty");
        assert!(places.take(neighbour(2)).is_none());
        drop(first);
        assert!(places.take(neighbour(2)).is_some());
    }

    /// The order that is kept is the one that counting anew gives.
    #[test]
    fn the_greediest_is_who_a_count_finds() {
        let places = Places::new(40, WhenFull::OldestLeaves);
        let mut guests: Vec<Place> = Vec::new();
        let mut draw = 7_u32;
        for round in 0..2000_usize {
            draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [_, net, host, leaves] = draw.to_be_bytes();
            let newcomer = Source::of([10, 0, net % 7, host % 5].into());
            if leaves % 4 == 0 && !guests.is_empty() {
                guests.swap_remove(round % guests.len());
            }
            let taken = places.lock();
            let all: Vec<_> = taken.guests.iter().map(|(&number, guest)| (number, guest.source)).collect();
            let count =
                |is_meant: &dyn Fn(Source) -> bool| all.iter().filter(|(_, it)| is_meant(*it)).count();
            let weight =
                |source: Source| (count(&|it| it.net == source.net), count(&|it| it.host == source.host));
            let rank = |&(number, source): &(u64, Source)| (weight(source), Reverse(number));
            let of_all = all.iter().copied().max_by_key(rank);
            let neighbours = all.iter().copied().filter(|(_, source)| source.net == newcomer.net);
            let of_net = neighbours.max_by_key(|it| (weight(it.1).1, Reverse(it.0)));
            let ours = weight(newcomer);
            let expected = match (of_all, of_net) {
                (Some((number, source)), _) if weight(source).0 >= ours.0 + 2 => Some(number),
                (_, Some((number, source))) if weight(source).1 >= ours.1 + 2 => Some(number),
                _ => None,
            };
            assert_eq!(taken.who_leaves(newcomer, WhenFull::NewcomerLeaves), expected, "{all:?}");
            drop(taken);
            let from = newcomer.host;
            guests.extend(places.take(from));
        }
        guests.clear();
        let taken = places.lock();
        assert!(taken.guests.is_empty() && taken.nets.is_empty() && taken.ranks.is_empty());
    }
}
