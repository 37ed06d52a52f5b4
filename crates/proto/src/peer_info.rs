//! `NAME=value` lines of the key exchange (IV_ variables): reading a peer's, making our own.
//!
//! Source: protocol document, "Peer info".

use culvert_wire::CipherName;

use crate::{DataConfig, Mode, PeerInfo};

/// Limits of what a peer may say of itself (SEC-CTL-12).
const MAX_LEN: usize = 8 * 1024;
const MAX_LINES: usize = 64;

/// Bits of `IV_PROTO`.
pub mod proto_bit {
    /// Data packets with peer id.
    pub const DATA_V2: u32 = 1 << 1;
    /// The server may push without being asked.
    pub const REQUEST_PUSH: u32 = 1 << 2;
    /// Data keys by TLS exporter.
    pub const TLS_KEY_EXPORT: u32 = 1 << 3;
    /// `AUTH_PENDING` with keywords.
    pub const AUTH_PENDING_KW: u32 = 1 << 4;
    /// Point-to-point negotiation.
    pub const NCP_P2P: u32 = 1 << 5;
    /// Exit notification over the control channel, and `protocol-flags`.
    pub const CC_EXIT_NOTIFY: u32 = 1 << 7;
    /// `AUTH_FAILED,TEMP`.
    pub const AUTH_FAIL_TEMP: u32 = 1 << 8;
    /// Renegotiations under dynamic tls-crypt.
    pub const DYN_TLS_CRYPT: u32 = 1 << 9;
    /// The epoch data format.
    pub const DATA_EPOCH: u32 = 1 << 10;
    /// The `dns` option.
    pub const DNS_OPTION_V2: u32 = 1 << 11;
    /// `PUSH_UPDATE`.
    pub const PUSH_UPDATE: u32 = 1 << 12;
}

/// What this end says of itself in the key exchange.
#[derive(Clone, Debug)]
pub struct Announcement<'a> {
    /// `IV_VER`: the OpenVPN version that servers shall see.
    pub version: &'a str,
    /// `IV_PLAT`: `linux`, `win`, `mac`, …
    pub platform: &'a str,
    /// `IV_MTU`: the largest tun-mtu that may be pushed.
    pub max_mtu: u16,
    /// Whether the driver carries out `PUSH_UPDATE`.
    pub push_update: bool,
    /// Whether the offload frames packets as `comp-lzo no` and `compress` want it.
    pub compression_stubs: bool,
    /// Whether compressed data may come in, of every kind.
    pub decompression: bool,
}

impl Announcement<'_> {
    /// The lines to send, in OpenVPN's order. A server sends none.
    #[must_use]
    pub fn lines(&self, mode: Mode, data: &DataConfig) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
        let proto = iv_proto(mode, data, self.push_update).to_string();
        match mode {
            Mode::Server => {}
            Mode::PointToPoint { .. } => {
                line("IV_CIPHERS", &cipher_list(&data.ciphers));
                line("IV_PROTO", &proto);
            }
            Mode::Client => {
                line("IV_VER", self.version);
                line("IV_PLAT", self.platform);
                line("IV_TCPNL", "1");
                line("IV_MTU", &self.max_mtu.to_string());
                if [CipherName::Aes128Gcm, CipherName::Aes256Gcm].iter().all(|gcm| data.ciphers.contains(gcm))
                {
                    line("IV_NCP", "2");
                }
                line("IV_CIPHERS", &cipher_list(&data.ciphers));
                line("IV_PROTO", &proto);
                if self.decompression {
                    ["IV_LZ4", "IV_LZ4v2", "IV_LZO"].into_iter().for_each(|name| line(name, "1"));
                } else if self.compression_stubs {
                    line("IV_LZO_STUB", "1");
                }
                if self.compression_stubs {
                    line("IV_COMP_STUB", "1");
                }
                // With stub-v2 nothing changes on the wire, so that every offload carries it.
                line("IV_COMP_STUBv2", "1");
            }
        }
        lines
    }
}

