//! What a server pushes that is neither about the tunnel nor about its packets: how much is logged, what scripts see,
//! whether the device stays.

use culvert_config::Pushed;

use super::Client;
use crate::{hooks::Hooks, log::Logger, scripts::ScriptEnv};

impl Client {
    /// Takes `verb`, `mute` and `persist-tun` for the rest of this life, `setenv-safe` for this session.
    pub(super) fn take_process_options(&mut self, pushed: &Pushed, env: &mut ScriptEnv) {
        apply(pushed, &self.logger, &self.hooks, env);
        self.keeps_device |= pushed.persist_tun && self.profile.device.program().is_none();
    }
}

fn apply(pushed: &Pushed, logger: &Logger, hooks: &Hooks, env: &mut ScriptEnv) {
    if let Some(verb) = pushed.verb {
        logger.set_verb(verb);
    }
    if let Some(mute) = pushed.mute {
        logger.set_mute(Some(mute).filter(|limit| *limit > 0));
    }
    for (name, value) in &pushed.setenv {
        env.set(name, value);
    }
    hooks.add(&pushed.setenv);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use culvert_config::{Profile, PushFilter};

    use super::*;
    use crate::management::Management;

    fn pushed(options: &str) -> Pushed {
        let mut pushed = Pushed::default();
        let filter = PushFilter { filters: &[], route_nopull: false, allow_fqdn: false };
        filter.apply(options, &mut pushed).unwrap();
        pushed
    }

    fn surroundings() -> (Logger, Hooks) {
        let (logger, profile) = (Logger::silent(), Arc::new(Profile::default()));
        let (management, _signals) = Management::new(&profile, &logger, None);
        (logger, Hooks::new(&profile, management))
    }

    #[test]
    fn a_server_decides_how_much_its_client_logs() {
        let (logger, hooks) = surroundings();
        let mut env = hooks.environment();
        apply(&pushed("verb 5,mute 7"), &logger, &hooks, &mut env);
        assert_eq!((logger.verb(), logger.mute()), (5, Some(7)));
        apply(&pushed("mute 0"), &logger, &hooks, &mut env);
        assert_eq!((logger.verb(), logger.mute()), (5, None));
    }

    #[test]
    fn pushed_variables_reach_the_scripts_of_this_session_and_of_no_other() {
        let (logger, hooks) = surroundings();
        let mut env = hooks.environment();
        apply(&pushed("setenv-safe office north"), &logger, &hooks, &mut env);
        assert_eq!(env.get("OPENVPN_office"), Some("north"));
        assert_eq!(hooks.environment().get("OPENVPN_office"), Some("north"));
        hooks.forget_pushed();
        assert_eq!(hooks.environment().get("OPENVPN_office"), None);
    }
}
