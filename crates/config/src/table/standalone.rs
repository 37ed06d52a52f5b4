//! Questions and commands: options that are answered instead of running.

use std::path::PathBuf;

use super::*;
use crate::{GenKey, GenKeyKind, Question};

pub(super) const ROWS: &[OptionRow] = &[
    row("help", "", "print option summary and exit with status 1")
        .group(Group::Standalone)
        .roles(COMMAND)
        .arity(0, 15)
        .set(|d, _| {
            d.ask(Question::Help);
            Ok(())
        }),
    row("version", "", "print version, library and offload versions, exit 0")
        .group(Group::Standalone)
        .roles(COMMAND)
        .set(|d, _| {
            d.ask(Question::Version);
            Ok(())
        }),
    row("show-gateway", "[ADDR]", "print default route, or the route to ADDR")
        .group(Group::Standalone)
        .roles(COMMAND)
        .set(|d, a| {
            d.ask(Question::ShowGateway(a.get(0).and_then(|address| address.parse().ok())));
            Ok(())
        }),
    row("show-ciphers", "", "list data ciphers").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowCiphers);
        Ok(())
    }),
    row("show-digests", "", "list digests").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowDigests);
        Ok(())
    }),
    row("show-engines", "", "list crypto engines").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowEngines);
        Ok(())
    }),
    row("show-tls", "", "list TLS cipher suites").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowTls);
        Ok(())
    }),
    row("show-curves", "", "list key exchange groups").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowGroups);
        Ok(())
    }),
    row("show-groups", "", "same as show-curves").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::ShowGroups);
        Ok(())
    }),
    row("mktun", "", "create a persistent device")
        .group(Group::Standalone)
        .roles(COMMAND)
        .offload(&[blocks(
            KERNEL,
            "a device of the kernel's offload is made when a tunnel starts",
            "remove it",
        )
        .note(Note::Lines(&["Note: --mktun does not support DCO. Creating TUN interface."]))])
        .set(|d, _| {
            d.ask(Question::MkTun);
            Ok(())
        }),
    row("rmtun", "", "remove a persistent device").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::RmTun);
        Ok(())
    }),
    row("test-crypto", "", "crypto self-test").group(Group::Standalone).roles(COMMAND).set(|d, _| {
        d.ask(Question::TestCrypto);
        Ok(())
    }),
    row("genkey", "[KIND [FILE [METADATA]]]", "make a key file")
        .group(Group::Standalone)
        .roles(COMMAND)
        .default("secret to stdout")
        .set(|d, a| {
            let choices = [
                ("secret", GenKeyKind::Static),
                ("tls-auth", GenKeyKind::Static),
                ("tls-crypt", GenKeyKind::Static),
                ("tls-crypt-v2-server", GenKeyKind::TlsCryptV2Server),
                ("tls-crypt-v2-client", GenKeyKind::TlsCryptV2Client),
                ("auth-token", GenKeyKind::AuthToken),
            ];
            let kind = match a.get(0) {
                None => GenKeyKind::Static,
                Some(_) => a.one_of(0, &choices, |word| format!("unknown --genkey type: {word}"))?,
            };
            let path = a.get(1).map(PathBuf::from);
            d.ask(Question::GenKey(GenKey { kind, path, metadata: a.get(2).map(str::to_owned) }));
            Ok(())
        }),
    row("show-pkcs11-ids", "[PROVIDER] [LOGIN]", "list token certificates")
        .group(Group::Standalone)
        .roles(COMMAND)
        .set(|d, a| {
            // One word alone may be the module or the number.
            let number = |index: usize| a.get(index).and_then(|word| word.parse::<i32>().ok());
            let (module, login) = match (a.get(0), a.get(1), number(0)) {
                (_, None, Some(login)) => (None, login),
                (module, None, None) => (module, 0),
                (module, Some(_), _) => (module, a.signed(1)?),
            };
            d.ask(Question::ShowPkcs11Ids { module: module.map(PathBuf::from), login: login != 0 });
            Ok(())
        }),
];
