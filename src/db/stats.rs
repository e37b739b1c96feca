//! Sums and percentiles, from the roll-ups, which survive the deletion of history: by days where those are over, by hours else.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row, params_from_iter};

use crate::db::days::{self, Span};
use crate::db::error::DbError;
use crate::db::filter::Filter;
use crate::db::sums::{self, Sums};
use crate::db::usage::HOUR_MS;

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

/// Where sums are read from: the columns after [`sums::COLUMNS`], and the table. The hours' histograms are a table of their
/// own, read after their numbers, since a join would seek in it for every row.
const HOURS: &str = ", hour, provider, model FROM usage_rollups";
const HOURS_LATENCIES: &str = "
    SELECT durations, first_contents, hour, provider, model FROM usage_latencies";
const CLOSED_DAYS: &str = ", day, provider, model, durations, first_contents FROM usage_days";
const CLOSED_HOURS: &str = ", hour, '', '', durations, first_contents FROM usage_hours";
const OF_SESSIONS: &str =
    ", hour, provider, model, durations, first_contents FROM usage_by_session";

/// In all of them but the first two.
const LATENCIES_AT: usize = sums::AFTER + 3;

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

/// The first and the last hour that are meant: one of which only a part is meant counts whole.
fn hours(wanted: &StatsFilter) -> (i64, i64) {
    let from = wanted
        .from
        .map(|at| at.saturating_sub(at.rem_euclid(HOUR_MS)));
    (from.unwrap_or(i64::MIN), wanted.until.unwrap_or(i64::MAX))
}

fn filter(wanted: &StatsFilter) -> Filter {
    let mut filter = Filter::default();
    filter.and("provider = ?", wanted.provider.clone());
    filter.and("model = ?", wanted.model.clone());
    filter
}

fn of_all(
    conn: &Connection,
    wanted: &StatsFilter,
    by: Option<GroupBy>,
) -> Result<(Sums, BTreeMap<String, Sums>), DbError> {
    let mut groups = BTreeMap::new();
    let (from, until) = hours(wanted);
    let is_of_all = wanted.provider.is_none() && wanted.model.is_none();
    let spans = match by {
        // What closed days say by hour, they say of all providers and models together.
        Some(GroupBy::Hour) if !is_of_all => vec![Span {
            from,
            until,
            is_closed: false,
        }],
        _ => days::spans(conn, from, until)?,
    };
    for span in spans {
        let within = Some((span.from, span.until));
        let mut filter = filter(wanted);
        if !span.is_closed {
            filter.and_two("hour >= ? AND hour <= ?", within);
            add_rows(conn, HOURS, &filter, by, &mut groups)?;
            add_latencies(conn, &filter, by, &mut groups)?;
        } else if by == Some(GroupBy::Hour) {
            filter.and_two("hour >= ? AND hour <= ?", within);
            add_rows(conn, CLOSED_HOURS, &filter, by, &mut groups)?;
        } else {
            filter.and_two("day >= ? AND day <= ?", within);
            add_rows(conn, CLOSED_DAYS, &filter, by, &mut groups)?;
        }
    }
    Ok(totalled(groups, by))
}

/// Adds what one table says to the groups, with the histograms where it has them.
fn add_rows(
    conn: &Connection,
    source: &str,
    filter: &Filter,
    by: Option<GroupBy>,
    groups: &mut BTreeMap<String, Sums>,
) -> Result<(), DbError> {
    let sql = format!("{}{source}{}", sums::COLUMNS, filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let has_latencies = statement.column_count() > LATENCIES_AT;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    while let Some(row) = rows.next()? {
        let group = groups.entry(key(row, sums::AFTER, by)?).or_default();
        group.add_row(row)?;
        if has_latencies {
            group.add_latencies(row, LATENCIES_AT)?;
        }
    }
    Ok(())
}

/// Adds the histograms of hours.
fn add_latencies(
    conn: &Connection,
    filter: &Filter,
    by: Option<GroupBy>,
    groups: &mut BTreeMap<String, Sums>,
) -> Result<(), DbError> {
    let mut statement = conn.prepare_cached(&format!("{HOURS_LATENCIES}{}", filter.clause()))?;
    let mut rows = statement.query(params_from_iter(filter.values()))?;
    while let Some(row) = rows.next()? {
        groups
            .entry(key(row, 2, by)?)
            .or_default()
            .add_latencies(row, 0)?;
    }
    Ok(())
}

/// The group of a row whose hour or day, provider and model begin at column `at`.
fn key(row: &Row<'_>, at: usize, by: Option<GroupBy>) -> Result<String, DbError> {
    Ok(match by {
        None | Some(GroupBy::Session) => String::new(),
        Some(GroupBy::Provider) => row.get(at + 1)?,
        Some(GroupBy::Model) => row.get(at + 2)?,
        Some(GroupBy::Hour) => padded(row.get(at)?),
        Some(GroupBy::Day) => padded(days::beginning(row.get(at)?)),
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
    let mut filter = filter(wanted);
    filter.and_two("hour >= ? AND hour <= ?", Some(hours(wanted)));
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
    filter.and_two("hour >= ? AND hour <= ?", Some(hours(wanted)));
    filter.and("session_id = ?", Some(session.to_owned()));
    if by == Some(GroupBy::Session) {
        let mut whole = BTreeMap::new();
        add_rows(conn, OF_SESSIONS, &filter, by, &mut whole)?;
        groups.extend(whole.into_values().map(|sums| (session.to_owned(), sums)));
        return Ok(());
    }
    add_rows(conn, OF_SESSIONS, &filter, by, groups)
}

/// Sorts as text as it does as a number.
fn padded(at: i64) -> String {
    format!("{at:013}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::days::DAY_MS;
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
