//! Whose an address or a network inside the tunnel is where two clients are to have it: the later one's, as in OpenVPN.
//!
//! A fixed address may be the pool's, and another client may have got it there: that one has to connect again and gets
//! another. Two clients with one fixed address, or with one network behind them (two routers of a site), are an
//! administrator's choice: both stay connected, and the former loses what the later one takes. The data plane lets nothing
//! belong to two.

use std::{collections::HashSet, net::IpAddr};

use culvert_config::ClientOverrides;
use culvert_offload::VpnAddresses;
use tracing::warn;

use super::{
    Server,
    client::{Client, State},
    configure,
    push::ClientAddresses,
};
use crate::session_task::SessionKey;

/// Addresses and networks, without host bits.
type Prefixes = HashSet<(IpAddr, u8)>;

impl Server {
    /// Whether a client that is connected or on its way has one of these addresses.
    pub(super) fn has_holder(&self, key: SessionKey, vpn: &VpnAddresses) -> bool {
        let shares = |other: &VpnAddresses| {
            (vpn.v4.is_some() && vpn.v4 == other.v4) || (vpn.v6.is_some() && vpn.v6 == other.v6)
        };
        self.clients.iter().any(|(other, client)| *other != key && shares(&own(client)))
    }

    /// Reserves a client's fixed addresses, whoever has them: who has one of them from the pool connects again.
    pub(super) fn take_fixed(&mut self, key: SessionKey, overrides: &ClientOverrides) {
        let fixed = [
            overrides.ifconfig_push.map(|(local, _, _)| IpAddr::V4(local)),
            overrides.ifconfig_ipv6_push.map(|(net, _)| IpAddr::V6(net.address)),
        ];
        for address in fixed.into_iter().flatten() {
            let (Some(client), Some(pool)) = (self.clients.get_mut(&key), &mut self.pool) else { return };
            if !client.reserved.contains(&address) {
                pool.insist(address);
                client.reserved.push(address);
            }
            let former: Vec<_> = self
                .clients
                .iter()
                .filter(|(other, client)| **other != key && has_leased(client, address))
                .map(|(&other, _)| other)
                .collect();
            for former in former {
                self.dismiss(former, &format!("{address} is another client's fixed address"));
            }
        }
    }

    /// Whether the address that the pool gave to a client was given to another as a fixed one before this one's own options
    /// were known.
    pub(super) fn has_lost_lease(&self, key: SessionKey, addresses: &ClientAddresses) -> bool {
        let Some(client) = self.clients.get(&key) else { return false };
        let vpn = addresses.vpn();
        let own = [vpn.v4.map(IpAddr::V4), vpn.v6.map(IpAddr::V6)];
        let leased = own.into_iter().flatten().filter(|address| {
            !client.reserved.contains(address)
                && client.lease.as_ref().is_some_and(|lease| lease.has(*address))
        });
        let leased: Vec<_> = leased.collect();
        !leased.is_empty()
            && self.clients.iter().any(|(other, client)| {
                *other != key && leased.iter().any(|address| client.reserved.contains(address))
            })
    }

    /// Takes what a client is to have from clients that are connected.
    pub(super) fn take_from_others(&mut self, key: SessionKey, vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)]) {
        if self.profile.device.tap {
            return; // an Ethernet finds its stations by itself
        }
        let wanted: Prefixes = prefixes(vpn, iroutes).collect();
        let mut former = Vec::new();
        for (&other, client) in self.clients.iter().filter(|(other, _)| **other != key) {
            let Some(connected) = client.connected() else { continue };
            let (vpn, iroutes) = without(connected.vpn, &connected.iroutes, &wanted);
            if vpn != connected.vpn || iroutes.len() != connected.iroutes.len() {
                let mut addresses = connected.addresses;
                addresses.v4 = addresses.v4.filter(|_| vpn.v4.is_some());
                addresses.v6 = addresses.v6.filter(|_| vpn.v6.is_some());
                former.push((other, addresses, iroutes));
            }
        }
        for (other, addresses, iroutes) in former {
            if let Some(client) = self.clients.get(&other) {
                let _in = client.span.enter();
                warn!(
                    "MULTI: addresses or networks of this client are another's from here on, who connected later with the same"
                );
            }
            if let Err(failure) = self.reroute(other, addresses, iroutes) {
                warn!("they stay where they were: {failure}");
            }
        }
    }

    /// Networks, less those that others have who are connected.
    pub(super) fn left_to(&self, key: SessionKey, iroutes: &[(IpAddr, u8)]) -> Vec<(IpAddr, u8)> {
        let others = self.clients.iter().filter(|(other, _)| **other != key);
        let connected = others.filter_map(|(_, client)| client.connected());
        let theirs = connected.flat_map(|theirs| prefixes(&theirs.vpn, &theirs.iroutes)).collect();
        without(VpnAddresses::default(), iroutes, &theirs).1
    }

    /// The addresses and networks that others have or are about to have, as `learn-address` names them: what moves from one
    /// client to another is an `update` of the new one, and no end of the former one's.
    pub(super) fn names_of_others(&self, key: SessionKey) -> HashSet<String> {
        let others = self.clients.iter().filter(|(other, _)| **other != key);
        others.flat_map(|(_, client)| self.names_of(client)).collect()
    }

    fn names_of(&self, client: &Client) -> Vec<String> {
        let vpn = own(client);
        match &client.state {
            State::Handshaking => Vec::new(),
            State::Configuring(pending) => {
                let iroutes = configure::iroutes(&self.profile, &pending.overrides, &vpn);
                configure::learned_addresses(&self.profile, &vpn, &iroutes)
            }
            State::Connected(connected) => {
                configure::learned_addresses(&self.profile, &vpn, &connected.iroutes)
            }
        }
    }
}

