//! `--show-…`: what this build can do, in OpenVPN's form: scripts drop the first paragraph and cut each line at its first
//! blank.

use culvert_crypto::AuthDigest;
use culvert_proto::tls::{group_names, tls_1_2_suites, tls_1_3_suites};
use culvert_wire::CipherName;

/// The ciphers that data can be carried with, in the order of their names.
pub(super) const CIPHERS: [CipherName; 16] = [
    CipherName::Aes128Cbc,
    CipherName::Aes128Cfb,
    CipherName::Aes128Gcm,
    CipherName::Aes128Ofb,
    CipherName::Aes192Cbc,
    CipherName::Aes192Cfb,
    CipherName::Aes192Gcm,
    CipherName::Aes192Ofb,
    CipherName::Aes256Cbc,
    CipherName::Aes256Cfb,
    CipherName::Aes256Gcm,
    CipherName::Aes256Ofb,
    CipherName::Camellia128Cbc,
    CipherName::Camellia192Cbc,
    CipherName::Camellia256Cbc,
    CipherName::ChaCha20Poly1305,
];

/// Those with short blocks, of which some are there when asked for.
const SHORT_BLOCKS: [CipherName; 3] = [CipherName::BfCbc, CipherName::Cast5Cbc, CipherName::DesEde3Cbc];

/// Lists the ciphers; `legacy`: also those of the legacy provider.
pub(super) fn ciphers(legacy: bool) -> String {
    let mut text = String::from(
        "The following ciphers and cipher modes are available for use\n\
         with OpenVPN.  Each cipher shown below may be used as a\n\
         parameter to the --data-ciphers (or --cipher) option.\n\n",
    );
    CIPHERS.into_iter().for_each(|cipher| text += &line(cipher, "128"));
    text += "\nThe following ciphers have a block size of less than 128 bits, \n\
             and are therefore deprecated.  Do not use unless you have to.\n\n";
    SHORT_BLOCKS
        .into_iter()
        .filter(|cipher| is_there(*cipher, legacy))
        .for_each(|cipher| text += &line(cipher, "64"));
    text + "\n"
}

fn line(cipher: CipherName, block: &str) -> String {
    let bits = cipher.key_len() * 8;
    let kind = match cipher {
        CipherName::ChaCha20Poly1305 => "stream cipher".to_owned(),
        _ => format!("{block} bit block"),
    };
    // A static key could do without TLS, with CBC.
    let mode = if cipher.padded_block().is_some() { "" } else { ", TLS client/server mode only" };
    format!("{cipher}  ({bits} bit key, {kind}{mode})\n")
}

/// Whether data can be carried with this cipher, with or without `providers legacy`.
pub(super) fn is_there(cipher: CipherName, legacy: bool) -> bool {
    CIPHERS.contains(&cipher) || SHORT_BLOCKS.contains(&cipher) && (legacy || !cipher.needs_opt_in())
}

pub(super) fn digests() -> String {
    let mut text = String::from(
        "The following message digests are available for use with\n\
         OpenVPN.  A message digest is used in conjunction with\n\
         the HMAC function, to authenticate received packets.\n\
         You can specify a message digest as parameter to\n\
         the --auth option.\n\n",
    );
    for digest in AuthDigest::ALL {
        text += &format!("{digest} {} bit digest size\n", digest.len() * 8);
    }
    text + "\n"
}

pub(super) fn tls() -> String {
    format!(
        "Available TLS Ciphers, listed in order of preference:\n\n\
         For TLS 1.3 and newer (--tls-ciphersuites):\n\n{}\n\n\
         For TLS 1.2 and older (--tls-cipher):\n\n{}\n\n\
         Be aware that that whether a cipher suite in this list can actually work\n\
         depends on the specific setup of both peers. See the man page entries of\n\
         --tls-cipher and --show-tls for more details.\n\n",
        tls_1_3_suites().join("\n"),
        tls_1_2_suites().join("\n"),
    )
}

pub(super) fn groups() -> String {
    format!("Available Elliptic curves/groups:\n{}\n\n", group_names().join("\n"))
}

pub(super) fn engines() -> String {
    "OpenSSL Crypto Engines\n\nnone: this build has no OpenSSL\n".to_owned()
}
