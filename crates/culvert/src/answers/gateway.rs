//! `--show-gateway [ADDR]`: the way out of this machine, in OpenVPN's form.

use std::net::{IpAddr, Ipv4Addr};

use culvert_daemon::ovlog;
use culvert_host::{Family, Host, NetlinkHost, Route};

/// Logs the route to the address, or the default route, of both families; what is not there is said, and is no error.
pub(super) fn show(towards: Option<IpAddr>) -> Result<String, String> {
    let mut host =
        NetlinkHost::open().map_err(|error| format!("cannot ask the kernel for routes: {error}"))?;
    for family in [Family::V4, Family::V6] {
        let destination = towards.filter(|address| Family::of(*address) == family);
        let route = match destination {
            Some(address) => host.route_to(address),
            None => host.default_routes(family).map(|routes| routes.into_iter().next()),
        };
        let name = if family == Family::V4 { "ROUTE_GATEWAY" } else { "ROUTE6_GATEWAY" };
        match route.map_err(|error| format!("cannot ask the kernel for routes: {error}"))? {
            Some(route) => ovlog!(1, "{name}{}", description(&mut host, family, destination, &route)),
            None => match destination {
                Some(address) => {
                    ovlog!(1, "{name}: {address} is this machine's own, or there is no route to it")
                }
                // OpenVPN's two ways to say that there is none.
                None if family == Family::V4 => ovlog!(1, "{name} 0.0.0.0"),
                None => ovlog!(1, "{name} UNDEF"),
            },
        }
    }
    Ok(String::new())
}

/// ` GATEWAY[/NETMASK] [ON_LINK] IFACE=DEVICE [HWADDR=…]`. OpenVPN prints netmask and hardware address for IPv4 only.
fn description(host: &mut dyn Host, family: Family, destination: Option<IpAddr>, route: &Route) -> String {
    let device = route.device.clone().unwrap_or_default();
    let mut text = match (route.gateway, destination) {
        (Some(gateway), _) => format!(" {gateway}"),
        (None, destination) if family == Family::V6 => {
            format!(" {}", destination.unwrap_or(Family::V6.any()))
        }
        (None, _) => String::new(),
    };
    if family == Family::V4 {
        let netmask = netmask(host, &device, route.gateway);
        text += &netmask.map_or(String::new(), |mask| format!("/{mask}"));
    }
    if route.gateway.is_none() {
        text += " ON_LINK";
    }
    text += &format!(" IFACE={device}");
    if family == Family::V4 {
        let bytes = culvert_sys::hardware_address(&device).unwrap_or_default();
        text += &format!(" HWADDR={}", bytes.map(|byte| format!("{byte:02x}")).join(":"));
    }
    text
}

/// The netmask of the network that the gateway stands in.
fn netmask(host: &mut dyn Host, device: &str, gateway: Option<IpAddr>) -> Option<Ipv4Addr> {
    let Some(IpAddr::V4(gateway)) = gateway else { return None };
    let mask = |bits: u8| u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    let networks = host.addresses(device).ok()?;
    networks.into_iter().find_map(|(address, bits)| match address {
        IpAddr::V4(own) if own.to_bits() & mask(bits) == gateway.to_bits() & mask(bits) => {
            Some(Ipv4Addr::from_bits(mask(bits)))
        }
        _ => None,
    })
}
