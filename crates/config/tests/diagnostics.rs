//! What people see when something is wrong: OpenVPN's line first, then place, reason and remedy.
//!
//! The first lines were compared with those of OpenVPN 2.7.8.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use culvert_config::{Checked, Diagnostic, MemoryFiles, Parsed, parse, render_all};

const SERVER: &str = "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert s.crt\nkey s.key\ndh none\n";
const CLIENT: &str = "client\ndev tun\nremote vpn.example.com\nca ca.crt\ncert s.crt\nkey s.key\n";
const P2P: &str = "dev tun\ntls-server\nca ca.crt\ncert s.crt\nkey s.key\nifconfig 10.0.0.1 10.0.0.2\n";

fn files(text: &str) -> MemoryFiles {
    let files = MemoryFiles::default().with("a.conf", text);
    ["ca.crt", "s.crt", "s.key", "ta.key", "dir/x"].iter().fold(files, |files, name| files.with(name, ""))
}

fn read(text: &str) -> Parsed {
    parse(&["a.conf".to_owned()], &files(text))
}

fn lines(diagnostics: &[Diagnostic]) -> Vec<&str> {
    diagnostics.iter().map(|diagnostic| diagnostic.openvpn_line.as_str()).collect()
}

/// The first line of the syntax errors of a text.
fn syntax(text: &str) -> String {
    lines(&read(text).errors).first().map_or_else(String::new, |line| (*line).to_owned())
}

fn check(text: &str) -> Checked {
    let parsed = read(text);
    assert!(parsed.errors.is_empty(), "{}", render_all(&parsed.errors));
    parsed.check(&files(text))
}

/// The first line of the errors of the meaning.
fn meaning(base: &str, more: &str) -> String {
    let checked = check(&format!("{base}{more}\n"));
    lines(&checked.errors).first().map_or_else(String::new, |line| (*line).to_owned())
}

#[test]
fn an_unknown_option_is_shown_with_the_nearest_name() {
    assert_eq!(
        render_all(&read("port 1194\nkeepalvie 10 60\n").errors),
        "Options error: Unrecognized option or missing or extra parameter(s) in a.conf:2: keepalvie (2.7.8)\n\
         \x20--> a.conf:2:1\n  |\n2 | keepalvie 10 60\n  | ^^^^^^^^^ no option has this name\n  |\n  \
         = remedy: did you mean `keepalive`? Else remove it\nUse --help for more information.\n"
    );
}

#[test]
fn a_word_too_many_is_pointed_at() {
    assert_eq!(
        render_all(&read("nobind now\n").errors),
        "Options error: Unrecognized option or missing or extra parameter(s) in a.conf:1: nobind (2.7.8)\n\
         \x20--> a.conf:1:8\n  |\n1 | nobind now\n  |        ^^^ `nobind` takes no argument\n  |\n  \
         = remedy: write `nobind`\nUse --help for more information.\n"
    );
}

#[test]
fn parameters_of_a_group_that_nobody_uses_are_said_to_have_no_effect() {
    let notes = |dh: &str| {
        let files = ["ca.crt", "s.crt", "s.key", "dh.pem"].iter();
        let files = files.fold(MemoryFiles::default(), |files, name| files.with(name, ""));
        let files = files.with("a.conf", SERVER.replace("dh none", dh));
        let notes = parse(&["a.conf".to_owned()], &files).check(&files).notes;
        notes.iter().filter(|note| note.openvpn_line.starts_with("Note: option dh has no effect")).count()
    };
    assert_eq!((notes("dh dh.pem"), notes("dh none")), (1, 0));
}

#[test]
fn a_word_in_place_of_a_program_needs_no_right_to_run_one() {
    for word in ["force", "disable"] {
        let notes = check(&format!("{CLIENT}remote-cert-tls server\ndns-updown {word}\n")).notes;
        let asked = lines(&notes).iter().filter(|line| line.contains("script-security")).count();
        assert_eq!(asked, 0, "{word}");
    }
}

