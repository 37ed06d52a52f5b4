//! `--show-…`: what this build can do, in OpenVPN's form: scripts drop the first paragraph and cut each line at its first
//! blank.

use culvert_crypto::AuthDigest;
use culvert_proto::tls::{group_names, tls_1_2_suites, tls_1_3_suites};
use culvert_wire::CipherName;

/// The ciphers that data can be carried with.
pub(super) const CIPHERS: [CipherName; 4] =
    [CipherName::Aes128Gcm, CipherName::Aes192Gcm, CipherName::Aes256Gcm, CipherName::ChaCha20Poly1305];

pub(super) fn ciphers() -> String {
    let mut text = String::from(
        "The following ciphers and cipher modes are available for use\n\
         with OpenVPN.  Each cipher shown below may be used as a\n\
         parameter to the --data-ciphers (or --cipher) option.\n\n",
    );
    for cipher in CIPHERS {
        let bits = cipher.key_len() * 8;
        let block = if cipher.is_gcm() { "128 bit block" } else { "stream cipher" };
        text += &format!("{cipher}  ({bits} bit key, {block}, TLS client/server mode only)\n");
    }
    text + "\n"
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
