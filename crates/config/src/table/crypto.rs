//! How data packets are protected.

use culvert_wire::CipherName;

use super::*;
use crate::{
    args::{Args, Problem, Set, problem},
    ccd::ClientOverrides,
    cipher_list,
    draft::Draft,
    files::Access,
    profile::{AllowCompression, Mode},
    value::Compression,
};

pub(super) const ROWS: &[OptionRow] = &[
    row("auth", "DIGEST", "HMAC for CBC data packets and tls-auth; not used with AEAD")
        .group(Group::Crypto)
        .default("SHA1")
        .set(|d, a| {
            d.auth = Some(a.string(0));
            Ok(())
        }),
    row("cipher", "NAME", "fallback name for old peers; only a hint in TLS mode")
        .live()
        .group(Group::Crypto)
        .also(CCD)
        .default("BF-CBC (p2p legacy)")
        .offload(&[OTHER_FALLBACK])
        .set(|d, a| {
            d.cipher = Some(a.string(0));
            Ok(())
        })
        .client(|c, a| {
            c.cipher = Some(known_cipher(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.cipher = a.str(0).parse().ok();
            p.pushed.unknown_cipher = p.pushed.cipher.is_none().then(|| a.string(0));
            Ok(())
        }),
    row("data-ciphers-fallback", "NAME", "cipher for peers that cannot negotiate")
        .live()
        .group(Group::Crypto)
        .also(CCD)
        .default("off")
        .offload(&[OTHER_FALLBACK])
        .set(|d, a| {
            d.cipher = Some(a.string(0));
            d.fallback = true;
            Ok(())
        })
        .client(|c, a| {
            c.cipher = Some(known_cipher(a)?);
            c.fallback = true;
            Ok(())
        }),
    row("data-ciphers", "A:B:?C|DEFAULT", "ciphers that may be negotiated")
        .live()
        .group(Group::Crypto)
        .also(CCD)
        .default("AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305")
        .offload(&[OTHER_MEMBER])
        .set(|d, a| {
            d.data_ciphers = Some(a.string(0));
            Ok(())
        })
        .client(own_ciphers),
    row("ncp-ciphers", "A:B:?C|DEFAULT", "old name of data-ciphers, still honoured")
        .live()
        .group(Group::Crypto)
        .also(CCD)
        .offload(&[OTHER_MEMBER])
        .set(|d, a| {
            d.warn("Note: Treating option '--ncp-ciphers' as  '--data-ciphers' (renamed in OpenVPN 2.5).");
            d.data_ciphers = Some(a.string(0));
            Ok(())
        })
        .client(own_ciphers),
    row("comp-lzo", "[no|yes|adaptive]", "LZO framing; never compresses when sending since 2.7")
        .group(Group::Crypto)
        .default("off")
        .offload(&[FRAMED])
        .set(|d, a| {
            d.compress(read::comp_lzo(a)?);
            Ok(())
        })
        .pushed(|p, a| {
            p.pushed.compression = Some(read::comp_lzo(a)?);
            Ok(())
        })
        .also(CCD),
    row(
        "compress",
        "[stub|stub-v2|lzo|lz4|lz4-v2|migrate]",
        "compression framing; migrate lets a server move clients off it",
    )
    .group(Group::Crypto)
    .default("off; stub")
    .offload(&[FRAMED, MIGRATED])
    .set(|d, a| {
        d.compress(read::compress(a)?);
        Ok(())
    })
    .pushed(|p, a| {
        p.pushed.compression = Some(read::compress(a)?);
        Ok(())
    })
    .also(CCD),
    row("allow-compression", "no|asym|yes", "whether compression framing may be used")
        .group(Group::Crypto)
        .default("no")
        .offload(&[per_peer(
            KERNEL,
            "the kernel knows no compression framing: a peer that comes to have it is left to the engine",
            "write allow-compression no",
        )
        .when("asym or yes", |p| p.data.allow_compression != AllowCompression::No)
        .note(COMPRESSION_NOTE)])
        .set(allow_compression),
    row("replay-window", "[N [SECONDS]]", "replay window, 1..65536 packets, 0..600 s")
        .group(Group::Crypto)
        .default("64 15")
        .offload(&[
            ignores(LINUX, "the window of the module for data packets is fixed: 2048 packets, 30 s", ""),
            ignores(WINDOWS, "the window of the driver for data packets is fixed", ""),
        ])
        .set(|d, a| {
            if a.get(0).is_none() {
                return Err(problem("replay-window option is missing window size parameter")
                    .remedy("write the size, as in 64"));
            }
            let size = a.within(0, "replay-window windows size", 0..=65_536)?;
            let secs = match a.get(1) {
                Some(_) => a.within(1, "replay-window time window", 0..=600)?,
                None => d.profile.data.replay_window.map_or(15, |(_, secs)| secs),
            };
            d.profile.data.replay_window = Some((size, secs));
            Ok(())
        }),
    row("mute-replay-warnings", "", "do not log replay drops")
        .group(Group::Crypto)
        .default("off")
        .status(Status::NoEffect("replayed packets are counted, not logged")),
    row("replay-persist", "FILE", "keep replay state over restarts")
        .group(Group::Crypto)
        .roles(P2P)
        .status(Status::NoEffect("replayed packets of another session never pass"))
        .set(|d, a| {
            d.other_files.push(("--replay-persist", a.path(0), Access::Write));
            Ok(())
        }),
    row("force-tls-key-material-export", "", "refuse clients that cannot do TLS export")
        .group(Group::Crypto)
        .roles(SERVER)
        .default("off")
        .arity(0, 15)
        .rules(&[Rule::ServerOnly])
        .set(|d, _| {
            d.profile.data.force_tls_export = true;
            Ok(())
        }),
    row("engine", "[NAME]", "OpenSSL engine")
        .group(Group::Crypto)
        .default("off; auto")
        .status(Status::NoEffect("there are no engines in the TLS library")),
    row(
        "providers",
        "NAME...",
        "OpenSSL 3 providers; `legacy` permits BF-CBC and CAST5-CBC, others have no effect",
    )
    .group(Group::Crypto)
    .also(FORGOTTEN)
    .default("default")
    .set(|d, a| {
        d.profile.data.legacy_provider |= a.words.iter().any(|word| word.text == "legacy");
        Ok(())
    })
    .also(CCD),
];

/// `data-ciphers` in the file of one client.
fn own_ciphers(c: &mut ClientOverrides, a: &Args<'_>) -> Set {
    c.data_ciphers =
        Some(cipher_list::parse(a.str(0)).map_err(|failure| problem(failure.to_string()).at(0))?);
    Ok(())
}

/// A cipher in the file of one client.
fn known_cipher(a: &Args<'_>) -> Result<CipherName, Problem> {
    let name = a.str(0);
    name.parse().map_err(|_| problem(format!("Unsupported cipher: {name}")).at(0))
}

/// A member of `data-ciphers` that kernels do not have.
pub(super) const OTHER_MEMBER: Effect = per_peer(
    KERNEL,
    "the kernel has AEAD ciphers only: a peer with another one is left to the engine",
    "list AEAD ciphers only",
)
.when("a cipher without AEAD", |p| other_member(p).is_some())
.note(Note::Made(|p| {
    let line = |cipher: CipherName| {
        format!(
            "Note: cipher '{cipher}' in --data-ciphers is not supported by ovpn-dco, disabling data channel offload."
        )
    };
    other_member(p).map(line).into_iter().collect()
}));

/// A fallback that kernels do not have.
const OTHER_FALLBACK: Effect = per_peer(
    KERNEL,
    "the kernel has AEAD ciphers only: a peer that cannot negotiate one is left to the engine",
    "remove it once no peer is older than 2.4",
)
.when("a cipher without AEAD", |p| other_fallback(p).is_some())
.note(Note::Made(|p| {
    let line = |cipher: CipherName| {
        format!("Note: --data-ciphers-fallback with cipher '{cipher}' disables data channel offload.")
    };
    other_fallback(p).map(line).into_iter().collect()
}));

/// Returns the first of the ciphers to negotiate that is not AEAD.
pub(super) fn other_member(profile: &Profile) -> Option<CipherName> {
    profile.data.ciphers.list.iter().copied().find(|cipher| !cipher.is_aead())
}

fn other_fallback(profile: &Profile) -> Option<CipherName> {
    profile.data.ciphers.fallback.filter(|cipher| !cipher.is_aead())
}

/// Framing of packets between culvert and every peer. That of `stub-v2` shows on no IP packet.
const FRAMED: Effect = blocks(
    KERNEL,
    "the kernel knows no compression framing",
    "remove it on both ends, or use compress migrate on the server",
)
.when("framing", |p| {
    !matches!(p.data.compression, Compression::Off | Compression::StubV2 | Compression::Migrate)
})
.note(COMPRESSION_NOTE);

/// Framing of some peers, for a while.
const MIGRATED: Effect = per_peer(
    KERNEL,
    "a client that still has compression framing is left to the engine until it was moved off it",
    "",
)
.when("migrate, on a server", |p| p.data.compression == Compression::Migrate && p.mode == Mode::Server);

const COMPRESSION_NOTE: Note = Note::Made(|p| {
    let mut lines =
        vec!["Note: '--allow-compression' is not set to 'no', disabling data channel offload.".to_owned()];
    if p.mode == Mode::Server && p.data.compression != Compression::Migrate {
        lines.push("Consider using the '--compress migrate' option.".to_owned());
    }
    lines
});

/// `allow-compression no|asym|yes`: once refused, it stays so.
fn allow_compression(d: &mut Draft, a: &Args<'_>) -> Set {
    let choices = [("no", "no"), ("asym", "asym"), ("yes", "yes")];
    let wrong =
        |word: &str| format!("bad allow-compression option: {word} -- must be 'yes', 'no', or 'asym'");
    let word = a.one_of(0, &choices, wrong)?;
    match (word, d.allow_compression) {
        ("no", _) if d.profile.data.compression.expects_compressed() => {
            return Err(problem("'--allow-compression no' conflicts with  enabling compression").at(0));
        }
        ("asym" | "yes", Some("no")) => {
            return Err(problem(format!("Cannot set allow-compression to '{word}' after set to 'no'")).at(0));
        }
        ("yes", _) => d.warn(
            "DEPRECATED OPTION: \"--allow-compression yes\" has been removed. We will use \"asym\" mode instead. See the \
             manual page for more information.",
        ),
        _ => {}
    }
    d.allow_compression = Some(word);
    d.profile.data.allow_compression =
        if word == "no" { AllowCompression::No } else { AllowCompression::Asym };
    Ok(())
}
