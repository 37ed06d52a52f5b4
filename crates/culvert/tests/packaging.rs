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
    assert!(assets.len() > 12, "{assets:?}");
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

#[test]
fn the_program_openvpn_moves_aside_and_comes_back() {
    // Before it knew of roots it would have changed this machine.
    let help = Command::new("dpkg-divert").arg("--help").output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--root")) {
        assert!(std::env::var_os("CI").is_none(), "a dpkg-divert with --root is missing");
        return;
    }
    let folder = culvert_testkit::TempDir::new().unwrap();
    let root = folder.path();
    for directory in ["usr/sbin", "usr/share/man/man8", "var/lib/dpkg", "etc"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let (program, aside) = (root.join("usr/sbin/openvpn"), root.join("usr/sbin/openvpn.distrib"));
    fs::write(&program, "Debian's").unwrap();
    // dpkg-divert takes its root from the environment, as dpkg hands it to the scripts.
    let script = |name: &str, words: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(packaging("deb/link").join(name)).args(words).env("DPKG_ROOT", root);
        command.env("DPKG_ADMINDIR", root.join("var/lib/dpkg")).output()
    };
    let run = |name: &str, words: &[&str]| {
        let output = script(name, words).unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("preinst", &["install"]);
    assert_eq!(fs::read_to_string(&aside).unwrap(), "Debian's");
    assert!(!program.exists());
    run("preinst", &["upgrade", "0.1.0"]);
    run("postrm", &["upgrade", "0.1.1"]);
    assert!(aside.exists(), "an upgrade keeps it aside");
    run("postrm", &["remove"]);
    assert_eq!(fs::read_to_string(&program).unwrap(), "Debian's");
    run("postrm", &["purge"]);
    assert!(!aside.exists());
}
