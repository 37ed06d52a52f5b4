//! The command line, nested files, and options that act while they are read.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use culvert_config::{
    GenKeyKind, LogDestination, MemoryFiles, ParseEffect, Parsed, Question, parse,
    profile::{Bind, HttpProxyAuth, MssFix, Proxy},
    render_all,
    value::{Family, Port},
};
use proptest::prelude::*;

fn run(line: &str, files: &MemoryFiles) -> Parsed {
    let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
    parse(&args, files)
}

fn good(line: &str, files: &MemoryFiles) -> Parsed {
    let parsed = run(line, files);
    assert!(parsed.errors.is_empty(), "{line}: {}", render_all(&parsed.errors));
    parsed
}

fn none() -> MemoryFiles {
    MemoryFiles::default()
}

#[test]
fn a_lone_word_is_a_configuration_file() {
    let files = none().with("a.conf", "verb 4\n");
    for line in ["a.conf", "--config a.conf"] {
        assert_eq!(good(line, &files).profile().log.verb, 4);
    }
    assert_eq!(good("a.conf", &files).profile().config_file, Some(PathBuf::from("a.conf")));
}

#[test]
fn the_command_line_and_files_are_read_in_order_of_appearance() {
    let files = none().with("a.conf", "verb 4\nmute 5\n");
    let profile = good("--verb 2 --config a.conf --mute 7", &files).profile().clone();
    assert_eq!((profile.log.verb, profile.log.mute), (4, Some(7)));
}

#[test]
fn errors_of_the_command_line_name_it() {
    let parsed = run("--verb 3 --frobnicate x", &none());
    assert_eq!(
        render_all(&parsed.errors),
        "Options error: Unrecognized option or missing or extra parameter(s) in [CMD-LINE]:1: frobnicate (2.7.8)\n \
         --> [CMD-LINE]:1:1\n  |\n1 | --frobnicate x\n  | ^^^^^^^^^^^^ no option has this name\n  |\n  \
         = remedy: remove it, or write `ignore-unknown-option frobnicate` before it\nUse --help for more information.\n"
    );
    let parsed = run("verb 3", &none());
    assert_eq!(
        parsed.errors[0].openvpn_line,
        "Options error: I'm trying to parse \"verb\" as an --option parameter but I don't see a leading '--'"
    );
}

#[test]
fn questions_are_recognised() {
    assert_eq!(good("--version", &none()).question, Some(Question::Version));
    assert_eq!(good("--help", &none()).question, Some(Question::Help));
    assert_eq!(parse(&[], &none()).question, Some(Question::Help));
    let files = none().with("a.conf", "dev tun\n");
    assert_eq!(good("--config a.conf --show-digests", &files).question, Some(Question::ShowDigests));
    let Some(Question::GenKey(genkey)) = good("--genkey tls-crypt-v2-client c.key YWJj", &none()).question
    else {
        panic!("a key")
    };
    assert_eq!((genkey.kind, genkey.metadata.as_deref()), (GenKeyKind::TlsCryptV2Client, Some("YWJj")));
}

#[test]
fn syntax_is_wrong_before_a_question_is_answered() {
    assert!(!run("--frobnicate --version", &none()).errors.is_empty());
}

#[test]
fn an_unknown_option_may_be_tolerated_in_three_ways() {
    let texts = [
        "ignore-unknown-option frob other\nfrob 1\n",
        "setenv opt frob 1\n",
        "setenv FORWARD_COMPATIBLE 1\nfrob 1\n",
    ];
    for text in texts {
        let parsed = good("a.conf", &none().with("a.conf", text));
        assert_eq!(parsed.warnings.len(), 1, "{text}");
        assert!(parsed.warnings[0].openvpn_line.ends_with(": frob (2.7.8)"), "{text}");
    }
    assert!(!run("a.conf", &none().with("a.conf", "frob 1\nignore-unknown-option frob\n")).errors.is_empty());
}

#[test]
fn setenv_opt_applies_an_option_that_is_known() {
    assert_eq!(good("a.conf", &none().with("a.conf", "setenv opt verb 5\n")).profile().log.verb, 5);
    assert!(!run("a.conf", &none().with("a.conf", "setenv opt verb x\n")).errors.is_empty());
}

#[test]
fn a_double_dash_before_an_option_in_a_file_is_left_out() {
    assert_eq!(good("a.conf", &none().with("a.conf", "--verb 6\n")).profile().log.verb, 6);
}

#[test]
fn cd_holds_for_the_files_and_logs_after_it() {
    let files =
        none().with("dir/b.conf", "log-append x.log\nverb 5\n").with("a.conf", "cd dir\nconfig b.conf\n");
    let parsed = good("a.conf", &files);
    assert_eq!(parsed.profile().log.verb, 5);
    let path = PathBuf::from("dir/x.log");
    assert_eq!(parsed.effects.log(), LogDestination::File { path, append: true });
    assert_eq!(parsed.effects.directory(), Some(&PathBuf::from("dir")));
    assert_eq!(parsed.profile().process.cd, Some(PathBuf::from("dir")));
}

