//! How long a target takes to begin, as a peak-sensitive moving average (peak EWMA).
//!
//! A slower answer counts at once, a faster one by and by; without news the figure fades, so that a target that was slow
//! is tried again some day.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::routing::LATENCY_MEMORY;

/// The moving average of one target.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    millis: f64,
    seen: Option<Instant>,
}

impl Latency {
    pub(crate) fn observe(&mut self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64() * 1_000.0;
        let weight = self.fading(now);
        self.millis = if sample > self.millis {
            sample
        } else {
            self.millis * weight + sample * (1.0 - weight)
        };
        self.seen = Some(now);
    }

    /// Milliseconds; 0 when nothing is known, so that what was never tried is tried.
    pub(crate) fn millis(&self, now: Instant) -> f64 {
        self.millis * self.fading(now)
    }

    /// The last average as it was when it was taken, ms; none before the first answer.
    pub(crate) fn last(&self) -> Option<f64> {
        self.seen.map(|_| self.millis)
    }

    fn fading(&self, now: Instant) -> f64 {
        let age = self
            .seen
            .map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        (-age.as_secs_f64() / LATENCY_MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn slower_counts_at_once_faster_by_and_by_and_silence_fades() {
        let mut now = Instant::now();
        let mut latency = Latency::default();
        assert!(latency.last().is_none() && latency.millis(now) < f64::EPSILON);
        latency.observe(Duration::from_millis(100), now);
        latency.observe(Duration::from_millis(900), now);
        assert!((latency.millis(now) - 900.0).abs() < 0.1);
        now += Duration::from_secs(1);
        latency.observe(Duration::from_millis(100), now);
        let after = latency.millis(now);
        assert!(after > 700.0 && after < 900.0, "{after}");
        let later = latency.millis(now + Duration::from_mins(1));
        assert!(later < 3.0, "{later}");
    }
}
