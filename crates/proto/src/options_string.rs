//! Options strings (OCC): what both ends tell each other of their configuration during the key exchange.
//!
//! Differences are only worth a warning, never fatal. Two words have consequences: `cipher` is the peer's fallback
//! for cipher negotiation, `comp-lzo` asks a server to migrate the client off compression.
//! Source: protocol document, "Options string (OCC)".

use culvert_wire::CipherName;

use crate::OptionsStrings;

/// What the strings are computed from.
#[derive(Clone, Debug)]
pub struct OptionsInput {
    /// TLS role.
    pub tls_server: bool,
    /// `dev-type tap`.
    pub tap: bool,
    /// `tun-mtu`.
    pub tun_mtu: u16,
    /// `tun-mtu-extra`, or its default: counted in `link-mtu` alone.
    pub tun_mtu_extra: u32,
    /// What runs below.
    pub proto: OccProto,
    /// Point-to-point without pull: own and the peer's part of `ifconfig`.
    pub ifconfig: Option<OccIfconfig>,
    /// Any compression framing is configured.
    pub compression: bool,
    /// `fragment` is configured.
    pub fragment: bool,
    /// The direction of `tls-auth`, if one is given.
    pub key_direction: Option<bool>,
    /// `tls-auth` is configured.
    pub tls_auth: bool,
    /// `cipher`; BF-CBC when the configuration does not name one.
    pub cipher: CipherName,
    /// Name the cipher: point-to-point, or `cipher` is among the `data-ciphers`.
    pub names_cipher: bool,
    /// Name and length in bytes of the `auth` digest; `None` for `auth none`.
    pub digest: Option<(String, u16)>,
    /// A SOCKS proxy carries the datagrams.
    pub socks_udp: bool,
}

/// What OpenVPN computes them from where nothing is configured: a client over UDP.
impl Default for OptionsInput {
    fn default() -> Self {
        Self {
            tls_server: false,
            tap: false,
            tun_mtu_extra: 0,
            tun_mtu: 1500,
            proto: OccProto::Udp,
            ifconfig: None,
            compression: false,
            fragment: false,
            key_direction: None,
            tls_auth: false,
            cipher: CipherName::BfCbc,
            names_cipher: false,
            digest: Some(("SHA1".to_owned(), 20)),
            socks_udp: false,
        }
    }
}

/// The word after `proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OccProto {
    /// Datagrams, whatever the address family.
    Udp,
    /// The end that connects.
    TcpClient,
    /// The end that listens.
    TcpServer,
}

/// `ifconfig A B` of both ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OccIfconfig {
    /// Tunnel endpoints: the peer's address, then ours. Subnets: network, then mask.
    pub local: (String, String),
    /// The same seen from the peer. Subnets: unchanged.
    pub remote: (String, String),
}

/// How packets are keyed, as far as the old link-mtu formula cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keying {
    Tls,
    #[cfg(test)]
    Static,
    #[cfg(test)]
    None,
}

impl OptionsInput {
    /// Both strings.
    #[must_use]
    pub fn strings(&self) -> OptionsStrings {
        OptionsStrings { local: self.render(false), remote: self.render(true) }
    }

    /// The string of one end; `mirrored` for the one expected from the peer.
    fn render(&self, mirrored: bool) -> String {
        let mut words = vec![
            "V4".to_owned(),
            format!("dev-type {}", if self.tap { "tap" } else { "tun" }),
            format!("link-mtu {}", self.link_mtu(Keying::Tls)),
            format!("tun-mtu {}", self.tun_mtu),
            format!("proto {}", self.proto.word(mirrored)),
        ];
        if let Some(ifconfig) = &self.ifconfig {
            let (a, b) = if mirrored { &ifconfig.remote } else { &ifconfig.local };
            words.push(format!("ifconfig {a} {b}"));
        }
        if self.compression {
            words.push("comp-lzo".to_owned());
        }
        if self.fragment {
            words.push("mtu-dynamic".to_owned());
        }
        if let Some(direction) = self.key_direction {
            words.push(format!("keydir {}", u8::from(direction != mirrored)));
        }
        if self.names_cipher {
            let name = if self.cipher == CipherName::None { "[null-cipher]" } else { self.cipher.as_str() };
            words.push(format!("cipher {name}"));
        }
        let digest = self.digest().map_or("[null-digest]", |(name, _)| name.as_str());
        words.push(format!("auth {digest}"));
        words.push(format!("keysize {}", u32::from(self.cipher.key_len()).saturating_mul(8)));
        if self.tls_auth {
            words.push("tls-auth".to_owned());
        }
        words.push("key-method 2".to_owned());
        words.push(if self.tls_server == mirrored { "tls-client" } else { "tls-server" }.to_owned());
        words.join(",")
    }

