//! So many per minute, as a leaky bucket (GCRA): a whole minute's worth may come at once, then one after another.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::routing::RATE_PERIOD;

/// One limit.
#[derive(Debug)]
pub(crate) struct Rate {
    per_minute: u32,
    /// When the bucket is empty again.
    empty_at: Option<Instant>,
}

impl Rate {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.max(1),
            empty_at: None,
        }
    }

    /// When `amount` more may pass: none for now. More than a minute's worth passes when the bucket is empty.
    pub(crate) fn ready(&self, amount: u64, now: Instant) -> Option<Instant> {
        let empty_at = self.empty_at.filter(|at| *at > now)?;
        let room = RATE_PERIOD.saturating_sub(self.worth(amount));
        let ready = empty_at.checked_sub(room)?;
        (ready > now).then_some(ready)
    }

    /// `amount` passed, whether that was allowed or not.
    pub(crate) fn take(&mut self, amount: u64, now: Instant) {
        let from = self.empty_at.map_or(now, |at| at.max(now));
        self.empty_at = Some(from + self.worth(amount));
    }

    fn worth(&self, amount: u64) -> Duration {
        // More than a day's worth is a mistake of somebody; it shall not close the target for a year.
        let amount = u32::try_from(amount)
            .unwrap_or(u32::MAX)
            .min(self.per_minute.saturating_mul(60 * 24));
        (RATE_PERIOD / self.per_minute).saturating_mul(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_passes_at_once_and_then_one_after_another() {
        let now = Instant::now();
        let mut rate = Rate::new(60);
        for _ in 0..60 {
            assert_eq!(rate.ready(1, now), None);
            rate.take(1, now);
        }
        assert_eq!(rate.ready(1, now), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(1);
        assert_eq!(rate.ready(1, later), None);
        assert_eq!(rate.ready(2, later), Some(later + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_the_limit_passes_once_all_is_quiet() {
        let now = Instant::now();
        let mut rate = Rate::new(1_000);
        assert_eq!(rate.ready(5_000, now), None);
        rate.take(5_000, now);
        let ready = rate.ready(1, now).expect("not yet");
        let waits = ready - now;
        assert!(
            waits > Duration::from_secs(239) && waits < Duration::from_secs(241),
            "{waits:?}"
        );
        assert_eq!(rate.ready(9_000, now), Some(now + Duration::from_mins(5)));
    }
}
