//! The sample of every option: culvert takes it where OpenVPN 2.7 does, and what a server pushes takes effect.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use culvert_config::find;
use culvert_testkit::{Release, Role, Signal, TempDir, TunnelSpec};

use crate::{
    SOON, World, assert_no_panic,
    corpus::{Verdict, judge},
    samples::{Base, FILES, SAMPLES, Sample},
};

/// Where culvert means to decide otherwise, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("iproute", "this build of OpenVPN lacks the option; others have it"),
    ("setcon", "this build of OpenVPN lacks the option; others have it"),
    ("plugin", "OpenVPN loads modules before its version line, and that of the sample is none"),
];

/// The folder that stands in the place of `/etc/openvpn`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, content) in FILES {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let mode = if content.starts_with("#!") { 0o755 } else { 0o600 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

/// Whether both can be asked: not what is culvert's own, what is read elsewhere, what only asks something.
fn is_comparable(sample: &Sample) -> bool {
    let row = find(sample.name()).unwrap();
    let elsewhere = matches!(sample.base, Base::OneClient | Base::Pushed);
    let asks = row.roles == culvert_config::table::COMMAND;
    !elsewhere && !asks && !row.group.is_culverts_own()
}

fn judge_text(program: &Path, folder: &Path, text: &str) -> Verdict {
    fs::write(folder.join("row.conf"), text).unwrap();
    judge(program, folder, &["--config".to_owned(), "row.conf".to_owned()])
}

#[test]
#[ignore = "needs root and scripts/peers"]
fn the_sample_of_every_option_is_taken_or_refused_as_openvpn_does() {
    let world = World::new();
    let openvpn = world.peers.get(Release::V2_7).unwrap();
    let folder = folder();
    let (mut accepted, mut asked, mut wrong) = (0, 0, Vec::new());
    for sample in SAMPLES.iter().filter(|sample| is_comparable(sample)) {
        let (with, name) = (sample.whole(), sample.name());
        let block = format!(
            "{}<connection>\nremote vpn.example\n{}\n</connection>\n",
            Base::Client.text(),
            sample.line
        );
        for text in [with, block] {
            let expected = judge_text(openvpn.program(), folder.path(), &text);
            let found = judge_text(world.subject.program(), folder.path(), &text);
            asked += 1;
            accepted += usize::from(expected == Verdict::Accepted);
            let agree = (expected == Verdict::Accepted) == (found == Verdict::Accepted);
            if !agree && !DIFFERENCES.iter().any(|(other, _)| *other == name) {
                wrong.push(format!("{text}\n  openvpn: {expected:?}\n  culvert: {found:?}"));
            }
        }
    }
    println!(
        "{asked} files, {accepted} accepted by OpenVPN 2.7, {} documented differences",
        DIFFERENCES.len()
    );
    for (name, why) in DIFFERENCES {
        println!("  {name}: {why}");
    }
    assert!(accepted * 3 > asked, "only {accepted} accepted: something is wrong with the test");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[ignore = "needs root, network namespaces and OpenVPN peers: run ./test"]
fn what_a_server_pushes_about_log_scripts_and_device_holds() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let seen = folder.path().join("seen");
    let text = format!("#!/bin/sh\nprintf %s \"$OPENVPN_office\" > {}\n", seen.display());
    let up = folder.write_script("up", &text).unwrap();
    let spec = TunnelSpec {
        server_extra: "push \"setenv-safe office north\"\npush \"persist-tun\"\npush \"verb 5\"\n".to_owned(),
        client_extra: format!("script-security 2\nup {}\n", up.display()),
        ..TunnelSpec::default()
    };
    let tunnel = world.tunnel(Role::Client, Release::V2_6, &spec);
    assert_eq!(fs::read_to_string(&seen).unwrap(), "north");
    tunnel.client.signal(Signal::Restart).unwrap();
    tunnel.client.wait_for("Preserving previous TUN/TAP instance", SOON).unwrap();
    assert_no_panic(&tunnel);
}
