//! What each data plane says about a profile, and OpenVPN's own lines about it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use culvert_config::{
    Checked, Extent, MemoryFiles, Profile, Remark, Verdict, find, parse,
    profile::{OffloadChoice, OffloadPolicy},
    table, verdict,
};
use culvert_wire::OffloadKind;

const SERVER: &str = "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca\ncert c\nkey k\n";
const CLIENT: &str = "client\ndev tun\nremote a\nca ca\ncert c\nkey k\n";
const P2P: &str = "dev tun\ntls-server\nca ca\ncert c\nkey k\nifconfig 10.0.0.1 10.0.0.2\n";

fn check(base: &str, text: &str) -> Checked {
    let files = ["ca", "c", "k"].iter().fold(MemoryFiles::default(), |files, name| files.with(name, ""));
    let files = files.with("a.conf", format!("{base}{text}\n"));
    let parsed = parse(&["a.conf".to_owned()], &files);
    assert!(parsed.errors.is_empty(), "{text}: {:?}", parsed.errors);
    parsed.check(&files)
}

fn profile(base: &str, text: &str) -> Profile {
    check(base, text).profile
}

fn says(kind: OffloadKind, profile: &Profile) -> Verdict {
    verdict(profile).into_iter().find(|verdict| verdict.kind == kind).unwrap()
}

fn linux(base: &str, text: &str) -> Verdict {
    says(OffloadKind::Linux, &profile(base, text))
}

fn options(remarks: &[Remark]) -> Vec<&'static str> {
    remarks.iter().map(|remark| remark.option).collect()
}

/// The options of a list that are not there in the plain profile.
fn added(base: &str, text: &str, list: fn(Verdict) -> Vec<Remark>) -> Vec<&'static str> {
    let plain = list(linux(base, ""));
    let remarks: Vec<_> = list(linux(base, text)).into_iter().filter(|one| !plain.contains(one)).collect();
    options(&remarks)
}

const COMPRESSION: &str = "Note: '--allow-compression' is not set to 'no', disabling data channel offload.";
const MIGRATE: &str = "Consider using the '--compress migrate' option.";

/// What keeps the kernel of Linux out: OpenVPN 2.7.8's lines about it at start, and nothing else about offload.
/// (Those whose condition is no option are their finder's: another kind of device under the name, missing capabilities.)
const REFUSED: &[(&str, &str, &[&str])] = &[
    (SERVER, "comp-lzo no", &[COMPRESSION, MIGRATE]),
    (SERVER, "compress lz4", &[COMPRESSION, MIGRATE]),
    (CLIENT, "comp-lzo", &[COMPRESSION]),
    (CLIENT, "compress", &[COMPRESSION]),
    (SERVER, "topology net30", &["Note: NOT using '--topology subnet' disables data channel offload."]),
    (SERVER, "topology p2p", &["Note: NOT using '--topology subnet' disables data channel offload."]),
    (CLIENT, "fragment 1300", &["Note: --fragment disables data channel offload."]),
    (CLIENT, "proto tcp\nhttp-proxy b 80", &["Note: --http-proxy disables data channel offload."]),
    (CLIENT, "proto tcp\nhttp-proxy-override b 80", &["Note: --http-proxy disables data channel offload."]),
    (CLIENT, "socks-proxy b", &["Note: --socks-proxy disables data channel offload."]),
    (
        CLIENT,
        "management /m unix\nmanagement-query-proxy",
        &["Note: --management-query-proxy disables data channel offload."],
    ),
    (CLIENT, "dev tap", &["Note: dev-type not tun, disabling data channel offload."]),
    (CLIENT, "dev vpn\ndev-type tap", &["Note: dev-type not tun, disabling data channel offload."]),
    (CLIENT, "dev null", &["Note: null tun type selected, disabling data channel offload"]),
    (CLIENT, "dev-node unix:/bin/p", &["Note: afunix tun type selected, disabling data channel offload"]),
    (
        "dev tun\nifconfig 10.0.0.1 10.0.0.2\nallow-deprecated-insecure-static-crypto\n",
        "secret k",
        &["No tls-client or tls-server option in configuration detected. Disabling data channel offload."],
    ),
    (CLIENT, "mktun", &["Note: --mktun does not support DCO. Creating TUN interface."]),
    // OpenVPN goes on with its offload and forgets these; culvert does not.
    (CLIENT, "bind-dev eth0", &["Note: --bind-dev disables data channel offload."]),
    (SERVER, "bind-dev eth0", &["Note: --bind-dev disables data channel offload."]),
    (
        CLIENT,
        "client-nat snat 10.0.0.0 255.0.0.0 11.0.0.0",
        &["Note: --client-nat disables data channel offload."],
    ),
    (CLIENT, "tun-mtu 65452", &["Note: --tun-mtu disables data channel offload."]),
    // Who asks for the engine needs no reminder.
    (CLIENT, "disable-dco", &[]),
    (CLIENT, "offload engine", &[]),
];

