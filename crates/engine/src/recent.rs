//! A worker's memory of one lookup.

use std::{net::IpAddr, sync::Arc};

use crate::{peer::Peer, table::Table};

/// The last inner address that a worker looked up, and whose it is: packets come in flows.
#[derive(Default)]
pub(crate) struct Recent(Option<Lookup>);

struct Lookup {
    /// The table's generation before the lookup: when it is over, so is what was found.
    generation: u64,
    address: IpAddr,
    peer: Arc<Peer>,
}

impl Recent {
    /// Finds the peer that an inner address belongs to.
    pub(crate) fn find(&mut self, table: &Table, address: IpAddr) -> Option<&Arc<Peer>> {
        let generation = table.generation();
        let known =
            self.0.as_ref().is_some_and(|last| (last.generation, last.address) == (generation, address));
        if !known {
            self.0 = table.by_vpn_address(address).map(|peer| Lookup { generation, address, peer });
        }
        self.0.as_ref().map(|last| &last.peer)
    }

    /// Lets go of the peer: with it, a closed socket would stay alive.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use culvert_offload::{DeviceMode, VpnAddresses};
    use culvert_wire::PeerId;
    use loom::thread;

    use super::*;
    use crate::{
        clock::Clock,
        table::tests::{spec, transport},
    };

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 2));

    /// While a call takes the address from one peer and gives it to another, a worker sees the first, then nobody, then
    /// the second, and never goes back; and who knows that the call ended sees the second.
    #[test]
    fn loom_what_a_worker_remembers_ends_with_the_change_that_ends_it() {
        let transport = transport();
        loom::model(move || {
            let table = Arc::new(Table::new(DeviceMode::MultiPeer, None));
            let [first, second] = [1, 2].map(|id| {
                let vpn = VpnAddresses { v4: Some([10, 8, 0, 2].into()), v6: None };
                let spec = spec(PeerId::new(id).unwrap(), ([192, 0, 2, 1], 1194).into(), vpn);
                let peer = Arc::new(Peer::new(&spec, Arc::clone(&transport), &Clock::start()));
                (spec, peer)
            });
            table.insert(&first.0, first.1).unwrap();
            let worker = thread::spawn({
                let table = Arc::clone(&table);
                move || {
                    let mut recent = Recent::default();
                    let seen = [(); 2].map(|()| recent.find(&table, HERE).map(|peer| peer.id.get()));
                    let order = |seen| match seen {
                        Some(1) => 0,
                        None => 1,
                        _ => 2,
                    };
                    assert!(order(seen[0]) <= order(seen[1]), "{seen:?}");
                    recent
                }
            });
            table.remove(first.0.id).unwrap();
            table.insert(&second.0, second.1).unwrap();
            let mut recent = worker.join().unwrap();
            assert_eq!(recent.find(&table, HERE).map(|peer| peer.id.get()), Some(2));
        });
    }
}
