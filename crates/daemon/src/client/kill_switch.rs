//! `kill-switch`: nothing leaves this machine outside of the tunnel while it is meant to be up.
//!
//! The rules stand from the beginning of the first life to an end that was asked for. They outlive the process: what ends
//! it unasked (a signal that kills it, a refused login, an error) leaves them in force, and the log says how to lift them.

use std::net::{IpAddr, SocketAddr};

use culvert_config::{Profile, value::Family};
use culvert_host::{HostError, KillSwitch, KillSwitchHold, KillSwitchRules, Lookups, name_servers};

use crate::{exit::Ended, life::Life, link, ovlog, signals::Request};

/// The kill switch of this process, over its lives.
pub(crate) struct Guarded {
    switch: KillSwitch,
    rules: KillSwitchRules,
    /// Keeps `culvert unblock` away. `None` where another process has it: its refusal is as good.
    hold: Option<KillSwitchHold>,
}

impl Guarded {
    /// Brings it into force, or lifts that of a former life, as the profile says.
    ///
    /// # Errors
    /// When it cannot be had: then there shall be no tunnel either.
    pub(super) fn engage(life: &mut Life) -> Result<(), String> {
        let profile = std::sync::Arc::clone(&life.profile);
        let rules = match link::mark(&profile).filter(|_| profile.link.kill_switch) {
            Some(mark) => KillSwitchRules { mark, ..KillSwitchRules::default() },
            None => {
                match life.kill_switch.take() {
                    Some(mut former) => former.lift(),
                    None => warn_of_anothers(),
                }
                return Ok(());
            }
        };
        let failed =
            |failure: HostError| format!("--kill-switch cannot be had: {}", link::describe(&failure));
        let switch = KillSwitch::open().map_err(failed)?;
        let former = life.kill_switch.as_mut().and_then(|former| former.hold.take());
        let hold = former.or_else(|| KillSwitch::hold().ok());
        let mut guarded = Self { switch, rules, hold };
        guarded.switch.set(&guarded.rules).map_err(failed)?;
        ovlog!(1, "kill switch: nothing leaves this machine outside of the tunnel until culvert is stopped");
        life.kill_switch = Some(guarded);
        Ok(())
    }

    /// The tunnel is about to come up on this device, or went.
    pub(super) fn set_device(&mut self, device: Option<&str>) {
        self.change(|rules| rules.device = device.map(str::to_owned));
    }

    /// A name is looked up, or was.
    fn set_lookups(&mut self, lookups: Lookups) {
        self.change(|rules| rules.lookups = lookups);
    }

    /// Puts the rules back where somebody took them away: `nft flush ruleset`, with which /etc/nftables.conf begins, takes all.
    pub(super) fn renew(&mut self) {
        // Whoever had the name may be gone.
        self.hold = self.hold.take().or_else(|| KillSwitch::hold().ok());
        if self.switch.stands().unwrap_or(true) {
            return;
        }
        match self.switch.set(&self.rules) {
            Ok(()) => ovlog!(warn 1, "kill switch: somebody took its rules away; they are in force again"),
            Err(failure) => ovlog!(
                error 1,
                "kill switch: somebody took its rules away, and they cannot be put back: {}",
                link::describe(&failure)
            ),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut KillSwitchRules)) {
        let mut rules = self.rules.clone();
        change(&mut rules);
        if rules == self.rules {
            return;
        }
        match self.switch.set(&rules) {
            Ok(()) => self.rules = rules,
            Err(failure) => {
                ovlog!(error 1, "kill switch: the rules stay as they are: {}", link::describe(&failure));
            }
        }
    }

    /// Says that it stays, and how to lift it.
    pub(crate) fn remind(&self) {
        ovlog!(
            warn 1,
            "kill switch: it stays in force, for the tunnel ended unasked. Start culvert again, or lift it: culvert unblock, or nft delete table inet {}",
            self.switch.table()
        );
    }

    fn lift(&mut self) {
        match self.switch.lift() {
            Ok(()) => ovlog!(1, "kill switch: lifted"),
            Err(failure) => ovlog!(
                error 1,
                "kill switch: cannot be lifted: {}; do it by hand: culvert unblock, or nft delete table inet {}",
                link::describe(&failure),
                self.switch.table()
            ),
        }
    }
}

/// Says why nothing may get out, where the switch of another process is in force.
fn warn_of_anothers() {
    // Who may not ask the kernel could not have set one either.
    if KillSwitch::open().and_then(|mut switch| switch.stands()).unwrap_or(false) {
        ovlog!(
            warn 1,
            "a kill switch is in force that is not this client's: nothing but the tunnel that it is for leaves this machine. If its culvert ended unasked: culvert unblock"
        );
    }
}

/// What an end of a life does to it: an end that was asked for lifts it, another start keeps it, everything else leaves it
/// in force.
pub(crate) fn conclude(life: &mut Life, ended: &Ended) {
    let Some(guarded) = &mut life.kill_switch else { return };
    match ended {
        Ended::Signal(Request::Terminate | Request::Interrupt) | Ended::Told => {
            guarded.lift();
            life.kill_switch = None;
        }
        Ended::Signal(_) | Ended::Soft(Request::Restart | Request::SoftRestart, _) => {}
        Ended::Soft(..) | Ended::Fatal(_) | Ended::Unreachable(_) => guarded.remind(),
    }
}

/// While it lives, name servers may be asked outside of the tunnel.
pub(super) struct Lookup<'a>(Option<&'a mut Guarded>);

impl<'a> Lookup<'a> {
    /// Opens the way, unless the host is an address.
    pub(super) fn of(host: &str, guarded: Option<&'a mut Guarded>) -> Self {
        let mut guarded = guarded.filter(|_| host.parse::<IpAddr>().is_err());
        if let Some(guarded) = &mut guarded {
            guarded.set_lookups(name_servers().map_or(Lookups::Anywhere, Lookups::At));
        }
        Self(guarded)
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        if let Some(guarded) = &mut self.0 {
            guarded.set_lookups(Lookups::Closed);
        }
    }
}

/// Looks a name up outside of the tunnel. The way to the name servers is open for no longer than that takes, also when the
/// lookup is given up.
pub(super) async fn resolve_outside(
    guarded: Option<&mut Guarded>,
    host: &str,
    port: u16,
    family: Family,
) -> Result<Vec<SocketAddr>, String> {
    let _open = Lookup::of(host, guarded);
    link::resolve(host, port, family).await
}

/// Whether what a name resolved to is kept for this life: reconnecting then asks nobody.
pub(super) fn keeps_addresses(profile: &Profile) -> bool {
    profile.link.kill_switch
}
