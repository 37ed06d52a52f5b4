//! Finding the largest packets that a path carries, from nothing but a peer that says what came.
//!
//! No router has to tell anything, which is what makes it work where messages about packets that are too large are
//! filtered. The peer is sent a packet into which everything would fit, and asked what came. Only if it says that this one
//! did not, it is sent packets of many sizes at once, and asked again. OpenVPN counts all packets for its answer, also
//! those that were cut on the way and joined; so the first test has to begin before other packets do, and for a later one
//! the peer is asked before, whether its answer can say anything. If not, it is asked for packets, and the way back is
//! taken for the way there, but never for a wider one: nobody tells whether they were cut. Who does not answer is left
//! alone. An answer may be a late one to an earlier question: one that makes the path narrow has to show that something new
//! came, or is asked for once more.

/// Headers of UDP and IP.
const fn headers(ipv6: bool) -> u16 {
    if ipv6 { 48 } else { 28 }
}

/// Sizes of packets, outer headers included, of links that exist: jumbo frames, Ethernet, PPPoE, tunnels of all sorts,
/// and the least that IPv6 allows; then what IPv4 may have.
const STEPS: [u16; 28] = [
    9000, 6000, 4000, 3000, 2000, 1500, 1492, 1480, 1472, 1460, 1452, 1440, 1420, 1400, 1380, 1360, 1340,
    1320, 1300, 1280, 1240, 1200, 1100, 1000, 900, 800, 700, LEAST_V4,
];

const LEAST_V6: u16 = 1280;
const LEAST_V4: u16 = 576;

/// Packets that do not fit into this are cut by the machine's own device, unless larger ones are meant to be sent.
const ETHERNET: u16 = 1500;

/// By how much OpenVPN's packets may be shorter than they were asked for: 2.6 and 2.7 count a packet id of 8 bytes.
const SHORT: u16 = 8;

/// How often something is tried before the answer, or its absence, is believed.
const TRIES: u8 = 2;
/// How long an answer is waited for, in milliseconds.
const WAIT: u64 = 1_000;
/// When a path is tested again: RFC 8899, `PMTU_RAISE_TIMER`.
const AGAIN: u64 = 600_000;

/// The progress of a test.
#[derive(Debug)]
pub(super) struct PathTest {
    ipv6: bool,
    /// The size that is to pass, in bytes of UDP payload.
    whole: u16,
    stage: Stage,
    tries: u8,
    /// Sizes that went out in this stage.
    sent: Vec<u16>,
    /// What the peer had got when it was last heard before this stage.
    before: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What was there before is asked for.
    Asking,
    Whole,
    Steps,
    /// A packet of the size that is to pass is asked for.
    Returned,
    ReturnedSteps,
    Resting,
}

/// What an answer says: the largest packet that came to the peer, and the largest that came from it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) came: u16,
    pub(super) returned: u16,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send test packets of these sizes, of UDP payload, and ask what came; come back when it is answered, or then.
    Ask(Vec<u16>, u64),
    /// Ask for test packets of these sizes, and then what came; the same after that. What came before counts no longer, if
    /// this is to be a new `beginning`.
    Request { sizes: Vec<u16>, beginning: bool, wait: u64 },
    /// The test is over; come back for another after so many milliseconds, if at all.
    Rest(Verdict, Option<u64>),
}

/// What the path is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Everything passes.
    Wide,
    /// Packets of so many bytes of UDP payload pass, and no larger ones.
    Narrow(u16),
    /// Packets of so many bytes pass at most.
    AtMost(u16),
    /// The peer does not tell.
    Unknown,
}

impl PathTest {
    /// A test for packets of up to `largest` bytes of UDP payload, where `mtu` is the tunnel's. The `first` test with a
    /// peer takes its answers as they are.
    pub(super) fn new(ipv6: bool, mtu: u16, largest: u16, first: bool) -> Self {
        let usual = ETHERNET - headers(ipv6);
        let whole = if mtu <= ETHERNET { largest.min(usual) } else { largest };
        let stage = if first { Stage::Whole } else { Stage::Asking };
        Self { ipv6, whole, stage, tries: 0, sent: Vec::new(), before: 0 }
    }