#[test]
fn what_openvpn_warns_about_is_warned_about_in_its_words() {
    let client = format!("{CLIENT}remote-cert-tls server\n");
    let server = format!("{SERVER}keepalive 10 60\n");
    let warned = |text: &str, start: &str| {
        lines(&check(text).notes).iter().filter(|line| line.starts_with(start)).count()
    };
    for (base, more, start) in [
        (P2P, "ping 10", "WARNING: --ping should normally be used with --ping-restart or --ping-exit"),
        (&server, "chroot dir", "WARNING: you are using chroot without specifying user and group"),
        (&client, "ifconfig 10.0.0.1 10.0.0.2", "WARNING: using --pull/--client and --ifconfig together"),
        (
            &server,
            "duplicate-cn\nclient-config-dir dir",
            "WARNING: using --duplicate-cn and --client-config-dir",
        ),
        (&server, "duplicate-cn\nifconfig-pool-persist x", "WARNING: --ifconfig-pool-persist will not work"),
        (
            &client,
            "ns-cert-type server",
            "WARNING: --ns-cert-type is DEPRECATED.  Use --remote-cert-tls instead.",
        ),
        (&client, "script-security 2\nup ca.crt", "NOTE: the current --script-security setting may allow"),
        (
            &client,
            "up ca.crt",
            "NOTE: starting with OpenVPN 2.1, '--script-security 2' or higher is required",
        ),
        (
            &client,
            "script-security 1\ndns-updown ca.crt",
            "NOTE: starting with OpenVPN 2.1, '--script-security 2' or higher is required",
        ),
        (
            &client,
            "redirect-gateway def1 bypass-dhcp",
            "Note: bypass-dhcp of --redirect-gateway has no effect: ",
        ),
        (&client, "redirect-private bypass-dns", "Note: bypass-dns of --redirect-private has no effect: "),
        (
            &client,
            "fragment 1300\nmssfix 1200 mtu",
            "WARNING: if you use --mssfix and --fragment, you should use",
        ),
    ] {
        assert_eq!(warned(base, start), 0, "{more}");
        assert_eq!(warned(&format!("{base}{more}\n"), start), 1, "{more}");
    }
    let missing = "WARNING: --keepalive option is missing from server config";
    assert_eq!((warned(SERVER, missing), warned(&server, missing)), (1, 0));
    assert_eq!(
        warned(&format!("{client}ping 10\n"), "WARNING: --ping"),
        0,
        "a client has a limit without being told"
    );
}

#[test]
fn a_prefix_length_behind_an_address_of_a_pool_has_no_effect() {
    let checked = check(&SERVER.replace("10.8.0.0 255", "10.8.0.0/24 255"));
    assert_eq!(lines(&checked.errors), Vec::<&str>::new());
    assert_eq!(checked.profile.device.ifconfig.unwrap().local.to_string(), "10.8.0.1");
    for wrong in ["10.8.0.0/33", "10.8.0.0/", "10.8.0.0/x"] {
        let text = SERVER.replace("10.8.0.0 255", &format!("{wrong} 255"));
        assert_eq!(syntax(&text), "Options error: error parsing --server parameters", "{wrong}");
    }
}

#[test]
fn an_ipv6_network_without_a_length_has_64_bits() {
    let checked = check(&format!(
        "{P2P}ifconfig-ipv6 fd00::1 fd00::2\nroute-ipv6 fd00:5::\nroute-ipv6 fd00:6::1/128\n"
    ));
    assert_eq!(lines(&checked.errors), Vec::<&str>::new());
    let bits: Vec<u8> = checked.profile.routes.routes6.iter().map(|route| route.network.bits).collect();
    assert_eq!(bits, [64, 128]);
    assert_eq!(checked.profile.device.ifconfig_ipv6.unwrap().local.bits, 64);
}

#[test]
fn a_contradiction_points_at_the_line_that_makes_it() {
    let checked = check(&format!("{SERVER}keepalive 10 15\n"));
    assert_eq!(
        render_all(&checked.errors),
        "Options error: the second parameter to --keepalive (restart timeout=15) must be at least twice the value of the first \
         parameter (ping interval=10).  A ratio of 1:5 or 1:6 would be even better.  Recommended setting is --keepalive 10 60.\n\
         \x20--> a.conf:7:1\n  |\n7 | keepalive 10 15\n  | ^^^^^^^^^\n  |\n  = remedy: write `keepalive 10 60`\n\
         Use --help for more information.\n"
    );
}

#[test]
fn a_missing_file_says_which_and_that_there_may_be_more() {
    let checked = read(&format!("{SERVER}tls-crypt no.key\n").replace("ca.crt", "no.crt")).check(&files(""));
    assert_eq!(
        lines(&checked.errors),
        [
            "Options error: --ca fails with 'no.crt': No such file or directory (errno=2)",
            "Options error: --tls-crypt fails with 'no.key': No such file or directory (errno=2)",
            "Options error: Please correct these errors.",
        ]
    );
}

