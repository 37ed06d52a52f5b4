//! culvert's own options: how the data plane is chosen, who may log in. OpenVPN knows none of them.

use super::*;
use crate::profile::{ExitCodes, OffloadChoice, OffloadPolicy};

pub(super) const ROWS: &[OptionRow] = &[
    row(
        "offload",
        "auto|kernel|engine",
        "who carries data packets: the kernel where it can, the kernel or nobody, culvert's own engine",
    )
    .group(Group::Offload)
    .default("auto")
    .offload(&[blocks(KERNEL, "it asks for the engine", "write offload auto")
        .when("engine", |p| p.process.offload == OffloadChoice::Engine)
        .note(Note::Silent)])
    .set(|d, a| {
        let choices = [
            ("auto", OffloadChoice::Auto),
            ("kernel", OffloadChoice::Kernel),
            ("engine", OffloadChoice::Engine),
        ];
        let wrong = |word: &str| format!("--offload must be 'auto', 'kernel' or 'engine', not '{word}'");
        d.profile.process.offload = a.one_of(0, &choices, wrong)?;
        Ok(())
    }),
    row(
        "offload-policy",
        "safe|fast",
        "safe: on kernels with a known defect peers over TCP are carried by the engine; fast: never mind",
    )
    .group(Group::Offload)
    .default("safe")
    .set(|d, a| {
        let choices = [("safe", OffloadPolicy::Safe), ("fast", OffloadPolicy::Fast)];
        let wrong = |word: &str| format!("--offload-policy must be 'safe' or 'fast', not '{word}'");
        d.profile.process.offload_policy = a.one_of(0, &choices, wrong)?;
        Ok(())
    }),
    row(
        "exit-codes",
        "openvpn|distinct",
        "openvpn: exit status 0 or 1; distinct: also 3 for a refused login, 4 for no answer, 5 for failed TLS",
    )
    .group(Group::Offload)
    .default("openvpn")
    .set(|d, a| {
        let choices = [("openvpn", ExitCodes::OpenVpn), ("distinct", ExitCodes::Distinct)];
        let wrong = |word: &str| format!("--exit-codes must be 'openvpn' or 'distinct', not '{word}'");
        d.profile.process.exit_codes = a.one_of(0, &choices, wrong)?;
        Ok(())
    }),
    row("kill-switch", "", "nothing leaves this machine outside of the tunnel while it is meant to be up")
        .group(Group::Offload)
        .roles(CALLER)
        .default("off")
        .rules(&[Rule::NotOnServer])
        .set(|d, _| {
            d.profile.link.kill_switch = true;
            Ok(())
        }),
    row("auth-users", "FILE", "check logins against this file of users; `culvert passwd` writes it")
        .live()
        .group(Group::Offload)
        .roles(SERVER)
        .default("off")
        .rules(&[Rule::ServerOnly])
        .set(|d, a| {
            d.profile.server.auth_users = Some(a.path(0));
            Ok(())
        }),
];
