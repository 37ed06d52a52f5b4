//! A plugin for OpenVPN's plugin interface, compiled when a test wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, Result, TempDir};

/// Compiles `crates/plugin/tests/plugin.c` for a version of the interface, and returns the shared object.
///
/// It accepts the password `correct horse` and never answers to `hang`; its first argument says how: `check` at once,
/// `defer` through the control file.
pub fn c_plugin(folder: &TempDir, version: u8) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin/tests/plugin.c");
    let module = folder.path().join(format!("plugin-v{version}.so"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", &format!("-DVERSION={version}"), "-o"])
        .args([&module, &source])
        .output()?;
    if output.status.success() {
        return Ok(module);
    }
    Err(Failure::new(format!("cc: {}", String::from_utf8_lossy(&output.stderr))))
}