#[test]
fn what_keeps_the_kernel_out_is_said_in_openvpns_words() {
    for (base, text, expected) in REFUSED {
        let checked = check(base, text);
        let lines: Vec<_> = checked.notes.iter().map(|note| note.openvpn_line.as_str()).collect();
        let about: Vec<_> = lines
            .into_iter()
            .filter(|line| {
                line.to_lowercase().contains("data channel offload")
                    || line.contains("DCO")
                    || line.starts_with("Consider")
            })
            .collect();
        assert_eq!(about, *expected, "{text}");
        assert!(!says(OffloadKind::Linux, &checked.profile).accepts(), "{text}");
        assert!(says(OffloadKind::Engine, &checked.profile).accepts(), "{text}");
    }
}

#[test]
fn a_refusal_says_where_why_and_what_to_do() {
    let checked = check(CLIENT, "fragment 1300");
    let note = checked.notes.iter().find(|note| note.openvpn_line.contains("--fragment disables")).unwrap();
    assert_eq!(note.origin.as_ref().map(|origin| origin.line), Some(7));
    assert_eq!(
        (note.explanation.as_str(), note.remedy.as_str()),
        ("the kernel never splits packets", "use mssfix on both ends")
    );
}

/// One legacy cipher, or one peer that is moved off compression, must not slow everybody down.
#[test]
fn legacy_peers_do_not_keep_the_kernel_out() {
    let member = "Note: cipher 'AES-256-CBC' in --data-ciphers is not supported by ovpn-dco, disabling data channel offload.";
    let fallback = "Note: --data-ciphers-fallback with cipher 'AES-256-CBC' disables data channel offload.";
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (SERVER, "data-ciphers AES-256-GCM:AES-256-CBC", "data-ciphers", &[member]),
        (SERVER, "ncp-ciphers AES-256-GCM:AES-256-CBC", "ncp-ciphers", &[member]),
        (SERVER, "data-ciphers-fallback AES-256-CBC", "data-ciphers-fallback", &[fallback]),
        (P2P, "cipher AES-256-CBC", "cipher", &[fallback]),
        (CLIENT, "cipher AES-256-CBC\ncompat-mode 2.4.9", "compat-mode", &[member]),
        (SERVER, "allow-compression asym", "allow-compression", &[COMPRESSION, MIGRATE]),
        (CLIENT, "allow-compression yes", "allow-compression", &[COMPRESSION]),
        (SERVER, "compress migrate", "compress", &[]),
    ];
    for (base, text, option, openvpn) in cases {
        let checked = check(base, text);
        let verdict = says(OffloadKind::Linux, &checked.profile);
        assert!(verdict.accepts(), "{text}");
        assert_eq!(options(&verdict.per_peer), [*option], "{text}");
        assert_eq!(verdict.per_peer[0].openvpn_note, *openvpn, "{text}");
        // OpenVPN's line would be a lie: culvert disables nothing.
        let lines = verdict.lines();
        assert!(
            lines.iter().all(|line| !line.contains("disab") && line.contains("left to the engine")),
            "{lines:?}"
        );
        assert!(
            checked.notes.iter().all(|note| !note.openvpn_line.contains("disabling data channel")),
            "{text}"
        );
    }
}