/// The `IV_PROTO` bits of this end.
#[must_use]
pub fn iv_proto(mode: Mode, data: &DataConfig, push_update: bool) -> u32 {
    use proto_bit::{
        AUTH_FAIL_TEMP, AUTH_PENDING_KW, CC_EXIT_NOTIFY, DATA_EPOCH, DATA_V2, DNS_OPTION_V2, DYN_TLS_CRYPT,
        NCP_P2P, PUSH_UPDATE, REQUEST_PUSH, TLS_KEY_EXPORT,
    };
    let mut bits = DATA_V2 | TLS_KEY_EXPORT | CC_EXIT_NOTIFY | DYN_TLS_CRYPT | DNS_OPTION_V2;
    bits |= match mode {
        Mode::Client => REQUEST_PUSH | AUTH_PENDING_KW | AUTH_FAIL_TEMP,
        Mode::PointToPoint { .. } => NCP_P2P,
        Mode::Server => 0,
    };
    if data.epoch {
        bits |= DATA_EPOCH;
    }
    if push_update {
        bits |= PUSH_UPDATE;
    }
    bits
}

/// The colon list of `IV_CIPHERS` and `data-ciphers`.
#[must_use]
pub fn cipher_list(ciphers: &[CipherName]) -> String {
    ciphers.iter().map(|cipher| cipher.as_str()).collect::<Vec<_>>().join(":")
}

