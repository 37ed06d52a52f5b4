//! Clients that reach their server through proxies: tinyproxy, squid, microsocks and dante, on the server's machine.
//!
//! The server sees the proxy's address (its own) instead of the client's: that is how a test knows that nothing went
//! past the proxy.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use culvert_testkit::{Management, NetnsLab, Release, Role, TempDir, Transport, Tunnel, TunnelSpec, patient};

use crate::{SOON, World, assert_no_panic};

/// Proxies read their files and, squid, take long to start.
const START: Duration = Duration::from_secs(30);

/// A proxy, until it is dropped.
pub(crate) struct Proxy {
    child: Child,
    /// Its configuration.
    _folder: TempDir,
}

impl Proxy {
    /// Runs a program within the server's namespace, `FOLDER` in its arguments being its folder with these files, and
    /// waits until it listens.
    fn start(lab: &NetnsLab, words: &[&str], files: &[(&str, &str)], at: (&str, u16)) -> Self {
        let folder = TempDir::new().unwrap();
        let place = |text: &str| text.replace("FOLDER", &folder.path().display().to_string());
        // They change to a user of their own before they read.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, text) in files {
            let file = folder.write(name, &place(text)).unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
        }
        let (program, arguments) = words.split_first().unwrap();
        let mut child = lab
            .server
            .command(program)
            .args(arguments.iter().map(|word| place(word)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + patient(START);
        while lab.server.enter(|| TcpStream::connect(at)).unwrap().is_err() {
            assert!(child.try_wait().unwrap().is_none(), "{program} ended");
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, _folder: folder }
    }

    pub(crate) fn tinyproxy(lab: &NetnsLab, more: &str) -> Self {
        let config = format!("Port 8888\nListen 10.99.0.1\nTimeout 600\nMaxClients 10\n{more}\n");
        Self::start(lab, &["tinyproxy", "-d", "-c", "FOLDER/conf"], &[("conf", &config)], ("10.99.0.1", 8888))
    }

    /// Squid, asking for logins in these ways.
    pub(crate) fn squid(lab: &NetnsLab, schemes: &str) -> Self {
        let config = format!(
            "http_port 10.99.0.1:3128\nvisible_hostname proxy\npid_filename none\ncache_log /dev/null\n\
             access_log none\ncache deny all\nshutdown_lifetime 0 seconds\npinger_enable off\ndns_nameservers 10.99.0.1\n\
             {schemes}\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
        );
        let files = [
            ("conf", config.as_str()),
            ("digests", "alice:correct horse\n"),
            ("basics", HTPASSWD),
            ("judge", SAMBA_JUDGE),
            ("smb.conf", SAMBA),
        ];
        Self::start(lab, &["squid", "-N", "-f", "FOLDER/conf"], &files, ("10.99.0.1", 3128))
    }

    /// dante: also for UDP.
    pub(crate) fn dante(lab: &NetnsLab) -> Self {
        Self::dante_at(lab, "10.99.0.1")
    }

    /// The same, called at one address and calling from addresses of both families.
    pub(crate) fn dante_at(lab: &NetnsLab, at: &str) -> Self {
        let config = format!(
            "logoutput: /dev/null\ninternal: {at} port = 1080\nexternal: 10.99.0.1\nexternal: fd99::1\n\
             clientmethod: none\nsocksmethod: none\nuser.unprivileged: nobody\n\
             client pass {{\n from: 0/0 to: 0/0\n}}\nsocks pass {{\n from: 0/0 to: 0/0\n protocol: tcp udp\n}}\n"
        );
        Self::start(lab, &["danted", "-f", "FOLDER/conf"], &[("conf", &config)], (at, 1080))
    }

    fn microsocks(lab: &NetnsLab) -> Self {
        let words = ["microsocks", "-i", "10.99.0.1", "-p", "1080", "-u", "alice", "-P", "correct horse"];
        Self::start(lab, &words, &[], ("10.99.0.1", 1080))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// `alice`, `correct horse`, by openssl passwd -1.
const HTPASSWD: &str = "alice:$1$saltsalt$NuzA7WTAelpl95xgBGWN60\n";

const DIGEST: &str = "auth_param digest program /usr/lib/squid/digest_file_auth FOLDER/digests\n\
     auth_param digest realm a realm, with comma";
pub(crate) const BASIC: &str =
    "auth_param basic program /usr/lib/squid/basic_ncsa_auth FOLDER/basics\nauth_param basic realm x";
/// Takes every answer of the right form.
const NTLM: &str = "auth_param ntlm program /usr/lib/squid/ntlm_fake_auth\nauth_param ntlm keep_alive on";
/// Computes what the answer has to be: Samba's, of one user whose password it is told.
const JUDGED_NTLM: &str = "auth_param ntlm program /bin/sh FOLDER/judge\nauth_param ntlm keep_alive on";
const SAMBA_JUDGE: &str = "exec ntlm_auth --helper-protocol=squid-2.5-ntlmssp --configfile=FOLDER/smb.conf \\\n\
     --username=alice --domain=OFFICE --password='correct horse'\n";
const SAMBA: &str = "[global]\nworkgroup = OFFICE\nlock directory = FOLDER\nstate directory = FOLDER\n\
     cache directory = FOLDER\nprivate dir = FOLDER\n";

/// A lab, and a file with the login that the proxies know.
fn prepared() -> (NetnsLab, TempDir, String) {
    let folder = TempDir::new().unwrap();
    let login = folder.write("login", "alice\ncorrect horse\n").unwrap().display().to_string();
    (NetnsLab::new().unwrap(), folder, login)
}

fn tcp(client_extra: String) -> TunnelSpec {
    TunnelSpec { transport: Transport::Tcp4, client_extra, ..TunnelSpec::default() }
}

/// A tunnel carries data, and the server sees the proxy.
pub(crate) fn goes_through(lab: NetnsLab, spec: &TunnelSpec) -> Tunnel {
    let world = World::new();
    let tunnel = world.tunnel_in(lab, Role::Client, Release::V2_7, spec);
    tunnel.prove_traffic().unwrap_or_else(|failure| panic!("{failure}"));
    let initiated = tunnel.server.lines_with("Peer Connection Initiated with");
    assert!(!initiated.is_empty(), "{}", tunnel.server.tail());
    assert!(initiated.iter().all(|line| line.contains("10.99.0.1:")), "{initiated:?}");
    assert_no_panic(&tunnel);
    tunnel
}

/// A tunnel that does not come up; the client says why.
fn is_refused(lab: NetnsLab, spec: &TunnelSpec, because: &str) -> Tunnel {
    let world = World::new();
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, spec, &server, &client, &world.materials).unwrap();
    tunnel.client.wait_for(because, SOON).unwrap();
    tunnel.client.wait_for("SIGUSR1[soft,", SOON).unwrap();
    assert!(!tunnel.server.has_logged("Peer Connection Initiated"), "{}", tunnel.server.tail());
    assert_no_panic(&tunnel);
    tunnel
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_goes_through_an_http_proxy() {
    let (lab, _folder, _) = prepared();
    let _proxy = Proxy::tinyproxy(&lab, "");
    let tunnel = goes_through(lab, &tcp("http-proxy 10.99.0.1 8888".to_owned()));
    assert!(tunnel.client.has_logged("Send to HTTP proxy: 'CONNECT 10.99.0.1:1194 HTTP/1.0'"));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn an_http_proxy_is_logged_in_to_with_a_password() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::squid(&lab, BASIC);
    goes_through(lab, &tcp(format!("http-proxy 10.99.0.1 3128 {login} basic")));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_digest_is_preferred_to_the_password() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::squid(&lab, &format!("{BASIC}\n{DIGEST}"));
    let spec = tcp(format!("http-proxy 10.99.0.1 3128 auto-nct\nhttp-proxy-user-pass {login}"));
    let tunnel = goes_through(lab, &spec);
    assert!(
        tunnel.client.has_logged("Proxy requires authentication (Basic, Digest)"),
        "{}",
        tunnel.client.tail()
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_digest_is_made_where_it_is_asked_for() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::squid(&lab, DIGEST);
    goes_through(lab, &tcp(format!("http-proxy 10.99.0.1 3128 {login} digest")));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn ntlm_is_spoken_over_one_connection() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::squid(&lab, NTLM);
    goes_through(
        lab,
        &tcp(format!("http-proxy 10.99.0.1 3128 {login} ntlm2\nhttp-proxy-option VERSION 1.1")),
    );
}

/// The responses are computed anew by an implementation that is not ours.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn samba_takes_ntlm_of_the_right_password_and_no_other() {
    for (login, is_right) in [
        ("alice\ncorrect horse\n", true),
        ("OFFICE\\alice\ncorrect horse\n", true),
        ("alice\ncorrect horses\n", false),
    ] {
        let (lab, folder, _) = prepared();
        let _proxy = Proxy::squid(&lab, JUDGED_NTLM);
        let login = folder.write("login", login).unwrap().display().to_string();
        let spec = tcp(format!("http-proxy 10.99.0.1 3128 {login} ntlm2\nhttp-proxy-option VERSION 1.1"));
        if is_right {
            goes_through(lab, &spec);
        } else {
            is_refused(lab, &spec, "HTTP proxy: it refused the user name or password");
        }
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn no_password_leaves_in_clear_text_with_auto_nct() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::squid(&lab, BASIC);
    let spec = tcp(format!("http-proxy 10.99.0.1 3128 auto-nct\nhttp-proxy-user-pass {login}"));
    is_refused(lab, &spec, "basic auth and other cleartext proxy auth methods is disabled");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn one_proxy_takes_the_place_of_all() {
    let (lab, _folder, _) = prepared();
    let _proxy = Proxy::tinyproxy(&lab, "");
    let spec = tcp("http-proxy 10.99.0.1 9\nhttp-proxy-override 10.99.0.1 8888".to_owned());
    goes_through(lab, &spec);
}

/// What is chosen at the management interface is where the tunnel goes through.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_management_interface_chooses_a_proxy() {
    for (transport, command, is_socks) in [
        (Transport::Tcp4, "proxy HTTP 10.99.0.1 8888", false),
        (Transport::Tcp4, "proxy SOCKS 10.99.0.1 1080", true),
        (Transport::Udp4, "proxy SOCKS 10.99.0.1 1080", true),
    ] {
        let (lab, folder, _) = prepared();
        let _proxy = if is_socks { Proxy::dante(&lab) } else { Proxy::tinyproxy(&lab, "") };
        let at = folder.path().join("socket");
        let client_extra = format!("management {} unix\nmanagement-query-proxy", at.display());
        let spec = TunnelSpec { transport, client_extra, ..TunnelSpec::default() };
        let world = World::new();
        let (server, client) = world.ends(Role::Client, Release::V2_7);
        let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
        let mut management = Management::connect(&at).unwrap();
        management.wait_for(">PROXY:1,").unwrap();
        assert_eq!(management.command(command).unwrap(), ["SUCCESS: proxy command succeeded"]);
        tunnel.wait_up().unwrap();
        tunnel.prove_traffic().unwrap_or_else(|failure| panic!("{command}: {failure}"));
        let initiated = tunnel.server.lines_with("Peer Connection Initiated with");
        assert!(initiated.iter().all(|line| line.contains("10.99.0.1:")), "{command}: {initiated:?}");
    }
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_login_of_a_proxy_comes_from_the_management_interface() {
    let (lab, folder, _) = prepared();
    let _proxy = Proxy::tinyproxy(&lab, "BasicAuth alice secret");
    let at = folder.path().join("socket");
    let spec = tcp(format!(
        "management {} unix\nmanagement-query-passwords\nhttp-proxy 10.99.0.1 8888 stdin basic",
        at.display()
    ));
    let world = World::new();
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
    let mut management = Management::connect(&at).unwrap();
    for password in ["wrong", "secret"] {
        let need = management.wait_for(">PASSWORD:Need").unwrap();
        assert_eq!(need, ">PASSWORD:Need 'HTTP Proxy' username/password");
        management.command("username \"HTTP Proxy\" alice").unwrap();
        management.command(&format!("password \"HTTP Proxy\" {password}")).unwrap();
        if password == "wrong" {
            let failed = management.wait_for(">PASSWORD:Verification Failed").unwrap();
            assert_eq!(failed, ">PASSWORD:Verification Failed: 'HTTP Proxy'");
        }
    }
    tunnel.wait_up().unwrap();
    tunnel.wait_traffic(SOON).unwrap();
}

/// A proxy that answers each request in turn with one of these and hangs up, the last one's place being kept by the last. What
/// it is asked goes to the other end.
fn scripted(lab: &NetnsLab, port: u16, answers: &'static [&'static str]) -> mpsc::Receiver<String> {
    let listener = lab.server.enter(|| TcpListener::bind((NetnsLab::SERVER_V4, port))).unwrap().unwrap();
    let (asked, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let last = answers.last().unwrap();
        for answer in answers.iter().chain(std::iter::repeat(last)) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = String::new();
            let mut byte = [0];
            while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(char::from(byte[0]));
            }
            asked.send(head).unwrap();
            if *answer == SILENCE {
                let _end = stream.read(&mut byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    requests
}

/// No answer at all, until the client gives up.
const SILENCE: &str = "";

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_a_proxy_answers_instead_of_a_way_is_named() {
    for (answers, because) in [
        (&["HTTP/1.1 403 Forbidden\r\n\r\n"][..], "HTTP proxy returned bad status: 'HTTP/1.1 403 Forbidden'"),
        (&["HTTP/1.1 407 x\r\n"], "the proxy closed the connection"),
        (&[SILENCE], "the proxy does not answer in time"),
        (
            &["HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=x\r\n\r\n"],
            "HTTP proxy: it wants a login (Basic)",
        ),
    ] {
        let (lab, _folder, _) = prepared();
        let requests = scripted(&lab, 8888, answers);
        let _tunnel =
            is_refused(lab, &tcp("http-proxy 10.99.0.1 8888\nserver-poll-timeout 1".to_owned()), because);
        assert!(requests.recv().unwrap().starts_with("CONNECT 10.99.0.1:1194 HTTP/1.0\r\n"));
    }
}

/// A nonce that was too old is no refusal: the next one is used within the same attempt.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_digest_is_made_anew_where_the_nonce_was_too_old() {
    let (lab, _folder, login) = prepared();
    let answers = &[
        "HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"first\", qop=\"auth\"\r\n\r\n",
        "HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"next\", qop=\"auth\", stale=true\r\n\r\n",
        "HTTP/1.1 403 enough\r\n\r\n",
    ];
    let requests = scripted(&lab, 8888, answers);
    let spec = tcp(format!("http-proxy 10.99.0.1 8888 auto\nhttp-proxy-user-pass {login}"));
    let tunnel = is_refused(lab, &spec, "HTTP proxy returned bad status: 'HTTP/1.1 403 enough'");
    let requests: Vec<_> = requests.iter().take(3).collect();
    assert!(!requests[0].contains("Proxy-Authorization"), "{requests:?}");
    assert!(
        requests[1].contains("nonce=\"first\"") && requests[2].contains("nonce=\"next\""),
        "{requests:?}"
    );
    assert!(!tunnel.client.has_logged("it refused the user name"), "{}", tunnel.client.tail());
}

/// Of several connections each has its proxy and its login; OpenVPN sends the first one's login to all.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn no_proxy_gets_the_login_of_another() {
    let (lab, folder, login) = prepared();
    let requests = scripted(&lab, 8888, &["HTTP/1.1 403 Forbidden\r\n\r\n"]);
    let _proxy = Proxy::squid(&lab, BASIC);
    let other = folder.write("other", "bob\nsecret\n").unwrap().display().to_string();
    let block = |port: u16, login: &str| {
        format!(
            "<connection>\nremote 10.99.0.1 1194 tcp4-client\nhttp-proxy 10.99.0.1 {port} {login} basic\n</connection>\n"
        )
    };
    let spec = TunnelSpec {
        without: Some("remote 10.99.0.1 1194"),
        ..tcp(block(8888, &other) + &block(3128, &login))
    };
    goes_through(lab, &spec);
    // bob:secret
    assert!(requests.recv().unwrap().contains("Proxy-Authorization: Basic Ym9iOnNlY3JldA==\r\n"));
}

/// `proto tcp-client` leaves the address family to the addresses.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn proxies_and_servers_over_tcp_may_be_of_different_address_families() {
    let (v4, v6) = (NetnsLab::SERVER_V4.to_string(), NetnsLab::SERVER_V6.to_string());
    for (transport, at) in [(Transport::Tcp4, &v6), (Transport::Tcp6, &v4)] {
        for line in [format!("http-proxy {at} 8888"), format!("socks-proxy {at} 1080")] {
            let (lab, _folder, _) = prepared();
            let _proxy = if line.starts_with("http") {
                let config = format!("Port 8888\nListen {at}\nTimeout 600\nMaxClients 10\n");
                Proxy::start(
                    &lab,
                    &["tinyproxy", "-d", "-c", "FOLDER/conf"],
                    &[("conf", &config)],
                    (at, 8888),
                )
            } else {
                Proxy::start(&lab, &["microsocks", "-i", at, "-p", "1080"], &[], (at, 1080))
            };
            let spec = TunnelSpec { transport, ..tcp(format!("proto tcp-client\n{line}")) };
            let world = World::new();
            let tunnel = world.tunnel_in(lab, Role::Client, Release::V2_7, &spec);
            let initiated = tunnel.server.lines_with("Peer Connection Initiated with");
            let is_proxy = |line: &String| [&v4, &v6].iter().any(|own| line.contains(&format!("{own}:")));
            assert!(!initiated.is_empty() && initiated.iter().all(is_proxy), "{line}: {initiated:?}");
        }
    }
}

/// As with OpenVPN, a wrong login of a SOCKS proxy is asked for again without a word about it.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn the_login_of_a_socks_proxy_is_asked_for_until_it_is_right() {
    let (lab, folder, _) = prepared();
    let _proxy = Proxy::microsocks(&lab);
    let at = folder.path().join("socket");
    let spec = tcp(format!(
        "management {} unix\nmanagement-query-passwords\nsocks-proxy 10.99.0.1 1080 stdin\nserver-poll-timeout 2",
        at.display()
    ));
    let world = World::new();
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
    let mut management = Management::connect(&at).unwrap();
    for password in ["wrong", "correct horse"] {
        management.wait_for(">PASSWORD:Need 'SOCKS Proxy' username/password").unwrap();
        management.command("username \"SOCKS Proxy\" alice").unwrap();
        if password == "correct horse" {
            std::thread::sleep(Duration::from_millis(2200)); // longer than the proxy may take
        }
        management.command(&format!("password \"SOCKS Proxy\" \"{password}\"")).unwrap();
    }
    tunnel.wait_up().unwrap();
    assert_eq!(tunnel.client.lines_with("SOCKS proxy: it refused the user name or password").len(), 1);
}

/// Nor is it tried for ever, as little as with OpenVPN.
#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_client_that_cannot_have_the_login_of_its_proxy_ends() {
    let (lab, _folder, login) = prepared();
    let listener = lab.server.enter(|| TcpListener::bind("10.99.0.1:8888")).unwrap().unwrap();
    let file = login.clone();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The client looked at the start whether it is there.
        fs::remove_file(file).unwrap();
        let head = "HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let _end = stream.read(&mut [0; 1024]);
    });
    let world = World::new();
    let (server, client) = world.ends(Role::Client, Release::V2_7);
    let spec = tcp(format!("http-proxy 10.99.0.1 8888 auto\nhttp-proxy-user-pass {login}"));
    let mut tunnel = Tunnel::start_in(lab, &spec, &server, &client, &world.materials).unwrap();
    assert_eq!(tunnel.client.wait_exit(SOON).unwrap().code(), Some(1), "{}", tunnel.client.tail());
    assert!(tunnel.client.has_logged(&login), "{}", tunnel.client.tail());
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_proxy_is_sent_the_configured_request_and_what_is_no_proxy_is_named() {
    let (lab, _folder, _) = prepared();
    let listener = lab.server.enter(|| TcpListener::bind("10.99.0.1:8888")).unwrap().unwrap();
    let proxy = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(char::from(byte[0]));
        }
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        head
    });
    let options = "http-proxy 10.99.0.1 8888\nhttp-proxy-option VERSION 1.1\nhttp-proxy-option AGENT \"an agent\"\n\
        http-proxy-option CUSTOM-HEADER X-One 1\nhttp-proxy-option EXT1 \"X-Two: 2\"";
    let _tunnel = is_refused(lab, &tcp(options.to_owned()), "the answer is not HTTP: 'SSH-2'");
    assert_eq!(
        proxy.join().unwrap(),
        "CONNECT 10.99.0.1:1194 HTTP/1.1\r\nX-One: 1\r\nX-Two: 2\r\nHost: 10.99.0.1:1194\r\nUser-Agent: an agent\r\n\r\n"
    );
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_goes_through_a_socks_proxy_over_tcp() {
    let (lab, _folder, login) = prepared();
    let _proxy = Proxy::microsocks(&lab);
    goes_through(lab, &tcp(format!("socks-proxy 10.99.0.1 1080 {login}")));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_socks_proxy_that_wants_a_login_says_so() {
    let (lab, _folder, _) = prepared();
    let _proxy = Proxy::microsocks(&lab);
    let spec = tcp("socks-proxy 10.99.0.1".to_owned());
    is_refused(lab, &spec, "it may want a user name and password (third word of socks-proxy)");
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn a_tunnel_goes_through_a_socks_proxy_over_udp_and_notices_its_end() {
    let (lab, _folder, _) = prepared();
    let proxy = Proxy::dante(&lab);
    let spec = TunnelSpec { client_extra: "socks-proxy 10.99.0.1".to_owned(), ..TunnelSpec::default() };
    let tunnel = goes_through(lab, &spec);
    assert!(tunnel.client.has_logged("SOCKS proxy wants us to send UDP to [AF_INET]10.99.0.1:"));
    assert!(tunnel.client.has_logged("offload: userspace engine"), "{}", tunnel.client.tail());
    drop(proxy);
    // What served the connection is a process of its own.
    tunnel.lab.server.run("sh", &["-c", "kill $(ip netns pids \"$(ip netns identify $$)\" | while read p; do grep -lx danted /proc/$p/comm; done | cut -d/ -f3)"]).unwrap();
    tunnel.client.wait_for("SIGUSR1[soft,socks-error]", SOON).unwrap();
}
