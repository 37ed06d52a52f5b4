//! A plugin for OpenVPN's plugin interface, compiled when a test wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Result, TempDir};

/// Compiles `crates/plugin/tests/plugin.c` for a version of the interface, and returns the shared object.
///
/// It accepts the password `correct horse` and never answers to `hang`; its first argument says how: `check` at once,
/// `defer` through the control file.
pub fn c_plugin(folder: &TempDir, version: u8) -> Result<PathBuf> {
    compile(folder, &format!("plugin-v{version}.so"), &format!("-DVERSION={version}"))
}

/// The same for version 3, with functions of OpenSSL but not linked to it, as OpenVPN's own samples are. It hears of
/// certificates and addresses, too, and logs them.
pub fn c_plugin_with_openssl(folder: &TempDir) -> Result<PathBuf> {
    compile(folder, "openssl.so", "-DUSES_OPENSSL")
}

fn compile(folder: &TempDir, name: &str, definition: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin/tests/plugin.c");
    let module = folder.path().join(name);
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", definition, "-o"])
        .args([&module, &source])
        .output()?;
    if output.status.success() {
        return Ok(module);
    }
    Err(Failure::new(format!("cc: {}", String::from_utf8_lossy(&output.stderr))))
}
