//! Giving up rights, in all threads of the process.
//!
//! Linux keeps user ids and capabilities per thread. The C library repeats `setresuid`, `setresgid` and `setgroups` in
//! every thread; nobody does that for capabilities. A daemon drops its rights late (a client only once the server told
//! its addresses), when workers are running. So [`become_user`] does what the C library does: it sends a signal
//! to each thread, whose handler makes the system call there (libcap's `libpsx` and Go's runtime work alike), until no
//! thread is left that has not done it; then it reads back from `/proc` what every thread really has. Threads that
//! block all signals make it fail, after a time limit, instead of keeping their rights.
//!
//! The two calls that are repeated: `PR_SET_KEEPCAPS` before the change of user (or the kernel clears the permitted
//! set), `capset` after it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    fs::{Dir, Mode, OFlags},
    thread::{CapabilitySet, CapabilitySets},
};

/// Threads that are signalled at a time.
const ROUND: usize = 256;
/// How long a thread may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Which user to become, and what to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The user; `None` changes no user, and capabilities stay as they are.
    pub uid: Option<u32>,
    /// The group; `None` keeps the present one. Supplementary groups go in either case.
    pub gid: Option<u32>,
    /// Keep `CAP_NET_ADMIN`, if it is there: routes, addresses, offloads.
    pub keep_net_admin: bool,
}

/// What is left after [`become_user`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// `CAP_NET_ADMIN` is still there.
    pub net_admin: bool,
}

/// Whether the calling thread may administer networks.
#[must_use]
pub fn has_net_admin() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// Changes group and user of all threads for good.
///
/// # Errors
/// When the system refuses a step, a thread does not answer, or a thread has more rights than it should afterwards. The
/// process is then in a state between: it must end.
pub fn become_user(drop: Drop) -> io::Result<Kept> {
    let keep = match drop.uid {
        Some(uid) if uid != 0 && drop.keep_net_admin && has_net_admin() => Keep::NetAdmin,
        _ => Keep::Nothing,
    };
    if keep == Keep::NetAdmin {
        in_every_thread(Call::KeepCapabilities)?;
    }
    if drop.gid.is_some() || drop.uid.is_some() {
        change_groups(drop.gid)?;
    }
    let Some(uid) = drop.uid else { return Ok(Kept { net_admin: has_net_admin() }) };
    // SAFETY: takes numbers only. The C library repeats it in all threads.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    if uid == 0 {
        return Ok(Kept { net_admin: has_net_admin() });
    }
    in_every_thread(match keep {
        Keep::NetAdmin => Call::NetAdminOnly,
        Keep::Nothing => Call::NoCapabilities,
    })?;
    verify(uid, drop.gid, keep)?;
    Ok(Kept { net_admin: keep == Keep::NetAdmin })
}

/// Changes the group, and the supplementary groups to that one.
fn change_groups(gid: Option<u32>) -> io::Result<()> {
    // SAFETY: takes nothing, changes nothing.
    let present = unsafe { libc::getegid() };
    let gid = gid.unwrap_or(present);
    // SAFETY: a list of one number, and its length. The C library repeats both calls in all threads.
    check(unsafe { libc::setgroups(1, &raw const gid) })?;
    // SAFETY: takes numbers only.
    check(unsafe { libc::setresgid(gid, gid, gid) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Nothing,
    NetAdmin,
}

impl Keep {
    fn set(self) -> CapabilitySet {
        match self {
            Self::Nothing => CapabilitySet::empty(),
            Self::NetAdmin => CapabilitySet::NET_ADMIN,
        }
    }
}

/// A system call that concerns the calling thread alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Call {
    KeepCapabilities = 1,
    NetAdminOnly = 2,
    NoCapabilities = 3,
}

impl Call {
    fn from_number(number: u8) -> Option<Self> {
        [Self::KeepCapabilities, Self::NetAdminOnly, Self::NoCapabilities]
            .into_iter()
            .find(|call| *call as u8 == number)
    }

    /// Makes the call. Runs in a signal handler: no allocation, no lock. (`rustix` makes these calls directly, without
    /// the C library's `errno`.)
    fn run(self) -> bool {
        let only =
            |set| CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        let result = match self {
            Self::KeepCapabilities => rustix::thread::set_keep_capabilities(true),
            Self::NetAdminOnly => rustix::thread::set_capabilities(None, only(Keep::NetAdmin.set())),
            Self::NoCapabilities => rustix::thread::set_capabilities(None, only(Keep::Nothing.set())),
        };
        result.is_ok()
    }
}

/// What the handler does now, and what came of it. Written under [`LOCK`].
static CALL: AtomicU8 = AtomicU8::new(0);
static ANSWERS: AtomicUsize = AtomicUsize::new(0);
/// The threads that answered, in order. A count alone would not do: a thread may end with the signal pending.
static ANSWERED: [AtomicI32; ROUND] = [const { AtomicI32::new(0) }; ROUND];
static FAILED: AtomicBool = AtomicBool::new(false);
static LOCK: Mutex<()> = Mutex::new(());

extern "C" fn handler(_: libc::c_int) {
    let done = Call::from_number(CALL.load(Ordering::SeqCst)).is_some_and(Call::run);
    if !done {
        FAILED.store(true, Ordering::SeqCst);
    }
    let place = ANSWERS.fetch_add(1, Ordering::SeqCst);
    if let Some(slot) = ANSWERED.get(place) {
        slot.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::SeqCst);
    }
}

