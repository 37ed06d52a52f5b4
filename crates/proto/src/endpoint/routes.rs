//! Which session a packet belongs to: by address and by the sender's session id.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use culvert_wire::RemoteSid;

use super::{MAX_HALF_OPEN_PER_PREFIX, budget::host_prefix};

/// Names an accepted session for its whole life; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u64);

impl Handle {
    /// The raw number, for logs.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A half-open session that was not heard for so long gives way: clients repeat themselves within 8 s at first.
const SILENCE: Duration = Duration::from_secs(10);
/// One that is older gives way in any case, lest places be held by repeating packets.
const OLD: Duration = Duration::from_secs(30);

/// A session whose handshake is not finished.
struct HalfOpen {
    /// The prefix that it came from.
    prefix: [u8; 9],
    since: Instant,
    heard: Instant,
}

/// All sessions of a listener. Ordered maps: what is evicted must not depend on hashing.
#[derive(Default)]
pub(super) struct Routes {
    by_address: BTreeMap<SocketAddr, Vec<(RemoteSid, Handle)>>,
    sessions: BTreeMap<Handle, SocketAddr>,
    /// Sessions whose handshake is not finished.
    half_open: BTreeMap<Handle, HalfOpen>,
    next: u64,
}

impl Routes {
    pub(super) fn find(&self, from: SocketAddr, sid: RemoteSid) -> Option<Handle> {
        let entry = self.by_address.get(&from)?.iter().find(|(known, _)| *known == sid)?;
        Some(entry.1)
    }

    /// Adds a session. Gives way: another unfinished session of this address, and, when there are `max_half_open`
    /// already, one that is [`Self::expendable`]. `None` when there is no such: to end a handshake for one that only begins
    /// would be a waste, and of a crowd that comes at once nobody would get in.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        from: SocketAddr,
        sid: RemoteSid,
        max_half_open: usize,
    ) -> Option<(Handle, Vec<Handle>)> {
        let rivals = self.by_address.get(&from).map_or(&[][..], Vec::as_slice);
        let mut evicted: Vec<Handle> =
            rivals.iter().map(|(_, handle)| *handle).filter(|h| self.half_open.contains_key(h)).collect();
        if self.half_open.len() - evicted.len() >= max_half_open.max(1) {
            evicted.push(self.expendable(now, from.ip())?);
        }
        for &handle in &evicted {
            self.remove(handle);
        }
        let handle = Handle(self.next);
        self.next += 1;
        self.by_address.entry(from).or_default().push((sid, handle));
        self.sessions.insert(handle, from);
        self.half_open.insert(handle, HalfOpen { prefix: host_prefix(from.ip()), since: now, heard: now });
        Some((handle, evicted))
    }

    /// A packet of the session arrived.
    pub(super) fn heard(&mut self, handle: Handle, now: Instant) {
        if let Some(half_open) = self.half_open.get_mut(&handle) {
            half_open.heard = now;
        }
    }

    /// The half-open session that has to give way to one from `source`: the one that was silent for longest, else the
    /// oldest, else the oldest of a prefix that has more than its share. Handles ascend with age.
    fn expendable(&self, now: Instant, source: IpAddr) -> Option<Handle> {
        let (&silent, quiet) = self.half_open.iter().min_by_key(|(_, session)| session.heard)?;
        let (&oldest, old) = self.half_open.first_key_value()?;
        if now.saturating_duration_since(quiet.heard) >= SILENCE {
            return Some(silent);
        }
        if now.saturating_duration_since(old.since) >= OLD {
            return Some(oldest);
        }
        let mut counts = BTreeMap::<_, usize>::new();
        for session in self.half_open.values() {
            *counts.entry(session.prefix).or_default() += 1;
        }
        let (greedy, _) = counts
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .filter(|(prefix, count)| *count > MAX_HALF_OPEN_PER_PREFIX && *prefix != host_prefix(source))?;
        self.half_open.iter().find(|(_, session)| session.prefix == greedy).map(|(&handle, _)| handle)
    }

    pub(super) fn established(&mut self, handle: Handle) {
        self.half_open.remove(&handle);
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        self.half_open.remove(&handle);
        let Some(address) = self.sessions.remove(&handle) else { return };
        self.take_entry(address, handle);
    }

    /// A half-open session at the new address is no obstacle: nobody has proved to be its peer yet, and session ids
    /// tell the two apart.
    pub(super) fn float(&mut self, handle: Handle, to: SocketAddr) -> Result<(), Handle> {
        let is_rival = |owner: &Handle| *owner != handle && !self.half_open.contains_key(owner);
        let here = self.by_address.get(&to).map_or(&[][..], Vec::as_slice);
        if let Some(owner) = here.iter().map(|(_, owner)| *owner).find(is_rival) {
            return Err(owner);
        }
        let Some(address) = self.sessions.get_mut(&handle) else { return Ok(()) };
        let old = std::mem::replace(address, to);
        if let Some(sid) = self.take_entry(old, handle) {
            self.by_address.entry(to).or_default().push((sid, handle));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn address(&self, handle: Handle) -> Option<SocketAddr> {
        self.sessions.get(&handle).copied()
    }

    pub(super) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    pub(super) fn half_open_from(&self, source: IpAddr) -> usize {
        let prefix = host_prefix(source);
        self.half_open.values().filter(|session| session.prefix == prefix).count()
    }

    fn take_entry(&mut self, address: SocketAddr, handle: Handle) -> Option<RemoteSid> {
        let list = self.by_address.get_mut(&address)?;
        let at = list.iter().position(|(_, known)| *known == handle)?;
        let (sid, _) = list.swap_remove(at);
        if list.is_empty() {
            self.by_address.remove(&address);
        }
        Some(sid)
    }
}
