//! What a process does to itself and to the programs it started.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
};

use rustix::mm::MlockAllFlags;
use rustix::process::{Resource, Rlimit, WaitId, WaitIdOptions};

/// A signal that is sent to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillSignal {
    /// `SIGHUP`: read the configuration again.
    Hangup,
    /// `SIGINT`: as from a terminal.
    Interrupt,
    /// `SIGTERM`: please end.
    Term,
    /// `SIGKILL`: end.
    Kill,
}

impl From<KillSignal> for rustix::process::Signal {
    fn from(signal: KillSignal) -> Self {
        match signal {
            KillSignal::Hangup => Self::HUP,
            KillSignal::Interrupt => Self::INT,
            KillSignal::Term => Self::TERM,
            KillSignal::Kill => Self::KILL,
        }
    }
}

/// Sends a signal to all processes of a group. The group is named by its first process, which must be a child that was
/// not waited for yet: until then the number cannot mean anybody else.
///
/// # Errors
/// `NotFound`-like (`ESRCH`) when the group is empty.
pub fn kill_group(leader: u32, signal: KillSignal) -> io::Result<()> {
    let leader = i32::try_from(leader).ok().and_then(rustix::process::Pid::from_raw);
    let leader = leader.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::kill_process_group(leader, signal.into())?)
}

/// Sends a signal to one process. Ids are used again: good only for a process that is known to be still there.
///
/// # Errors
/// As the system says; `ESRCH` when there is no such process.
pub fn kill(process: u32, signal: KillSignal) -> io::Result<()> {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rustix::process::kill_process(id, signal.into())?)
}

/// Waits for the end of a child, which keeps its number: it is still to be waited for.
///
/// # Errors
/// As the system says; `ECHILD` when it is no child.
pub fn wait_for_end(child: u32) -> io::Result<()> {
    let id = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(id), ended))?;
    Ok(())
}

/// Lets the program that `command` starts have a descriptor, under the number that is returned. Every other program that
/// is started meanwhile has it not: the descriptor stays open in the child alone. It is closed here with `command`.
pub fn pass_descriptor(command: &mut std::process::Command, descriptor: OwnedFd) -> RawFd {
    let number = descriptor.as_raw_fd();
    let keep = move || Ok(rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::empty())?);
    // SAFETY: between fork and exec there is one system call, which neither allocates nor takes a lock.
    unsafe { command.pre_exec(keep) };
    number
}

/// Whether a process of this id exists. Ids are used again: only good together with something that ages.
#[must_use]
pub fn exists(process: u32) -> bool {
    let id = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    id.is_some_and(|id| !matches!(rustix::process::test_kill_process(id), Err(rustix::io::Errno::SRCH)))
}

/// Returns how many threads this process has.
///
/// # Errors
/// When `/proc` is not there.
pub fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Goes into the background: forks (the first process ends with status 0), becomes leader of a new session. With
/// `close_standard`, standard input, output and error become `/dev/null`; with `to_root`, the directory becomes `/`.
///
/// # Errors
/// `Unsupported` when this process has more than one thread: the others would not survive the fork, and with them
/// whatever they hold. Otherwise as the system says.
pub fn daemonize(close_standard: bool, to_root: bool) -> io::Result<()> {
    if thread_count()? != 1 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "cannot fork: threads are running already"));
    }
    // SAFETY: the process has one thread (checked above), so the child gets a consistent copy of everything.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        // SAFETY: `_exit` ends the process without running destructors: files to remove at exit belong to the child.
        _ => unsafe { libc::_exit(0) },
    }
    rustix::process::setsid()?;
    if to_root {
        rustix::process::chdir("/")?;
    }
    if close_standard {
        null_standard_descriptors()?;
    }
    Ok(())
}

/// Makes standard output and error lead to a file, and returns where standard error led before.
///
/// # Errors
/// As the system says.
pub fn redirect_output(file: &fs::File) -> io::Result<fs::File> {
    let before = io::stderr().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)?;
    Ok(before.into())
}

