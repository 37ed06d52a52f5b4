//! From a profile to what a session of the control channel needs to know.

use std::time::Duration;

use culvert_config::{
    ClientOverrides, OPENVPN_VERSION, Profile, Role,
    profile::{ConnectionEntry, TlsRole},
    value::{Compression, KeyDirection, Topology, Transport},
};
use culvert_offload::Capabilities;
use culvert_proto::{
    DataConfig, Mode, SessionConfig, Timing,
    options_string::{OccIfconfig, OccProto, OptionsInput},
    peer_info::Announcement,
};

use culvert_wire::CipherName;

use super::wrapping::digest;

/// What this end is in the conversation.
pub(crate) fn mode(profile: &Profile) -> Mode {
    match profile.role() {
        Role::Server => Mode::Server,
        Role::Client => Mode::Client,
        Role::P2p => Mode::PointToPoint { tls_server: profile.tls.role == Some(TlsRole::Server) },
    }
}

/// Makes the configuration of sessions over one connection entry. `jitter` is a random number of 0..=65535: a server
/// renegotiates each session at its own time.
pub(crate) fn session_config(
    profile: &Profile,
    entry: &ConnectionEntry,
    offload: &Capabilities,
    jitter: u16,
) -> SessionConfig {
    let mode = mode(profile);
    let data = data_config(profile, offload);
    let tcp = entry.proto.transport.is_tcp();
    let announcement = Announcement {
        version: OPENVPN_VERSION,
        platform: "linux",
        max_mtu: u16::try_from(entry.mtu.tun_mtu_max.max(entry.mtu.tun_mtu)).unwrap_or(u16::MAX),
        push_update: true,
        compression_stubs: true,
        decompression: profile.data.advertises_decompression,
    };
    let mut peer_info = announcement.lines(mode, &data);
    if mode == Mode::Client {
        peer_info.extend(announced_variables(profile));
    }
    SessionConfig {
        mode,
        transport: if tcp { culvert_proto::Transport::Tcp } else { culvert_proto::Transport::Udp },
        timing: timing(profile, jitter),
        max_packet_size: u16::try_from(entry.mtu.max_packet_size).unwrap_or(1250).clamp(154, 2048),
        options: options_input(profile, entry).strings(),
        data,
        peer_info,
        exit_notify: (entry.explicit_exit_notify > 0).then_some(entry.explicit_exit_notify),
        check_options: true,
        require_credentials: requires_credentials(profile),
        forget_credentials: profile.client.auth_nocache,
        exporter: profile.tls.keying_material_exporter.clone(),
    }
}

/// Ciphers in the order of the profile, less those that the offload does not carry.
pub(crate) fn data_config(profile: &Profile, offload: &Capabilities) -> DataConfig {
    let policy = &profile.data.ciphers;
    let carried = |cipher: &CipherName| is_carried(profile, offload, *cipher);
    DataConfig {
        ciphers: policy.list.iter().copied().filter(carried).collect(),
        fallback: policy.fallback.filter(carried),
        digest: digest(profile.data.auth),
        epoch: offload.epoch,
        data_v1: offload.data_v1,
    }
}

/// What one client is offered by its own file; `None`: what everybody is.
pub(crate) fn own_data_config(
    profile: &Profile,
    offload: &Capabilities,
    own: &ClientOverrides,
) -> Option<DataConfig> {
    if own.data_ciphers.is_none() && own.cipher.is_none() {
        return None;
    }
    let all = data_config(profile, offload);
    let carried = |cipher: &CipherName| is_carried(profile, offload, *cipher);
    let ciphers = match &own.data_ciphers {
        Some(list) => list.iter().copied().filter(carried).collect(),
        None => all.ciphers,
    };
    let has_fallback = own.fallback || all.fallback.is_some();
    let fallback = own.cipher.filter(carried).or(all.fallback).filter(|_| has_fallback);
    Some(DataConfig { ciphers, fallback, ..all })
}

/// Whether data may be protected by this cipher here.
pub(crate) fn is_carried(profile: &Profile, offload: &Capabilities, cipher: CipherName) -> bool {
    offload.ciphers.contains(&cipher) && (profile.data.legacy_provider || !cipher.needs_opt_in())
}