    /// A test packet of so many bytes of UDP payload went out.
    pub(super) fn note_sent(&mut self, size: u16) {
        self.sent.push(size);
    }

    /// How often the stage that it is in was tried.
    #[cfg(test)]
    pub(super) const fn tries(&self) -> u8 {
        self.tries
    }

    /// Decides what comes next, by what the peer answered since the last call.
    pub(super) fn next(&mut self, heard: Option<Heard>) -> Step {
        let Some(Heard { came, returned }) = heard else {
            return match self.stage {
                Stage::Resting => self.ask_in(Stage::Asking),
                _ if self.tries < TRIES => self.ask(),
                Stage::Asking | Stage::Whole => self.rest(Verdict::Unknown, None),
                // It answered before.
                Stage::Steps | Stage::Returned | Stage::ReturnedSteps => {
                    self.rest(Verdict::Unknown, Some(AGAIN))
                }
            };
        };
        let all_returned = returned.saturating_add(SHORT) >= self.whole;
        match self.stage {
            Stage::Resting => self.ask_in(Stage::Asking),
            Stage::Asking if came >= self.whole => self.ask_in(Stage::Returned),
            Stage::Asking => self.ask_in(Stage::Whole),
            Stage::Whole if self.passed(came) == Some(self.largest_sent()) => {
                self.rest(Verdict::Wide, Some(AGAIN))
            }
            Stage::Whole => {
                self.before = came;
                self.ask_in(Stage::Steps)
            }
            Stage::Steps if self.tries < TRIES && (came <= self.before || self.passed(came).is_none()) => {
                self.ask()
            }
            Stage::Steps => {
                let verdict = match self.passed(came) {
                    // The first was lost for another reason.
                    Some(passed) if passed == self.largest_sent() => Verdict::Wide,
                    passed => Verdict::Narrow(passed.unwrap_or(0).max(self.least())),
                };
                self.rest(verdict, Some(AGAIN))
            }
            Stage::Returned | Stage::ReturnedSteps if all_returned => {
                self.rest(Verdict::Unknown, Some(AGAIN))
            }
            Stage::Returned | Stage::ReturnedSteps if self.tries < TRIES => self.ask(),
            Stage::Returned => self.ask_in(Stage::ReturnedSteps),
            // Who sends none is not one that can be tested with.
            Stage::ReturnedSteps if returned == 0 => self.rest(Verdict::Unknown, Some(AGAIN)),
            Stage::ReturnedSteps => {
                let passed = self.steps().into_iter().filter(|size| *size <= returned).max();
                self.rest(Verdict::AtMost(passed.unwrap_or(self.least())), Some(AGAIN))
            }
        }
    }

    /// The largest size that went out and is not larger than what `came`.
    fn passed(&self, came: u16) -> Option<u16> {
        self.sent.iter().copied().filter(|sent| *sent <= came).max()
    }

    fn largest_sent(&self) -> u16 {
        self.sent.iter().copied().max().unwrap_or(0)
    }

    fn ask_in(&mut self, stage: Stage) -> Step {
        (self.stage, self.tries) = (stage, 0);
        self.sent.clear();
        self.ask()
    }

    fn ask(&mut self) -> Step {
        self.tries += 1;
        let sizes = match self.stage {
            Stage::Whole | Stage::Returned => vec![self.whole],
            Stage::Steps | Stage::ReturnedSteps => self.steps(),
            Stage::Asking | Stage::Resting => Vec::new(),
        };
        if let Stage::Returned | Stage::ReturnedSteps = self.stage {
            let beginning = self.stage == Stage::Returned && self.tries == 1;
            return Step::Request { sizes, beginning, wait: WAIT };
        }
        Step::Ask(sizes, WAIT)
    }

    fn rest(&mut self, verdict: Verdict, again: Option<u64>) -> Step {
        self.stage = Stage::Resting;
        self.sent.clear();
        Step::Rest(verdict, again)
    }

    /// What always passes, of UDP payload.
    const fn least(&self) -> u16 {
        (if self.ipv6 { LEAST_V6 } else { LEAST_V4 }) - headers(self.ipv6)
    }

