//! The rest before a device that vanished is made anew: a program that is the device (`dev-node unix:PROGRAM`) may end as soon
//! as it was started, again and again.

use std::time::Duration;

use crate::{
    exit::Ended,
    ovlog,
    signals::{Request, Signals},
};

const FIRST: Duration = Duration::from_secs(1);
/// The longest rest, and how long a device has to be there for the next rest to be the first again.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to rest the next time.
pub(crate) struct DeviceRest(Duration);

impl Default for DeviceRest {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl DeviceRest {
    /// Rests, after a life that lasted so long. Returns what a signal asked for meanwhile, where that is another end than
    /// the one that the device made.
    pub(crate) async fn rest(&mut self, lasted: Duration, signals: &mut Signals) -> Option<Ended> {
        let pause = self.next(lasted);
        ovlog!(1, "Restart pause, {} second(s)", pause.as_secs());
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return None,
                request = signals.next() => match request {
                    Request::SoftRestart => return None,
                    Request::Statistics => ovlog!(1, "{} has no effect before the restart", request.name()),
                    Request::Restart | Request::Terminate | Request::Interrupt => {
                        return Some(Ended::by_signal(request));
                    }
                },
            }
        }
    }

    fn next(&mut self, lasted: Duration) -> Duration {
        if lasted >= LONGEST {
            self.0 = FIRST;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Asked;

    #[test]
    fn rests_become_longer_until_a_device_stayed() {
        let mut rest = DeviceRest::default();
        let soon = [(); 8].map(|()| rest.next(Duration::ZERO).as_secs());
        assert_eq!(soon, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(rest.next(LONGEST), FIRST);
        assert_eq!(rest.next(Duration::ZERO), FIRST * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_ends_a_rest() {
        for (request, other) in [
            (Request::Terminate, Some(Ended::Signal(Request::Terminate))),
            (Request::Restart, Some(Ended::Signal(Request::Restart))),
            (Request::SoftRestart, None),
        ] {
            let asked = Asked::default();
            let mut signals = Signals::new(asked.clone()).unwrap();
            asked.raise(request);
            let began = tokio::time::Instant::now();
            assert_eq!(DeviceRest::default().rest(Duration::ZERO, &mut signals).await, other);
            assert!(began.elapsed() < FIRST, "{request:?}");
        }
        let mut signals = Signals::new(Asked::default()).unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(DeviceRest::default().rest(Duration::ZERO, &mut signals).await, None);
        assert!(began.elapsed() >= FIRST);
    }
}