/// Makes a call in every thread of the process, also in those that are started meanwhile: a new thread has the rights of
/// the one that started it, so the list ends.
fn in_every_thread(call: Call) -> io::Result<()> {
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let signal = libc::SIGRTMAX() - 3;
    let before = install(signal)?;
    CALL.store(call as u8, Ordering::SeqCst);
    FAILED.store(false, Ordering::SeqCst);

    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let mut done = BTreeSet::from([own]);
    let mut result = if call.run() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::PermissionDenied)) };
    while result.is_ok() {
        let fresh: Vec<i32> = threads()?.into_iter().filter(|thread| !done.contains(thread)).collect();
        if fresh.is_empty() {
            break;
        }
        result = fresh.chunks(ROUND).try_for_each(|round| signal_all(round, signal));
        done.extend(fresh);
    }
    if result.is_ok() && FAILED.load(Ordering::SeqCst) {
        result = Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    // A thread that did not answer may do so later: its signal must still find the handler.
    if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        return result;
    }
    // SAFETY: `before` came from sigaction for the same signal.
    check(unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) })?;
    result
}

/// Installs the handler; returns what was there.
fn install(signal: libc::c_int) -> io::Result<libc::sigaction> {
    // SAFETY: all fields of `sigaction` are integers, or pointers that may be null.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let function: extern "C" fn(libc::c_int) = handler;
    action.sa_sigaction = function as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: as above.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the handler only touches atomics and makes direct system calls, which a handler may.
    check(unsafe { libc::sigaction(signal, &raw const action, &raw mut before) })?;
    Ok(before)
}

