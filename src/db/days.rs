//! Tables `usage_days` and `usage_hours`: the sums of days that are over, so that a question about months reads days.
//!
//! A day has all of its rows in both, or none. They repeat what `usage_rollups` and `usage_latencies` say: whoever counts
//! something for a day that has them takes them away in the same transaction, and they are made again.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::db::error::DbError;
use crate::db::sums::{self, Sums};
use crate::db::usage::HOUR_MS;

pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

const KNOWN: &str = "
    SELECT DISTINCT day FROM usage_days WHERE day >= ?1 AND day <= ?2 ORDER BY day";

const NEXT_HOUR: &str = "
    SELECT hour FROM usage_rollups WHERE hour >= ?1 AND hour < ?2 ORDER BY hour LIMIT 1";

const IS_CLOSED: &str = "SELECT 1 FROM usage_days WHERE day = ?1 LIMIT 1";

const COUNTED: &str = "
    SELECT coalesce(sum(requests), 0) FROM usage_rollups WHERE hour >= ?1 AND hour < ?2";

const DROP_DAY: &str = "DELETE FROM usage_days WHERE day = ?1";

const DROP_HOURS: &str = "DELETE FROM usage_hours WHERE hour >= ?1 AND hour < ?2";

const PUT_DAY: &str = "
    INSERT INTO usage_days (day, provider, model, requests, completed, failed, client_closed, attempts, prompt_tokens,
                            completion_tokens, total_tokens, cached_tokens, reasoning_tokens, duration_ms, cost_microusd,
                            durations, first_contents)
    VALUES (:day, :provider, :model, :requests, :completed, :failed, :client_closed, :attempts, :prompt_tokens,
            :completion_tokens, :total_tokens, :cached_tokens, :reasoning_tokens, :duration_ms, :cost_microusd,
            :durations, :first_contents)";

const PUT_HOUR: &str = "
    INSERT INTO usage_hours (hour, requests, completed, failed, client_closed, attempts, prompt_tokens, completion_tokens,
                             total_tokens, cached_tokens, reasoning_tokens, duration_ms, cost_microusd, durations,
                             first_contents)
    VALUES (:hour, :requests, :completed, :failed, :client_closed, :attempts, :prompt_tokens, :completion_tokens,
            :total_tokens, :cached_tokens, :reasoning_tokens, :duration_ms, :cost_microusd, :durations, :first_contents)";

/// Hours, both ends included (Unix ms), of which all days have their sums, or none is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) is_closed: bool,
}

/// The sums of one day, as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosedDay {
    /// Its beginning (UTC, Unix ms).
    pub(crate) day: i64,
    /// Of all of it: what was counted meanwhile shows by this.
    requests: i64,
    /// By provider and model.
    pairs: BTreeMap<(String, String), Sums>,
    hours: BTreeMap<i64, Sums>,
}

impl ClosedDay {
    /// A day of so many requests, all of one hour and pair.
    #[cfg(test)]
    pub(super) fn sample(day: i64, requests: i64) -> Self {
        let sums = Sums {
            requests,
            ..Sums::default()
        };
        Self {
            day,
            requests,
            pairs: [(("p".into(), "m".into()), sums.clone())].into(),
            hours: [(day, sums)].into(),
        }
    }

    /// About how many bytes it holds in memory.
    pub(crate) fn weight(&self) -> usize {
        const SUMS: usize = 4_096;
        let names = self.pairs.keys();
        let names: usize = names.map(|(one, two)| one.len() + two.len()).sum();
        names + SUMS * (self.pairs.len() + self.hours.len())
    }
}

/// The hours of `from..=until` in order, cut where days that have their sums begin and end. A day of which only a part is
/// meant is not used.
pub(super) fn spans(conn: &Connection, from: i64, until: i64) -> Result<Vec<Span>, DbError> {
    let last = until.saturating_sub(DAY_MS - HOUR_MS);
    let mut statement = conn.prepare_cached(KNOWN)?;
    let mut rows = statement.query((from, last))?;
    let (mut spans, mut next) = (Vec::<Span>::new(), from);
    while let Some(row) = rows.next()? {
        let day: i64 = row.get(0)?;
        let end = day + DAY_MS - 1;
        match spans.last_mut() {
            Some(span) if span.is_closed && day == next => span.until = end,
            _ => {
                if day > next {
                    spans.push(Span {
                        from: next,
                        until: day - 1,
                        is_closed: false,
                    });
                }
                spans.push(Span {
                    from: day,
                    until: end,
                    is_closed: true,
                });
            }
        }
        next = day + DAY_MS;
    }
    if next <= until {
        spans.push(Span {
            from: next,
            until,
            is_closed: false,
        });
    }
    Ok(spans)
}

