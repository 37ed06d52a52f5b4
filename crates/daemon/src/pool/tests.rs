use std::collections::{BTreeMap, BTreeSet};

use culvert_config::value::Net6;
use proptest::prelude::*;

use super::*;

fn config(start: [u8; 4], end: [u8; 4], topology: Topology) -> PoolConfig {
    let v4 = Some(IfconfigPool { start: start.into(), end: end.into(), netmask: None });
    PoolConfig { v4, v6: None, topology, sticky: true }
}

fn pool(config: PoolConfig) -> Pool {
    Pool::new(config).expect("the pool has addresses")
}

fn six(base: &str, bits: u8) -> Option<Ipv6Pool> {
    Some(Ipv6Pool { base: Net6 { address: base.parse().expect("an address"), bits } })
}

fn remote(lease: &Lease) -> Ipv4Addr {
    lease.v4.expect("the pool has IPv4").remote
}

#[test]
fn a_subnet_pool_gives_its_addresses_in_order_and_then_none() {
    let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 4], Topology::Subnet));
    let given: Vec<_> = ["a", "b", "c"].map(|name| remote(&pool.acquire(name).expect("free"))).to_vec();
    assert_eq!(given, [[10, 8, 0, 2], [10, 8, 0, 3], [10, 8, 0, 4]].map(Ipv4Addr::from));
    assert_eq!(pool.acquire("d"), None);
    assert_eq!(pool.capacity, 3);
}

#[test]
fn net30_gives_the_second_host_of_each_30_and_tells_the_first() {
    let mut pool = pool(config([10, 8, 0, 4], [10, 8, 0, 251], Topology::Net30));
    let lease = pool.acquire("a").expect("free").v4.expect("the pool has IPv4");
    assert_eq!(lease, LeaseV4 { remote: [10, 8, 0, 6].into(), local: Some([10, 8, 0, 5].into()) });
    assert_eq!(pool.capacity, 62);
}

#[test]
fn both_families_share_one_number() {
    let v6 = six("fd00:8::1000", 64);
    let mut pool = pool(PoolConfig { v6, ..config([10, 8, 0, 2], [10, 8, 0, 253], Topology::Subnet) });
    pool.acquire("a");
    let lease = pool.acquire("b").expect("free");
    assert_eq!(remote(&lease), Ipv4Addr::from([10, 8, 0, 3]));
    assert_eq!(lease.v6, "fd00:8::1001".parse().ok());
}

#[test]
fn an_ipv6_pool_stands_alone_and_is_bounded_by_its_network() {
    let pool6 = |base, bits| {
        pool(PoolConfig { v4: None, v6: six(base, bits), topology: Topology::Subnet, sticky: true })
    };
    assert_eq!(pool6("fd00:8::1000", 64).capacity, 65_536);
    assert_eq!(pool6("fd00:8::8", 124).capacity, 8);
    assert_eq!(pool6("fd00:8::8", 124).acquire("a").expect("free").v4, None);
}

#[test]
fn a_client_gets_its_last_address_again() {
    let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 9], Topology::Subnet));
    pool.acquire("a");
    let first = pool.acquire("b").expect("free");
    pool.release(first.id);
    pool.acquire("c");
    assert_eq!(pool.acquire("b"), Some(first));
}

#[test]
fn without_memory_the_address_left_longest_ago_is_next() {
    let mut pool =
        pool(PoolConfig { sticky: false, ..config([10, 8, 0, 2], [10, 8, 0, 3], Topology::Subnet) });
    let (a, b) = (pool.acquire("x").expect("free"), pool.acquire("x").expect("free"));
    pool.release(b.id);
    pool.release(a.id);
    assert_eq!(pool.acquire("x").map(|lease| lease.id), Some(b.id));
    assert_eq!(pool.save(), "", "nothing is remembered");
}