    /// The digest in effect: AEAD ciphers need none.
    fn digest(&self) -> Option<&(String, u16)> {
        self.digest.as_ref().filter(|_| !self.cipher.is_aead())
    }

    /// The obsolete formula of OpenVPN 2.3 that peers still compare.
    fn link_mtu(&self, keying: Keying) -> u32 {
        let (opcode, packet_id) = match keying {
            Keying::Tls => (1, 4),
            #[cfg(test)]
            Keying::Static => (0, 8),
            #[cfg(test)]
            Keying::None => (0, 0),
        };
        let (iv, block) = cipher_overhead(self.cipher);
        let tag =
            if self.cipher.is_aead() { 16 } else { self.digest().map_or(0, |digest| u32::from(digest.1)) };
        let extra = [
            (self.compression, 1),
            (self.fragment, 4),
            (self.proto != OccProto::Udp, 2),
            (self.socks_udp, 10),
        ];
        let extra: u32 = extra.iter().filter(|(on, _)| *on).map(|(_, len)| len).sum();
        u32::from(self.tun_mtu).saturating_add(self.tun_mtu_extra)
            + opcode
            + packet_id
            + iv
            + block
            + tag
            + extra
    }
}

impl OccProto {
    const fn word(self, mirrored: bool) -> &'static str {
        match (self, mirrored) {
            (Self::Udp, _) => "UDPv4",
            (Self::TcpClient, false) | (Self::TcpServer, true) => "TCPv4_CLIENT",
            (Self::TcpServer, false) | (Self::TcpClient, true) => "TCPv4_SERVER",
        }
    }
}

/// IV length and block size, as OpenVPN counts them (AES-GCM: the block of AES-CBC).
const fn cipher_overhead(cipher: CipherName) -> (u32, u32) {
    use CipherName as C;
    match cipher {
        C::Aes128Gcm | C::Aes192Gcm | C::Aes256Gcm => (12, 16),
        C::ChaCha20Poly1305 => (12, 1),
        C::BfCbc | C::DesEde3Cbc | C::Cast5Cbc => (8, 8),
        C::None => (0, 0),
        _ => (16, 16),
    }
}

/// The value of a word in an options string: `value(s, "cipher")`.
#[must_use]
pub fn value<'a>(string: &'a str, word: &str) -> Option<&'a str> {
    string.split(',').find_map(|item| item.strip_prefix(word)?.strip_prefix(' '))
}

/// The cipher that a peer named: its fallback in cipher negotiation. Unknown names are `None`, as is no name.
#[must_use]
pub fn cipher(string: &str) -> Option<CipherName> {
    value(string, "cipher").and_then(|name| name.parse().ok())
}

/// Returns whether a peer uses compression framing.
#[must_use]
pub fn has_comp_lzo(string: &str) -> bool {
    string.split(',').any(|word| word == "comp-lzo")
}

/// The string with which a server that migrates a client off compression answers: as if it had `comp-lzo` too.
///
/// A string without plausible link-mtu comes back unchanged.
#[must_use]
pub fn with_comp_lzo(string: &str) -> String {
    // Three digits at least: below that the number is no MTU (OpenVPN's rule).
    let Some(mtu) =
        value(string, "link-mtu").and_then(|mtu| mtu.parse::<u32>().ok()).filter(|mtu| *mtu >= 100)
    else {
        return string.to_owned();
    };
    let raised = mtu.saturating_add(1);
    format!("{},comp-lzo", string.replacen(&format!("link-mtu {mtu}"), &format!("link-mtu {raised}"), 1))
}

