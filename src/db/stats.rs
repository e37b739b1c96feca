//! Sums and percentiles: from the roll-ups, which survive the deletion of history; of sessions, from the history itself.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params_from_iter};

use crate::db::error::DbError;
use crate::db::filter::Filter;
use crate::db::histogram::Histogram;
use crate::db::usage::HOUR_MS;

const DAY_MS: i64 = 24 * HOUR_MS;

/// Which exchanges are meant; what is absent is not asked. Times are Unix ms; roll-ups count whole hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatsFilter {
    pub(crate) from: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) session: Option<String>,
}

/// What the sums are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupBy {
    Provider,
    Model,
    Hour,
    Day,
    Session,
}

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

// Rows are many: they are read by position, since names cost a search each, and the two tables in turn, since a join would
// seek in the second one for every row of the first. All selects of sums begin with what `Sums::add_common` reads.
const ROLLUPS: &str = "
    SELECT attempts, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd,
           duration_ms, requests, completed, failed, client_closed, hour, provider, model
      FROM usage_rollups";

const LATENCIES: &str = "
    SELECT durations, first_contents, hour, provider, model FROM usage_latencies";

const ANSWERS: &str = "
    SELECT attempts, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd,
           duration_ms, r.status, ttft_ms, a.session_id
      FROM responses a
      JOIN requests r ON r.id = a.request_id";

/// All sums of a filter, and the same by group where that is asked.
pub(crate) fn sums(
    conn: &Connection,
    wanted: &StatsFilter,
    by: Option<GroupBy>,
) -> Result<(Sums, BTreeMap<String, Sums>), DbError> {
    if wanted.session.is_some() || by == Some(GroupBy::Session) {
        return of_sessions(conn, wanted, by);
    }
    let mut filter = Filter::default();
    let hour = |at: i64| at - at.rem_euclid(HOUR_MS);
    filter.and("hour >= ?", wanted.from.map(hour));
    filter.and("hour <= ?", wanted.until);
    filter.and("provider = ?", wanted.provider.clone());
    filter.and("model = ?", wanted.model.clone());
    let mut groups = BTreeMap::<String, Sums>::new();
    let mut statement = conn.prepare_cached(&format!("{ROLLUPS}{}", filter.clause()))?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    while let Some(row) = rows.next()? {
        groups
            .entry(key(row, 12, by)?)
            .or_default()
            .add_rollup(row)?;
    }
    let mut statement = conn.prepare_cached(&format!("{LATENCIES}{}", filter.clause()))?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    while let Some(row) = rows.next()? {
        groups
            .entry(key(row, 2, by)?)
            .or_default()
            .add_latencies(row)?;
    }
    Ok(totalled(groups, by))
}

/// The group of a row whose hour, provider and model begin at column `at`.
fn key(row: &Row<'_>, at: usize, by: Option<GroupBy>) -> Result<String, DbError> {
    Ok(match by {
        None | Some(GroupBy::Session) => String::new(),
        Some(GroupBy::Provider) => row.get(at + 1)?,
        Some(GroupBy::Model) => row.get(at + 2)?,
        Some(GroupBy::Hour) => padded(row.get(at)?),
        Some(GroupBy::Day) => {
            let hour: i64 = row.get(at)?;
            padded(hour - hour.rem_euclid(DAY_MS))
        }
    })
}

/// The sum of all groups, and they themselves where they are asked for.
fn totalled(groups: BTreeMap<String, Sums>, by: Option<GroupBy>) -> (Sums, BTreeMap<String, Sums>) {
    let mut all = Sums::default();
    for group in groups.values() {
        all.add_all(group);
    }
    (
        all,
        if by.is_some() {
            groups
        } else {
            BTreeMap::new()
        },
    )
}

