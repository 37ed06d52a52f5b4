//! What the process does to itself: background, user, directory, memory.
//!
//! Order: [`detach`] first of all (no thread may exist yet), [`schedule`] and [`protect`] before the first key is read,
//! [`Identity::resolve`] while the user database is still readable, [`Identity::assume`] when devices, sockets and
//! files are open: on a server before it listens, on the end that calls once its first tunnel is complete, as in OpenVPN
//! (init.c, `do_uid_gid_chroot`), whose `up` scripts count on root's rights. It reaches every thread of those running by then.
//!
//! Hooks run with the rights of the process, so after [`Identity::assume`] with those of the user, and without any
//! capability; the program of `dns-updown` alone keeps root's ([`crate::name_keeper`]). `PR_SET_NO_NEW_PRIVS` is not set, because it would break hooks that call `sudo`.

use std::{
    io,
    path::{Path, PathBuf},
};

use culvert_config::profile::Process;
use culvert_sys::{privilege, process};

/// OpenVPN raises the limit of locked memory to this before it locks.
const LOCKED_MEMORY: u64 = 100 * 1024 * 1024;

/// Why the process could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PrivilegeError {
    /// No such user.
    #[error("failed to find UID for user {0}")]
    NoUser(String),
    /// No such group.
    #[error("failed to find GID for group {0}")]
    NoGroup(String),
    /// `setcon` without SELinux.
    #[error(
        "setcon: this machine has no SELinux in force ({SELINUX} is not there); remove `setcon`, or start SELinux"
    )]
    NoSelinux,
    /// The system refused.
    #[error("{what} failed: {source}")]
    Refused {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
}

fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> PrivilegeError {
    let what = what.into();
    move |source| PrivilegeError::Refused { what, source }
}

/// The user, group and root directory to change to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    user: Option<(String, u32)>,
    group: Option<(String, u32)>,
    root: Option<PathBuf>,
    /// `setcon`.
    context: Option<String>,
}

impl Identity {
    /// Looks up `user` and `group`. Numbers stand for themselves.
    ///
    /// # Errors
    /// When there is no such user or group.
    pub(crate) fn resolve(process: &Process) -> Result<Self, PrivilegeError> {
        let user = process.user.as_ref().map(|name| {
            let known = name.parse().or_else(|_| process::find_user(name).map(|user| user.uid));
            known.map(|uid| (name.clone(), uid)).map_err(|_| PrivilegeError::NoUser(name.clone()))
        });
        let group = process.group.as_ref().map(|name| {
            let known = name.parse().or_else(|_| process::find_group(name));
            known.map(|gid| (name.clone(), gid)).map_err(|_| PrivilegeError::NoGroup(name.clone()))
        });
        let context = process.setcon.clone();
        // Refused now: later, half of what was asked for would be in force.
        if context.is_some() && !Path::new(SELINUX).is_dir() {
            return Err(PrivilegeError::NoSelinux);
        }
        Ok(Self { user: user.transpose()?, group: group.transpose()?, root: process.chroot.clone(), context })
    }

    /// Whether there is nothing to change to.
    #[must_use]
    pub(crate) fn is_unchanged(&self) -> bool {
        *self == Self::default()
    }

    /// Changes root directory, group and user of all threads for good, keeping the right to administer networks only.
    /// Does nothing where nothing is asked for.
    ///
    /// # Errors
    /// When a step is refused. The process must end then: it may be half way.
    pub(crate) fn assume(&self) -> Result<(), PrivilegeError> {
        if let Some(root) = &self.root {
            privilege::keep_threads_in_sight().map_err(refused("looking at /proc"))?;
            process::change_root(root).map_err(refused(format!("chroot to '{}'", root.display())))?;
            crate::ovlog!(1, "chroot to '{}' and cd to '/' succeeded", root.display());
        }
        if self.user.is_some() || self.group.is_some() {
            self.become_user()?;
        }
        self.set_context()
    }

    fn become_user(&self) -> Result<(), PrivilegeError> {
        let drop = privilege::Drop {
            uid: self.user.as_ref().map(|(_, uid)| *uid),
            gid: self.group.as_ref().map(|(_, gid)| *gid),
            keep_net_admin: true,
        };
        let kept = privilege::become_user(drop).map_err(refused("changing user and group"))?;
        if let Some((name, _)) = &self.group {
            crate::ovlog!(1, "GID set to {name}");
        }
        if let Some((name, _)) = &self.user {
            crate::ovlog!(1, "UID set to {name}");
            if kept.net_admin {
                crate::ovlog!(1, "Capabilities retained: CAP_NET_ADMIN");
            } else {
                crate::ovlog!(warn 1, "WARNING: no right to administer networks is left: routes and addresses cannot be undone");
            }
        }
        Ok(())
    }
}

