//! What is remembered of logins as long as the process lives: over reloads and SIGUSR1, as tokens are.

use std::sync::Arc;

use culvert_config::Profile;

use super::{throttle::Throttle, users::Users};

/// Failures, used codes, challenges that wait, whose line in the file of users changed when.
#[derive(Default)]
pub(crate) struct LoginMemory {
    users: Option<Arc<Users>>,
    throttle: Arc<Throttle>,
}

impl LoginMemory {
    /// The users of a profile: those that are known already, if it is the same file.
    pub(crate) fn users(&mut self, profile: &Profile) -> Option<Arc<Users>> {
        let path = profile.server.auth_users.as_deref();
        self.users = path.map(|path| match self.users.take() {
            Some(users) if users.are_in(path) => users,
            _ => Arc::new(Users::of_file(path.to_owned())),
        });
        self.users.clone()
    }

    /// The brake on guessing.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        Arc::clone(&self.throttle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_same_as_long_as_their_file_is() {
        let mut memory = LoginMemory::default();
        let mut profile = Profile::default();
        assert!(memory.users(&profile).is_none());
        profile.server.auth_users = Some("/nonexistent/one".into());
        let one = memory.users(&profile).unwrap();
        assert!(Arc::ptr_eq(&one, &memory.users(&profile).unwrap()));
        profile.server.auth_users = Some("/nonexistent/other".into());
        assert!(!Arc::ptr_eq(&one, &memory.users(&profile).unwrap()));
    }
}