#[test]
fn what_changes_nothing_on_the_wire_changes_nothing_about_offload() {
    for (base, text) in [
        (SERVER, "data-ciphers-fallback AES-256-GCM"),
        (SERVER, "cipher AES-256-CBC"),
        (CLIENT, "cipher AES-256-CBC"),
        (P2P, "cipher AES-256-GCM"),
        (SERVER, "allow-compression no"),
        (SERVER, "compress stub-v2"),
        (CLIENT, "topology net30"),
        (CLIENT, "tun-mtu 65451"),
        (CLIENT, "mssfix 0"),
        (CLIENT, "proto tcp\nrcvbuf 100000"),
    ] {
        let verdict = linux(base, text);
        assert!(verdict.accepts() && verdict.lines().is_empty(), "{text}: {verdict:?}");
    }
}

#[test]
fn a_server_without_ipv4_needs_no_subnet() {
    let base = "dev tun\nserver-ipv6 fd00:6::/64\ntopology p2p\nca ca\ncert c\nkey k\n";
    assert!(linux(base, "").accepts());
    assert!(!linux(base, "ifconfig 10.8.0.1 10.8.0.2").accepts());
}

#[test]
fn what_the_module_goes_without_is_said_once_by_who_chose_it() {
    for (base, text, option) in [
        (CLIENT, "replay-window 128 20", "replay-window"),
        (CLIENT, "txqueuelen 500", "txqueuelen"),
        (CLIENT, "mtu-disc yes", "mtu-disc"),
        (CLIENT, "mtu-test", "mtu-test"),
        (CLIENT, "passtos", "passtos"),
        (CLIENT, "sndbuf 100000", "sndbuf"),
        (SERVER, "rcvbuf 100000", "rcvbuf"),
        (CLIENT, "dev-node /dev/net/tun", "dev-node"),
    ] {
        let checked = check(base, text);
        let verdict = says(OffloadKind::Linux, &checked.profile);
        assert_eq!(options(&verdict.without), [option], "{text}");
        let [line] = &verdict.lines()[..] else { panic!("one line: {verdict:?}") };
        assert!(
            line.contains(&format!("--{option}"))
                && line.contains("no effect when using data channel offload"),
            "{line}"
        );
        // Before a data plane was chosen nobody knows.
        assert!(checked.notes.iter().all(|note| note.openvpn_line != *line), "{text}");
    }
    assert_eq!(
        linux(CLIENT, "dev-node /dev/net/tun").lines(),
        ["Note: ignoring --dev-node as it has no effect when using data channel offload"]
    );
}

#[test]
fn what_culvert_does_itself_is_not_called_lost() {
    for (base, text, option) in [
        (CLIENT, "shaper 100000", "shaper"),
        (CLIENT, "block-ipv6", "block-ipv6"),
        (SERVER, "block-ipv6", "block-ipv6"),
        (CLIENT, "reneg-bytes 1000", "reneg-bytes"),
        (CLIENT, "reneg-pkts 1000", "reneg-pkts"),
        (CLIENT, "inactive 60 1000", "inactive"),
        (CLIENT, "mark 7", "mark"),
        (CLIENT, "float", "float"),
        (CLIENT, "explicit-exit-notify", "explicit-exit-notify"),
        (SERVER, "client-to-client", "client-to-client"),
        (SERVER, "multihome", "multihome"),
        (SERVER, "local 192.0.2.1", "local"),
    ] {
        assert_eq!(added(base, text, |verdict| verdict.kept), [option], "{text}");
        assert!(linux(base, text).accepts() && linux(base, text).lines().is_empty(), "{text}");
    }
    // What is not written holds as well.
    assert_eq!(options(&linux(SERVER, "").kept), ["mssfix", "client-to-client"]);
    assert_eq!(options(&linux(CLIENT, "").kept), ["mssfix"]);
    let client_to_client = &linux(SERVER, "client-to-client").kept[0];
    assert_eq!(
        client_to_client.openvpn_note,
        [
            "Note: --client-to-client has no effect when using data channel offload: packets are always sent to the VPN \
             interface and then routed based on the system routing table"
        ]
    );
    let reneg = &linux(CLIENT, "reneg-pkts 5").kept[0];
    assert_eq!(
        reneg.openvpn_note,
        [
            "Note: '--reneg-bytes' and '--reneg-pkts' are not supported by data channel offload; automatic key renegotiation \
             mechanisms are sufficient for modern ciphers. Ignoring these options."
        ]
    );
}