#[test]
fn a_removed_option_is_named_without_a_prefix() {
    let line = "REMOVED OPTION: --client-cert-not-required, use '--verify-client-cert none' instead";
    assert_eq!(syntax("client-cert-not-required\n"), line);
}

#[test]
fn all_errors_of_a_file_are_reported_at_once() {
    let parsed = read("foo\nport 1 2\nverb x\npush \"route\nproto udp\ntopology star\n");
    assert_eq!(
        lines(&parsed.errors),
        [
            "Options error: Unrecognized option or missing or extra parameter(s) in a.conf:1: foo (2.7.8)",
            "Options error: Unrecognized option or missing or extra parameter(s) in a.conf:2: port (2.7.8)",
            "Options error: Cannot parse argument 'x' as non-negative integer",
            "Options error: No closing quotation (\") in a.conf:4",
            "Options error: --topology must be net30, p2p, or subnet",
        ]
    );
}

#[test]
fn syntax_errors_begin_as_those_of_openvpn() {
    let cases = [
        ("remote a 1 xyz", "remote: bad protocol associated with host a: 'xyz'"),
        ("push 'x", "No closing single quotation (') in a.conf:1"),
        ("keepalive 0 1", "keepalive ping: Must be an integer between 1 and 86400, not 0"),
        ("tun-mtu 10", "tun-mtu: Must be an integer between 100 and 65536, not 10"),
        ("fragment 10", "fragment: Must be an integer >= 68, not 10"),
        ("mssfix 100", "mssfix needs to be >= 154, not 100"),
        ("status-version 4", "status-version: Must be an integer between 1 and 3, not 4"),
        ("server x y", "error parsing --server parameters"),
        ("server-ipv6 fd00::/48", "--server-ipv6 settings: network must be between /64 and /124 (not /48)"),
        ("ifconfig 10.0.0.1 foo", "ifconfig parms '10.0.0.1' and 'foo' must be valid addresses"),
        ("<verb>\n3\n</verb>", "option 'verb' is not expected to be inline (a.conf:1)"),
        (
            "<connection>\nproto udp\n</connection>",
            "Each 'connection' block must contain exactly one 'remote' directive",
        ),
        (
            "<connection>\nremote a\nverb 3\n</connection>",
            "option 'verb' cannot be used in this context ([CONNECTION-OPTIONS])",
        ),
        ("tls-version-min 1.9", "unknown tls-version-min parameter: 1.9"),
        ("key-direction 2", "Unknown key direction '2' -- must be '0' or '1'"),
        ("iroute 10.0.0.0", "option 'iroute' cannot be used in this context (a.conf)"),
        ("push \"a,b\"", "PUSH OPTION FAILED (illegal comma (',') in string): 'a,b'"),
        (
            "ifconfig-pool 10.0.0.9 10.0.0.1",
            "--ifconfig-pool start IP [10.0.0.9] is greater than end IP [10.0.0.1]",
        ),
        (
            "up a b",
            "the --up directive should have at most 1 parameter.  To pass a list of arguments as one of the parameters, try \
             enclosing them in double quotes (\"\").",
        ),
        (
            "auth-user-pass-verify a",
            "--auth-user-pass-verify requires a second parameter ('via-env' or 'via-file')",
        ),
        (
            "compress lz4\nallow-compression no",
            "'--allow-compression no' conflicts with  enabling compression",
        ),
        ("peer-fingerprint aa:bb", "hash fingerprint is wrong length - expected 32 bytes, got 2: aa:bb"),
        ("redirect-gateway foo", "unknown --redirect-gateway flag: foo"),
        ("dns server 200 address 1.1.1.1", "--dns server: invalid priority value '200'"),
        ("config gone", "In a.conf:1: Error opening configuration file: gone"),
        ("keysize 256", "Unrecognized option or missing or extra parameter(s) in a.conf:1: keysize (2.7.8)"),
        ("mtu-dynamic", "--mtu-dynamic has been replaced by --fragment"),
        ("msg-channel 3", "--msg-channel is only supported on Windows"),
    ];
    for (text, expected) in cases {
        assert_eq!(syntax(&format!("{text}\n")), format!("Options error: {expected}"), "{text}");
    }
    assert_eq!(syntax("<ca>\nx\n"), "ERROR: Endtag </ca> missing");
    assert_eq!(
        syntax("cd /gone\n"),
        if cfg!(windows) { "" } else { "cd to '/gone' failed: No such file or directory (errno=2)" }
    );
}

