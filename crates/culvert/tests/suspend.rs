//! A client on a machine that sleeps. No namespace makes a machine's clocks part, so a virtual machine (`scripts/vm`) is suspended
//! to memory here and woken by its clock; `./test suspend` runs it.
//!
//! The machine's files, which are those of this one, do not survive the sleep: what is needed afterwards lies in memory, what is seen
//! goes to the console, and the machine is switched off instead of ended.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::{fs, path::Path, process::Command};

use culvert_testkit::{Algorithm, Pki, TempDir};

/// What each line from within begins with.
const MARK: &str = "asleep: ";

/// Makes what is needed lie in memory. Arguments: the folder that the machine shares.
const PREPARE: &str = r#"
cd /dev/shm && cp "$(command -v busybox)" "$1"/* . || exit
ip netns add server; ip netns add client
ip link add wire netns server type veth peer name wire netns client
ip -n server address add 10.99.0.1/24 dev wire; ip -n server link set wire up
ip -n client address add 10.99.0.2/24 dev wire; ip -n client link set wire up
for library in $(ldd culvert | grep -o '/[^ ]*'); do cat "$library" >/dev/null; done
for end in server client; do ip netns exec $end ./culvert --cd /dev/shm --config $end.conf >>$end.log 2>&1 & done
exec ./busybox sh sleep.sh
"#;

/// Sleeps twice: shorter and longer than servers remember a client that says nothing.
const SLEEP: &str = r#"
say() { echo "<1>asleep: $*" >/dev/kmsg; }
off() { echo o >/proc/sysrq-trigger; ./busybox sleep 60; }
wait_for() {
    tries=60
    until ./busybox grep -q "$1" client.log; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { ./busybox tail -n 20 client.log | while read -r line; do say "$line"; done; off; }
        ./busybox sleep 1
    done
    say "$1"
}
nap() {
    : >client.log
    echo 0 >/sys/class/rtc/rtc0/wakealarm
    echo $(($(./busybox cat /sys/class/rtc/rtc0/since_epoch) + $1)) >/sys/class/rtc/rtc0/wakealarm
    echo mem >/sys/power/state || say "cannot sleep"
}
wait_for 'Initialization Sequence Completed'
nap 6
wait_for 'this machine was asleep'
nap 50
wait_for 'the machine was asleep: connecting again'
wait_for 'Initialization Sequence Completed'
off
"#;

const SERVER: &str = "dev tun\ntopology subnet\nserver 10.8.0.0 255.255.255.0\ndh none\nkeepalive 120 600\ndisable-dco\n\
                      ca ca.crt\ncert server.crt\nkey server.key\n";
const CLIENT: &str =
    "client\ndev tun\nnobind\nremote 10.99.0.1\ndisable-dco\nca ca.crt\ncert client.crt\nkey client.key\n";

#[test]
#[ignore = "needs a virtual machine: run ./test suspend"]
fn a_client_tells_its_server_after_a_nap_and_connects_again_after_a_long_sleep() {
    let (pki, folder, results) =
        (Pki::new(Algorithm::Ec).unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let copy = |from: &Path, name: &str| fs::copy(from, folder.path().join(name)).map(drop).unwrap();
    copy(Path::new(env!("CARGO_BIN_EXE_culvert")), "culvert");
    copy(&pki.ca, "ca.crt");
    for (identity, name) in [(&pki.server, "server"), (&pki.client, "client")] {
        copy(&identity.cert, &format!("{name}.crt"));
        copy(&identity.key, &format!("{name}.key"));
    }
    for (name, text) in [("server.conf", SERVER), ("client.conf", CLIENT), ("sleep.sh", SLEEP)] {
        folder.write(name, text).unwrap();
    }
    let machine = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/vm"))
        .args(["--limit", "400", "--results"])
        .arg(results.path())
        .args(["--", "bash", "-c", PREPARE, "suspend"])
        .arg(folder.path())
        .output()
        .unwrap();
    let console = fs::read_to_string(results.path().join("console.log")).unwrap_or_default();
    let lines = console.lines().filter_map(|line| line.split_once(MARK)).map(|(_, text)| text.trim_end());
    let lines: Vec<_> = lines.collect();
    let expected = [
        "Initialization Sequence Completed",
        "this machine was asleep",
        "the machine was asleep: connecting again",
        "Initialization Sequence Completed",
    ];
    let (out, err) = (String::from_utf8_lossy(&machine.stdout), String::from_utf8_lossy(&machine.stderr));
    assert_eq!(lines, expected, "{out}\n{err}");
}
