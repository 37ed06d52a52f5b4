//! How many replies strangers get (SEC-CTL-4): token buckets per source prefix in a table of fixed size.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use culvert_crypto::CookieKey;
use culvert_wire::Now;

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// One bucket for everybody: OpenVPN's `connect-freq` counts within fixed windows.
pub(super) struct Window {
    rate: Rate,
    used: u32,
    ends: Option<Instant>,
}

impl Window {
    pub(super) const fn new(rate: Rate) -> Self {
        Self { rate, used: 0, ends: None }
    }

    /// Takes one; `false` when the window is used up.
    pub(super) fn take(&mut self, now: Now) -> bool {
        if self.ends.is_none_or(|ends| ends <= now.mono) {
            self.ends = Some(now.mono + self.rate.per);
            self.used = 0;
        }
        let left = self.used < self.rate.count;
        self.used += u32::from(left);
        left
    }
}

/// Buckets: a host (IPv4 /32, IPv6 /64) gets the replies of `connect-freq-initial`, by default 100 in 10 seconds, and may
/// have saved up as many; its net (IPv4 /24, IPv6 /48) gets ten times that.
///
/// OpenVPN grants everybody together what a host has here, so that one flood locks out all. It has to be a crowd: the
/// clients of a site behind one address all call at once when the server comes back, before any of them has answered
/// and so returned its credit, and who gets no reply waits for seconds.
///
/// The table has 65,536 places of 16 bytes, 1 MiB, in sets of four. A prefix's set follows from a keyed hash, so that
/// nobody can aim at another's; in a full set the place that was idle longest is given away.
pub(super) struct ReplyBudget {
    key: CookieKey,
    table: Box<[Bucket]>,
    start: Option<Instant>,
    rate: Rate,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Rest of the prefix's hash; 0 is a free place.
    tag: u64,
    /// Thousandths of a reply.
    tokens: u32,
    /// When `tokens` was true: milliseconds since `start`.
    at: u32,
}

const SETS: usize = 16_384;
const WAYS: usize = 4;
const ONE: u32 = 1000;

/// How many replies a net gets for each that a host gets.
const HOSTS_IN_NET: u32 = 10;

/// The largest number of replies that fits into a net's bucket.
const MOST: u32 = u32::MAX / ONE / HOSTS_IN_NET;

/// A prefix and its limits.
#[derive(Clone, Copy)]
struct Prefix {
    bytes: [u8; 9],
    /// How many hosts' replies it gets.
    hosts: u32,
}

impl Prefix {
    /// What may be saved up: thousandths of a reply.
    fn burst(self, rate: Rate) -> u32 {
        rate.count.min(MOST) * self.hosts * ONE
    }
}

impl ReplyBudget {
    pub(super) fn new(key: CookieKey, rate: Option<Rate>) -> Self {
        Self {
            key,
            table: vec![Bucket::default(); SETS * WAYS].into_boxed_slice(),
            start: None,
            rate: rate.unwrap_or(Self::DEFAULT),
        }
    }

    /// Without `connect-freq-initial`.
    const DEFAULT: Rate = Rate { count: 100, per: Duration::from_secs(10) };

    /// Another rate from here on; what prefixes have saved up they keep, up to what they may.
    pub(super) fn set_rate(&mut self, rate: Option<Rate>) {
        self.rate = rate.unwrap_or(Self::DEFAULT);
    }

    /// Takes one reply for this source; `false` when host or net have none left.
    pub(super) fn take(&mut self, now: Now, source: IpAddr) -> bool {
        let at = self.millis(now);
        let [host, net] = prefixes(source);
        let enough = self.bucket(at, host).tokens >= ONE && self.bucket(at, net).tokens >= ONE;
        if enough {
            self.bucket(at, host).tokens -= ONE;
            self.bucket(at, net).tokens -= ONE;
        }
        enough
    }