#[test]
fn a_line_that_is_too_long_names_the_limit() {
    let long = format!("push \"{}\"\n", "x".repeat(249));
    assert_eq!(long.len(), 257);
    assert!(syntax(&long).starts_with(
        "Options error: In a.conf:1: Maximum option line length (256) exceeded, line starts with push \"xxx"
    ));
    assert_eq!(syntax(&format!("setenv a {}\n", "x".repeat(244))), "", "254 bytes and the end of the line");
    assert_ne!(syntax(&format!("setenv a {}\n", "x".repeat(246))), "");
}

#[test]
fn contradictions_begin_as_those_of_openvpn() {
    let cases = [
        (SERVER, "client", "--server and --client cannot be used together"),
        (SERVER, "remote a", "--remote cannot be used with --mode server."),
        (SERVER, "pull", "--nobind doesn't make sense unless used with --remote"),
        (
            SERVER,
            "redirect-gateway def1",
            "--redirect-gateway cannot be used with --mode server (however --push \"redirect-gateway\" is fine)",
        ),
        (SERVER, "ccd-exclusive", "--ccd-exclusive must be used with --client-config-dir"),
        (
            SERVER,
            "verify-client-cert none",
            "--verify-client-cert none|optional must be used with --management-client-auth, an --auth-user-pass-verify script, \
             or plugin",
        ),
        (SERVER, "data-ciphers foo", "--data-ciphers list contains unsupported ciphers or is too long."),
        (SERVER, "tls-auth ta.key\ntls-crypt ta.key", "--tls-auth and --tls-crypt are mutually exclusive"),
        (
            SERVER,
            "tls-version-min 1.3\ntls-version-max 1.2",
            "--tls-version-min bigger than --tls-version-max",
        ),
        (SERVER, "up /gone", "--up script fails with '/gone': No such file or directory (errno=2)"),
        (CLIENT, "bind\nnobind", "--bind and --nobind can't be used together"),
        (CLIENT, "client-to-client", "--client-to-client requires --mode server"),
        (CLIENT, "username-as-common-name", "--username-as-common-name requires --mode server"),
        (CLIENT, "proto tcp\nfragment 1200", "--fragment can only be used with --proto udp"),
        (CLIENT, "tun-mtu 1400\nlink-mtu 1500", "only one of --tun-mtu or --link-mtu may be defined"),
        (P2P, "auth-user-pass", "--auth-user-pass requires --pull"),
        (P2P, "remote 10.0.0.2", "--local and --remote addresses must be distinct from --ifconfig addresses"),
        (P2P, "tls-client", "specify only one of --tls-server, --tls-client, or --secret"),
    ];
    for (base, more, expected) in cases {
        assert_eq!(meaning(base, more), format!("Options error: {expected}"), "{more}");
    }
    assert_eq!(
        meaning(SERVER, "dns server 0 sni x"),
        "ERROR: dns server 0 does not have an address assigned"
    );
}

#[test]
fn a_static_key_is_refused_with_the_way_out() {
    let checked = check(
        "dev tun\nifconfig 10.0.0.1 10.0.0.2\nsecret ta.key\nallow-deprecated-insecure-static-crypto\n",
    );
    let [error] = &checked.errors[..] else { panic!("one error: {}", render_all(&checked.errors)) };
    assert!(error.openvpn_line.starts_with("Options error: DEPRECATION: No tls-client or tls-server option"));
    assert!(error.explanation.contains("static-key") && error.remedy.contains("peer-fingerprint"));
}

#[test]
fn an_attribute_that_nobody_can_follow_is_refused_as_openvpn_does() {
    let parsed =
        parse(&["a.conf".to_owned()], &files(&CLIENT.replace("dev tun", "dev tun\nx509-track +foo")));
    let text = render_all(&parsed.errors);
    assert!(
        text.starts_with("Options error: x509_track: no such attribute 'foo'\n --> a.conf:3:12\n"),
        "{text}"
    );
    assert!(text.contains("= remedy: "), "{text}");
    for known in ["CN", "+commonName", "houseIdentifier", "keyUsage", "SHA256"] {
        let checked = check(&CLIENT.replace("dev tun", &format!("dev tun\nx509-track {known}")));
        assert_eq!(checked.profile.scripts.x509_track, [known]);
    }
}

