//! Own certificate and key, control channel keys, and the times of TLS sessions.

use super::*;
use crate::{
    args::{Problem, problem},
    profile::{CertProfile, Dh, TlsCryptV2, TlsVersion},
    value::FileOrInline,
};

pub(super) const ROWS: &[OptionRow] = &[
    row("tls-server", "", "take the TLS server role").group(Group::Tls).set(|d, _| {
        d.tls_roles.0 = true;
        Ok(())
    }),
    row("tls-client", "", "take the TLS client role")
        .group(Group::Tls)
        .roles(CALLER)
        .offload(&[blocks(
            KERNEL,
            "without TLS there are no keys for the kernel",
            "write tls-client or tls-server",
        )
        .presence(Presence::Missing)
        .when("not written, nor tls-server", |p| p.tls.role.is_none())
        .note(Note::Lines(&[
            "No tls-client or tls-server option in configuration detected. Disabling data channel offload.",
        ]))])
        .set(|d, _| {
            d.tls_roles.1 = true;
            Ok(())
        }),
    row("ca", "FILE", "trusted CA certificates").live_tls().group(Group::Tls).also(INLINE).set(|d, a| {
        d.profile.tls.ca = Some(a.material());
        Ok(())
    }),
    row("capath", "DIR", "directory of hashed CA files and CRLs").live().group(Group::Tls).set(|d, a| {
        d.profile.tls.capath = Some(a.path(0));
        Ok(())
    }),
    row("cert", "FILE|URI", "own certificate").live_tls().group(Group::Tls).also(INLINE).set(|d, a| {
        d.profile.tls.cert = Some(a.material());
        Ok(())
    }),
    row("key", "FILE|URI", "own private key").live_tls().group(Group::Tls).also(INLINE).set(|d, a| {
        d.profile.tls.key = Some(a.material());
        Ok(())
    }),
    row("extra-certs", "FILE", "intermediate certificates").live_tls().group(Group::Tls).also(INLINE).set(
        |d, a| {
            d.profile.tls.extra_certs = Some(a.material());
            Ok(())
        },
    ),
    row("pkcs12", "FILE", "key, certificate and CA in one file").group(Group::Tls).live().also(INLINE).set(
        |d, a| {
            d.profile.tls.pkcs12 = Some(a.material());
            Ok(())
        },
    ),
    row(
        "dh",
        "FILE|none",
        "finite-field DH parameters; read and not needed, as every peer since 2.4 agrees \
                on keys by elliptic curves",
    )
    .group(Group::Tls)
    .roles(SERVER)
    .also(INLINE)
    .default("none")
    .set(|d, a| {
        d.profile.tls.dh = Some(match a.material() {
            FileOrInline::File(path) if path.as_os_str() == "none" => Dh::None,
            material => Dh::Parameters(material),
        });
        Ok(())
    }),
    row("askpass", "[FILE]", "passphrase of the private key").group(Group::Tls).default("ask").set(|d, a| {
        let file = a.get(0).filter(|path| *path != "stdin").map(|path| FileOrInline::File(path.into()));
        d.profile.tls.askpass = Some(file);
        Ok(())
    }),
    row("tls-version-min", "1.0|1.1|1.2|1.3 [or-highest]", "lowest TLS version")
        .live_tls()
        .group(Group::Tls)
        .default("1.2")
        .set(|d, a| {
            let or_highest = a.get(1) == Some("or-highest");
            let min = match tls_version(a.str(0)) {
                Some(version) => version,
                None if or_highest => TlsVersion::V1_3,
                None => {
                    let text = format!("unknown tls-version-min parameter: {}", a.str(0));
                    return Err(problem(text).at(0).remedy("write 1.0, 1.1, 1.2 or 1.3"));
                }
            };
            d.profile.tls.version_min = Some(min);
            d.profile.tls.version_min_or_highest = or_highest;
            Ok(())
        }),
    row("tls-version-max", "1.0|1.1|1.2|1.3", "highest TLS version")
        .live_tls()
        .group(Group::Tls)
        .default("highest")
        .set(|d, a| {
            let version = tls_version(a.str(0)).ok_or_else(|| {
                problem(format!("unknown tls-version-max parameter: {}", a.str(0)))
                    .at(0)
                    .remedy("write 1.0, 1.1, 1.2 or 1.3")
            })?;
            d.profile.tls.version_max = Some(version);
            Ok(())
        }),
    row("tls-cipher", "LIST", "TLS 1.2 suites").live_tls().group(Group::Tls).default("library default").set(
        |d, a| {
            d.profile.tls.cipher_list = Some(a.string(0));
            Ok(())
        },
    ),
    row("tls-ciphersuites", "LIST", "TLS 1.3 suites")
        .live_tls()
        .group(Group::Tls)
        .default("library default")
        .set(|d, a| {
            d.profile.tls.ciphersuites = Some(a.string(0));
            Ok(())
        }),
    row("tls-groups", "LIST", "key exchange groups incl. hybrid post-quantum")
        .live_tls()
        .group(Group::Tls)
        .default("library default")
        .set(|d, a| {
            d.profile.tls.groups = Some(a.string(0));
            Ok(())
        }),
    row("ecdh-curve", "NAME", "force one curve; tls-groups is preferred")
        .live_tls()
        .group(Group::Tls)
        .default("auto")
        .set(|d, a| {
            d.warn(
                "Consider setting groups/curves preference with tls-groups instead of forcing a \
                specific curve with ecdh-curve.",
            );
            d.profile.tls.ecdh_curve = Some(a.string(0));
            Ok(())
        }),
    row("tls-cert-profile", "insecure|legacy|preferred|suiteb", "strength floor for certificates")
        .live_tls()
        .group(Group::Tls)
        .default("legacy")
        .set(|d, a| {
            let choices = [
                ("insecure", CertProfile::Insecure),
                ("legacy", CertProfile::Legacy),
                ("preferred", CertProfile::Preferred),
                ("suiteb", CertProfile::SuiteB),
            ];
            d.profile.tls.cert_profile = a
                .one_of(0, &choices, |word| format!("Invalid --tls-cert-profile: {word}"))
                .map_err(Problem::late)?;
            Ok(())
        }),
    row("tls-auth", "FILE [DIRECTION]", "authenticate control packets with a shared key")
        .group(Group::Tls)
        .also(CONNECTION)
        .also(INLINE)
        .set(|d, a| {
            let direction = a.get(1).map(|_| a.direction(1)).transpose()?;
            if d.in_connection {
                d.ce.entry.tls_auth = Some(a.material());
                d.ce.entry.key_direction = direction;
            } else {
                d.wrap.tls_auth = Some(a.material());
                d.wrap.key_direction = direction.or(d.wrap.key_direction);
            }
            Ok(())
        }),
    row(
        "tls-crypt",
        "FILE [DIRECTION]",
        "encrypt and authenticate control packets with a shared key; a direction is ignored",
    )
    .group(Group::Tls)
    .also(CONNECTION)
    .also(INLINE)
    .set(|d, a| {
        if d.in_connection {
            d.ce.entry.tls_crypt = Some(a.material());
        } else {
            d.wrap.tls_crypt = Some(a.material());
        }
        Ok(())
    }),
    row("tls-crypt-v2", "FILE [force-cookie|allow-noncookie]", "per-client control channel key")
        .group(Group::Tls)
        .also(CONNECTION)
        .also(INLINE)
        .default("allow-noncookie")
        .set(|d, a| {
            let force_cookie = match a.get(1) {
                None | Some("allow-noncookie") => false,
                Some("force-cookie") => true,
                Some(word) => return Err(problem(format!("Unsupported tls-crypt-v2 argument: {word}")).at(1)),
            };
            let value = Some(TlsCryptV2 { key: a.material(), force_cookie });
            if d.in_connection {
                d.ce.entry.tls_crypt_v2 = value;
            } else {
                d.wrap.tls_crypt_v2 = value;
            }
            Ok(())
        }),
    row("tls-crypt-v2-max-age", "DAYS", "refuse client keys older than this")
        .group(Group::Tls)
        .roles(SERVER)
        .default("off")
        .arity(1, 15)
        .set(|d, a| {
            d.profile.tls.tls_crypt_v2_max_age = Some(a.within(0, a.name, 1..=i32::MAX)?);
            Ok(())
        }),
    row("key-direction", "0|1", "which half of a static key each side uses")
        .group(Group::Tls)
        .also(CONNECTION)
        .default("bidirectional")
        .set(|d, a| {
            let direction = Some(a.direction(0)?);
            if d.in_connection {
                d.ce.entry.key_direction = direction;
            } else {
                d.wrap.key_direction = direction;
            }
            Ok(())
        }),
    row("tls-timeout", "SECONDS", "control packet retransmit start value")
        .live()
        .group(Group::Tls)
        .default("2")
        .set(|d, a| {
            d.profile.session.tls_timeout = a.secs(0)?;
            Ok(())
        }),
    row("hand-window", "SECONDS", "time allowed for a key exchange")
        .live()
        .group(Group::Tls)
        .default("60")
        .set(|d, a| {
            d.profile.session.hand_window = a.secs(0)?;
            Ok(())
        }),
    row("tran-window", "SECONDS", "old key stays valid this long")
        .live()
        .group(Group::Tls)
        .default("3600")
        .set(|d, a| {
            d.profile.session.tran_window = a.secs(0)?;
            Ok(())
        }),
    row("reneg-sec", "MAX [MIN]", "renegotiate after this time; 0 turns off")
        .live()
        .group(Group::Tls)
        .default("3600, server min 90%")
        .set(|d, a| {
            d.profile.session.reneg = read::off_or_secs(a)?;
            if a.get(1).is_some() {
                d.profile.session.reneg_min = Some(a.secs(1)?);
            }
            Ok(())
        }),
    row("reneg-bytes", "N", "renegotiate after N bytes")
        .live()
        .group(Group::Tls)
        .default("off (64 MB for 64-bit block ciphers)")
        .offload(&[kept(KERNEL, "the kernel's counters are read")
            .when("other than 0", |p| p.session.reneg_bytes.is_some_and(|n| n > 0))
            .note(RENEG_NOTE)])
        .set(|d, a| {
            d.profile.session.reneg_bytes = Some(a.long(0)?);
            Ok(())
        }),
    row("reneg-pkts", "N", "renegotiate after N packets")
        .live()
        .group(Group::Tls)
        .default("off")
        .offload(&[kept(KERNEL, "the kernel's counters are read")
            .when("other than 0", |p| p.session.reneg_packets > 0)
            .note(RENEG_NOTE)])
        .set(|d, a| {
            d.profile.session.reneg_packets = a.long(0)?;
            Ok(())
        }),
    row("tls-exit", "", "exit when negotiation fails").group(Group::Tls).default("off").set(|d, _| {
        d.profile.tls.exit_on_failure = true;
        Ok(())
    }),
    row("single-session", "", "accept only one session, then refuse")
        .group(Group::Tls)
        .roles(P2P)
        .default("off")
        .set(|d, _| {
            d.profile.tls.single_session = true;
            Ok(())
        }),
    row(
        "keying-material-exporter",
        "LABEL LEN",
        "export TLS key material to plug-ins, label must start with EXPORTER",
    )
    .group(Group::Tls)
    .arity(2, 15)
    .set(|d, a| {
        let label = a.str(0);
        if !label.starts_with("EXPORTER") {
            return Err(problem("Keying material exporter label must begin with \"EXPORTER\"").at(0));
        }
        if label == DATA_KEYS_LABEL {
            return Err(
                problem(format!("Keying material exporter label must not be '{DATA_KEYS_LABEL}'.")).at(0)
            );
        }
        let len = u16::try_from(a.within(1, a.name, 16..=4095)?).unwrap_or(16);
        d.profile.tls.keying_material_exporter = Some((label.to_owned(), len));
        Ok(())
    }),
];

/// The label by which data keys are exported; nobody else may use it.
const DATA_KEYS_LABEL: &str = "EXPORTER-OpenVPN-datakeys";

const RENEG_NOTE: Note = Note::Lines(&[
    "Note: '--reneg-bytes' and '--reneg-pkts' are not supported by data channel offload; automatic key renegotiation \
     mechanisms are sufficient for modern ciphers. Ignoring these options.",
]);

fn tls_version(word: &str) -> Option<TlsVersion> {
    match word {
        "1.0" => Some(TlsVersion::V1_0),
        "1.1" => Some(TlsVersion::V1_1),
        "1.2" => Some(TlsVersion::V1_2),
        "1.3" => Some(TlsVersion::V1_3),
        _ => None,
    }
}
