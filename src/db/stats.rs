//! Sums and percentiles, from the roll-ups, which survive the deletion of history.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Most groups by session, those used last; all others are told whole.
    pub(crate) sessions: usize,
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

const OF_SESSIONS: &str = "
    SELECT attempts, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd,
           duration_ms, requests, completed, failed, client_closed, hour, provider, model, session_id, durations,
           first_contents
      FROM usage_by_session";

/// By the index alone, unless a provider or a model is asked for.
const LAST_USED: &str = "SELECT session_id FROM usage_by_session";

const KNOWN: &str = "SELECT 1 FROM usage_by_session WHERE session_id = ?1 LIMIT 1";

/// All sums of a filter, and the same by group where that is asked.
pub(crate) fn sums(
    conn: &Connection,
    wanted: &StatsFilter,
    by: Option<GroupBy>,
) -> Result<(Sums, BTreeMap<String, Sums>), DbError> {
    if let Some(session) = &wanted.session {
        let mut groups = BTreeMap::new();
        add_session(conn, wanted, session, by, &mut groups)?;
        return Ok(totalled(groups, by));
    }
    if by == Some(GroupBy::Session) {
        let mut groups = BTreeMap::new();
        for session in last_used(conn, wanted)? {
            add_session(conn, wanted, &session, by, &mut groups)?;
        }
        // As many as a reader can take in; the whole is told of all, of those without a conversation too.
        return Ok((of_all(conn, wanted, None)?.0, groups));
    }
    of_all(conn, wanted, by)
}

/// Whether anything of this conversation was counted.
pub(crate) fn knows_session(conn: &Connection, session: &str) -> Result<bool, DbError> {
    Ok(conn.prepare_cached(KNOWN)?.exists([session])?)
}

fn filter(wanted: &StatsFilter) -> Filter {
    let mut filter = Filter::default();
    let hour = |at: i64| at - at.rem_euclid(HOUR_MS);
    filter.and("hour >= ?", wanted.from.map(hour));
    filter.and("hour <= ?", wanted.until);
    filter.and("provider = ?", wanted.provider.clone());
    filter.and("model = ?", wanted.model.clone());
    filter
}

fn of_all(
    conn: &Connection,
    wanted: &StatsFilter,
    by: Option<GroupBy>,
) -> Result<(Sums, BTreeMap<String, Sums>), DbError> {
    let filter = filter(wanted);
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
            .add_latencies(row, 0)?;
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

/// The conversations of a filter that were used last.
fn last_used(conn: &Connection, wanted: &StatsFilter) -> Result<BTreeSet<String>, DbError> {
    let filter = filter(wanted);
    let sql = format!("{LAST_USED}{} ORDER BY hour DESC", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    let mut sessions = BTreeSet::new();
    // Read no further than needed: there may be very many.
    while sessions.len() < wanted.sessions
        && let Some(row) = rows.next()?
    {
        sessions.insert(row.get(0)?);
    }
    Ok(sessions)
}

/// Adds what was counted for one conversation to its groups.
fn add_session(
    conn: &Connection,
    wanted: &StatsFilter,
    session: &str,
    by: Option<GroupBy>,
    groups: &mut BTreeMap<String, Sums>,
) -> Result<(), DbError> {
    let mut filter = filter(wanted);
    filter.and("session_id = ?", Some(session.to_owned()));
    let sql = format!("{OF_SESSIONS}{}", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    while let Some(row) = rows.next()? {
        let key = match by {
            Some(GroupBy::Session) => session.to_owned(),
            by => key(row, 12, by)?,
        };
        let group = groups.entry(key).or_default();
        group.add_rollup(row)?;
        group.add_latencies(row, 16)?;
    }
    Ok(())
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

    /// The histograms that begin at column `at`.
    fn add_latencies(&mut self, row: &Row<'_>, at: usize) -> Result<(), DbError> {
        self.durations
            .merge(row.get_ref(at)?.as_blob().unwrap_or_default());
        self.first_contents
            .merge(row.get_ref(at + 1)?.as_blob().unwrap_or_default());
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
    use crate::db::sessions::TurnRow;
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
    }

    #[test]
    fn what_a_conversation_used_survives_it_whichever_is_stored_first() {
        let conn = testing::database();
        let turn = |number: u8| {
            WriteOp::RecordTurn(Box::new(TurnRow {
                hash: number.to_string().repeat(64),
                session_id: "s".into(),
                login: "l".into(),
                credential_id: "c".into(),
                chat_id: "chat".into(),
                parent_id: "p".into(),
                first_user_message: "hi".into(),
                message_count: 2,
                model: "m".into(),
                request_id: format!("r{number}"),
                at: 5,
                expires_at: 10,
            }))
        };
        let finish = |number: u8| {
            finished(&conn, &number.to_string(), |outcome| {
                outcome.finished_at = 2 * DAY_MS + i64::from(number) * HOUR_MS;
                outcome.duration_ms = 10;
            });
        };
        WriteOp::BeginExchange(sample_request("r1"))
            .apply(&conn)
            .unwrap();
        turn(1).apply(&conn).unwrap();
        finish(1);
        finish(2);
        for _ in 0..2 {
            turn(2).apply(&conn).unwrap();
        }
        // Belongs to none.
        finish(3);
        conn.execute_batch("DELETE FROM sessions; DELETE FROM requests")
            .unwrap();
        let of = |session: Option<&str>, sessions| StatsFilter {
            session: session.map(str::to_owned),
            sessions,
            ..StatsFilter::default()
        };
        let (all, hours) = sums(&conn, &of(Some("s"), 0), Some(GroupBy::Hour)).unwrap();
        assert_eq!((all.requests, all.attempts, hours.len()), (2, 4, 2));
        assert_eq!(all.durations.percentile(50), Some(10));
        let (all, groups) = sums(&conn, &of(None, 5), Some(GroupBy::Session)).unwrap();
        assert_eq!(
            (all.requests, groups.len()),
            (3, 1),
            "the whole is told of all"
        );
        assert_eq!((groups["s"].requests, groups["s"].total_tokens), (2, 30));
        let (_, groups) = sums(&conn, &of(None, 0), Some(GroupBy::Session)).unwrap();
        assert!(groups.is_empty());
        assert!(knows_session(&conn, "s").unwrap());
        assert!(!knows_session(&conn, "t").unwrap());
    }
}