    /// Returns what a completed exchange took.
    pub(super) fn give_back(&mut self, now: Now, source: IpAddr) {
        let at = self.millis(now);
        for prefix in prefixes(source) {
            let burst = prefix.burst(self.rate);
            let bucket = self.bucket(at, prefix);
            bucket.tokens = bucket.tokens.saturating_add(ONE).min(burst);
        }
    }

    fn millis(&mut self, now: Now) -> u32 {
        let start = *self.start.get_or_insert(now.mono);
        // Wraps after 49 days: a bucket that was idle for just that long then refills late, nothing more.
        u32::try_from(now.mono.saturating_duration_since(start).as_millis() & u128::from(u32::MAX))
            .unwrap_or(0)
    }

    /// The prefix's bucket, filled up to now.
    fn bucket(&mut self, at: u32, prefix: Prefix) -> &mut Bucket {
        let burst = prefix.burst(self.rate);
        let per = u64::try_from(self.rate.per.as_millis()).unwrap_or(u64::MAX).max(1);
        let hash = u64::from_le_bytes(self.key.mac(&[&prefix.bytes]));
        let set = usize::try_from(hash % SETS as u64).unwrap_or(0) * WAYS;
        let tag = hash | 1;
        let ways = &mut self.table[set..set + WAYS];
        let found = ways.iter().position(|bucket| bucket.tag == tag);
        let place = found.unwrap_or_else(|| {
            let idle = |bucket: &Bucket| if bucket.tag == 0 { u32::MAX } else { at.wrapping_sub(bucket.at) };
            let mut oldest = 0;
            for way in 1..WAYS {
                if idle(&ways[way]) > idle(&ways[oldest]) {
                    oldest = way;
                }
            }
            ways[oldest] = Bucket { tag, tokens: burst, at };
            oldest
        });
        let bucket = &mut ways[place];
        // A slow rate gains nothing in a millisecond: what was not enough for a part counts next time.
        let elapsed = u64::from(at.wrapping_sub(bucket.at));
        let gained = elapsed.saturating_mul(u64::from(burst)) / per;
        if gained > 0 {
            let tokens = gained.saturating_add(u64::from(bucket.tokens)).min(u64::from(burst));
            bucket.tokens = u32::try_from(tokens).unwrap_or(burst);
            let counted = gained.saturating_mul(per).div_ceil(u64::from(burst)).min(elapsed);
            bucket.at = bucket.at.wrapping_add(u32::try_from(counted).unwrap_or(0));
        }
        bucket
    }
}

/// Host and net of an address.
fn prefixes(source: IpAddr) -> [Prefix; 2] {
    let prefix = |kind: u8, bits: &[u8], hosts| {
        let mut bytes = [0; 9];
        bytes[0] = kind;
        bytes[1..=bits.len()].copy_from_slice(bits);
        Prefix { bytes, hosts }
    };
    match source.to_canonical() {
        IpAddr::V4(ip) => [prefix(1, &ip.octets(), 1), prefix(2, &ip.octets()[..3], HOSTS_IN_NET)],
        IpAddr::V6(ip) => [prefix(3, &ip.octets()[..8], 1), prefix(4, &ip.octets()[..6], HOSTS_IN_NET)],
    }
}

