//! What an Ethernet device (`dev tap`) is to the offload.

use culvert_config::{ClientOverrides, Profile};
use culvert_offload::{Ethernet, Port};

/// The device.
pub(crate) fn ethernet(profile: &Profile) -> Ethernet {
    Ethernet { ask: asks(profile), vlans: profile.server.vlans }
}

/// Whether somebody judges learned addresses. Which hooks a plugin wants is known only when it is loaded.
pub(crate) fn asks(profile: &Profile) -> bool {
    profile.scripts.learn_address.is_some() || !profile.scripts.plugins.is_empty()
}

/// A client's place on it.
pub(crate) fn port(profile: &Profile, overrides: &ClientOverrides) -> Port {
    let server = &profile.server;
    Port {
        vlan: server.vlans.map_or(0, |vlans| overrides.vlan_pvid.unwrap_or(vlans.pvid)),
        max_stations: overrides.max_routes_per_client.unwrap_or(server.max_routes_per_client),
    }
}

#[cfg(test)]
mod tests {
    use culvert_wire::{VlanAccept, Vlans};

    use super::*;

    #[test]
    fn a_clients_vlan_is_its_own_else_the_servers_and_none_without_tagging() {
        let mut profile = Profile::default();
        let own = ClientOverrides { vlan_pvid: Some(7), ..ClientOverrides::default() };
        assert_eq!(port(&profile, &own).vlan, 0);
        profile.server.vlans = Some(Vlans { accept: VlanAccept::All, pvid: 3 });
        assert_eq!(port(&profile, &own).vlan, 7);
        assert_eq!(port(&profile, &ClientOverrides::default()), Port { vlan: 3, max_stations: 256 });
    }
}