#[test]
fn the_first_log_wins_over_everything_else() {
    let file = |name: &str, append| LogDestination::File { path: name.into(), append };
    let log = |line: &str| good(line, &none()).effects.log();
    assert_eq!(log("--log a --log-append b"), file("a", false));
    assert_eq!(log("--daemon --syslog x --log-append b --log a"), file("b", true));
    assert_eq!(log("--syslog x --daemon y"), LogDestination::Syslog("x".to_owned()));
    assert_eq!(log("--daemon"), LogDestination::Syslog("openvpn".to_owned()));
    assert_eq!(log("--verb 3"), LogDestination::Stdout);
}

#[test]
fn effects_hold_also_when_parsing_failed() {
    let parsed = run("--suppress-timestamps --log /dev/stdout --frob", &none());
    assert!(!parsed.errors.is_empty());
    let path = PathBuf::from("/dev/stdout");
    assert_eq!(
        parsed.effects.effects,
        [ParseEffect::SuppressTimestamps, ParseEffect::Log { path, append: false }]
    );
}

#[test]
fn standard_input_is_a_configuration_file() {
    let files = MemoryFiles { stdin: b"verb 7\n".to_vec(), ..none() };
    assert_eq!(good("--config stdin", &files).profile().log.verb, 7);
}

#[test]
fn bytes_that_are_no_text_are_harmless_in_comments_only() {
    let files = none().with("a.conf", &b"verb 5 # gr\xFC\xDFe\n"[..]);
    assert_eq!(good("a.conf", &files).profile().log.verb, 5);
    let files = none().with("a.conf", &b"setenv a gr\xFC\n"[..]);
    assert_eq!(run("a.conf", &files).errors[0].openvpn_line, "Options error: In a.conf:1: not UTF-8");
}

#[test]
fn words_beyond_the_sixteenth_are_not_looked_at() {
    let text = format!(
        "ignore-unknown-option {}\nn15\n",
        (1..=20).map(|n| format!("n{n}")).collect::<Vec<_>>().join(" ")
    );
    assert!(run("a.conf", &none().with("a.conf", &*text)).errors.is_empty());
    let text = text.replace("\nn15\n", "\nn16\n");
    assert!(!run("a.conf", &none().with("a.conf", &*text)).errors.is_empty());
}

#[test]
fn ports_bind_as_openvpn_binds_them() {
    let entry = |more: &str| {
        let text = format!("client\ndev tun\nremote a 443\nca x\nauth-user-pass\n{more}\n");
        let files = none().with("a.conf", &*text).with("x", "");
        good("a.conf", &files).check(&files).profile.connections[0].clone()
    };
    assert_eq!((entry("").bind, entry("").local_port), (Bind::NoBind, None));
    assert_eq!(entry("lport 0").bind, Bind::NoBind);
    assert_eq!(entry("lport 5000").local_port, Some(Port::Number(5000)));
    assert_eq!(entry("bind").local_port, Some(Port::Number(1194)));
    assert_eq!(entry("local 10.0.0.9").bind, Bind::Bind { ipv6_only: false });
    assert_eq!(entry("mssfix 0").mtu.mssfix, MssFix::Off);
}

/// As in 2.7.8, but that the family of a single `local` without an address counts there, too.
#[test]
fn sockets_of_a_server_have_the_family_of_their_address_then_their_own_then_that_of_proto() {
    let families = |more: &str| -> Vec<Family> {
        let line =
            format!("--dev tun --server 10.8.0.0 255.255.255.0 --ca c --cert c --key c --dh none {more}");
        let files = none().with("c", "");
        let profile = good(&line, &files).check(&files).profile;
        profile.connections[0].listeners().iter().map(|local| local.proto.family).collect()
    };
    let (any, v4, v6) = (Family::Any, Family::V4, Family::V6);
    assert_eq!(families(""), [any]);
    assert_eq!(families("--proto udp6"), [v6]);
    assert_eq!(families("--local name"), [any]);
    assert_eq!(families("--proto udp6 --local 192.0.2.1 --local 2001:db8::1 1195"), [v4, v6]);
    assert_eq!(families("--proto udp4 --local ::1"), [v6]);
    assert_eq!(families("--proto udp6 --local * 1 udp --local * 2 tcp --local * 3 udp4"), [v6, v6, v4]);
    assert_eq!(families("--local * 1 udp --local * 2 tcp6-server"), [any, v6]);
}