/// Turns standard input, output and error into `/dev/null`.
///
/// # Errors
/// When there is no `/dev/null`.
pub fn null_standard_descriptors() -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Raises the nice value of the calling thread by `by`: others come first.
///
/// # Errors
/// As the system says; it never refuses a thread that yields.
pub fn yield_priority(by: i32) -> io::Result<()> {
    rustix::process::nice(by)?;
    Ok(())
}

/// Sets the nice value (smaller is more urgent) of the calling thread and of those it starts later: call it first.
///
/// # Errors
/// As the system says: going below the present value needs a right.
pub fn set_nice(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// Lets the process open as many descriptors as it may at all: the soft limit, 1024 by tradition, is there for programs
/// that use `select`. Returns the limit, `None` without one.
///
/// # Errors
/// As the system says.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum)
}

/// Keeps all memory of the process, also future one, from being paged out.
///
/// The limit of locked memory is raised to `at_least` bytes first, where the process may: without CAP_IPC_LOCK every
/// allocation beyond the limit fails from here on.
///
/// # Errors
/// As the system says.
pub fn lock_memory(at_least: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    if limit.current.is_some_and(|current| current < at_least) {
        let maximum = limit.maximum.map(|maximum| maximum.max(at_least));
        rustix::process::setrlimit(Resource::Memlock, Rlimit { current: Some(at_least), maximum })?;
    }
    Ok(rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
}

/// Makes the process unreadable for others of the same user: no core dumps, no ptrace, `/proc/self` owned by root.
///
/// # Errors
/// As the system says.
pub fn make_undumpable() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?)
}

/// Changes the root directory and the present directory to `path`.
///
/// # Errors
/// As the system says.
pub fn change_root(path: &std::path::Path) -> io::Result<()> {
    rustix::process::chroot(path)?;
    Ok(rustix::process::chdir("/")?)
}

/// A user of the system's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
}

/// Looks up a user by name.
///
/// # Errors
/// `NotFound` when there is no such user; otherwise as the system says.
pub fn find_user(name: &str) -> io::Result<User> {
    let name = CString::new(name)?;
    let mut buffer = vec![0_u8; 16 * 1024];
    // SAFETY: all fields of `passwd` are integers and pointers; zero is a value of each.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: name is a C string, the buffer's length is its own, and all pointers are valid for the call.
    let code = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    match (code, found.is_null()) {
        (0, false) => Ok(User { uid: entry.pw_uid, gid: entry.pw_gid }),
        (0, true) => Err(io::Error::from(io::ErrorKind::NotFound)),
        (code, _) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Looks up a group by name; returns its id.
///
/// # Errors
/// `NotFound` when there is no such group; otherwise as the system says.
pub fn find_group(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // Large: an entry lists all members.
    let mut buffer = vec![0_u8; 256 * 1024];
    // SAFETY: all fields of `group` are integers and pointers; zero is a value of each.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::group = std::ptr::null_mut();
    // SAFETY: name is a C string, the buffer's length is its own, and all pointers are valid for the call.
    let code = unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    match (code, found.is_null()) {
        (0, false) => Ok(entry.gr_gid),
        (0, true) => Err(io::Error::from(io::ErrorKind::NotFound)),
        (code, _) => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Creates a file that nobody else can read (mode 0600). It must not exist yet, also not as a link to somewhere.
///
/// # Errors
/// `AlreadyExists`, or as the system says.
pub fn create_private(path: &std::path::Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a file that nobody else can read (mode 0600), in place of what was there.
///
/// # Errors
/// As the system says.
pub fn write_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // An older file keeps its mode when it is opened; devices (/dev/stdout) have none of their own to change.
    if file.metadata()?.is_file() {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    io::Write::write_all(&mut file, bytes)
}

/// Returns the signal that ended a program, if one did.
#[must_use]
pub fn terminating_signal(status: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}