impl Identity {
    /// Changes the SELinux context. As in OpenVPN this is the last step: with `chroot`, /proc must be there as well. Threads
    /// run already, so the policy must bound the new context by the old one (`typebounds`).
    fn set_context(&self) -> Result<(), PrivilegeError> {
        let Some(context) = &self.context else { return Ok(()) };
        let written = std::fs::write("/proc/self/attr/current", context);
        written.map_err(refused(format!("setcon to '{context}'")))?;
        crate::ovlog!(1, "setcon to '{context}' succeeded");
        Ok(())
    }
}

/// Where the kernel shows that SELinux is in force.
const SELINUX: &str = "/sys/fs/selinux/policy_capabilities";

/// Goes into the background (`daemon`): forks, leaves the terminal. With `keep_output` (the log goes to standard output)
/// the standard descriptors stay; else they become `/dev/null`. The directory stays: the configuration's paths may be
/// relative. Under systemd's notification nothing is forked: the manager waits for the first process.
///
/// # Errors
/// When a thread is running already, or the system refuses.
pub(crate) fn detach(process: &Process, keep_output: bool, notified: bool) -> Result<(), PrivilegeError> {
    if process.daemon.is_none() {
        return Ok(());
    }
    if notified {
        if !keep_output {
            process::null_standard_descriptors().map_err(refused("daemon()"))?;
        }
        return Ok(());
    }
    process::daemonize(!keep_output, false).map_err(refused("daemon()"))
}

/// Makes the process unreadable for others: no core files, no ptrace (SEC-KEY-2).
///
/// # Errors
/// When the system refuses.
pub(crate) fn protect() -> Result<(), PrivilegeError> {
    process::make_undumpable().map_err(refused("PR_SET_DUMPABLE"))
}

/// Applies `nice` and `mlock`, and allows the descriptors that many clients over TCP take. Before threads are started: they inherit it.
///
/// # Errors
/// When the system refuses.
pub(crate) fn schedule(process: &Process) -> Result<(), PrivilegeError> {
    match process::raise_descriptor_limit() {
        Ok(limit) => tracing::debug!("file descriptors: {limit:?} at most"),
        Err(error) => tracing::debug!("file descriptors: the soft limit stays: {error}"),
    }
    if let Some(nice) = process.nice {
        match process::set_nice(nice) {
            Ok(()) => crate::ovlog!(1, "nice {nice} succeeded"),
            // As OpenVPN: a wish, not a condition.
            Err(error) => crate::ovlog!(warn 1, "WARNING: nice {nice} failed: {error}"),
        }
    }
    if process.mlock {
        process::lock_memory(LOCKED_MEMORY).map_err(refused("mlockall call"))?;
        crate::ovlog!(1, "mlockall call succeeded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanting(user: Option<&str>, group: Option<&str>) -> Process {
        Process { user: user.map(str::to_owned), group: group.map(str::to_owned), ..Process::default() }
    }

    #[test]
    fn users_and_groups_are_found_by_name_or_number() {
        let identity = Identity::resolve(&wanting(Some("root"), Some("4711"))).expect("both exist");
        assert_eq!(identity.user, Some(("root".to_owned(), 0)));
        assert_eq!(identity.group, Some(("4711".to_owned(), 4711)));
        assert!(!identity.is_unchanged());
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error =
            Identity::resolve(&wanting(Some("no-such-user"), None)).expect_err("nobody has that name");
        assert_eq!(error.to_string(), "failed to find UID for user no-such-user");
        let error =
            Identity::resolve(&wanting(None, Some("no-such-group"))).expect_err("nobody has that name");
        assert_eq!(error.to_string(), "failed to find GID for group no-such-group");
    }

    #[test]
    fn nothing_asked_for_is_nothing_done() {
        let identity = Identity::resolve(&wanting(None, None)).expect("nothing to look up");
        assert!(identity.is_unchanged());
        identity.assume().expect("nothing to do");
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let process = Process { daemon: Some("ovpn".to_owned()), ..Process::default() };
        let error = detach(&process, true, false).expect_err("the test runner has threads");
        assert!(error.to_string().contains("threads are running"), "{error}");
    }
}