#[test]
fn windows_refuses_what_its_driver_lacks() {
    let cases: &[(&str, &str)] = &[
        ("proto tcp", "NOTE: TCP transport disables data channel offload on Windows in server mode."),
        (
            "local 192.0.2.1\nlocal 192.0.2.2",
            "NOTE: multiple --local options defined, disabling data channel offload",
        ),
    ];
    for (text, line) in cases {
        let profile = profile(SERVER, text);
        let windows = says(OffloadKind::Windows, &profile);
        assert_eq!(windows.refusals[0].openvpn_note, [*line]);
        assert!(says(OffloadKind::Linux, &profile).accepts());
    }
    assert!(says(OffloadKind::Windows, &profile(CLIENT, "proto tcp")).accepts());
}

#[test]
fn the_choice_of_the_data_plane_is_read() {
    let process = |text| profile(CLIENT, text).process;
    assert_eq!((process("").offload, process("").offload_policy), (OffloadChoice::Auto, OffloadPolicy::Safe));
    assert_eq!(process("offload kernel").offload, OffloadChoice::Kernel);
    assert_eq!(process("offload engine").offload, OffloadChoice::Engine);
    assert_eq!(process("offload engine\noffload auto").offload, OffloadChoice::Auto);
    assert_eq!(process("offload-policy fast").offload_policy, OffloadPolicy::Fast);
    // So can a file be read by both.
    assert_eq!(process("setenv opt offload kernel").offload, OffloadChoice::Kernel);
    let files = MemoryFiles::default().with("a.conf", "offload gpu\noffload-policy x\n");
    let lines: Vec<_> =
        parse(&["a.conf".to_owned()], &files).errors.into_iter().map(|error| error.openvpn_line).collect();
    assert_eq!(
        lines,
        [
            "Options error: --offload must be 'auto', 'kernel' or 'engine', not 'gpu'",
            "Options error: --offload-policy must be 'safe' or 'fast', not 'x'",
        ]
    );
}

#[test]
fn who_insists_on_the_kernel_gets_it_or_an_error_with_the_way_out() {
    for (_, text, _) in REFUSED.iter().filter(|(base, text, _)| *base == CLIENT && *text != "offload engine")
    {
        let errors = check(CLIENT, &format!("{text}\noffload kernel")).errors;
        let about: Vec<_> = errors.iter().filter(|e| e.openvpn_line.contains("--offload kernel")).collect();
        assert_eq!(about.len(), 1, "{text}: {errors:?}");
        assert!(
            about[0].origin.is_some() && about[0].remedy.ends_with(", or write `offload auto`"),
            "{text}"
        );
    }
    assert!(check(CLIENT, "offload kernel").errors.is_empty());
    assert!(check(SERVER, "offload kernel\ndata-ciphers AES-256-GCM:AES-256-CBC").errors.is_empty());
}

