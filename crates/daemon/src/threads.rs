//! How many threads the process may have, and who gets them.
//!
//! Stock service units allow few tasks in all, scripts included (Debian 12: `TasksMax=10` or `LimitNPROC=10`; those of
//! OpenVPN 2.7: 20). What is allowed is counted once, at start, and shared out.

use std::{fs, num::NonZero, path::Path};

/// Threads for each purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadBudget {
    /// What the unit allows, if it limits at all.
    pub(crate) limit: Option<usize>,
    /// Threads for handshake steps.
    pub(crate) handshakes: usize,
    /// Threads for files and names that may block.
    pub(crate) blocking: usize,
    /// Threads of the data plane.
    pub(crate) engine: usize,
}

/// The control plane's own: its one thread, and that of the log. That of status and pool files ([`crate::file_writer`]) is there
/// for moments and not among them: where no thread is left, one writing is skipped. A handshake thread less, which ten tasks
/// would cost, is missed more.
const OWN: usize = 2;

/// Left to scripts and what they start. A question to a person ([`crate::question`]) takes one while it is open, and another where
/// systemd's helper asks it.
const SCRIPTS: usize = 3;

/// More handshake steps at a time only make each of them slower.
const MOST_HANDSHAKES: usize = 4;

/// Everything that may hang shares these: files of clients, revocation lists, `auth-users` and the passwords in it, names,
/// changes of routes. One file system or name server that hangs shall not stop the rest; they exist only while they are
/// needed. (Status and pool files have [`crate::file_writer`], which exists while it writes.)
const MOST_BLOCKING: usize = 16;

/// The same where a limit leaves no more: with this few, two things that hang at a time do stop logins.
const MOST_BLOCKING_LIMITED: usize = 2;

/// Below this the data plane cannot work: one thread for each direction.
const LEAST_ENGINE: usize = 2;

impl ThreadBudget {
    /// Looks at the machine and the limits of this process.
    pub(crate) fn of_this_process() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::share(cores, task_limit())
    }

    /// Shares out `limit` tasks on a machine of `cores`.
    fn share(cores: usize, limit: Option<usize>) -> Self {
        let wanted_engine = cores.max(LEAST_ENGINE);
        let wanted_handshakes = cores.min(MOST_HANDSHAKES);
        let Some(allowed) = limit else {
            return Self {
                limit,
                handshakes: wanted_handshakes,
                blocking: MOST_BLOCKING,
                engine: wanted_engine,
            };
        };
        // One of each kind, and then in the order of what would be missed most.
        let mut rest = allowed.saturating_sub(OWN + SCRIPTS + LEAST_ENGINE + 2);
        let mut more = |have: usize, wanted: usize| {
            let more = rest.min(wanted.saturating_sub(have));
            rest -= more;
            have + more
        };
        let handshakes = more(1, wanted_handshakes.min(2));
        let blocking = more(1, MOST_BLOCKING_LIMITED);
        let handshakes = more(handshakes, wanted_handshakes);
        let engine = more(LEAST_ENGINE, wanted_engine);
        let blocking = more(blocking, MOST_BLOCKING);
        Self { limit, handshakes, blocking, engine }
    }
}

impl std::fmt::Display for ThreadBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { handshakes, blocking, engine, .. } = self;
        write!(
            f,
            "threads: {OWN} own, {handshakes} for handshakes, {blocking} for files, {engine} for data"
        )?;
        match self.limit {
            Some(limit) => write!(f, " ({limit} allowed, {SCRIPTS} kept for scripts)"),
            None => Ok(()),
        }
    }
}

/// The smaller of the resource limit and the control group's limit.
fn task_limit() -> Option<usize> {
    let resource = fs::read_to_string("/proc/self/limits").ok().and_then(|text| soft_process_limit(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let file = Path::new("/sys/fs/cgroup").join(path).join("pids.max");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    [resource, group].into_iter().flatten().min()
}

/// Reads `Max processes` out of `/proc/PID/limits`.
fn soft_process_limit(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max processes"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_unit_of_ten_tasks_is_enough() {
        let budget = ThreadBudget::share(8, Some(10));
        assert_eq!((budget.handshakes, budget.blocking, budget.engine), (2, 1, 2));
        assert!(OWN + SCRIPTS + budget.handshakes + budget.blocking + budget.engine <= 10);
    }

    #[test]
    fn a_limit_that_leaves_enough_changes_nothing() {
        let budget = ThreadBudget::share(8, Some(4096));
        assert_eq!((budget.handshakes, budget.blocking, budget.engine), (4, 16, 8));
    }

    #[test]
    fn without_a_limit_the_machine_decides() {
        let budget = ThreadBudget::share(8, None);
        assert_eq!((budget.handshakes, budget.blocking, budget.engine), (4, 16, 8));
    }

    #[test]
    fn a_limit_that_is_too_small_still_gives_every_purpose_a_thread() {
        let budget = ThreadBudget::share(2, Some(3));
        assert_eq!((budget.handshakes, budget.blocking, budget.engine), (1, 1, 2));
    }

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit  Soft Limit  Hard Limit  Units\nMax processes             10                   20     processes\n";
        assert_eq!(soft_process_limit(text), Some(10));
        assert_eq!(soft_process_limit("Max processes  unlimited unlimited processes"), None);
    }
}
