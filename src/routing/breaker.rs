//! A circuit breaker (R23): what fails again and again is left alone, and then tried with one request.
//!
//! ```text
//! closed ── 5 failures in a row ──> open ── its time is over ──> half open: one probe ── it succeeds ──> closed
//!                                    ^                                          └─ it fails: open for twice as long
//! ```
//!
//! Where every other target is closed too, the probe may be made before its time, once in a second.

use tokio::time::Instant;

use crate::limits::routing::{HURRY, OPEN_FIRST, OPEN_LONGEST};

/// Failures in a row that open it.
const FAILURES: u32 = 5;

/// One breaker. Told the time, so that it can be tried without waiting.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// How often it opened since it was last closed.
    opened: u32,
    /// When it opened or a probe last failed.
    since: Option<Instant>,
    /// Until when it stays open if a probe fails that is made before its time.
    hurried: Option<Instant>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// A probe is under way.
    HalfOpen,
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Closed,
    /// The next one is the probe.
    Probe,
    /// A probe is under way.
    Probing,
    Open {
        until: Instant,
    },
}

impl Breaker {
    pub(crate) fn gate(&self, now: Instant) -> Gate {
        match self.state {
            State::Closed => Gate::Closed,
            State::Open { until } if until <= now => Gate::Probe,
            State::Open { until } => Gate::Open { until },
            State::HalfOpen => Gate::Probing,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The next request is the probe.
    pub(crate) fn probe(&mut self) {
        self.state = State::HalfOpen;
    }

    /// Returns whether that closed it. What began before it opened says nothing about now.
    pub(crate) fn succeeded(&mut self, was_probe: bool) -> bool {
        let is_closed = self.is_closed();
        if is_closed || was_probe {
            *self = Self::default();
        }
        !is_closed && was_probe
    }

    /// Returns whether that opened it.
    pub(crate) fn failed(&mut self, was_probe: bool, now: Instant) -> bool {
        if !was_probe {
            if !self.is_closed() {
                return false;
            }
            self.failures += 1;
            if self.failures < FAILURES {
                return false;
            }
        }
        self.since = Some(now);
        if let Some(until) = self.hurried.take().filter(|until| *until > now) {
            self.state = State::Open { until };
            return false;
        }
        let doubled = OPEN_FIRST.saturating_mul(1 << self.opened.min(16));
        self.state = State::Open {
            until: now + doubled.min(OPEN_LONGEST),
        };
        self.opened = self.opened.saturating_add(1);
        true
    }

    /// Nobody learnt how the probe ended: another may be made.
    pub(crate) fn abandoned(&mut self, was_probe: bool, now: Instant) {
        if was_probe {
            self.state = State::Open { until: now };
        }
    }

    /// From when on the next probe may be made, where nobody else serves; none while one is under way.
    pub(crate) fn earliest(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(self.since.map_or(now, |since| until.min(since + HURRY))),
            State::Closed => Some(now),
            State::HalfOpen => None,
        }
    }

    /// Lets the probe be made now.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if let State::Open { until } = self.state
            && until > now
        {
            self.hurried.get_or_insert(until);
            self.state = State::Open { until: now };
        }
    }

    /// It was seen alive by other means: the probe may be made now.
    pub(crate) fn seen(&mut self, now: Instant) {
        if let State::Open { until } = &mut self.state {
            *until = now.min(*until);
        }
    }

    pub(crate) fn failures_in_row(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=FAILURES {
            assert_eq!(breaker.gate(now), Gate::Closed);
            assert_eq!(breaker.failed(false, now), failure == FAILURES);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn r23_five_failures_open_it_and_one_probe_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + Duration::from_secs(10);
        assert_eq!(breaker.gate(now), Gate::Open { until });
        assert_eq!(breaker.gate(until), Gate::Probe);
        breaker.probe();
        assert_eq!(breaker.gate(until), Gate::Probing);
        assert!(breaker.succeeded(true));
        assert_eq!(breaker.gate(until), Gate::Closed);
        assert!(!breaker.failed(false, until), "it counts from the start");
    }

    #[tokio::test(start_paused = true)]
    async fn r23_its_time_doubles_up_to_five_minutes() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let until = now + Duration::from_secs(seconds);
            assert_eq!(breaker.gate(now), Gate::Open { until });
            now = until;
            breaker.probe();
            assert!(breaker.failed(true, now));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_starts_the_count_anew_and_late_news_change_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            breaker.failed(false, now);
        }
        breaker.succeeded(false);
        assert_eq!(breaker.failures_in_row(), 0);
        let mut breaker = opened(now);
        let gate = breaker.gate(now);
        assert!(!breaker.failed(false, now + Duration::from_secs(5)));
        assert!(!breaker.succeeded(false));
        assert_eq!(breaker.gate(now), gate);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_before_its_time_is_made_once_in_a_second_and_changes_no_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let until = now + Duration::from_secs(10);
        let mut later = now;
        for _ in 0..3 {
            let earliest = breaker.earliest(later);
            later += Duration::from_secs(1);
            assert_eq!(earliest, Some(later), "a second after it failed");
            breaker.hurry(later);
            assert_eq!(breaker.gate(later), Gate::Probe);
            breaker.probe();
            assert_eq!(breaker.earliest(later), None, "one is under way");
            assert!(!breaker.failed(true, later));
            assert_eq!(breaker.gate(later), Gate::Open { until });
        }
        assert_eq!(breaker.gate(until), Gate::Probe);
        breaker.probe();
        assert!(breaker.failed(true, until));
        let until = until + Duration::from_secs(20);
        assert_eq!(breaker.gate(now), Gate::Open { until });
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_probe_and_a_sign_of_life_let_the_next_one_through() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.seen(now);
        assert_eq!(breaker.gate(now), Gate::Probe);
        breaker.probe();
        breaker.abandoned(true, now);
        assert_eq!(breaker.gate(now), Gate::Probe);
    }
}