/// Words whose difference is never worth a warning.
const EXEMPT: [&str; 6] = ["key-method", "keydir", "proto", "tls-auth", "tun-ipv6", "cipher"];

/// Compares what we expect (`local`) with what the peer sent (`remote`): the warnings to log.
#[must_use]
pub fn differences(local: &str, remote: &str) -> Vec<String> {
    if local.get(..2) != remote.get(..2) {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    scan(&mut warnings, local, remote, ["local", "remote"], true);
    scan(&mut warnings, remote, local, ["remote", "local"], false);
    warnings
}

fn scan(warnings: &mut Vec<String>, here: &str, there: &str, names: [&str; 2], report_inconsistent: bool) {
    let [a, b] = names;
    for word in here.split(',').filter(|word| !EXEMPT.iter().any(|exempt| word.starts_with(exempt))) {
        let name = first_word(word);
        let mut candidates = there.split(',').filter(|other| first_word(other) == name);
        match candidates.next() {
            None => warnings.push(format!(
                "WARNING: '{name}' is present in {a} config but missing in {b} config, {a}='{word}'"
            )),
            Some(other) if report_inconsistent && other != word => {
                warnings
                    .push(format!("WARNING: '{name}' is used inconsistently, {a}='{word}', {b}='{other}'"));
            }
            Some(_) => {}
        }
    }
}

fn first_word(item: &str) -> &str {
    item.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_strings_are_those_of_stock_openvpn() {
        let strings = OptionsInput::default().strings();
        let expected =
            "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1,keysize 128,key-method 2,";
        assert_eq!(strings.local, format!("{expected}tls-client"));
        assert_eq!(strings.remote, format!("{expected}tls-server"));
        let tcp = OptionsInput { proto: OccProto::TcpClient, ..OptionsInput::default() }.strings();
        assert!(tcp.local.contains("link-mtu 1543,tun-mtu 1500,proto TCPv4_CLIENT"), "{}", tcp.local);
        assert!(tcp.remote.contains("proto TCPv4_SERVER"), "{}", tcp.remote);
    }

    /// As OpenVPN 2.6 and 2.7 print it; 2.5 says `tun-mtu 1532`.
    #[test]
    fn a_tap_counts_its_extra_bytes_in_link_mtu_alone() {
        let strings = OptionsInput { tap: true, tun_mtu_extra: 32, ..OptionsInput::default() }.strings();
        assert!(
            strings.local.starts_with("V4,dev-type tap,link-mtu 1573,tun-mtu 1500,proto"),
            "{}",
            strings.local
        );
    }

    #[test]
    fn tls_auth_and_its_direction_show() {
        let options = OptionsInput {
            tls_server: true,
            tls_auth: true,
            key_direction: Some(false),
            ..OptionsInput::default()
        };
        let strings = options.strings();
        assert!(
            strings.local.ends_with("UDPv4,keydir 0,auth SHA1,keysize 128,tls-auth,key-method 2,tls-server")
        );
        assert!(
            strings.remote.ends_with("UDPv4,keydir 1,auth SHA1,keysize 128,tls-auth,key-method 2,tls-client")
        );
    }

    #[test]
    fn point_to_point_names_addresses_and_cipher() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let ifconfig =
            OccIfconfig { local: pair("10.60.0.2", "10.60.0.1"), remote: pair("10.60.0.1", "10.60.0.2") };
        let options = OptionsInput {
            tls_server: true,
            names_cipher: true,
            ifconfig: Some(ifconfig),
            ..OptionsInput::default()
        };
        assert_eq!(
            options.strings().local,
            "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,ifconfig 10.60.0.2 10.60.0.1,cipher BF-CBC,\
             auth SHA1,keysize 128,key-method 2,tls-server"
        );
        assert!(options.strings().remote.contains("ifconfig 10.60.0.1 10.60.0.2,cipher"));
    }

    #[test]
    fn link_mtu_follows_the_obsolete_formula() {
        // vector: occ_link_mtu
        use CipherName::{Aes128Cbc, Aes256Gcm, BfCbc, None as NoCipher};
        let sha1 = || Some(("SHA1".to_owned(), 20));
        let base =
            || OptionsInput { tun_mtu: 1400, digest: None, cipher: NoCipher, ..OptionsInput::default() };
        let cases = [
            (Keying::None, base(), 1400),
            (Keying::Static, base(), 1408),
            (Keying::Static, OptionsInput { cipher: Aes128Cbc, ..base() }, 1440),
            (Keying::Static, OptionsInput { digest: Some(("SHA256".into(), 32)), ..base() }, 1440),
            (Keying::Static, OptionsInput { cipher: BfCbc, digest: sha1(), ..base() }, 1444),
            (
                Keying::Static,
                OptionsInput { cipher: BfCbc, digest: sha1(), proto: OccProto::TcpClient, ..base() },
                1446,
            ),
            (
                Keying::Static,
                OptionsInput { cipher: BfCbc, digest: sha1(), compression: true, ..base() },
                1445,
            ),
            (
                Keying::Static,
                OptionsInput { cipher: BfCbc, digest: sha1(), compression: true, fragment: true, ..base() },
                1449,
            ),
            (Keying::Tls, OptionsInput { cipher: Aes128Cbc, digest: sha1(), ..base() }, 1457),
            (Keying::Tls, base(), 1405),
            (Keying::Tls, OptionsInput { cipher: Aes256Gcm, digest: sha1(), ..base() }, 1449),
            (
                Keying::Tls,
                OptionsInput {
                    cipher: Aes256Gcm,
                    digest: sha1(),
                    compression: true,
                    fragment: true,
                    ..base()
                },
                1454,
            ),
            (
                Keying::Tls,
                OptionsInput {
                    cipher: Aes256Gcm,
                    digest: sha1(),
                    compression: true,
                    fragment: true,
                    socks_udp: true,
                    ..base()
                },
                1464,
            ),
        ];
        for (keying, options, expected) in cases {
            assert_eq!(options.link_mtu(keying), expected, "{keying:?} {options:?}");
        }
    }

    #[test]
    fn compression_is_feigned_for_clients_that_migrate() {
        // vector: occ_compat_lzo
        let tail = "tun-mtu 1400,proto UDPv4,auth SHA1,keysize 128,key-method 2,tls-server";
        let string = |mtu: u32| format!("V4,dev-type tun,link-mtu {mtu},{tail}");
        assert_eq!(with_comp_lzo(&string(1457)), format!("{},comp-lzo", string(1458)));
        assert_eq!(with_comp_lzo(&string(999)), format!("{},comp-lzo", string(1000)));
        assert_eq!(with_comp_lzo(&string(2)), string(2));
        assert_eq!(with_comp_lzo("V4,dev-type tun"), "V4,dev-type tun");
        assert!(has_comp_lzo("V4,comp-lzo,auth SHA1") && !has_comp_lzo("V4,comp-lzox"));
    }

    #[test]
    fn differences_are_worded_as_openvpn_words_them() {
        let local = "V4,dev-type tun,link-mtu 1541,tun-mtu 1500,proto UDPv4,auth SHA1";
        let remote = "V4,dev-type tap,link-mtu 1541,tun-mtu 1500,proto TCPv4_CLIENT,auth SHA1,comp-lzo";
        assert_eq!(
            differences(local, remote),
            [
                "WARNING: 'dev-type' is used inconsistently, local='dev-type tun', remote='dev-type tap'",
                "WARNING: 'comp-lzo' is present in remote config but missing in local config, remote='comp-lzo'",
            ]
        );
        assert!(differences(local, local).is_empty());
        assert!(differences(local, "V5,whatever").is_empty());
    }

    #[test]
    fn the_cipher_of_a_peer_is_found() {
        assert_eq!(cipher("V4,cipher AES-256-CBC,auth SHA1"), Some(CipherName::Aes256Cbc));
        assert_eq!(cipher("V4,cipher [null-cipher]"), Some(CipherName::None));
        assert_eq!(cipher("V4,auth SHA1"), None);
    }
}
