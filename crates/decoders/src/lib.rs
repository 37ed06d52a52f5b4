//! Every decoder of foreign bytes, as one table (SEC-PARSE-1). A development tool, not part of the program.
//!
//! [`DECODERS`] names a function for each decoder. A function takes any bytes, decodes them, and checks what must hold
//! for whatever is accepted; it panics when that does not hold, and the decoders themselves must never. `fuzz/` has
//! one target per row; the tests here feed each row random bytes, and known good ones with random damage.
//!
//! A new decoder gets a row here and a file in `fuzz/fuzz_targets`; a test compares the two lists.

#![forbid(unsafe_code)]

mod config;
mod crypto;
mod engine;
mod mgmt;
mod proto;
mod proxy;
mod wire;

/// One decoder.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// Its name, also that of its fuzz target.
    pub name: &'static str,
    /// Decodes and checks.
    pub run: fn(&[u8]),
    /// Accepted inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "control_packet", run: wire::control_packet, seeds: wire::control_packets },
    Decoder { name: "data_packet", run: wire::data_packet, seeds: wire::data_packets },
    Decoder { name: "tcp_frames", run: wire::tcp_frames, seeds: wire::tcp_streams },
    Decoder { name: "tls_auth", run: proto::tls_auth, seeds: proto::tls_auth_packets },
    Decoder { name: "tls_crypt", run: proto::tls_crypt, seeds: proto::tls_crypt_packets },
    Decoder { name: "endpoint", run: proto::endpoint, seeds: proto::first_packets },
    Decoder { name: "key_message", run: culvert_proto::decoders::key_message, seeds: proto::key_messages },
    Decoder {
        name: "control_messages",
        run: culvert_proto::decoders::control_messages,
        seeds: proto::control_messages,
    },
    Decoder { name: "peer_info", run: proto::peer_info, seeds: proto::peer_infos },
    Decoder { name: "options_string", run: proto::options_string, seeds: proto::options_strings },
    Decoder { name: "key_files", run: proto::key_files, seeds: proto::key_file_texts },
    Decoder { name: "pkcs12", run: proto::pkcs12, seeds: proto::pkcs12_files },
    Decoder {
        name: "wrapped_client_key",
        run: crypto::wrapped_client_key,
        seeds: crypto::wrapped_client_keys,
    },
    Decoder { name: "auth_token", run: crypto::auth_token, seeds: crypto::auth_tokens },
    Decoder { name: "config_file", run: config::config_file, seeds: config::config_files },
    Decoder { name: "ccd_file", run: config::ccd_file, seeds: config::ccd_files },
    Decoder { name: "push_reply", run: config::push_reply, seeds: config::push_replies },
    Decoder { name: "push_update", run: config::push_update, seeds: config::push_updates },
    Decoder { name: "management", run: mgmt::management, seeds: mgmt::sessions },
    Decoder { name: "http_proxy", run: proxy::http, seeds: proxy::http_answers },
    Decoder { name: "socks_proxy", run: proxy::socks, seeds: proxy::socks_answers },
    Decoder { name: "socks_datagram", run: proxy::datagram, seeds: proxy::datagrams },
    Decoder { name: "joined_packets", run: engine::joined_packets, seeds: engine::packets_to_join },
    Decoder { name: "super_packet", run: engine::super_packet, seeds: engine::super_packets },
    Decoder { name: "ethernet_frame", run: engine::ethernet_frame, seeds: engine::ethernet_frames },
    Decoder { name: "old_wire", run: engine::old_wire, seeds: engine::old_wire_payloads },
    Decoder { name: "old_packet", run: engine::old_packet, seeds: engine::old_packets },
    Decoder { name: "rewritten_packet", run: engine::rewritten_packet, seeds: engine::packets_to_rewrite },
];

/// Runs the decoder of that name.
///
/// # Panics
/// When there is none, or when it found a defect.
pub fn run(name: &str, bytes: &[u8]) {
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    let Some(decoder) = decoder else { panic!("no decoder is named {name}") };
    (decoder.run)(bytes);
}

/// For decoders of text: what is not UTF-8 never reaches them.
fn as_text(bytes: &[u8], decode: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        decode(text);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_decoder_has_a_fuzz_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
        let targets: BTreeSet<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let decoders: BTreeSet<_> = DECODERS.iter().map(|decoder| decoder.name.to_owned()).collect();
        assert_eq!(targets, decoders);
    }

    #[test]
    fn the_seeds_pass() {
        for decoder in DECODERS {
            for seed in (decoder.seeds)() {
                (decoder.run)(&seed);
            }
        }
    }

    /// Damages a good input: bytes changed, a piece removed, repeated, or inserted.
    fn damage(mut bytes: Vec<u8>, steps: &[(u8, u16, u8, Vec<u8>)]) -> Vec<u8> {
        for (kind, at, value, piece) in steps {
            let at = usize::from(*at).checked_rem(bytes.len()).unwrap_or(0);
            let end = (at + usize::from(*value)).min(bytes.len());
            match kind % 4 {
                0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
                1 => drop(bytes.drain(at..end)),
                2 => bytes.extend_from_within(at..end),
                _ => drop(bytes.splice(at..at, piece.iter().copied())),
            }
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn sec_parse_1_random_bytes_do_not_break_any_decoder(
            bytes in prop::collection::vec(any::<u8>(), 0..1500),
            text in "[ -~\\n\\t\\r\\x00àß漢]{0,300}",
        ) {
            for decoder in DECODERS {
                (decoder.run)(&bytes);
                (decoder.run)(text.as_bytes());
            }
        }

        #[test]
        fn sec_parse_1_damaged_inputs_do_not_break_any_decoder(
            pick in any::<prop::sample::Index>(),
            steps in prop::collection::vec(
                (any::<u8>(), any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..8)),
                1..6,
            ),
        ) {
            for decoder in DECODERS {
                let seeds = (decoder.seeds)();
                if !seeds.is_empty() {
                    (decoder.run)(&damage(pick.get(&seeds).clone(), &steps));
                }
            }
        }
    }
}
