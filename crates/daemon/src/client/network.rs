//! What happens to the network below a tunnel: another address, no network for a while, a machine that was asleep.
//!
//! The kernel tells of every change as it happens; what counts is whether packets to the server take another way. Over UDP the server
//! follows a client that moves as soon as it hears of it, so it is sent something through the tunnel; when nothing comes
//! back, and over TCP in any case, the client connects again instead of waiting for `ping-restart`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use culvert_config::{Profile, profile::ConnectionEntry};
use culvert_host::NetworkNews;
use culvert_offload::Offload;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{Advance, Client, Outcome, Restart, drive::Progress};
use crate::{link, network, ovlog, sizes, tunnel::TunnelSpec};

/// Changes come in flocks: how long after the first to look.
const SETTLE: Duration = Duration::from_millis(500);
/// Pieces of news taken at a time: a storm of them cannot hold up the session.
const ROUND: usize = 4096;
/// How often to look whether the machine was asleep.
const TICK: Duration = Duration::from_secs(1);
/// A sleep that counts.
const NAP: Duration = Duration::from_secs(2);
/// After such a sleep servers have forgotten their clients; shorter ones are like a move.
const LONG_SLEEP: Duration = Duration::from_secs(45);
/// How long an answer may take beyond the server's next ping.
const GRACE: Duration = Duration::from_secs(3);
/// Where the packet goes that only tells where this end is now (RFC 863).
const DISCARD: u16 = 9;

/// The network, as far as a session depends on it.
pub(super) struct Surroundings {
    news: Option<AsyncFd<NetworkNews>>,
    /// The address that packets to the server leave from.
    source: Option<IpAddr>,
    look_due: Option<Instant>,
    tick_due: Instant,
    /// Time that the machine slept since it started.
    slept: Duration,
    /// Waiting for a sign of life: until when, and what was received before.
    probe: Option<(Instant, u64)>,
}

/// What became of the way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Packets leave from another address.
    Moved,
    /// They would go into the tunnel themselves.
    Swallowed,
    /// The machine was asleep for long.
    Slept,
}

/// Why to look.
enum Stir {
    Sleep(Change),
    News,
}

impl Surroundings {
    /// Begins to watch.
    pub(super) fn watch() -> Self {
        #[expect(deprecated, reason = "its successor is unsafe; this descriptor is owned and stays the same")]
        let news = NetworkNews::open().map_err(io::Error::other).and_then(AsyncFd::new);
        let news = news.map_err(|failure| debug!("changes of the network are not noticed: {failure}")).ok();
        let tick_due = Instant::now() + TICK;
        Self { news, source: None, look_due: None, tick_due, slept: slept(), probe: None }
    }

    /// Waits for news, after which [`Self::deadline`] is soon. Until then none are waited for: they come in flocks. Cancel safe.
    pub(super) async fn hear(&mut self) {
        match &self.news {
            Some(news) if self.look_due.is_none() => {
                if let Err(failure) = news.readable().await {
                    debug!("changes of the network are no longer noticed: {failure}");
                    self.news = None;
                    return;
                }
                self.look_due = Some(Instant::now() + SETTLE);
            }
            _ => std::future::pending().await,
        }
    }

    /// Remembers the way to the server as it is now. `is_own` tells this end's addresses in the tunnel.
    pub(super) fn settle(&mut self, profile: &Profile, outside: SocketAddr, is_own: impl Fn(IpAddr) -> bool) {
        self.source = source(profile, outside);
        if self.source.is_some_and(is_own) && !profile.link.allow_recursive_routing {
            ovlog!(
                warn 1,
                "WARNING: Recursive routing detected: packets to {outside} are routed into the tunnel that they carry. Add a `route` with net_gateway for the server."
            );
        }
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Instant {
        let probe = self.probe.map(|(until, _)| until);
        [self.look_due, probe].into_iter().flatten().fold(self.tick_due, Instant::min)
    }

    /// Looks, when it is time; tells what changed.
    pub(super) fn look(
        &mut self,
        profile: &Profile,
        outside: SocketAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<Change> {
        match self.stirred()? {
            Stir::Sleep(change) => return Some(change),
            Stir::News => {}
        }
        // Without a way there will be news when there is a network again.
        let source = source(profile, outside)?;
        if self.source == Some(source) {
            return None;
        }
        if is_own(source) {
            return (!profile.link.allow_recursive_routing).then_some(Change::Swallowed);
        }
        self.source = Some(source);
        Some(Change::Moved)
    }

    /// Whether anything happened to the network or the machine since it was last asked.
    fn stirred(&mut self) -> Option<Stir> {
        let now = Instant::now();
        if now >= self.tick_due {
            self.tick_due = now + TICK;
        }
        if let Some(change) = after_sleep(std::mem::replace(&mut self.slept, slept()), self.slept) {
            return Some(Stir::Sleep(change));
        }
        self.look_due.take_if(|due| now >= *due)?;
        if let Some(news) = &self.news {
            let _all = (0..ROUND).all(|_| news.try_io(Interest::READABLE, NetworkNews::take).is_ok());
        }
        Some(Stir::News)
    }

    /// Waits until anything happens to the network or the machine.
    async fn change(&mut self) -> Stir {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                () = self.hear() => {}
                () = sleep_until(deadline) => if let Some(stir) = self.stirred() {
                    return stir;
                }
            }
        }
    }