#[test]
fn the_shaper_is_read_from_files_and_pushes() {
    assert_eq!(profile(CLIENT, "shaper 125000").link.shaper, Some(125_000));
    let mut pushed = culvert_config::Pushed::default();
    let filter = culvert_config::PushFilter { filters: &[], route_nopull: false, allow_fqdn: false };
    filter.apply("shaper 5000", &mut pushed).unwrap();
    assert_eq!((pushed.shaper, pushed.notes.len()), (Some(5000), 0));
    filter.apply("shaper 5", &mut pushed).unwrap();
    assert_eq!((pushed.shaper, pushed.notes.len()), (Some(5000), 1));
}

/// The names of options with an effect of this extent on the Linux module.
fn with_extent(extent: Extent) -> Vec<&'static str> {
    let linux = |row: &&culvert_config::OptionRow| {
        row.offload.iter().any(|effect| effect.extent == extent && effect.kinds.contains(&OffloadKind::Linux))
    };
    table::table().filter(linux).map(|row| row.name).collect()
}

/// Whoever adds a row must decide: this list is that of the module's description, section 18 and 19.
#[test]
fn every_option_has_a_verdict_on_linux() {
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(
        sorted(with_extent(Extent::Profile)),
        "bind-dev client-nat comp-lzo compress dev dev-node dev-type disable-dco fragment http-proxy \
         http-proxy-override management-query-proxy mktun multihome offload socks-proxy tls-client topology tun-mtu"
    );
    assert_eq!(
        sorted(with_extent(Extent::Peer)),
        "allow-compression cipher compat-mode compress data-ciphers data-ciphers-fallback ncp-ciphers"
    );
    assert_eq!(
        sorted(with_extent(Extent::WithoutEffect)),
        "dev-node mtu-disc mtu-test passtos rcvbuf replay-window sndbuf txqueuelen"
    );
    assert_eq!(
        sorted(with_extent(Extent::Kept)),
        "block-ipv6 client-to-client explicit-exit-notify float ifconfig-push inactive iroute iroute-ipv6 local mark mssfix \
         multihome reneg-bytes reneg-pkts shaper"
    );
}

/// These have no effect with any data plane, which is said before one is chosen.
#[test]
fn what_has_no_effect_anywhere_is_not_repeated() {
    for name in "mute-replay-warnings tcp-queue-limit bcast-buffers ping-timer-rem socket-flags tcp-nodelay"
        .split_whitespace()
    {
        let row = find(name).unwrap();
        assert!(
            matches!(row.status, culvert_config::Status::NoEffect(_)) && row.offload.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn what_is_about_ethernet_is_read_and_has_an_effect_with_tap_only() {
    let tap = |text: &str| profile(&SERVER.replace("dev tun", "dev tap"), text);
    let vlans = tap("vlan-tagging\nvlan-accept tagged\nvlan-pvid 7").server.vlans.unwrap();
    assert_eq!((vlans.accept, vlans.pvid), (culvert_wire::VlanAccept::Tagged, 7));
    assert_eq!(tap("vlan-tagging").server.vlans.map(|vlans| vlans.pvid), Some(1));
    assert_eq!(tap("").server.vlans, None);
    assert_eq!(tap("lladdr 02:00:5E:10:00:0f").device.lladdr, Some([2, 0, 0x5E, 0x10, 0, 15]));
    let mtu = |text: &str| profile(CLIENT, text).connections[0].mtu;
    assert_eq!((mtu("tun-mtu-extra 64").extra(true), mtu("").extra(true), mtu("").extra(false)), (64, 32, 0));

    let notes = |base: &str, text: &str| {
        let about = |line: &String| line.contains("learned from traffic");
        check(base, text).notes.into_iter().map(|note| note.openvpn_line).filter(about).count()
    };
    // The networks behind a client count everywhere.
    let text = "stale-routes-check 60\nmax-routes-per-client 7";
    assert_eq!(notes(SERVER, text), 1);
    assert_eq!(notes(&SERVER.replace("dev tun", "dev tap"), text), 0);
}
