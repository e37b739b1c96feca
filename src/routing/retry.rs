//! How often and how soon a failed request is tried again (R22).

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::routing::{RETRY_FIRST, RETRY_LONGEST};
use crate::tasks::lock;

/// Retries earned by each request, in thousandths: a fifth of the requests may be tried again.
const SHARE: u64 = 200;
const ONE: u64 = 1_000;
/// And three in ten seconds, however few requests there are.
const EARNED_PER_SECOND: u64 = 300;
/// What is not used is kept up to this.
const MOST: u64 = 20 * ONE;
const START: u64 = 3 * ONE;
const LOW: u64 = 2 * ONE;

/// The retries that all requests together may still make.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Mutex<(u64, Option<Instant>)>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: Mutex::new((START, None)),
        }
    }
}

impl Budget {
    /// A request came.
    pub(crate) fn earn(&self) {
        let mut left = lock(&self.left);
        left.0 = (left.0 + SHARE).min(MOST);
    }

    /// Takes one retry; false when there is none left.
    pub(crate) fn spend(&self, now: Instant) -> bool {
        self.credit(now, |credit| {
            let is_left = *credit >= ONE;
            if is_left {
                *credit -= ONE;
            }
            is_left
        })
    }

    /// Whether so few are left that a request had better not begin where it is likely to fail.
    pub(crate) fn is_low(&self, now: Instant) -> bool {
        self.credit(now, |credit| *credit < LOW)
    }

    /// Shows `look` the thousandths of retries there are.
    fn credit<T>(&self, now: Instant, look: impl FnOnce(&mut u64) -> T) -> T {
        let mut left = lock(&self.left);
        let (credit, seen) = &mut *left;
        let since = seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        let earned = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // Thousandths per second times milliseconds: millionths.
        let earned = earned.saturating_mul(EARNED_PER_SECOND) / 1_000;
        *credit = credit.saturating_add(earned).min(MOST);
        // Less than a thousandth is not thrown away, or who asks often would earn nothing.
        if earned > 0 || seen.is_none() {
            *seen = Some(now);
        }
        look(credit)
    }
}

/// How long to wait before retry `number` (from 1) of the same target: exponential, the whole of it by chance. `dice` is
/// any number.
pub(crate) fn pause(number: u32, dice: u64) -> Duration {
    let longest = RETRY_FIRST
        .saturating_mul(1 << number.saturating_sub(1).min(8))
        .min(RETRY_LONGEST);
    let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    // At least a quarter: an upstream that just failed is not asked again within the same millisecond.
    let least = millis / 4;
    Duration::from_millis(least + dice % (millis - least + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn r22_a_fifth_of_the_requests_may_be_retried_and_three_in_ten_seconds() {
        let now = Instant::now();
        let budget = Budget::default();
        assert!(!budget.is_low(now));
        assert_eq!((0..10).filter(|_| budget.spend(now)).count(), 3);
        assert!(budget.is_low(now));
        for _ in 0..50 {
            budget.earn();
        }
        assert_eq!((0..50).filter(|_| budget.spend(now)).count(), 10);
        let later = now + Duration::from_secs(10);
        assert_eq!((0..50).filter(|_| budget.spend(later)).count(), 3);
        for _ in 0..10_000 {
            budget.earn();
        }
        assert_eq!(
            (0..50).filter(|_| budget.spend(later)).count(),
            20,
            "not hoarded"
        );
    }

    #[test]
    fn pauses_grow_and_differ() {
        for (number, least, most) in [
            (1, 62, 250),
            (2, 125, 500),
            (3, 250, 1_000),
            (9, 1_000, 4_000),
        ] {
            let range = Duration::from_millis(least)..=Duration::from_millis(most);
            for dice in [0, 1, 77, u64::MAX] {
                let pause = pause(number, dice);
                assert!(range.contains(&pause), "{number}: {pause:?}");
            }
        }
        assert_ne!(pause(1, 5), pause(1, 90));
    }
}