    /// Sends something through the tunnel, so that the server learns this end's address, and expects an answer within
    /// the time that the server's next ping takes. Returns whether that was possible.
    pub(super) fn probe(
        &mut self,
        own: Option<Ipv4Addr>,
        gateway: Option<IpAddr>,
        interval: Duration,
        received: u64,
    ) -> bool {
        let (Some(own), Some(gateway)) = (own, gateway) else { return false };
        let send = || UdpSocket::bind((own, 0))?.send_to(&[], (gateway, DISCARD));
        if let Err(failure) = send() {
            debug!("nothing can be sent through the tunnel: {failure}");
            return false;
        }
        self.probe = Some((Instant::now() + interval + GRACE, received));
        true
    }

    /// Whether an answer to [`Self::probe`] is overdue. `received` asks the data plane.
    pub(super) fn is_unanswered(&mut self, received: impl FnOnce() -> u64) -> bool {
        match self.probe {
            Some((until, before)) if Instant::now() >= until => {
                self.probe = None;
                received() == before
            }
            _ => false,
        }
    }
}

impl Client {
    /// Looks at the network, when it is time, and does what follows.
    pub(super) async fn look_around(
        &mut self,
        entry: &ConnectionEntry,
        progress: &mut Progress,
        offload: &Arc<dyn Offload>,
    ) -> Option<Outcome> {
        let outside = progress.link.outside();
        let Some(peer) = progress.peer else {
            // Nobody to ask for a sign of life; but what is to be sent must not go into the tunnel that still stands.
            progress.surroundings.stirred()?;
            self.follow_network(outside).await;
            return None;
        };
        let spec = TunnelSpec::from_profile(&self.profile).with_pushed(&progress.pushed);
        let own = spec.addresses().tunnel4;
        let is_own = |address| self.is_own(address);
        let received = || {
            let mut stats = Vec::new();
            let asked = offload.stats(Some(peer), &mut stats);
            asked.ok().and_then(|()| stats.first().map(|stats| stats.link.rx_bytes)).unwrap_or_default()
        };
        if progress.surroundings.is_unanswered(received) {
            ovlog!(1, "the server does not answer since the network changed: connecting again");
            return Some(again());
        }
        match progress.surroundings.look(&self.profile, outside, is_own)? {
            Change::Slept => {
                ovlog!(1, "the machine was asleep: connecting again");
                return Some(again());
            }
            Change::Swallowed => {
                ovlog!(1, "the way to the server is gone: connecting again, with new routes");
                return Some(again());
            }
            Change::Moved => self.follow_network(outside).await,
        }
        ovlog!(
            1,
            "the network changed: packets to the server leave from another address, or this machine was asleep"
        );
        // One of two equal ends follows the other only with `float`, which is not known here.
        let follows = self.profile.client.pull
            && progress.params.as_ref().is_some_and(|params| params.data_v2 && params.peer_id.is_some())
            && !entry.proto.transport.is_tcp()
            && progress.link.association.is_none();
        let interval = progress.pushed.ping.or(self.profile.keepalive.ping);
        let device = offload.device().name;
        let context =
            network::route_context(&device, &spec.device, spec.topology, &spec.routes, Some(outside.ip()));
        let before = received();
        match interval {
            Some(interval)
                if follows
                    && progress.surroundings.probe(own, context.vpn4.map(IpAddr::V4), interval, before) =>
            {
                sizes::test_again(&**offload, peer, spec.mtu);
                None
            }
            _ => Some(again()),
        }
    }
}