#[test]
fn a_fixed_address_is_not_given_to_others_while_it_is_used() {
    let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 3], Topology::Subnet));
    assert!(pool.reserve([10, 8, 0, 2].into()));
    assert!(pool.reserve([192, 0, 2, 1].into()), "an address of another network is nobody's here");
    assert!(!pool.reserve([10, 8, 0, 2].into()), "it is taken");
    assert_eq!(pool.acquire("a").map(|lease| remote(&lease)), Some([10, 8, 0, 3].into()));
    assert_eq!(pool.acquire("b"), None);
    pool.unreserve([10, 8, 0, 2].into());
    assert_eq!(pool.acquire("b").map(|lease| remote(&lease)), Some([10, 8, 0, 2].into()));
    assert!(!pool.reserve([10, 8, 0, 3].into()), "a lease holds it");
}

#[test]
fn a_fixed_address_that_others_have_is_given_to_nobody_until_all_are_gone() {
    let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 2], Topology::Subnet));
    let lease = pool.acquire("a").unwrap();
    pool.insist([10, 8, 0, 2].into());
    pool.release(lease.id);
    assert_eq!(pool.acquire("b"), None);
    pool.insist([10, 8, 0, 2].into());
    pool.unreserve([10, 8, 0, 2].into());
    assert_eq!(pool.acquire("b"), None, "two clients had it as a fixed one");
    pool.unreserve([10, 8, 0, 2].into());
    pool.unreserve([10, 8, 0, 2].into());
    assert!(pool.acquire("b").is_some());
}

#[test]
fn an_empty_range_is_no_pool() {
    assert_eq!(
        Pool::new(config([10, 8, 0, 9], [10, 8, 0, 2], Topology::Subnet)).err(),
        Some(PoolError::Empty)
    );
    let none = PoolConfig { v4: None, v6: None, topology: Topology::Subnet, sticky: true };
    assert_eq!(Pool::new(none).err(), Some(PoolError::NoFamily));
}

#[test]
fn the_file_has_openvpns_form() {
    let both =
        PoolConfig { v6: six("fd00:8::1000", 64), ..config([10, 8, 0, 2], [10, 8, 0, 9], Topology::Subnet) };
    let mut pool_of_both = pool(both);
    pool_of_both.acquire("alice");
    assert_eq!(pool_of_both.save(), "alice,10.8.0.2,fd00:8::1000\n");
    let mut pool_of_four = pool(PoolConfig { v6: None, ..both });
    pool_of_four.acquire("alice");
    assert_eq!(pool_of_four.save(), "alice,10.8.0.2,\n");
    let mut pool_of_six = pool(PoolConfig { v4: None, ..both });
    pool_of_six.acquire("alice");
    assert_eq!(pool_of_six.save(), "alice,,fd00:8::1000\n");
}

#[test]
fn names_of_the_file_get_their_addresses_again_and_bad_lines_are_told() {
    let both =
        PoolConfig { v6: six("fd00:8::1000", 64), ..config([10, 8, 0, 2], [10, 8, 0, 9], Topology::Subnet) };
    let mut pool = pool(both);
    let complaints = pool.load(
        "# comment\n; another\n\nalice,10.8.0.5,fd00:8::1003\nbob,10.8.0.6\ncarol,,fd00:8::1006\n\
         dave,10.9.0.1\nerin,nonsense\nfrank,10.8.0.5,\n,10.8.0.3\nalice,10.8.0.3\ngrace,10.8.0.4,fd00:8::1005\n",
    );
    let given: Vec<_> =
        ["alice", "bob", "carol", "grace"].map(|name| remote(&pool.acquire(name).expect("free"))).to_vec();
    // grace's addresses contradict each other: IPv4 decides.
    assert_eq!(given, [[10, 8, 0, 5], [10, 8, 0, 6], [10, 8, 0, 8], [10, 8, 0, 4]].map(Ipv4Addr::from));
    let lines: Vec<_> = complaints.iter().map(|text| text.split(':').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["line 7", "line 8", "line 9", "line 10", "line 11"]);
}