/// What belongs to no session is in no roll-up of sessions, so the rows themselves are read.
fn of_sessions(
    conn: &Connection,
    wanted: &StatsFilter,
    by: Option<GroupBy>,
) -> Result<(Sums, BTreeMap<String, Sums>), DbError> {
    let mut filter = Filter::default();
    filter.and("a.session_id = ?", wanted.session.clone());
    if wanted.session.is_none() {
        filter.only("a.session_id IS NOT NULL");
    }
    filter.and("a.timestamp >= ?", wanted.from);
    filter.and("a.timestamp <= ?", wanted.until);
    filter.and("a.provider_id = ?", wanted.provider.clone());
    filter.and("r.model = ?", wanted.model.clone());
    let sql = format!("{ANSWERS}{}", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    let mut groups = BTreeMap::<String, Sums>::new();
    while let Some(row) = rows.next()? {
        let key = if by.is_some() {
            row.get(10)?
        } else {
            String::new()
        };
        groups.entry(key).or_default().add_answer(row)?;
    }
    Ok(totalled(groups, by))
}

impl Sums {
    fn add_rollup(&mut self, row: &Row<'_>) -> Result<(), DbError> {
        self.add_common(row)?;
        self.requests += row.get::<_, i64>(8)?;
        self.completed += row.get::<_, i64>(9)?;
        self.failed += row.get::<_, i64>(10)?;
        self.client_closed += row.get::<_, i64>(11)?;
        Ok(())
    }

    fn add_latencies(&mut self, row: &Row<'_>) -> Result<(), DbError> {
        self.durations
            .merge(row.get_ref(0)?.as_blob().unwrap_or_default());
        self.first_contents
            .merge(row.get_ref(1)?.as_blob().unwrap_or_default());
        Ok(())
    }

    fn add_answer(&mut self, row: &Row<'_>) -> Result<(), DbError> {
        self.add_common(row)?;
        self.requests += 1;
        match row.get_ref(8)?.as_str().unwrap_or_default() {
            "completed" => self.completed += 1,
            "failed" => self.failed += 1,
            "client_closed" => self.client_closed += 1,
            _ => {}
        }
        self.durations.add(row.get(7)?);
        if let Some(ttft) = row.get(9)? {
            self.first_contents.add(ttft);
        }
        Ok(())
    }

    fn add_common(&mut self, row: &Row<'_>) -> Result<(), DbError> {
        for (column, sum) in self.common().into_iter().enumerate() {
            let number: Option<i64> = row.get(column)?;
            *sum = sum.saturating_add(number.unwrap_or_default());
        }
        Ok(())
    }

    fn add_all(&mut self, other: &Self) {
        let mut other = other.clone();
        for (sum, more) in self.common().into_iter().zip(other.common()) {
            *sum = sum.saturating_add(*more);
        }
        self.requests += other.requests;
        self.completed += other.completed;
        self.failed += other.failed;
        self.client_closed += other.client_closed;
        self.durations.add_all(&other.durations);
        self.first_contents.add_all(&other.first_contents);
    }

    /// In the order of the columns.
    fn common(&mut self) -> [&mut i64; 8] {
        [
            &mut self.attempts,
            &mut self.prompt_tokens,
            &mut self.completion_tokens,
            &mut self.total_tokens,
            &mut self.cached_tokens,
            &mut self.reasoning_tokens,
            &mut self.cost_microusd,
            &mut self.duration_ms,
        ]
    }
}

/// Sorts as text as it does as a number.
fn padded(at: i64) -> String {
    format!("{at:013}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::history::{ExchangeStatus, OutcomeRow};
    use crate::db::ops::WriteOp;
    use crate::db::testing::{self, sample_outcome, sample_request};

    fn finished(conn: &Connection, id: &str, change: impl FnOnce(&mut OutcomeRow)) {
        let mut outcome = sample_outcome(id);
        change(&mut outcome);
        WriteOp::FinishExchange {
            request: sample_request(&format!("r{id}")),
            outcome,
        }
        .apply(conn)
        .unwrap();
    }

    #[test]
    fn sums_survive_the_deletion_of_what_was_summed() {
        let conn = testing::database();
        for (id, provider, duration) in [("1", "p", 10), ("2", "p", 1_000), ("3", "q", 100)] {
            finished(&conn, id, |outcome| {
                outcome.provider_id = Some(provider.into());
                outcome.duration_ms = duration;
                outcome.ttft_ms = Some(5);
                outcome.finished_at = 2 * DAY_MS + duration;
                outcome.status = ExchangeStatus::Completed;
            });
        }
        finished(&conn, "4", |outcome| {
            outcome.provider_id = Some("q".into());
            outcome.status = ExchangeStatus::Failed;
            outcome.finished_at = 3 * DAY_MS;
        });
        conn.execute_batch("DELETE FROM requests").unwrap();
        let (all, groups) = sums(&conn, &StatsFilter::default(), Some(GroupBy::Provider)).unwrap();
        assert_eq!((all.requests, all.completed, all.failed), (4, 3, 1));
        assert_eq!(groups["p"].duration_ms, 1_010);
        assert_eq!(groups["p"].durations.percentile(50), Some(10));
        assert_eq!(groups["p"].first_contents.percentile(99), Some(5));
        let narrow = StatsFilter {
            from: Some(2 * DAY_MS + 5),
            until: Some(2 * DAY_MS + HOUR_MS),
            provider: Some("q".into()),
            ..StatsFilter::default()
        };
        let (all, days) = sums(&conn, &narrow, Some(GroupBy::Day)).unwrap();
        assert_eq!((all.requests, days.len()), (1, 1));
        assert_eq!(days.keys().next().unwrap(), &padded(2 * DAY_MS));
        let (all, _) = sums(&conn, &narrow, Some(GroupBy::Session)).unwrap();
        assert_eq!(all, Sums::default());
    }
}
