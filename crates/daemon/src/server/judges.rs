//! Whether anybody judges logins where a configuration relies on it. What the file says was checked when it was read; what a
//! plugin wants to be called for shows only once it is loaded.

use culvert_config::{
    Profile,
    profile::{CertPolicy, Server},
};
use culvert_plugin::PluginHook;

use crate::auth::plugins::Plugins;

/// Checks that a server's logins have a judge if it needs one.
///
/// # Errors
/// Which option has none, in the words that OpenVPN has for a file without any judge.
pub(super) fn check(profile: &Profile, plugins: &Plugins) -> Result<(), String> {
    let server = &profile.server;
    if server.auth_user_pass_verify.is_some()
        || server.auth_users.is_some()
        || profile.management.client_auth
        || plugins.want(PluginHook::AuthUserPassVerify)
    {
        return Ok(());
    }
    match relying(server) {
        None => Ok(()),
        Some(option) => Err(format!(
            "--{option} must be used with --management-client-auth, an --auth-user-pass-verify script, or plugin; \
             the plugins that are loaded do not judge logins (none wants PLUGIN_AUTH_USER_PASS_VERIFY): \
             add `auth-user-pass-verify PROGRAM via-file`, `auth-users FILE`, or a plugin that does"
        )),
    }
}

/// The first option that makes no sense, or lets anybody in, without a judge.
fn relying(server: &Server) -> Option<&'static str> {
    let options = [
        ("verify-client-cert none|optional", server.client_cert != CertPolicy::Require),
        ("username-as-common-name", server.username_as_common_name),
        ("auth-user-pass-optional", server.auth_user_pass_optional),
    ];
    options.into_iter().find_map(|(option, set)| set.then_some(option))
}

#[cfg(test)]
mod tests {
    use culvert_config::value::Command;
    use culvert_testkit::TempDir;

    use super::*;
    use crate::scripts::ScriptEnv;

    #[tokio::test]
    async fn a_plugin_counts_as_a_judge_only_when_it_judges() {
        let folder = TempDir::new().unwrap();
        let module = culvert_testkit::c_plugin(&folder, 3).unwrap().display().to_string();
        let mut profile = Profile::default();
        assert_eq!(check(&profile, &Plugins::default()), Ok(()));
        profile.server.client_cert = CertPolicy::None;
        let refused = check(&profile, &Plugins::default()).unwrap_err();
        assert!(refused.starts_with("--verify-client-cert none|optional must be used with"), "{refused}");
        let judge = Command { argv: vec![module, "check".to_owned()] };
        let plugins = Plugins::load(&[judge], &ScriptEnv::new()).await.unwrap();
        assert_eq!(check(&profile, &plugins), Ok(()));
    }
}