/// The host prefix of an address, as a key: IPv4 /32, IPv6 /64.
pub(super) fn host_prefix(source: IpAddr) -> [u8; 9] {
    prefixes(source)[0].bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Now {
        Now { mono: start + Duration::from_millis(millis), unix: 1_000 }
    }

    fn take_all(budget: &mut ReplyBudget, now: Now, source: IpAddr) -> u32 {
        let mut taken = 0;
        while taken < 10_000 && budget.take(now, source) {
            taken += 1;
        }
        taken
    }

    fn budget() -> ReplyBudget {
        limited(None)
    }

    fn limited(rate: Option<Rate>) -> ReplyBudget {
        ReplyBudget::new(CookieKey::new([7; 16]), rate)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn sec_ctl_4_a_host_has_a_burst_and_a_rate() {
        let (mut budget, start) = (budget(), Instant::now());
        assert_eq!(take_all(&mut budget, at(start, 0), ip("192.0.2.1")), 100);
        assert_eq!(take_all(&mut budget, at(start, 99), ip("192.0.2.1")), 0);
        assert_eq!(take_all(&mut budget, at(start, 1_000), ip("192.0.2.1")), 10);
        assert_eq!(take_all(&mut budget, at(start, 60_000), ip("192.0.2.1")), 100);
    }

    #[test]
    fn a_configured_rate_holds_for_each_host_however_often_it_asks() {
        let rate = Rate { count: 6, per: Duration::from_secs(60) };
        let (mut budget, start) = (limited(Some(rate)), Instant::now());
        assert_eq!(take_all(&mut budget, at(start, 0), ip("192.0.2.1")), 6);
        assert_eq!(take_all(&mut budget, at(start, 0), ip("198.51.100.1")), 6);
        // One in ten seconds, also when it knocks each millisecond.
        let taken =
            (1..=30_000_u64).filter(|&millis| budget.take(at(start, millis), ip("192.0.2.1"))).count();
        assert_eq!(taken, 3);
        budget.set_rate(Some(Rate { count: 2, per: Duration::from_secs(60) }));
        assert_eq!(take_all(&mut budget, at(start, 1_000_000), ip("192.0.2.1")), 2);
        let mut most = limited(Some(Rate { count: u32::MAX, per: Duration::from_secs(1) }));
        assert!(most.take(at(start, 0), ip("192.0.2.1")));
    }

    #[test]
    fn sec_ctl_4_a_net_has_its_own_limit() {
        let (mut budget, start) = (budget(), Instant::now());
        let taken: u32 =
            (0..=255).map(|host| take_all(&mut budget, at(start, 0), ip(&format!("192.0.2.{host}")))).sum();
        assert_eq!(taken, 1000);
        assert_eq!(take_all(&mut budget, at(start, 0), ip("198.51.100.1")), 100);
    }

    #[test]
    fn sec_ctl_4_hosts_of_one_ipv6_64_share() {
        let (mut budget, start) = (budget(), Instant::now());
        assert_eq!(take_all(&mut budget, at(start, 0), ip("2001:db8::1")), 100);
        assert_eq!(take_all(&mut budget, at(start, 0), ip("2001:db8::ffff:2")), 0);
        assert_eq!(take_all(&mut budget, at(start, 0), ip("2001:db8:0:1::1")), 100);
    }

    #[test]
    fn sec_ctl_4_a_completed_exchange_returns_its_credit() {
        let (mut budget, start) = (budget(), Instant::now());
        take_all(&mut budget, at(start, 0), ip("192.0.2.1"));
        budget.give_back(at(start, 0), ip("192.0.2.1"));
        assert_eq!(take_all(&mut budget, at(start, 0), ip("192.0.2.1")), 1);
    }

    #[test]
    fn sec_ctl_4_a_flood_from_many_prefixes_does_not_starve_another() {
        let (mut budget, start) = (budget(), Instant::now());
        for n in 0..300_000_u32 {
            let spoofed = IpAddr::from(std::net::Ipv4Addr::from(0x0A00_0000 + n * 11));
            budget.take(at(start, u64::from(n) / 100), spoofed);
        }
        assert!(budget.take(at(start, 3_000), ip("192.0.2.1")));
    }

    #[test]
    fn the_table_has_one_mebibyte() {
        assert_eq!(std::mem::size_of_val(&*budget().table), 1 << 20);
    }

    #[test]
    fn a_window_counts_for_everybody() {
        let start = Instant::now();
        let mut window = Window::new(Rate { count: 2, per: Duration::from_secs(10) });
        assert!(window.take(at(start, 0)) && window.take(at(start, 1)));
        assert!(!window.take(at(start, 9_999)));
        assert!(window.take(at(start, 10_000)));
    }
}
