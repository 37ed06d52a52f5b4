//! `--show-…`: what this build can do, in OpenVPN's form: scripts drop the first paragraph and cut each line at its first
//! blank.

use culvert_crypto::AuthDigest;
use culvert_proto::tls::{group_names, tls_1_2_suites, tls_1_3_suites};
use culvert_wire::CipherName;

/// The ciphers that data can be carried with, by name, which `--test-crypto` passes; `legacy`: also those of the legacy
/// provider.
fn usable(legacy: bool) -> Vec<CipherName> {
    let mut ciphers: Vec<CipherName> =
        CipherName::all().filter(|cipher| *cipher != CipherName::None && is_there(*cipher, legacy)).collect();
    ciphers.sort_by_key(|cipher| cipher.as_str());
    ciphers
}

/// Whether data can be carried with this cipher, with or without `providers legacy`.
pub(super) const fn is_there(cipher: CipherName, legacy: bool) -> bool {
    legacy || !cipher.needs_opt_in()
}

/// Lists the ciphers; `legacy`: also those of the legacy provider.
pub(super) fn ciphers(legacy: bool) -> String {
    let mut text = String::from(
        "The following ciphers and cipher modes are available for use\n\
         with OpenVPN.  Each cipher shown below may be used as a\n\
         parameter to the --data-ciphers (or --cipher) option.\n\n",
    );
    let (small, usual): (Vec<CipherName>, Vec<CipherName>) =
        usable(legacy).into_iter().partition(|cipher| cipher.block_bits().is_some_and(|bits| bits < 128));
    for cipher in usual {
        text += &line(cipher);
    }
    text += "\nThe following ciphers have a block size of less than 128 bits, \n\
             and are therefore deprecated.  Do not use unless you have to.\n\n";
    for cipher in small {
        text += &line(cipher);
    }
    text + "\n"
}

fn line(cipher: CipherName) -> String {
    let bits = cipher.key_len() * 8;
    let block = cipher.block_bits().map_or("stream cipher".to_owned(), |bits| format!("{bits} bit block"));
    // A static key could do without TLS, with CBC.
    let limit = if cipher.padded_block().is_some() { "" } else { ", TLS client/server mode only" };
    format!("{cipher}  ({bits} bit key, {block}{limit})\n")
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
    "Sorry, OpenSSL hardware crypto engine functionality is not available.\n".to_owned()
}