/// Seen with 2.7.8: over `fragment 1200` TCP connections get an MSS of 1100, not 1128.
#[test]
fn mssfix_follows_fragment_and_counts_outer_headers_unless_told_otherwise() {
    let mssfix = |more: &str| {
        let text = format!("client\ndev tun\nremote a 443 udp\nca x\nauth-user-pass\n{more}\n");
        let files = none().with("a.conf", &*text).with("x", "");
        good("a.conf", &files).check(&files).profile.connections[0].mtu.mssfix
    };
    for more in ["fragment 1200", "fragment 1200 mtu", "fragment 1200\nmssfix"] {
        assert_eq!(mssfix(more), MssFix::Mtu(1200), "{more}");
    }
    assert_eq!(mssfix("fragment 1200\nmssfix 1200"), MssFix::Payload(1200));
    assert_eq!(mssfix("fragment 1200\nmssfix 0"), MssFix::Off);
}

#[test]
fn a_client_over_udp_gives_a_silent_server_up_unless_told_otherwise() {
    let timeout = |more: &str| {
        let text = format!("client\ndev tun\nremote a\nca x\nauth-user-pass\n{more}\n");
        let files = none().with("a.conf", &*text).with("x", "");
        good("a.conf", &files).check(&files).profile.keepalive.timeout.map(|(time, _)| time.as_secs())
    };
    assert_eq!(timeout(""), Some(120));
    assert_eq!(timeout("proto tcp"), None);
    assert_eq!(timeout("ping-restart 0"), None);
    assert_eq!(timeout("keepalive 10 60"), Some(60));
}

/// Words that make parsers stumble.
const WORDS: &str = "client|server|10.8.0.0|255.255.255.0|dev|tun|<ca>|</ca>|<connection>|</connection>|remote|a|1194|udp|tcp|\
    config|a.conf|stdin|setenv|opt|push|\"route|x\"|'|\\\\|#|;|--|verb|-1|99999999999999999999|keepalive|\u{FEFF}|\u{0}|ü|cd|dns|\
    address|1.1.1.1:0|[::1]:53|route|default|vpn_gateway|tls-auth|peer-fingerprint|aa:bb|proto-force|local|\\*|data-ciphers|?x:y";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// SEC-CORE-1.
    #[test]
    fn no_file_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        words in proptest::collection::vec(
            (proptest::sample::select(WORDS.split('|').collect::<Vec<_>>()), proptest::sample::select(vec![" ", "\n", "\r\n"])),
            0..80,
        ),
    ) {
        let text: String = words.iter().map(|(word, end)| format!("{word}{end}")).collect();
        for content in [bytes, text.into_bytes()] {
            let files = none().with("a.conf", content);
            let parsed = parse(&["a.conf".to_owned()], &files);
            let _ = render_all(&parsed.errors) + &render_all(&parsed.warnings);
            let checked = parsed.check(&files);
            let _ = render_all(&checked.errors) + &render_all(&checked.notes);
            let _ = culvert_config::verdict(&checked.profile);
        }
    }

    #[test]
    fn no_option_with_any_words_makes_it_panic(
        index in 0usize..400,
        words in proptest::collection::vec("[ -~]{0,12}|[0-9./:-]{0,16}|[0-9]{1,12}", 0..5),
    ) {
        let Some(row) = culvert_config::table().nth(index) else { return Ok(()) };
        if row.name == "config" {
            return Ok(());
        }
        let args: Vec<_> = std::iter::once(format!("--{}", row.name)).chain(words).collect();
        let parsed = parse(&args, &none());
        let _ = render_all(&parsed.errors);
        let _ = render_all(&parsed.check(&none()).errors);
    }
}

/// The proxies of the connections of a client with these options.
fn proxies(options: &str) -> Vec<Option<Proxy>> {
    let line = format!("--client --remote a --proto tcp --ca c --auth-user-pass {options}");
    let files = none().with("c", "").with("up", "");
    good(&line, &files).check(&files).profile.connections.iter().map(|entry| entry.proxy.clone()).collect()
}

#[test]
fn an_http_proxy_is_told_in_several_options_of_any_order() {
    let proxy = proxies("--http-proxy-option AGENT x --http-proxy p 80 auto-nct --http-proxy-user-pass up");
    let [Some(Proxy::Http(http))] = &proxy[..] else { panic!("{proxy:?}") };
    assert_eq!((http.host.as_str(), &http.port), ("p", &Port::Number(80)));
    assert_eq!(http.auth, HttpProxyAuth::Auto { clear_text: false });
    assert_eq!((http.agent.as_deref(), http.version.as_str()), (Some("x"), "1.0"));
    assert!(http.login.is_some(), "the login of http-proxy-user-pass");
    let auths = ["", "up", "up none", "up digest", "stdin ntlm2", "auto"];
    let read = auths.map(|words| match &proxies(&format!("--http-proxy p 80 {words}"))[0] {
        Some(Proxy::Http(http)) => (http.auth, http.login.is_some()),
        other => panic!("{other:?}"),
    });
    let auto = HttpProxyAuth::Auto { clear_text: true };
    use HttpProxyAuth::{Basic, Digest, None, Ntlm2};
    assert_eq!(
        read,
        [(None, false), (Basic, true), (None, true), (Digest, true), (Ntlm2, false), (auto, false)]
    );
}

