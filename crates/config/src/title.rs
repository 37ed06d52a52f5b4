//! The title: the line that other programs decide by.

/// The OpenVPN version that culvert is compatible with.
pub const OPENVPN_VERSION: &str = "2.7.8";

/// culvert's own version.
pub const CULVERT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the title: first line of `--version`, version line of the log, `TITLE` of status files.
pub fn title() -> String {
    format!(
        "OpenVPN {OPENVPN_VERSION} {}-{}-{} [culvert {CULVERT_VERSION}] [SSL (rustls)] [EPOLL] [MH/PKTINFO] [AEAD] [DCO]",
        std::env::consts::ARCH,
        "unknown",
        SYSTEM
    )
}

const SYSTEM: &str = if cfg!(target_os = "windows") { "windows" } else { "linux-gnu" };
