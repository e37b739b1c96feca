//! Who is looked after: providers with an open breaker that requests want. They are asked for their list of models now
//! and then, so that one that is well again serves before its breaker's time is over.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::routing::{PROBE_FIRST, PROBE_LONGEST, PROBE_WANTED};
use crate::tasks::Owned;

/// Those that are looked after, by provider.
#[derive(Default)]
pub(super) struct Suspects(HashMap<String, Suspect>);

struct Suspect {
    wanted: Instant,
    wait: Duration,
    /// Wakes the router.
    timer: Option<Owned>,
}

impl Suspects {
    /// A request wanted `provider`. Returns whether it was not looked after yet.
    pub(super) fn wanted(&mut self, provider: &str) -> bool {
        let now = Instant::now();
        if let Some(known) = self.0.get_mut(provider) {
            known.wanted = now;
            return false;
        }
        let suspect = Suspect {
            wanted: now,
            wait: PROBE_FIRST,
            timer: None,
        };
        self.0.insert(provider.to_owned(), suspect);
        true
    }

    /// Sets the next timer; each waits for twice as long as the one before.
    pub(super) fn again(&mut self, provider: &str, timer: impl FnOnce(Duration) -> Owned) {
        if let Some(suspect) = self.0.get_mut(provider) {
            suspect.timer = Some(timer(suspect.wait));
            suspect.wait = suspect.wait.saturating_mul(2).min(PROBE_LONGEST);
        }
    }

    pub(super) fn are_wanted(&self, provider: &str) -> bool {
        let suspect = self.0.get(provider);
        suspect.is_some_and(|suspect| suspect.wanted.elapsed() < PROBE_WANTED)
    }

    pub(super) fn forget(&mut self, provider: &str) {
        self.0.remove(provider);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::Tasks;

    #[tokio::test(start_paused = true)]
    async fn waits_double_and_whom_nobody_wants_is_let_go() {
        let tasks = Tasks::default();
        let mut suspects = Suspects::default();
        assert!(suspects.wanted("p"));
        assert!(!suspects.wanted("p"), "it is looked after already");
        let mut waits = Vec::new();
        for _ in 0..8 {
            suspects.again("p", |wait| {
                waits.push(wait.as_secs());
                tasks.spawn_owned("timer", std::future::pending())
            });
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        tokio::time::advance(Duration::from_secs(119)).await;
        assert!(suspects.are_wanted("p"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!suspects.are_wanted("p"));
        suspects.forget("p");
        assert!(suspects.wanted("p"));
    }
}
