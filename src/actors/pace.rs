//! How much is removed at once, so that nobody waits for it: pieces, each a write of its own beside all others, in the size
//! that held the writer no longer than [`PIECE`] last time, and with a pause twice as long as that: its commit takes time too.
//!
//! What a piece waited for others says nothing of its size. Rejected: the time until its commit, waits included. On a busy
//! machine each piece took too long then, however small: they shrank to one row, and what takes a second took half a minute.

use std::time::Duration;

use crate::actors::database::{Database, StoreError};
use crate::db::ops::{WriteOp, Written};
use crate::db::unwanted::Unwanted;
use crate::limits::upkeep::{LEAST_PAUSE, MOST_PAUSE, PIECE};

/// Sizes of a first piece and of the largest: rows, or pages of the file.
const FIRST: u32 = 4;
const MOST: u32 = 1_000;

/// How large the next piece is.
pub(crate) struct Pace {
    pub(crate) size: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { size: FIRST }
    }

    /// Learns from how long the last piece held the writer, and rests.
    pub(crate) async fn rest(&mut self, database: &Database, took: Duration) {
        self.learn(took);
        rest(database, took).await;
    }

    fn learn(&mut self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let aim = u32::try_from(PIECE.as_micros()).unwrap_or(u32::MAX);
        let fitting = u64::from(self.size) * u64::from(aim) / u64::from(took);
        let fitting = u32::try_from(fitting).unwrap_or(MOST);
        // Up in steps: what comes next may be larger than what was. Down at once.
        self.size = fitting.clamp(1, MOST.min(self.size.saturating_mul(2)));
    }
}

/// Leaves the writer to others for twice as long as the last piece held it, and until the log is folded.
pub(crate) async fn rest(database: &Database, took: Duration) {
    tokio::time::sleep((2 * took).clamp(LEAST_PAUSE, MOST_PAUSE)).await;
    database.folded().await;
}

/// Removes all of what is meant. Returns how many there were of it, and takes as long as that takes.
pub(crate) async fn discard(database: &Database, what: Unwanted) -> Result<usize, StoreError> {
    let mut pace = Pace::new();
    let mut count = 0;
    loop {
        let op = WriteOp::Discard {
            what: what.clone(),
            most: pace.size,
        };
        let (written, took) = database.tend(op).await?;
        if let Written::Removed(removed) = written {
            count += removed.count;
            if removed.is_done {
                return Ok(count);
            }
        }
        pace.rest(database, took).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_in_steps_and_shrink_at_once() {
        let mut pace = Pace::new();
        pace.learn(Duration::from_micros(10));
        assert_eq!(pace.size, 8);
        pace.learn(PIECE);
        assert_eq!(pace.size, 8);
        pace.learn(Duration::from_millis(80));
        assert_eq!(pace.size, 1);
        pace.learn(Duration::from_secs(9));
        assert_eq!(pace.size, 1);
        for _ in 0..40 {
            pace.learn(Duration::ZERO);
        }
        assert_eq!(pace.size, MOST);
    }
}
