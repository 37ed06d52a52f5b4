//! What was said lately: for clients that come later.

use std::{collections::VecDeque, fmt::Display};

use culvert_mgmt::{History, HistoryOf};

/// The last lines of one kind.
#[derive(Debug)]
pub(super) struct Lines<T> {
    lines: VecDeque<T>,
    most: usize,
}

impl<T: Display> Lines<T> {
    /// Keeps so many.
    pub(super) fn new(most: usize) -> Self {
        Self { lines: VecDeque::new(), most }
    }

    pub(super) fn add(&mut self, line: T) {
        while self.lines.len() >= self.most.max(1) {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The newest one.
    pub(super) fn last(&self) -> Option<&T> {
        self.lines.back()
    }

    /// Answers one argument of `log`, `echo` or `state`: what is asked for in real time goes into `real_time`.
    pub(super) fn answer(&self, of: HistoryOf, wanted: History, real_time: &mut bool) -> String {
        let name = of.name();
        let count = match wanted {
            History::RealTime(on) => {
                *real_time = on;
                let word = if on { "ON" } else { "OFF" };
                return format!("SUCCESS: real-time {name} notification set to {word}\r\n");
            }
            History::All => self.lines.len(),
            History::Last(count) => count,
            History::Unknown => {
                return format!(
                    "ERROR: {name} parameter must be 'on' or 'off' or some number n or 'all'\r\n"
                );
            }
        };
        let from = self.lines.len().saturating_sub(count);
        let mut text: String = self.lines.iter().skip(from).map(|line| format!("{line}\r\n")).collect();
        text.push_str("END\r\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_oldest_first() {
        let mut lines = Lines::new(3);
        for line in ["a", "b", "c", "d"] {
            lines.add(line);
        }
        let mut real_time = false;
        let mut answer = |wanted| lines.answer(HistoryOf::Log, wanted, &mut real_time);
        assert_eq!(answer(History::All), "b\r\nc\r\nd\r\nEND\r\n");
        assert_eq!(answer(History::Last(2)), "c\r\nd\r\nEND\r\n");
        assert_eq!(answer(History::Last(9)), "b\r\nc\r\nd\r\nEND\r\n");
        assert_eq!(
            answer(History::Unknown),
            "ERROR: log parameter must be 'on' or 'off' or some number n or 'all'\r\n"
        );
        assert_eq!(answer(History::RealTime(true)), "SUCCESS: real-time log notification set to ON\r\n");
        assert!(real_time);
    }
}
