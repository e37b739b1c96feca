//! How long whole answers usually take: the last few, and what nearly all of them stayed below.

use std::collections::VecDeque;
use std::time::Duration;

const KEPT: usize = 64;
/// Fewer say nothing.
const LEAST: usize = 20;

/// The times of one target.
#[derive(Debug, Default)]
pub(crate) struct Usual(VecDeque<Duration>);

impl Usual {
    pub(crate) fn took(&mut self, time: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }

    /// What 95 of a hundred stay below; none while too little is known.
    pub(crate) fn p95(&self) -> Option<Duration> {
        if self.0.len() < LEAST {
            return None;
        }
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_count_once_there_are_enough() {
        let mut usual = Usual::default();
        for ms in 1..LEAST as u64 {
            usual.took(Duration::from_millis(ms));
        }
        assert_eq!(usual.p95(), None);
        usual.took(Duration::from_secs(9));
        assert_eq!(usual.p95(), Some(Duration::from_secs(9)));
        for _ in 0..KEPT {
            usual.took(Duration::from_millis(7));
        }
        assert_eq!(usual.p95(), Some(Duration::from_millis(7)));
    }
}
