//! `--version`: the title first, by which other programs decide what they talk to.

/// Returns the text.
pub(super) fn text() -> String {
    [
        culvert_config::title(),
        format!("library versions: {}", culvert_proto::tls::LIBRARY_VERSIONS),
        "DCO version: N/A".to_owned(),
        "An independent implementation of the OpenVPN protocol, licensed under MIT or Apache-2.0.".to_owned(),
    ]
    .join("\n")
}
