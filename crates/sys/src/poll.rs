use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::{self, EventfdFlags, PollFd, PollFlags, Timespec, epoll};

/// A counter that wakes who waits for it.
#[derive(Debug)]
pub struct Eventfd(OwnedFd);

impl Eventfd {
    /// Makes one that is not raised.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Raises it.
    pub fn raise(&self) {
        // Fails only when the counter is at its maximum, hence raised.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Lowers it.
    pub fn lower(&self) {
        // Fails only when it was not raised.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or the end.
    Read,
    /// Also room to write.
    ReadWrite,
    /// As told, but only the next time: then it rests until [`Epoll::change`].
    Once {
        /// Something to read, or the end.
        read: bool,
        /// Room to write.
        write: bool,
    },
}

impl Interest {
    const fn flags(self) -> epoll::EventFlags {
        match self {
            Self::Read => epoll::EventFlags::IN,
            Self::ReadWrite => epoll::EventFlags::IN.union(epoll::EventFlags::OUT),
            Self::Once { read, write } => {
                let mut flags = epoll::EventFlags::ONESHOT;
                if read {
                    flags = flags.union(epoll::EventFlags::IN);
                }
                if write {
                    flags = flags.union(epoll::EventFlags::OUT);
                }
                flags
            }
        }
    }
}

/// A descriptor that became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token under which it was added.
    pub token: u64,
    /// It can be read, or it failed or ended, which reading tells.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
}

/// Waits for many descriptors, level-triggered.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Makes an empty set.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Adds a descriptor.
    ///
    /// # Errors
    /// When it is in the set already, or cannot be waited for.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Changes what to wait for.
    ///
    /// # Errors
    /// When it is not in the set.
    pub fn change(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token), interest.flags())?)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// When it is not in the set.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits, at most for `timeout` (rounded up to milliseconds), and replaces the contents of `ready`.
    ///
    /// # Errors
    /// None in practice: an interrupted wait returns with nothing.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(whole_millis);
        let mut events = [std::mem::MaybeUninit::uninit(); 64];
        let events = match epoll::wait(&self.fd, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                token: event.data.u64(),
                readable: flags
                    .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                writable: flags.contains(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

/// Waits until `fd` can be written, or `stop` is raised, or the time is over. Returns whether `fd` can be written.
///
/// # Errors
/// None in practice: an interrupted wait returns `false`.
pub fn wait_writable(fd: impl AsFd, stop: &Eventfd, timeout: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT), PollFd::new(stop, PollFlags::IN)];
    match event::poll(&mut fds, Some(&whole_millis(timeout))) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read, or the end.
    Readable,
    /// Nobody waits for it any more.
    Stopped,
    /// The time is over, or a signal came.
    Neither,
}

/// Waits until `fd` can be read, or `stop`, if there is one, is raised, or the time is over.
///
/// # Errors
/// As the system says.
pub fn wait_readable(fd: impl AsFd, stop: Option<&Eventfd>, timeout: Duration) -> io::Result<Woken> {
    let mut fds = vec![PollFd::new(&fd, PollFlags::IN)];
    fds.extend(stop.map(|stop| PollFd::new(stop, PollFlags::IN)));
    match event::poll(&mut fds, Some(&whole_millis(timeout))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(match (is_ready(1), is_ready(0)) {
        (true, _) => Woken::Stopped,
        (false, true) => Woken::Readable,
        (false, false) => Woken::Neither,
    })
}

/// Rounds up, so that a wait never ends just before its deadline and spins.
fn whole_millis(timeout: Duration) -> Timespec {
    let millis = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128);
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_eventfd_wakes_the_wait_until_it_is_lowered() {
        let (epoll, event) = (Epoll::new().unwrap(), Eventfd::new().unwrap());
        epoll.add(&event, 7, Interest::Read).unwrap();
        let mut ready = Vec::new();
        event.raise();
        epoll.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 7, readable: true, writable: false }]);
        event.lower();
        epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }
}