    /// Sizes to try, of UDP payload, the whole one first.
    fn steps(&self) -> Vec<u16> {
        let sizes = STEPS.iter().map(|outer| outer - headers(self.ipv6));
        let below = sizes.filter(|size| (self.least()..self.whole).contains(size));
        std::iter::once(self.whole).chain(below).collect()
    }
}

/// The size of a packet on the path, outer headers included, that has `payload` bytes of UDP payload.
pub(super) const fn outer(ipv6: bool, payload: u16) -> u16 {
    payload.saturating_add(headers(ipv6))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a test to its end with a peer behind a path for packets of `outer` bytes. It has had `before` bytes of UDP
    /// payload, and answers in the turns that `answers` says; packets that it is asked for are 4 bytes short. Returns also
    /// how many test packets there were.
    fn run(
        test: &mut PathTest,
        (ipv6, path): (bool, u16),
        before: u16,
        answers: impl Fn(u32) -> bool,
    ) -> (Verdict, u32) {
        let (mut heard, mut came, mut returned, mut packets) = (None, before, 0, 0);
        let passes = |size: u16| outer(ipv6, size) <= path;
        for turn in 0..50 {
            match test.next(heard.take()) {
                Step::Rest(verdict, _) => return (verdict, packets),
                Step::Ask(sizes, _) => {
                    packets += u32::try_from(sizes.len()).unwrap();
                    sizes.iter().for_each(|size| test.note_sent(*size));
                    came = sizes.into_iter().filter(|size| passes(*size)).fold(came, u16::max);
                }
                Step::Request { sizes, beginning, .. } => {
                    returned = if beginning { 0 } else { returned };
                    let back = sizes.into_iter().map(|size| size - 4).filter(|size| passes(*size));
                    returned = back.fold(returned, u16::max);
                }
            }
            heard = answers(turn).then_some(Heard { came, returned });
        }
        panic!("no end");
    }

    fn came(came: u16) -> Option<Heard> {
        Some(Heard { came, returned: 0 })
    }

    fn verdict(ipv6: bool, path: u16, before: u16, answers: impl Fn(u32) -> bool) -> (Verdict, u32) {
        run(&mut PathTest::new(ipv6, 1500, 1552, true), (ipv6, path), before, answers)
    }

    #[test]
    fn a_path_that_carries_everything_costs_one_packet() {
        assert_eq!(verdict(false, 1500, 0, |_| true), (Verdict::Wide, 1));
        assert_eq!(verdict(true, 1500, 1100, |_| true), (Verdict::Wide, 1));
    }

    #[test]
    fn the_largest_packet_that_passes_is_found() {
        for ipv6 in [false, true] {
            for path in [1492, 1480, 1400, 1280] {
                let found = Verdict::Narrow(path - headers(ipv6));
                assert_eq!(verdict(ipv6, path, 0, |_| true).0, found, "{path}");
                assert_eq!(verdict(ipv6, path, 0, |turn| turn % 2 == 1).0, found, "{path}, with loss");
            }
        }
        // Between two steps the lower one holds; below the least there is the least.
        assert_eq!(verdict(false, 1410, 0, |_| true).0, Verdict::Narrow(1400 - 28));
        assert_eq!(verdict(true, 1000, 0, |_| true).0, Verdict::Narrow(1280 - 48));
        assert_eq!(verdict(false, 300, 0, |_| true).0, Verdict::Narrow(576 - 28));
    }

    #[test]
    fn a_lost_packet_does_not_make_a_path_narrow() {
        let mut test = PathTest::new(false, 1500, 1552, true);
        assert_eq!(test.next(None), Step::Ask(vec![1472], WAIT));
        test.note_sent(1472);
        let Step::Ask(sizes, _) = test.next(came(0)) else { panic!("not over") };
        sizes.iter().for_each(|size| test.note_sent(*size));
        assert_eq!(test.next(came(1472)), Step::Rest(Verdict::Wide, Some(AGAIN)));
    }

    #[test]
    fn a_peer_that_does_not_answer_is_left_alone() {
        assert_eq!(verdict(false, 1500, 0, |_| false), (Verdict::Unknown, u32::from(TRIES)));
        let mut test = PathTest::new(false, 1500, 1552, true);
        for _ in 0..TRIES {
            assert!(matches!(test.next(None), Step::Ask(..)));
        }
        assert_eq!(test.next(None), Step::Rest(Verdict::Unknown, None));
    }

    #[test]
    fn a_later_test_is_for_peers_whose_answer_says_something() {
        let mut test = PathTest::new(false, 1500, 1552, true);
        assert_eq!(run(&mut test, (false, 1280), 0, |_| true).0, Verdict::Narrow(1252));
        assert_eq!(run(&mut test, (false, 1500), 0, |_| true), (Verdict::Wide, 1));
        assert_eq!(run(&mut test, (false, 1400), 0, |_| true).0, Verdict::Narrow(1372));
        let mut moved = PathTest::new(true, 1500, 1552, false);
        assert_eq!(run(&mut moved, (true, 1280), 1100, |_| true).0, Verdict::Narrow(1232));
    }

    #[test]
    fn where_the_answer_says_nothing_the_way_back_tells_how_narrow_the_path_is_and_never_how_wide() {
        let mut test = PathTest::new(true, 1500, 1552, false);
        assert_eq!(run(&mut test, (true, 1500), 1528, |_| true), (Verdict::Unknown, 0));
        // Those of 1440 come as 1436.
        assert_eq!(run(&mut test, (true, 1440), 1528, |_| true).0, Verdict::AtMost(1420 - 48));
        assert_eq!(run(&mut test, (true, 1440), 1528, |turn| turn % 2 == 1).0, Verdict::AtMost(1420 - 48));
        assert_eq!(run(&mut test, (true, 1280), 1528, |_| true).0, Verdict::AtMost(1280 - 48));
        assert_eq!(run(&mut test, (true, 700), 1528, |_| true).0, Verdict::Unknown);
    }

    /// The path holds each packet up for 600 ms: whoever asks again after a second hears two answers.
    #[test]
    fn an_answer_to_an_earlier_question_does_not_make_a_path_narrower() {
        for before in [0, 700, 1100] {
            let mut test = PathTest::new(false, 1500, 1552, true);
            // When what the peer had got by then reaches us; what reaches the peer when.
            let (mut answers, mut arriving) = (Vec::<(u64, u16)>::new(), Vec::<(u64, u16)>::new());
            let (mut now, mut came, mut heard) = (0, before, None);
            let verdict = loop {
                let (sizes, wait) = match test.next(heard.take()) {
                    Step::Rest(verdict, _) => break verdict,
                    Step::Ask(sizes, wait) => (sizes, wait),
                    Step::Request { .. } => panic!("the peer's answers say enough"),
                };
                sizes.iter().for_each(|size| test.note_sent(*size));
                arriving.extend(sizes.iter().filter(|size| **size <= 1372).map(|size| (now + 600, *size)));
                let there = arriving.iter().filter(|(at, _)| *at <= now + 600).map(|(_, size)| *size);
                came = there.fold(came, u16::max);
                answers.push((now + 1_200, came));
                let next = now + wait;
                let first = answers.iter().position(|(at, _)| *at <= next);
                (now, heard) = first.map_or((next, None), |first| {
                    let (at, came) = answers.remove(first);
                    (at, Some(Heard { came, returned: 0 }))
                });
            };
            assert_eq!(verdict, Verdict::Narrow(1372), "{before} bytes came before");
        }
    }

    #[test]
    fn a_peer_that_falls_silent_leaves_the_path_as_it_was() {
        assert_eq!(verdict(false, 1280, 0, |turn| turn == 0).0, Verdict::Unknown);
    }

    #[test]
    fn jumbo_frames_are_tried_where_they_are_meant() {
        let mut test = PathTest::new(false, 8900, 8952, true);
        assert_eq!(test.next(None), Step::Ask(vec![8952], WAIT));
        test.note_sent(8952);
        assert_eq!(test.next(came(8952)), Step::Rest(Verdict::Wide, Some(AGAIN)));
    }
}
