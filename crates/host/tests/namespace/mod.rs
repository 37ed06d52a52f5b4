//! Tests in a network namespace of their own.
//!
//! Each test runs this program again under `unshare --net`, so that the namespace goes with it. Needs root.

use std::process::Command;

/// Runs the ignored test of this name in a network namespace of its own.
pub(crate) fn in_namespace(test: &str) {
    let root = Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !root {
        assert!(std::env::var_os("CI").is_none(), "this test needs root and unshare(1), and CI is set");
        eprintln!("left out: this test needs root and unshare(1)");
        return;
    }
    let program = std::env::current_exe().expect("the test program has a path");
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(program)
        .args(["--exact", &format!("inside::{test}"), "--ignored", "--test-threads=1"])
        .output()
        .expect("unshare starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// Declares tests that run the function of their name in the module `inside`, in a namespace.
macro_rules! namespaced {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            $crate::namespace::in_namespace(stringify!($name));
        }
    )* };
}
pub(crate) use namespaced;

/// Runs ip(8), which must succeed, and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