/// The sums of the first day from `after` on that ended by `now` (both Unix ms), counts something, and has none.
pub(crate) fn next_over(
    conn: &Connection,
    after: i64,
    now: i64,
) -> Result<Option<ClosedDay>, DbError> {
    let today = beginning(now);
    let mut after = after;
    loop {
        let hour: Option<i64> = conn
            .prepare_cached(NEXT_HOUR)?
            .query_row((after, today), |row| row.get(0))
            .optional()?;
        let Some(hour) = hour else {
            return Ok(None);
        };
        let day = beginning(hour);
        if !conn.prepare_cached(IS_CLOSED)?.exists([day])? {
            return sums_of(conn, day).map(Some);
        }
        after = day + DAY_MS;
    }
}

fn sums_of(conn: &Connection, day: i64) -> Result<ClosedDay, DbError> {
    const RANGE: &str = "WHERE hour >= ?1 AND hour < ?2";
    let columns = sums::COLUMNS;
    let numbers = format!("{columns}, hour, provider, model FROM usage_rollups {RANGE}");
    let latencies = format!(
        "SELECT durations, first_contents, hour, provider, model FROM usage_latencies {RANGE}"
    );
    let mut closed = ClosedDay {
        day,
        requests: 0,
        pairs: BTreeMap::new(),
        hours: BTreeMap::new(),
    };
    let mut statement = conn.prepare_cached(&numbers)?;
    let mut rows = statement.query((day, day + DAY_MS))?;
    while let Some(row) = rows.next()? {
        let (hour, pair) = place(row, sums::AFTER)?;
        closed.pairs.entry(pair).or_default().add_row(row)?;
        closed.hours.entry(hour).or_default().add_row(row)?;
    }
    let mut statement = conn.prepare_cached(&latencies)?;
    let mut rows = statement.query((day, day + DAY_MS))?;
    while let Some(row) = rows.next()? {
        let (hour, pair) = place(row, 2)?;
        closed
            .pairs
            .entry(pair)
            .or_default()
            .add_latencies(row, 0)?;
        closed
            .hours
            .entry(hour)
            .or_default()
            .add_latencies(row, 0)?;
    }
    closed.requests = closed.hours.values().map(|sums| sums.requests).sum();
    Ok(closed)
}

fn place(row: &rusqlite::Row<'_>, at: usize) -> Result<(i64, (String, String)), DbError> {
    Ok((row.get(at)?, (row.get(at + 1)?, row.get(at + 2)?)))
}

/// Stores the sums of a day, unless something was counted for it since they were read. Returns how many rows they take.
pub(super) fn close(conn: &Connection, closed: &ClosedDay) -> Result<usize, DbError> {
    let day = closed.day;
    // Counts only ever rise, so the same number is the same state.
    let counted: i64 = conn
        .prepare_cached(COUNTED)?
        .query_row((day, day + DAY_MS), |row| row.get(0))?;
    if counted != closed.requests {
        return Ok(0);
    }
    reopen(conn, day)?;
    let mut statement = conn.prepare_cached(PUT_DAY)?;
    for ((provider, model), sums) in &closed.pairs {
        statement.execute(named_params! {
            ":day": day,
            ":provider": provider,
            ":model": model,
            ":requests": sums.requests,
            ":completed": sums.completed,
            ":failed": sums.failed,
            ":client_closed": sums.client_closed,
            ":attempts": sums.attempts,
            ":prompt_tokens": sums.prompt_tokens,
            ":completion_tokens": sums.completion_tokens,
            ":total_tokens": sums.total_tokens,
            ":cached_tokens": sums.cached_tokens,
            ":reasoning_tokens": sums.reasoning_tokens,
            ":duration_ms": sums.duration_ms,
            ":cost_microusd": sums.cost_microusd,
            ":durations": sums.durations.to_bytes(),
            ":first_contents": sums.first_contents.to_bytes(),
        })?;
    }
    let mut statement = conn.prepare_cached(PUT_HOUR)?;
    for (hour, sums) in &closed.hours {
        statement.execute(named_params! {
            ":hour": hour,
            ":requests": sums.requests,
            ":completed": sums.completed,
            ":failed": sums.failed,
            ":client_closed": sums.client_closed,
            ":attempts": sums.attempts,
            ":prompt_tokens": sums.prompt_tokens,
            ":completion_tokens": sums.completion_tokens,
            ":total_tokens": sums.total_tokens,
            ":cached_tokens": sums.cached_tokens,
            ":reasoning_tokens": sums.reasoning_tokens,
            ":duration_ms": sums.duration_ms,
            ":cost_microusd": sums.cost_microusd,
            ":durations": sums.durations.to_bytes(),
            ":first_contents": sums.first_contents.to_bytes(),
        })?;
    }
    Ok(closed.pairs.len() + closed.hours.len())
}

/// Something is counted at `at` (Unix ms): the sums of that day, if it has them, are not right any more.
pub(super) fn reopen(conn: &Connection, at: i64) -> Result<(), DbError> {
    let day = beginning(at);
    if conn.prepare_cached(DROP_DAY)?.execute([day])? > 0 {
        conn.prepare_cached(DROP_HOURS)?
            .execute((day, day + DAY_MS))?;
    }
    Ok(())
}

/// Of the day (UTC) of a time (Unix ms).
pub(super) fn beginning(at: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(DAY_MS))
}

#[cfg(test)]
mod tests;
