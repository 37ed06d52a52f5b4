//! What holds for the table as a whole.

use std::collections::BTreeSet;

use culvert_config::{
    Extent, Group, OptionRow, Status, explain, find, table,
    table::{CCD, CONFIG, CONNECTION, INLINE, PUSH, UPDATE},
};

/// Every name that OpenVPN 2.7.8 knows, that it knew once, or that other programs write into its profiles.
const NAMES: &str = include_str!("openvpn-options.txt");

fn names(rows: impl Iterator<Item = &'static OptionRow>) -> BTreeSet<&'static str> {
    rows.map(|row| row.name).collect()
}

#[test]
fn every_name_is_known_and_no_other() {
    let expected: BTreeSet<_> = NAMES.lines().collect();
    let openvpns = table::table().filter(|row| !row.group.is_culverts_own());
    assert_eq!(names(openvpns), expected);
}

/// Help and reference page say of these that OpenVPN does not know them.
#[test]
fn culvert_has_few_options_of_its_own() {
    let own: BTreeSet<_> = [
        "auth-users",
        "control-socket",
        "exit-codes",
        "kill-switch",
        "log-json",
        "management-insecure",
        "metrics",
        "offload",
        "offload-policy",
        "status-addresses",
    ]
    .into();
    assert_eq!(names(table::table().filter(|row| row.group.is_culverts_own())), own);
    for name in own {
        assert!(explain(name).unwrap().contains("Known to: culvert alone."));
    }
}

#[test]
fn no_name_has_two_rows() {
    assert_eq!(table::table().count(), names(table::table()).len());
}

#[test]
fn a_row_is_found_by_its_name() {
    for row in table::table() {
        assert_eq!(find(row.name).map(|found| found.name), Some(row.name));
    }
    assert!(find("--port").is_none());
}

#[test]
fn every_row_is_documented_in_one_line() {
    for row in table::table() {
        assert!(
            !row.help.is_empty() && !row.help.contains('\n') && row.help.len() <= 200,
            "{}: {}",
            row.name,
            row.help
        );
        assert!(Group::ALL.contains(&row.group), "{}", row.name);
    }
}

#[test]
fn the_number_of_arguments_follows_from_the_usage() {
    let cases = [
        ("remote", (1, 3)),
        ("route", (1, 4)),
        ("keepalive", (2, 2)),
        ("mssfix", (0, 2)),
        ("nobind", (0, 0)),
        ("ignore-unknown-option", (1, 15)),
        ("remote-cert-ku", (0, 15)),
        ("proto", (1, 1)),
        ("server", (2, 3)),
        ("tls-version-min", (1, 2)),
        ("management", (2, 3)),
        ("genkey", (0, 3)),
        ("dhcp-option", (1, 15)),
    ];
    for (name, arity) in cases {
        assert_eq!(find(name).unwrap().arity_range(), arity, "{name}");
    }
}

/// SEC-OPT-1. The list is that of the protocol's description, section 5.2, `route-ipv6-gateway`, which OpenVPN takes
/// without asking for a permission, and words without effect that old servers push.
#[test]
fn exactly_the_listed_options_may_be_pushed() {
    let expected: BTreeSet<_> = "ifconfig ifconfig-ipv6 topology ifconfig-noexec ifconfig-nowarn lladdr show-net-up tun-ipv6 \
        route route-ipv6 route-metric redirect-gateway redirect-private block-ipv6 client-nat dhcp-option dns ip-win32 tap-sleep \
        dhcp-renew dhcp-pre-release register-dns block-outside-dns route-gateway route-delay route-method rcvbuf sndbuf \
        socket-flags bind-dev setenv-safe shaper inactive session-timeout ping ping-exit ping-restart ping-timer-rem comp-lzo \
        compress persist-tun persist-key verb mute errors-to-stderr explicit-exit-notify echo parameter auth-token \
        auth-token-user push-continuation peer-id cipher key-derivation protocol-flags tun-mtu route-ipv6-gateway max-routes \
        comp-noadapt"
        .split_whitespace()
        .collect();
    assert_eq!(names(table::table().filter(|row| row.contexts.has(PUSH))), expected);
}

/// The protocol's description, section 5.3.
#[test]
fn exactly_the_listed_options_may_be_updated() {
    let expected: BTreeSet<_> = "block-ipv6 block-outside-dns dhcp-option dns ifconfig ifconfig-ipv6 push-continuation \
        redirect-gateway redirect-private route route-gateway route-ipv6 route-metric topology tun-mtu keepalive"
        .split_whitespace()
        .collect();
    assert_eq!(names(table::table().filter(|row| row.contexts.has(UPDATE))), expected);
}

#[test]
fn options_of_one_client_alone_do_not_stand_in_configuration_files() {
    for name in
        "iroute iroute-ipv6 ifconfig-push ifconfig-ipv6-push disable push-reset push-remove override-username"
            .split(' ')
    {
        let row = find(name).unwrap();
        assert!(row.contexts.has(CCD) && !row.contexts.has(CONFIG), "{name}");
    }
}

#[test]
fn inline_blocks_and_connections_take_what_openvpn_takes() {
    let inline: BTreeSet<_> =
        "connection http-proxy-user-pass auth-gen-token-secret auth-user-pass secret ca dh cert extra-certs \
        verify-hash peer-fingerprint key pkcs12 crl-verify tls-auth tls-crypt tls-crypt-v2"
            .split_whitespace()
            .collect();
    assert_eq!(names(table::table().filter(|row| row.contexts.has(INLINE))), inline);
    for name in "remote proto port lport rport bind nobind float local connect-retry connect-timeout mssfix fragment tun-mtu \
        tls-auth tls-crypt tls-crypt-v2 key-direction explicit-exit-notify http-proxy socks-proxy"
        .split_whitespace()
    {
        assert!(find(name).unwrap().contexts.has(CONNECTION), "{name}");
    }
}

#[test]
fn what_is_refused_or_gone_says_what_to_do() {
    for row in table::table() {
        match row.status {
            Status::Refused(text, remedy) => assert!(!text.is_empty() && !remedy.is_empty(), "{}", row.name),
            Status::Gone(remedy) | Status::RefusedLater(remedy) => {
                assert!(!remedy.is_empty(), "{}", row.name)
            }
            Status::NoEffect(why) => assert!(!why.is_empty(), "{}", row.name),
            Status::Works | Status::WindowsOnly => {}
        }
    }
}

/// `genkey` reads its file all the same.
#[test]
fn a_static_key_is_said_to_be_refused() {
    let text = explain("secret").unwrap();
    assert!(text.contains("\nStatus: refused: use peer-fingerprint\n"), "{text}");
}

/// Nothing is taken silently: an option that works and has no value to set has a reason not to.
#[test]
fn an_option_that_works_does_something() {
    for row in table::table().filter(|row| matches!(row.status, Status::Works)) {
        assert!(row.is_read(), "{} is accepted and goes nowhere", row.name);
    }
}

/// What a server may push is read, or has no effect anywhere and says why.
#[test]
fn an_option_that_may_be_pushed_does_something_or_says_why_not() {
    for row in table::table().filter(|row| row.contexts.has(PUSH)) {
        let is_said = matches!(row.status, Status::NoEffect(_) | Status::WindowsOnly);
        assert!(row.is_read_when_pushed() || is_said, "{}", row.name);
    }
}

/// Every data plane says something about every option: nothing against it, or a reason.
#[test]
fn every_effect_on_a_data_plane_has_a_reason() {
    for row in table::table() {
        for effect in row.offload {
            assert!(!effect.kinds.is_empty() && !effect.because.is_empty(), "{}", row.name);
            assert!(effect.when.is_none_or(|condition| !condition.text.is_empty()), "{}", row.name);
            assert!(
                effect.extent != Extent::Profile || !effect.instead.is_empty(),
                "{} keeps the kernel out without a cure",
                row.name
            );
        }
    }
}

/// What has no effect anywhere has none with a kernel either, and what nobody knows has none to speak of.
#[test]
fn an_option_without_effect_says_nothing_about_data_planes() {
    for row in table::table() {
        let idle = matches!(
            row.status,
            Status::NoEffect(_)
                | Status::Refused(..)
                | Status::RefusedLater(_)
                | Status::Gone(_)
                | Status::WindowsOnly
        );
        assert!(!idle || row.offload.is_empty(), "{}", row.name);
    }
}