fn timing(profile: &Profile, jitter: u16) -> Timing {
    let session = &profile.session;
    let reneg_sec = session.reneg.unwrap_or(Duration::ZERO);
    let shortest = session.reneg_min.unwrap_or(match profile.role() {
        Role::Server => reneg_sec - reneg_sec / 10,
        Role::Client | Role::P2p => reneg_sec,
    });
    let spread = reneg_sec.saturating_sub(shortest);
    Timing {
        hand_window: session.hand_window,
        tran_window: session.tran_window,
        tls_timeout: session.tls_timeout,
        reneg_after: reneg_sec - spread * u32::from(jitter) / 65536,
        reneg_sec,
        reneg_bytes: session.reneg_bytes.filter(|&bytes| bytes > 0),
        reneg_packets: (session.reneg_packets > 0).then_some(session.reneg_packets),
    }
}

/// Whoever judges logins is asked about an empty one too: with `auth-user-pass-optional` it may have its own reasons to
/// refuse it, without that option it is refused.
pub(crate) fn requires_credentials(profile: &Profile) -> bool {
    let server = &profile.server;
    // What a plugin asks for is known only when it is loaded; the server accepts where none judges logins.
    server.auth_user_pass_verify.is_some()
        || server.auth_users.is_some()
        || !profile.scripts.plugins.is_empty()
        || profile.management.client_auth
}

fn options_input(profile: &Profile, entry: &ConnectionEntry) -> OptionsInput {
    let configured = profile.data.ciphers.cipher;
    let compression =
        !matches!(profile.data.compression, Compression::Off | Compression::StubV2 | Compression::Migrate);
    OptionsInput {
        tls_server: mode(profile).is_tls_server(),
        tap: profile.device.tap,
        tun_mtu_extra: entry.mtu.extra(profile.device.tap),
        tun_mtu: u16::try_from(entry.mtu.occ_mtu.unwrap_or(entry.mtu.tun_mtu)).unwrap_or(u16::MAX),
        proto: match entry.proto.transport {
            Transport::Udp => OccProto::Udp,
            Transport::TcpClient => OccProto::TcpClient,
            Transport::TcpServer => OccProto::TcpServer,
        },
        ifconfig: occ_ifconfig(profile),
        compression,
        fragment: entry.mtu.fragment.is_some(),
        key_direction: entry.key_direction.map(|direction| direction == KeyDirection::Inverse),
        tls_auth: entry.tls_auth.is_some(),
        cipher: configured.unwrap_or(CipherName::BfCbc),
        names_cipher: profile.role() == Role::P2p
            || configured.is_some_and(|cipher| profile.data.ciphers.list.contains(&cipher)),
        digest: digest(profile.data.auth)
            .map(|digest| (digest.as_str().to_owned(), u16::try_from(digest.len()).unwrap_or(u16::MAX))),
        ..OptionsInput::default()
    }
}

/// Both ends of a point-to-point tunnel tell each other their addresses.
fn occ_ifconfig(profile: &Profile) -> Option<OccIfconfig> {
    let ifconfig = profile.device.ifconfig.filter(|_| profile.role() == Role::P2p)?;
    if profile.device.tap || profile.device.topology == Some(Topology::Subnet) {
        let network = std::net::Ipv4Addr::from_bits(ifconfig.local.to_bits() & ifconfig.second.to_bits());
        let words = (network.to_string(), ifconfig.second.to_string());
        return Some(OccIfconfig { local: words.clone(), remote: words });
    }
    let (own, other) = (ifconfig.local.to_string(), ifconfig.second.to_string());
    Some(OccIfconfig { local: (other.clone(), own.clone()), remote: (own, other) })
}

/// Variables that user interfaces and administrators hand through: `IV_GUI_VER` and `IV_SSO` always, `UV_*` with
/// `push-peer-info`.
fn announced_variables(profile: &Profile) -> impl Iterator<Item = (String, String)> + '_ {
    let always = ["IV_GUI_VER", "IV_SSO"];
    profile
        .setenv
        .iter()
        .filter(move |(name, _)| {
            always.contains(&name.as_str()) || (profile.client.push_peer_info && name.starts_with("UV_"))
        })
        .cloned()
}
