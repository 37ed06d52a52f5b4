//! What people see when something is wrong: OpenVPN's line first, then place, reason and remedy.

use culvert_config::{Checked, MemoryFiles, Parsed, parse, render_all};

fn args(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn parse_file(text: &str) -> Parsed {
    parse(&args("server.conf"), &MemoryFiles::default().with("server.conf", text))
}

fn check(text: &str) -> Checked {
    let parsed = parse_file(text);
    assert!(parsed.errors.is_empty(), "{}", render_all(&parsed.errors));
    parsed.check(&MemoryFiles::default().with("ca.crt", "").with("s.crt", "").with("s.key", ""))
}

const SERVER: &str = "dev tun\nserver 10.8.0.0 255.255.255.0\nca ca.crt\ncert s.crt\nkey s.key\n";

#[test]
fn an_unknown_option_is_shown_with_the_nearest_name() {
    let parsed = parse_file("port 1194\nkeepalvie 10 60\n");
    assert_eq!(
        render_all(&parsed.errors),
        "Options error: Unrecognized option or missing or extra parameter(s) in server.conf:2: keepalvie (2.7.8)\n\
         \x20--> server.conf:2:1\n  |\n2 | keepalvie 10 60\n  | ^^^^^^^^^ no option has this name\n  |\n  \
         = remedy: did you mean `keepalive`? Else remove it\nUse --help for more information.\n"
    );
}

#[test]
fn a_good_server_has_no_errors() {
    let checked = check(SERVER);
    assert!(checked.errors.is_empty(), "{}", render_all(&checked.errors));
    assert!(culvert_config::not_yet(&checked.profile).is_empty());
    println!("{}", render_all(&checked.notes));
}