#[test]
fn proxies_that_make_no_sense_are_refused() {
    let first = |options: &str| {
        run(&format!("--client --remote a --proto tcp {options}"), &none()).errors[0].openvpn_line.clone()
    };
    assert_eq!(
        first("--http-proxy p 80 up ntlm"),
        "Options error: unknown HTTP authentication method: 'ntlm'"
    );
    let eleven = "--http-proxy-option EXT1 x ".repeat(11);
    assert_eq!(
        first(&eleven),
        "Options error: Cannot use more than 10 http-proxy-option CUSTOM-HEADER : 'EXT1'"
    );
}

#[test]
fn an_override_takes_over_all_of_tcp_and_leaves_nothing_else() {
    let two = "--remote b 1 udp --remote c 2 tcp --http-proxy-override p 80 nct";
    let proxy = proxies(two);
    assert_eq!(proxy.len(), 2, "the remote over UDP is not tried");
    assert!(proxy.iter().all(|proxy| matches!(proxy, Some(Proxy::Http(http)) if http.auth == HttpProxyAuth::Auto { clear_text: false })));
}

#[test]
fn udp_through_socks_keeps_its_family_and_says_what_becomes_of_it() {
    let files = none().with("c", "");
    for (proto, family, notes) in [("udp", Family::Any, 0), ("udp4", Family::V4, 0), ("udp6", Family::V6, 1)]
    {
        let line = format!("--client --remote a --proto {proto} --ca c --auth-user-pass --socks-proxy p");
        let checked = good(&line, &files).check(&files);
        let entry = &checked.profile.connections[0];
        assert_eq!(entry.proto.family, family);
        assert!(matches!(&entry.proxy, Some(Proxy::Socks(socks)) if socks.port == Port::Number(1080)));
        let about =
            checked.notes.iter().filter(|note| note.openvpn_line.contains("IPv4 addresses come first"));
        assert_eq!(about.count(), notes, "{proto}");
    }
}

#[test]
fn names_in_routes_are_warned_about_behind_a_kill_switch() {
    let files = none().with("c", "");
    for (more, warnings) in [
        ("--kill-switch --route intranet.example 255.255.255.255", 1),
        ("--kill-switch --route 10.1.0.0 255.255.0.0 gateway.example", 1),
        ("--kill-switch --route 10.1.0.0 255.255.0.0 net_gateway", 0),
        ("--route intranet.example 255.255.255.255", 0),
    ] {
        let line = format!("--client --remote a --ca c --auth-user-pass {more}");
        let checked = good(&line, &files).check(&files);
        let about = checked
            .notes
            .iter()
            .filter(|note| note.openvpn_line.contains("a name in --route is not looked up"));
        assert_eq!(about.count(), warnings, "{more}");
    }
}

#[test]
fn a_token_takes_the_place_of_files() {
    let files = none().with("c", "");
    let check = |options: &str| {
        let checked = good(&format!("--client --remote a --ca c {options}"), &files).check(&files);
        (checked.errors.first().map(|error| error.openvpn_line.clone()), checked.profile.tls.pkcs11)
    };
    let (error, pkcs11) =
        check("--pkcs11-providers m n --pkcs11-id x --pkcs11-pin-cache -1 --pkcs11-cert-private 0 1");
    assert_eq!(error, None);
    assert_eq!((pkcs11.providers.len(), pkcs11.id.as_deref(), pkcs11.pin_cache), (2, Some("x"), None));
    assert_eq!(pkcs11.cert_private, [false, true]);
    let (error, pkcs11) = check("--pkcs11-id-management --pkcs11-pin-cache 300");
    assert_eq!((error, pkcs11.pin_cache), (None, Some(std::time::Duration::from_secs(300))));
    let refused = |options: &str| check(options).0.unwrap();
    assert_eq!(
        refused("--pkcs11-providers m"),
        "Options error: Parameter --pkcs11-id or --pkcs11-id-management should be specified."
    );
    assert_eq!(
        refused("--pkcs11-id x --pkcs11-id-management"),
        "Options error: Parameter --pkcs11-id cannot be used when --pkcs11-id-management is also specified."
    );
    assert_eq!(
        refused("--pkcs11-id x --cert c"),
        "Options error: Parameter --cert cannot be used when --pkcs11-provider is also specified."
    );
}
