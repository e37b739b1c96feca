//! What is summed over exchanges, and how a row of sums is read and written.

use rusqlite::Row;

use crate::db::error::DbError;
use crate::db::histogram::Histogram;

/// What [`Sums::add_row`] reads, with the columns that come first.
pub(super) const COLUMNS: &str = "
    SELECT attempts, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd,
           duration_ms, requests, completed, failed, client_closed";

/// How many those are: others begin there.
pub(super) const AFTER: usize = 12;

/// Sums over exchanges that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    pub(crate) client_closed: i64,
    pub(crate) attempts: i64,
    pub(crate) prompt_tokens: i64,
    pub(crate) completion_tokens: i64,
    pub(crate) total_tokens: i64,
    pub(crate) cached_tokens: i64,
    pub(crate) reasoning_tokens: i64,
    pub(crate) cost_microusd: i64,
    pub(crate) duration_ms: i64,
    pub(crate) durations: Histogram,
    pub(crate) first_contents: Histogram,
}

impl Sums {
    /// Adds a row that begins with [`COLUMNS`]. Rows are many: they are read by position, since names cost a search each.
    pub(super) fn add_row(&mut self, row: &Row<'_>) -> Result<(), DbError> {
        for (column, sum) in self.numbers().into_iter().enumerate() {
            let number: Option<i64> = row.get(column)?;
            *sum = sum.saturating_add(number.unwrap_or_default());
        }
        Ok(())
    }

    /// Adds the histograms that begin at column `at`.
    pub(super) fn add_latencies(&mut self, row: &Row<'_>, at: usize) -> Result<(), DbError> {
        self.durations
            .merge(row.get_ref(at)?.as_blob().unwrap_or_default());
        self.first_contents
            .merge(row.get_ref(at + 1)?.as_blob().unwrap_or_default());
        Ok(())
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        let mut other = other.clone();
        for (sum, more) in self.numbers().into_iter().zip(other.numbers()) {
            *sum = sum.saturating_add(*more);
        }
        self.durations.add_all(&other.durations);
        self.first_contents.add_all(&other.first_contents);
    }

    /// In the order of the columns.
    fn numbers(&mut self) -> [&mut i64; AFTER] {
        [
            &mut self.attempts,
            &mut self.prompt_tokens,
            &mut self.completion_tokens,
            &mut self.total_tokens,
            &mut self.cached_tokens,
            &mut self.reasoning_tokens,
            &mut self.cost_microusd,
            &mut self.duration_ms,
            &mut self.requests,
            &mut self.completed,
            &mut self.failed,
            &mut self.client_closed,
        ]
    }
}
