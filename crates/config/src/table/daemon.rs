//! What the process does to itself.

use super::*;
use crate::{effect::ParseEffect, profile::RemapUsr1};

pub(super) const ROWS: &[OptionRow] = &[
row("daemon", "[NAME]", "detach and log to syslog under NAME")
.group(Group::Daemon)
.default("off")
.set(|d, a| {
    let name = a.get(0).unwrap_or("openvpn");
    if d.profile.process.daemon.is_none() {
        d.profile.process.daemon = Some(name.to_owned());
        d.effect(ParseEffect::Daemon(name.to_owned()));
    } else if a.get(0).is_some() {
        d.warn(format!(
            "WARNING: Multiple --daemon directives specified, ignoring --daemon {name}. (Note that initscripts sometimes \
             add their own --daemon directive.)"
        ));
    }
    Ok(())
}),
row("cd", "DIR", "change directory before reading further files").frame()
.group(Group::Daemon)
.set(|d, a| {
    d.change_directory = Some(a.path(0));
    Ok(())
}),
row("user", "NAME", "drop to this user after initialisation")
.group(Group::Daemon)
.set(|d, a| {
    d.profile.process.user = Some(a.string(0));
    Ok(())
}),
row("group", "NAME", "drop to this group after initialisation")
.group(Group::Daemon)
.set(|d, a| {
    d.profile.process.group = Some(a.string(0));
    Ok(())
}),
row("chroot", "DIR", "change root after initialisation")
.group(Group::Daemon)
.set(|d, a| {
    d.profile.process.chroot = Some(a.path(0));
    Ok(())
}),
row("setcon", "CONTEXT", "apply an SELinux context after initialisation")
.group(Group::Daemon)
.set(|d, a| {
    d.profile.process.setcon = Some(a.string(0));
    Ok(())
}),
row("writepid", "FILE", "write the process id")
.group(Group::Daemon)
.set(|d, a| {
    d.profile.process.writepid = Some(a.path(0));
    Ok(())
}),
row("mlock", "", "lock memory against paging")
.group(Group::Daemon)
.default("off")
.set(|d, _| {
    d.profile.process.mlock = true;
    Ok(())
}),
row("nice", "N", "process priority")
.group(Group::Daemon)
.default("0")
.set(|d, a| {
    d.profile.process.nice = Some(a.signed(0)?);
    Ok(())
}),
row("remap-usr1", "SIGHUP|SIGTERM", "turn soft restarts into a full restart or exit")
.group(Group::Daemon)
.default("off")
.set(|d, a| {
    let choices = [("SIGHUP", RemapUsr1::Hup), ("SIGTERM", RemapUsr1::Term)];
    let wrong = |_: &str| "--remap-usr1 parm must be 'SIGHUP' or 'SIGTERM'".to_owned();
    d.profile.process.remap_usr1 = Some(a.one_of(0, &choices, wrong)?);
    Ok(())
}),
];