impl Client {
    /// Whether an address is this end's in the tunnel that stands.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.up.as_ref().is_some_and(|up| up.tunnel.holds(address))
    }

    /// Sees to it that packets to `outside` do not go into a tunnel that stands from before (`persist-tun`), nor to a
    /// router that is no longer there.
    pub(super) async fn follow_network(&mut self, outside: SocketAddr) {
        let swallowed = !self.profile.link.allow_recursive_routing
            && source(&self.profile, outside).is_some_and(|source| self.is_own(source));
        let Some(up) = &mut self.up else { return };
        let followed = up.tunnel.follow_network(outside.ip(), swallowed).await;
        if let Err(failure) = &followed {
            ovlog!(error 1, "the routes cannot be fitted to the network as it is now: {failure}");
        }
        // Whoever set the routes (`route-noexec`, a script) sets them anew with the next device.
        if swallowed && !matches!(followed, Ok(true)) {
            self.device_lost = true;
        }
    }
}

/// Waits out a pause between attempts. Beyond `at_least` it is over when packets would leave another way, or the machine
/// slept: what failed may work now. `outside`: where the last attempt led, if anywhere. `is_own` tells this end's
/// addresses in the tunnel.
pub(super) async fn pause(
    at_least: Duration,
    whole: Duration,
    profile: &Profile,
    outside: Option<SocketAddr>,
    is_own: impl Fn(IpAddr) -> bool,
) {
    let end = Instant::now() + whole;
    let mut surroundings = Surroundings::watch();
    let mut way = ways_out(profile, outside);
    sleep(at_least.min(whole)).await;
    let changed = async {
        while let Stir::News = surroundings.change().await {
            let now = ways_out(profile, outside);
            // A tunnel that stands hides the machine's own ways: any news may be that of a network that is back.
            if now.into_iter().flatten().any(&is_own) {
                return;
            }
            // Without any there will be news when there is a network again.
            if std::mem::replace(&mut way, now) != now && now != [None; 2] {
                return;
            }
        }
    };
    tokio::select! {
        () = sleep_until(end) => {}
        () = changed => ovlog!(1, "the network changed, or this machine was asleep: the pause is over"),
    }
}

/// The same server, at once.
fn again() -> Outcome {
    Outcome::Restart(Restart {
        advance: Advance::Stay,
        pause: Some(Duration::ZERO),
        ..Restart::because("network-change")
    })
}

/// The address that a packet to the server would leave from now; `None`: there is no way.
fn source(profile: &Profile, outside: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(link::unspecified_like(outside, 0)).ok()?;
    if let Some(mark) = link::mark(profile) {
        culvert_sys::sockopt::set_mark(&socket, mark).ok()?;
    }
    if let Some(device) = &profile.link.bind_dev {
        culvert_sys::sockopt::set_bind_device(&socket, device).ok()?;
    }
    socket.connect(outside).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The addresses that packets leave from towards `outside`, or towards anywhere over IPv4 and IPv6.
fn ways_out(profile: &Profile, outside: Option<SocketAddr>) -> [Option<IpAddr>; 2] {
    // Networks for documentation (RFC 5737, RFC 3849): nobody's, so that only default routes lead there.
    const ANYWHERE: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1))];
    match outside {
        Some(outside) => [source(profile, outside), None],
        None => ANYWHERE.map(|address| source(profile, SocketAddr::new(address, 9))),
    }
}

/// Time that this machine slept: the two clocks differ by it.
fn slept() -> Duration {
    culvert_sys::since_boot().saturating_sub(culvert_sys::awake())
}

/// What a sleep means that made the difference between the clocks grow.
fn after_sleep(before: Duration, now: Duration) -> Option<Change> {
    match now.saturating_sub(before) {
        slept if slept >= LONG_SLEEP => Some(Change::Slept),
        slept if slept >= NAP => Some(Change::Moved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sleep_is_like_a_move_and_a_long_one_ends_the_session() {
        let at = Duration::from_secs(1000);
        assert_eq!(after_sleep(at, at + Duration::from_millis(10)), None);
        assert_eq!(after_sleep(at, at + Duration::from_secs(10)), Some(Change::Moved));
        assert_eq!(after_sleep(at, at + Duration::from_secs(3600)), Some(Change::Slept));
        assert_eq!(after_sleep(at, at - Duration::from_secs(10)), None);
    }

    #[test]
    fn the_source_of_loopback_is_loopback() {
        let profile = Profile::default();
        let source = source(&profile, ([127, 0, 0, 1], 9).into());
        assert_eq!(source, Some(Ipv4Addr::LOCALHOST.into()));
    }
}