/// Signals at most [`ROUND`] threads and waits until each has answered or ended.
fn signal_all(round: &[i32], signal: libc::c_int) -> io::Result<()> {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    ANSWERED.iter().for_each(|slot| slot.store(0, Ordering::SeqCst));
    ANSWERS.store(0, Ordering::SeqCst);
    for thread in round {
        // SAFETY: takes numbers only; a thread that has ended meanwhile is an error, which the loop below finds out.
        let _ = unsafe { libc::syscall(libc::SYS_tgkill, process, *thread, signal) };
    }
    let until = Instant::now() + ANSWER_LIMIT;
    loop {
        let answered: BTreeSet<i32> = ANSWERED.iter().map(|slot| slot.load(Ordering::SeqCst)).collect();
        let alive = threads()?;
        if !alive.iter().any(|thread| round.contains(thread) && !answered.contains(thread)) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a thread does not take signals"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn threads() -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(tasks()?)? {
        if let Some(id) = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The directory of this process's threads. Opened once: `chroot` takes `/proc` out of sight.
fn tasks() -> io::Result<&'static OwnedFd> {
    static TASKS: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(tasks) = TASKS.get() {
        return Ok(tasks);
    }
    let tasks = rustix::fs::open("/proc/self/task", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(TASKS.get_or_init(|| tasks))
}

/// What proc_pid_status(5) says of a thread.
fn status(thread: i32) -> io::Result<String> {
    let file = rustix::fs::openat(tasks()?, format!("{thread}/status"), OFlags::CLOEXEC, Mode::empty())?;
    io::read_to_string(fs::File::from(file))
}

/// Makes sure that [`become_user`] finds all threads also after `chroot`. Not before a fork: it remembers the process.
///
/// # Errors
/// When `/proc` is not there.
pub fn keep_threads_in_sight() -> io::Result<()> {
    tasks().map(drop)
}

/// Reads back what every thread has.
fn verify(uid: u32, gid: Option<u32>, keep: Keep) -> io::Result<()> {
    for thread in threads()? {
        // A thread that ended meanwhile has no rights.
        let Ok(status) = status(thread) else { continue };
        let state = ThreadState::parse(&status);
        let expected = ThreadState {
            uids: vec![uid; 4],
            gids: gid.map_or_else(|| state.gids.clone(), |gid| vec![gid; 4]),
            groups: state.gids.first().map(|gid| vec![*gid]).unwrap_or_default(),
            permitted: keep.set().bits(),
            effective: keep.set().bits(),
        };
        if state != expected {
            return Err(io::Error::other(format!("thread {thread} did not give up its rights: {state:?}")));
        }
    }
    Ok(())
}

/// The lines of proc_pid_status(5) that tell about rights.
#[derive(Debug, Default, PartialEq, Eq)]
struct ThreadState {
    /// Real, effective, saved, file system.
    uids: Vec<u32>,
    gids: Vec<u32>,
    groups: Vec<u32>,
    permitted: u64,
    effective: u64,
}

impl ThreadState {
    fn parse(status: &str) -> Self {
        let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let bits = |text: &str| u64::from_str_radix(text.trim(), 16).unwrap_or(u64::MAX);
        let mut state = Self { permitted: u64::MAX, effective: u64::MAX, ..Self::default() };
        for line in status.lines() {
            match line.split_once(':') {
                Some(("Uid", rest)) => state.uids = numbers(rest),
                Some(("Gid", rest)) => state.gids = numbers(rest),
                Some(("Groups", rest)) => state.groups = numbers(rest),
                Some(("CapPrm", rest)) => state.permitted = bits(rest),
                Some(("CapEff", rest)) => state.effective = bits(rest),
                _ => {}
            }
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::mpsc};

    use super::*;

    const NOBODY: u32 = 65_534;

    /// Runs another test of this file in a process of its own: rights cannot be got back.
    fn alone(test: &str) {
        assert!(has_net_admin(), "this test needs root: it gives up rights");
        let program = std::env::current_exe().expect("the test program has a path");
        let output = Command::new(program)
            .args(["--exact", &format!("privilege::tests::{test}"), "--ignored", "--test-threads=1"])
            .output()
            .expect("the test program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn every_thread_keeps_net_admin_and_nothing_else() {
        if needs_root() {
            alone("drop_with_workers");
        }
    }

    #[test]
    fn without_a_right_to_keep_nothing_is_kept() {
        if needs_root() {
            alone("drop_everything");
        }
    }

    /// Plain `cargo test` needs no root; the complete run sets `CI` and must have it.
    fn needs_root() -> bool {
        let root = has_net_admin();
        assert!(root || std::env::var_os("CI").is_none(), "this test needs root, and CI is set");
        root
    }

    #[test]
    #[ignore = "run by every_thread_keeps_net_admin_and_nothing_else"]
    fn drop_with_workers() {
        // Workers in all states: waiting, running, in a system call.
        let (stop, stopped) = mpsc::channel::<()>();
        let stopped = std::sync::Arc::new(Mutex::new(stopped));
        for _ in 0..4 {
            let stopped = std::sync::Arc::clone(&stopped);
            std::thread::spawn(move || drop(stopped.lock().map(|channel| channel.recv())));
        }
        std::thread::spawn(|| {
            loop {
                std::thread::spawn(|| std::thread::sleep(Duration::from_millis(1)));
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let kept = become_user(Drop { uid: Some(NOBODY), gid: Some(NOBODY), keep_net_admin: true });
        assert_eq!(kept.expect("rights are given up"), Kept { net_admin: true });
        verify(NOBODY, Some(NOBODY), Keep::NetAdmin).expect("also a moment later");
        let inherited = std::thread::spawn(has_net_admin).join().expect("a thread");
        assert!(inherited, "threads started later may administer networks too");
        assert!(fs::read("/etc/shadow").is_err(), "root's files are out of reach");
        drop(stop);
    }

    #[test]
    #[ignore = "run by without_a_right_to_keep_nothing_is_kept"]
    fn drop_everything() {
        let kept = become_user(Drop { uid: Some(NOBODY), gid: None, keep_net_admin: false });
        assert_eq!(kept.expect("rights are given up"), Kept { net_admin: false });
        assert!(!has_net_admin());
        assert!(become_user(Drop { uid: Some(0), gid: None, keep_net_admin: false }).is_err(), "no way back");
    }
}
