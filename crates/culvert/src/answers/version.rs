//! `--version`: the title first, by which other programs decide what they talk to.

/// What scripts look up in OpenVPN's list of the same name, as far as it is true of this build.
const DEFINES: &str = "enable_async_push=no enable_dco=yes enable_dns_updown_by_default=yes \
                       enable_iproute2=no enable_management=yes enable_plugins=yes enable_port_share=yes enable_selinux=no \
                       enable_systemd=yes enable_x509_alt_username=yes with_crypto_library=rustls";

/// Returns the text.
pub(super) fn text() -> String {
    [
        culvert_config::title(),
        format!("library versions: {}", culvert_proto::tls::LIBRARY_VERSIONS),
        "DCO version: N/A".to_owned(),
        "An independent implementation of the OpenVPN protocol, licensed under MIT or Apache-2.0.".to_owned(),
        format!("Compile time defines: {DEFINES}"),
    ]
    .join("\n")
}
