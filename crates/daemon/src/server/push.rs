//! What a server pushes to one client.
//!
//! Order: the global list (with the client's own changes), then addresses, then what the session adds by itself
//! (`peer-id`, `cipher`, `protocol-flags`). Source: protocol document, "PUSH_REPLY".

use std::net::{Ipv4Addr, Ipv6Addr};

use culvert_offload::VpnAddresses;
use culvert_proto::PeerInfo;

/// The addresses that a client is to configure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientAddresses {
    /// `ifconfig`: its address, and the netmask or the other end.
    pub(super) v4: Option<(Ipv4Addr, Ipv4Addr)>,
    /// `ifconfig-ipv6`: its address, the prefix length, and the server's address.
    pub(super) v6: Option<(Ipv6Addr, u8, Ipv6Addr)>,
}

impl ClientAddresses {
    /// What the offload lets the client send from.
    pub(super) fn vpn(&self) -> VpnAddresses {
        VpnAddresses { v4: self.v4.map(|v4| v4.0), v6: self.v6.map(|v6| v6.0) }
    }
}

/// Composes the options of a push reply.
pub(super) fn compose(
    mut options: Vec<String>,
    addresses: &ClientAddresses,
    mtu: u16,
    peer: &PeerInfo,
    token: Option<String>,
) -> Vec<String> {
    if let Some((local, bits, remote)) = addresses.v6 {
        options.push(format!("ifconfig-ipv6 {local}/{bits} {remote}"));
    }
    if let Some((local, second)) = addresses.v4 {
        options.push(format!("ifconfig {local} {second}"));
    }
    options.extend(token);
    // Peers that take a pushed MTU announce the largest one they can.
    if let Some(largest) = peer.value("IV_MTU").and_then(|value| value.parse::<u32>().ok())
        && u32::from(mtu) <= largest.max(1500)
    {
        options.push(format!("tun-mtu {mtu}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_global_list_and_the_mtu_goes_to_peers_that_take_it() {
        let addresses = ClientAddresses {
            v4: Some((Ipv4Addr::new(10, 8, 0, 2), Ipv4Addr::new(255, 255, 255, 0))),
            v6: Some(("fd00::1000".parse().unwrap(), 64, "fd00::1".parse().unwrap())),
        };
        let new = PeerInfo { lines: vec![("IV_MTU".to_owned(), "1600".to_owned())] };
        let global = vec!["topology subnet".to_owned()];
        assert_eq!(
            compose(global.clone(), &addresses, 1500, &new, Some("auth-token T".to_owned())),
            [
                "topology subnet",
                "ifconfig-ipv6 fd00::1000/64 fd00::1",
                "ifconfig 10.8.0.2 255.255.255.0",
                "auth-token T",
                "tun-mtu 1500"
            ]
        );
        assert!(
            !compose(global, &addresses, 1500, &PeerInfo::default(), None)
                .contains(&"tun-mtu 1500".to_owned())
        );
    }
}
