//! The program that is the device (`dev-node unix:PROGRAM`): what it is told when it starts.
//!
//! It configures itself, so it starts when its addresses are known: on a client, after the server's push. Source: OpenVPN
//! 2.7 `tun_afunix.c`.

use culvert_config::value::RouteHost;

use super::TunnelSpec;
use crate::scripts::ScriptEnv;

/// Everything that scripts see at that moment, and what is about the device alone.
pub(super) fn environment(env: &ScriptEnv, spec: &TunnelSpec) -> Vec<(String, String)> {
    let mut env = env.clone();
    env.set("TUNTAP_DEV_TYPE", if spec.device.tap { "tap" } else { "tun" }).set("TUNTAP_MTU", spec.mtu);
    match &spec.routes.gateway {
        Some(RouteHost::Address(gateway)) => env.set("ifconfig_gateway", gateway),
        Some(RouteHost::Name(gateway)) => env.set("ifconfig_gateway", gateway),
        Some(RouteHost::VpnGateway | RouteHost::NetGateway | RouteHost::RemoteHost) | None => &mut env,
    };
    if let Some([a, b, c, d, e, f]) = spec.device.lladdr {
        env.set("TUNTAP_LLADDR", format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
    }
    env.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use culvert_config::Profile;

    use super::*;

    #[test]
    fn it_is_told_what_scripts_see_and_what_only_a_device_needs() {
        let mut profile = Profile::default();
        profile.device.dev_node = Some("unix:lwipovpn".to_owned());
        profile.device.tap = true;
        profile.device.lladdr = Some([2, 0, 0, 0, 0, 0x0A]);
        profile.routes.gateway = Some(RouteHost::Address([10, 8, 0, 1].into()));
        let mut seen = ScriptEnv::new();
        seen.set("ifconfig_local", "10.8.0.2");
        let env = environment(&seen, &TunnelSpec { mtu: 1400, ..TunnelSpec::from_profile(&profile) });
        let value = |name: &str| env.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str());
        assert_eq!(value("TUNTAP_LLADDR"), Some("02:00:00:00:00:0a"));
        assert_eq!((value("TUNTAP_DEV_TYPE"), value("TUNTAP_MTU")), (Some("tap"), Some("1400")));
        assert_eq!(value("ifconfig_gateway"), Some("10.8.0.1"));
        assert_eq!(value("ifconfig_local"), Some("10.8.0.2"));
        assert_eq!(value("PATH"), None, "nothing is inherited");
    }
}