/// The addresses of a client, also of one on its way.
fn own(client: &Client) -> VpnAddresses {
    match &client.state {
        State::Handshaking => VpnAddresses::default(),
        State::Configuring(pending) => pending.addresses.vpn(),
        State::Connected(connected) => connected.vpn,
    }
}

/// Whether a client uses this address because the pool gave it.
fn has_leased(client: &Client, address: IpAddr) -> bool {
    let vpn = own(client);
    let uses = vpn.v4.map(IpAddr::V4) == Some(address) || vpn.v6.map(IpAddr::V6) == Some(address);
    uses && !client.reserved.contains(&address)
        && client.lease.as_ref().is_some_and(|lease| lease.has(address))
}

fn prefixes(vpn: &VpnAddresses, iroutes: &[(IpAddr, u8)]) -> impl Iterator<Item = (IpAddr, u8)> {
    let own = [vpn.v4.map(|v4| (v4.into(), 32)), vpn.v6.map(|v6| (v6.into(), 128))];
    own.into_iter().flatten().chain(iroutes.iter().copied()).map(masked)
}

fn without(
    mut vpn: VpnAddresses,
    iroutes: &[(IpAddr, u8)],
    taken: &Prefixes,
) -> (VpnAddresses, Vec<(IpAddr, u8)>) {
    vpn.v4 = vpn.v4.filter(|&v4| !taken.contains(&(v4.into(), 32)));
    vpn.v6 = vpn.v6.filter(|&v6| !taken.contains(&(v6.into(), 128)));
    let kept = iroutes.iter().copied().filter(|&iroute| !taken.contains(&masked(iroute)));
    (vpn, kept.collect())
}

fn masked((address, bits): (IpAddr, u8)) -> (IpAddr, u8) {
    let host = |length: u8| u32::from(length.saturating_sub(bits));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host(32)).unwrap_or(0);
            (IpAddr::V4((v4.to_bits() & mask).into()), bits.min(32))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host(128)).unwrap_or(0);
            (IpAddr::V6((v6.to_bits() & mask).into()), bits.min(128))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> (IpAddr, u8) {
        let (address, bits) = text.split_once('/').unwrap();
        (address.parse().unwrap(), bits.parse().unwrap())
    }

    #[test]
    fn who_came_first_keeps_what_the_later_one_does_not_take() {
        let vpn = |last: u8| VpnAddresses {
            v4: Some(std::net::Ipv4Addr::new(10, 8, 0, last)),
            v6: Some(std::net::Ipv6Addr::LOCALHOST),
        };
        let iroutes = [net("192.168.1.7/24"), net("fd00::1/64"), net("0.0.0.0/0")];
        let only_v4 = VpnAddresses { v6: None, ..vpn(2) };
        let taken = prefixes(&only_v4, &[net("192.168.1.0/24"), net("fd00::/65")]).collect();
        let v6_alone = VpnAddresses { v4: None, ..vpn(2) };
        let left = without(vpn(2), &iroutes, &taken);
        assert_eq!(left, (v6_alone, vec![net("fd00::1/64"), net("0.0.0.0/0")]), "another length is another");
        assert_eq!(without(vpn(3), &iroutes[1..], &taken), (vpn(3), iroutes[1..].to_vec()));
    }
}
