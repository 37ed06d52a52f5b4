//! What packages put beside the program: units that systemd understands, a generator, assets that exist.

#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const UNITS: [&str; 4] =
    ["openvpn.service", "openvpn@.service", "openvpn-client@.service", "openvpn-server@.service"];

fn packaging(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging")).join(name)
}

/// The values of a key.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn units_are_understood_by_systemd() {
    let units = UNITS.map(|name| packaging("systemd").join(name));
    let mut command = Command::new("systemd-analyze");
    let output = match command.args(["verify", "--man=no"]).args(&units).output() {
        Ok(output) => output,
        // `./test` installs what is missing; a plain `cargo test` may be without systemd.
        Err(failure) if std::env::var_os("CI").is_some() => panic!("systemd-analyze: {failure}"),
        Err(_) => return,
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The program of the units need not be installed where the tests run.
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| UNITS.iter().any(|unit| line.contains(unit.split(['@', '.']).next().unwrap())))
        .filter(|line| !line.contains("is not executable"))
        .collect();
    assert_eq!(complaints, Vec::<&str>::new());
}

#[test]
fn units_notify_and_allow_more_than_debians() {
    for name in &UNITS[1..] {
        let unit = fs::read_to_string(packaging("systemd").join(name)).unwrap();
        assert_eq!(values(&unit, "Type"), ["notify"], "{name}");
        assert!(values(&unit, "ExecStart")[0].starts_with("/usr/sbin/openvpn "), "{name}");
        // Debian's ten tasks are fewer than the threads of a server.
        assert!(values(&unit, "TasksMax")[0].parse::<u32>().unwrap() >= 512, "{name}");
        assert!(values(&unit, "LimitNPROC").is_empty(), "{name}");
        assert_eq!(values(&unit, "ExecReload"), ["/bin/kill -HUP $MAINPID"], "{name}");
    }
}

#[test]
fn the_generator_links_what_is_to_start() {
    let folder = culvert_testkit::TempDir::new().unwrap();
    let output =
        Command::new("sh").arg(packaging("systemd/openvpn-generator")).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let wanted = folder.path().join("openvpn.service.wants");
    for link in fs::read_dir(&wanted).unwrap().map(Result::unwrap) {
        let target = fs::read_link(link.path()).unwrap();
        assert_eq!(target, Path::new("/lib/systemd/system/openvpn@.service"));
    }
}

#[test]
fn every_asset_of_the_packages_exists() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let assets: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix("[\"../../")?.split('"').next())
        .collect();
    assert!(assets.len() > 15, "{assets:?}");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for asset in assets {
        let path = repository.join(asset);
        let there = match asset.split_once('*') {
            Some((directory, _)) => fs::read_dir(repository.join(directory)).is_ok(),
            // A link into the package leads nowhere here.
            None => fs::symlink_metadata(&path).is_ok(),
        };
        assert!(there, "{asset}");
    }
}