#[test]
fn a_server_may_push_compression_where_openvpn_lets_it() {
    let accepts = |text: &str| {
        let data = check(&format!("{CLIENT}{text}\n")).profile.data;
        (data.accepts_compression, data.advertises_decompression)
    };
    for text in ["", "comp-lzo no", "allow-compression no"] {
        assert_eq!(accepts(text), (false, false), "{text}");
    }
    for text in [
        "allow-compression asym",
        "allow-compression yes",
        "comp-lzo",
        "compress lz4-v2",
        "compat-mode 2.5.0",
    ] {
        assert_eq!(accepts(text), (true, true), "{text}");
    }
    assert_eq!(accepts("compress stub-v2"), (true, false));
}

#[test]
fn a_missing_feature_does_not_hide_a_mistake_in_the_file() {
    let checked = check(&format!("{SERVER}management-hold\n"));
    assert!(lines(&checked.errors)[0].starts_with("Options error: --management is not specified, however"));
}

#[test]
fn words_that_openvpn_reads_later_are_errors_of_the_meaning() {
    for text in ["route 10.0.0.0 255.0.255.0", "port 70000", "tls-cert-profile high", "auth md42"] {
        assert_eq!(syntax(&format!("{text}\n")), "", "{text}");
        assert_ne!(meaning(SERVER, text), "", "{text}");
    }
}

#[test]
fn ciphers_of_the_legacy_provider_are_there_when_it_is_asked_for() {
    let legacy = "providers legacy default\n";
    for text in ["data-ciphers AES-256-GCM:BF-CBC", "data-ciphers-fallback CAST5-CBC", "ncp-ciphers BF-CBC"] {
        let refused = meaning(SERVER, text);
        assert!(refused.contains("nsupported cipher"), "{text}: {refused}");
        assert_eq!(meaning(SERVER, &format!("{legacy}{text}")), "", "{text}");
        assert_eq!(
            meaning(SERVER, &text.replace("BF-CBC", "DES-EDE3-CBC").replace("CAST5", "CAMELLIA-128")),
            ""
        );
    }
    let checked = check(&format!("{SERVER}data-ciphers AES-256-GCM:?BF-CBC:AES-128-CBC\n"));
    assert!(checked.errors.is_empty(), "{}", render_all(&checked.errors));
    assert_eq!(
        checked.profile.data.ciphers.list,
        [culvert_wire::CipherName::Aes256Gcm, culvert_wire::CipherName::Aes128Cbc]
    );
}

#[test]
fn a_file_with_ciphers_without_tag_only_is_accepted() {
    for text in ["data-ciphers AES-128-CBC", "data-ciphers AES-256-CFB:none", "cipher AES-256-CBC"] {
        let checked = check(&format!("{SERVER}{text}\n"));
        assert!(checked.errors.is_empty(), "{text}");
    }
}

#[test]
fn what_has_no_effect_is_said_once() {
    let checked = check(&format!("{SERVER}persist-key\nfast-io\npersist-key\n"));
    let notes: Vec<_> =
        lines(&checked.notes).into_iter().filter(|line| line.starts_with("DEPRECATED")).collect();
    assert_eq!(
        notes,
        [
            "DEPRECATED OPTION: --persist-key option ignored. Keys are now always persisted across restarts. ",
            "DEPRECATED OPTION: --fast-io option ignored.",
        ]
    );
}

#[test]
fn an_endless_inclusion_ends() {
    let errors = read("config a.conf\nconfig a.conf\nport 1\n").errors;
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0]
            .openvpn_line
            .starts_with("Options error: In a.conf:1: Maximum recursive include levels exceeded")
    );
}

#[test]
fn secrets_do_not_reach_messages() {
    let checked =
        check(&format!("{CLIENT}<auth-user-pass>\nalice\nhunter2\n</auth-user-pass>\nauth-user-pass gone\n"));
    let everything = format!("{}{:?}", render_all(&checked.errors), checked.profile);
    assert!(!everything.contains("hunter2"));
    let inline = check(&format!("{CLIENT}<auth-user-pass>\nalice\nhunter2\n</auth-user-pass>\n"));
    assert!(!format!("{:?}", inline.profile).contains("hunter2"));
}

#[test]
fn a_device_node_is_opened_and_nothing_says_otherwise() {
    let checked = check(&format!("{CLIENT}dev-node /dev/net/tun\n"));
    assert_eq!(checked.profile.device.dev_node.as_deref(), Some("/dev/net/tun"));
    assert!(
        lines(&checked.notes).iter().all(|line| !line.contains("dev-node")),
        "{:?}",
        lines(&checked.notes)
    );
}