#[test]
fn a_remembered_address_is_a_hint_and_goes_to_others_when_all_else_is_taken() {
    let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 3], Topology::Subnet));
    pool.load("alice,10.8.0.2,\n");
    assert_eq!(pool.acquire("bob").map(|lease| remote(&lease)), Some([10, 8, 0, 3].into()));
    assert_eq!(pool.acquire("carol").map(|lease| remote(&lease)), Some([10, 8, 0, 2].into()));
    assert_eq!(pool.acquire("alice"), None);
}

#[derive(Clone, Debug)]
enum Action {
    Acquire(u8),
    Release(usize),
    Reserve(u8),
    Unreserve(u8),
    Reload,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0_u8..24).prop_map(Action::Acquire),
        3 => any::<usize>().prop_map(Action::Release),
        1 => (0_u8..20).prop_map(Action::Reserve),
        1 => (0_u8..20).prop_map(Action::Unreserve),
        1 => Just(Action::Reload),
    ];
    proptest::collection::vec(action, 0..200)
}

proptest! {
    #[test]
    fn no_address_is_given_twice(actions in actions(), sticky: bool, net30: bool) {
        let topology = if net30 { Topology::Net30 } else { Topology::Subnet };
        let config = PoolConfig { sticky, ..config([10, 8, 0, 2], [10, 8, 0, 15], topology) };
        let mut pool = pool(config);
        let mut leases: Vec<Lease> = Vec::new();
        let mut fixed: BTreeSet<u8> = BTreeSet::new();
        let mut last: BTreeMap<u8, LeaseId> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Acquire(name) => {
                    let free = u32::try_from(leases.len()).unwrap() < pool.capacity;
                    let former = last.get(&name).copied();
                    match pool.acquire(&name.to_string()) {
                        Some(lease) => {
                            prop_assert!(leases.iter().all(|other| other.id != lease.id && other.v4 != lease.v4));
                            let address = remote(&lease);
                            prop_assert!(!fixed.iter().any(|host| pool.number_of([10, 8, 0, *host].into()) == Some(lease.id.0)), "{address}");
                            if sticky && let Some(former) = former
                                && pool.owners.get(&name.to_string()) == Some(&former.0) {
                                prop_assert_eq!(lease.id, former);
                            }
                            last.insert(name, lease.id);
                            leases.push(lease);
                        }
                        None => prop_assert!(!free || !fixed.is_empty()),
                    }
                }
                Action::Release(index) if !leases.is_empty() => {
                    let lease = leases.swap_remove(index % leases.len());
                    pool.release(lease.id);
                    pool.release(lease.id);
                }
                Action::Release(_) => {}
                Action::Reserve(host) => {
                    let number = pool.number_of([10, 8, 0, host].into());
                    if pool.reserve([10, 8, 0, host].into()) && number.is_some() {
                        fixed.insert(host);
                    }
                }
                Action::Unreserve(host) => {
                    if fixed.remove(&host) {
                        pool.unreserve([10, 8, 0, host].into());
                    }
                }
                Action::Reload => {
                    let text = pool.save();
                    let mut again = super::tests::pool(config);
                    prop_assert_eq!(again.load(&text), Vec::<String>::new());
                    prop_assert_eq!(again.save(), text);
                }
            }
            let leased = pool.places.values().filter(|place| place.leased);
            prop_assert_eq!(leased.count(), leases.len());
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[a-c,.:0-9#\n]{0,200}") {
        let mut pool = pool(config([10, 8, 0, 2], [10, 8, 0, 15], Topology::Subnet));
        pool.load(&text);
        let saved = pool.save();
        let mut again = super::tests::pool(config([10, 8, 0, 2], [10, 8, 0, 15], Topology::Subnet));
        prop_assert_eq!(again.load(&saved), Vec::<String>::new());
    }
}