impl PeerInfo {
    /// Reads the lines of a key exchange. Lines that are not `NAME=value` are left out, and what a shell might take for more
    /// than text becomes `_` as in OpenVPN: scripts see these values, and logs show them.
    ///
    /// # Errors
    /// Beyond 8 KiB or 64 entries: `None`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_LEN {
            return None;
        }
        let mut lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, value)| is_name(name) && value.chars().all(crate::control_message::is_printable))
            .map(|(name, value)| (name.to_owned(), harmless(value)))
            .collect();
        // It is kept as long as the session.
        lines.shrink_to_fit();
        (lines.len() <= MAX_LINES).then_some(Self { lines })
    }

    /// The lines as they are sent.
    pub(crate) fn render(lines: &[(String, String)]) -> String {
        lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// Whether all of these `IV_PROTO` bits are set.
    #[must_use]
    pub fn has(&self, bits: u32) -> bool {
        self.proto() & bits == bits
    }

    /// Returns whether the peer takes part in cipher negotiation, so that `cipher` may be pushed to it.
    #[must_use]
    pub fn negotiates_cipher(&self) -> bool {
        self.ncp_version() >= 2 || self.value("IV_CIPHERS").is_some()
    }

    /// The ciphers the peer accepts, as it named them.
    #[must_use]
    pub fn cipher_names(&self) -> Vec<&str> {
        match self.value("IV_CIPHERS") {
            Some(list) => list.split(':').filter(|name| !name.is_empty()).collect(),
            None if self.ncp_version() >= 2 => vec!["AES-256-GCM", "AES-128-GCM"],
            None => Vec::new(),
        }
    }

    /// Returns whether the peer is built on openvpn3: OpenVPN Connect, apps of phones. Their versions are 3.x.
    #[must_use]
    pub fn is_openvpn3(&self) -> bool {
        self.value("IV_VER").is_some_and(|version| version.starts_with("3."))
    }

    fn ncp_version(&self) -> u32 {
        self.value("IV_NCP").and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// A value without blanks, characters beyond ASCII, and `$`, `(` and backquotes (OpenVPN's `validate_peer_info_line`).
fn harmless(value: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_graphic() && !b"$(`".contains(&byte);
    value.bytes().map(|byte| if kept(byte) { char::from(byte) } else { '_' }).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(epoch: bool) -> DataConfig {
        let ciphers = vec![CipherName::Aes256Gcm, CipherName::Aes128Gcm, CipherName::ChaCha20Poly1305];
        DataConfig { ciphers, fallback: None, digest: None, epoch, data_v1: true }
    }

    #[test]
    fn the_protocol_bits_are_those_of_openvpn_2_7() {
        assert_eq!(iv_proto(Mode::Client, &data(true), true), 8094);
        assert_eq!(iv_proto(Mode::PointToPoint { tls_server: true }, &data(true), true), 7850);
    }

    #[test]
    fn a_client_announces_what_openvpn_announces() {
        let announcement = Announcement {
            version: "2.7.8",
            platform: "linux",
            max_mtu: 1600,
            push_update: true,
            compression_stubs: true,
            decompression: false,
        };
        let lines = announcement.lines(Mode::Client, &data(true));
        assert_eq!(
            PeerInfo::render(&lines),
            "IV_VER=2.7.8\nIV_PLAT=linux\nIV_TCPNL=1\nIV_MTU=1600\nIV_NCP=2\n\
             IV_CIPHERS=AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305\nIV_PROTO=8094\n\
             IV_LZO_STUB=1\nIV_COMP_STUB=1\nIV_COMP_STUBv2=1\n"
        );
        assert!(announcement.lines(Mode::Server, &data(true)).is_empty());
        let lines = Announcement { decompression: true, ..announcement }.lines(Mode::Client, &data(true));
        assert!(
            PeerInfo::render(&lines)
                .ends_with("\nIV_LZ4=1\nIV_LZ4v2=1\nIV_LZO=1\nIV_COMP_STUB=1\nIV_COMP_STUBv2=1\n")
        );
    }

    #[test]
    fn peer_lists_are_read_as_openvpn_reads_them() {
        // vector: ncp_peer_list
        let list = |text| {
            PeerInfo::parse(text).map(|info| (info.cipher_names().join(":"), info.negotiates_cipher()))
        };
        assert_eq!(list("foo=bar\nIV_foo=y\nIV_NCP=2"), Some(("AES-256-GCM:AES-128-GCM".into(), true)));
        assert_eq!(list("foo=bar\nIV_foo=y\nIV_NCP=2\nIV_CIPHERS=BF-CBC"), Some(("BF-CBC".into(), true)));
        assert_eq!(
            list("IV_NCP=2\nIV_CIPHERS=BF-CBC:FOO-BAR\nIV_BAR=7"),
            Some(("BF-CBC:FOO-BAR".into(), true))
        );
        assert_eq!(list("IV_YOLO=NO\nIV_BAR=7"), Some((String::new(), false)));
        assert_eq!(list(""), Some((String::new(), false)));
    }

    #[test]
    fn too_much_peer_info_is_refused() {
        // SEC-CTL-12
        assert!(PeerInfo::parse(&"A=b\n".repeat(65)).is_none());
        assert!(PeerInfo::parse(&format!("A={}", "x".repeat(9000))).is_none());
    }

    #[test]
    fn what_a_shell_might_expand_does_not_stay() {
        let text = "IV_SSL=OpenSSL 3.0.19 27 Jan 2026\nUV_X=a$(id)`b`\"c\" \u{fc}\nIV_CIPHERS=A-B:C";
        let info = PeerInfo::parse(text).unwrap();
        let value = |name| info.value(name).unwrap();
        assert_eq!(value("IV_SSL"), "OpenSSL_3.0.19_27_Jan_2026");
        assert_eq!(value("UV_X"), "a__id)_b_\"c\"___");
        assert_eq!(value("IV_CIPHERS"), "A-B:C");
    }

    #[test]
    fn lines_with_control_characters_are_left_out() {
        let info = PeerInfo::parse("IV_VER=2.6\nIV_PLAT=li\x1bnux\nnot a line\n").unwrap();
        assert_eq!(info.lines, [("IV_VER".to_owned(), "2.6".to_owned())]);
    }
}
