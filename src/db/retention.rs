//! What the history has outlived, and its removal piece by piece. `usage_rollups` stay: they are made to.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::db::body;
use crate::db::cache::{self, Bounds};
use crate::db::error::DbError;
use crate::db::history::words;
use crate::db::idempotency;
use crate::db::recordings;
use crate::db::upkeep::{FileSize, file_size};

const DAY_MS: i64 = 86_400_000;
/// No exchange is younger.
const EVERYTHING: (i64, i64) = (i64::MAX, i64::MAX);

const NEWEST_TOO_MANY: &str = "
    SELECT timestamp, id FROM requests ORDER BY timestamp DESC, id DESC LIMIT 1 OFFSET ?1";

const COUNT_REQUESTS: &str = "
    SELECT count(*) FROM requests WHERE (timestamp, id) <= (?1, ?2) AND status <> 'in_progress'";

const ALL_REQUESTS: &str = "SELECT count(*) FROM requests WHERE status <> 'in_progress'";

const COUNT_BODIES: &str = "
    SELECT count(*) FROM requests
     WHERE bodies_dropped = 0 AND timestamp < ?1 AND (timestamp, id) > (?2, ?3) AND status <> 'in_progress'";

const COUNT_ACTIVITY: &str = "SELECT count(*) FROM activity WHERE timestamp < ?1";
const COUNT_ACTOR_EVENTS: &str = "SELECT count(*) FROM actor_events WHERE timestamp < ?1";
const COUNT_AUDIT: &str = "SELECT count(*) FROM audit_log WHERE timestamp < ?1";
const COUNT_SESSION_USAGE: &str = "SELECT count(*) FROM usage_by_session WHERE hour < ?1";
const COUNT_ANSWERS: &str = "SELECT count(*) FROM idempotency_keys WHERE created_at < ?1";

/// The oldest first. Those under way are left to their end.
const DELETE_REQUESTS: &str = "
    DELETE FROM requests
     WHERE id IN (SELECT id FROM requests
                   WHERE (timestamp, id) <= (?1, ?2) AND status <> 'in_progress'
                   ORDER BY timestamp LIMIT ?3)";

const WITH_BODIES: &str = "
    SELECT id FROM requests
     WHERE bodies_dropped = 0 AND timestamp < ?1 AND status <> 'in_progress'
     ORDER BY timestamp LIMIT ?2";

/// Of a packed body the header says how long it was.
const LENGTHS: &str = "
    SELECT CASE typeof(openai_request) WHEN 'blob' THEN substr(openai_request, 1, ?2)
                ELSE octet_length(openai_request) END AS openai_request,
           CASE typeof(qwen_request) WHEN 'blob' THEN substr(qwen_request, 1, ?2)
                ELSE octet_length(qwen_request) END AS qwen_request,
           CASE typeof(openai_response) WHEN 'blob' THEN substr(openai_response, 1, ?2)
                ELSE octet_length(openai_response) END AS openai_response,
           CASE typeof(qwen_response) WHEN 'blob' THEN substr(qwen_response, 1, ?2)
                ELSE octet_length(qwen_response) END AS qwen_response
      FROM requests LEFT JOIN responses ON responses.request_id = requests.id
     WHERE requests.id = ?1";

const DROP_REQUEST: &str = "
    UPDATE requests SET openai_request = ?2, qwen_request = ?3, bodies_dropped = 1 WHERE id = ?1";

const DROP_RESPONSE: &str =
    "UPDATE responses SET openai_response = ?2, qwen_response = ?3 WHERE request_id = ?1";

const DELETE_ACTIVITY: &str = "
    DELETE FROM activity WHERE seq IN (SELECT seq FROM activity WHERE timestamp < ?1 LIMIT ?2)";
const DELETE_ACTOR_EVENTS: &str = "
    DELETE FROM actor_events WHERE seq IN (SELECT seq FROM actor_events WHERE timestamp < ?1 LIMIT ?2)";
const DELETE_AUDIT: &str = "
    DELETE FROM audit_log WHERE seq IN (SELECT seq FROM audit_log WHERE timestamp < ?1 LIMIT ?2)";
const DELETE_SESSION_USAGE: &str = "
    DELETE FROM usage_by_session
     WHERE rowid IN (SELECT rowid FROM usage_by_session WHERE hour < ?1 LIMIT ?2)";
const DELETE_ANSWERS: &str = "
    DELETE FROM idempotency_keys
     WHERE rowid IN (SELECT rowid FROM idempotency_keys WHERE created_at < ?1 LIMIT ?2)";

/// How long things are kept; 0 is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) days: i64,
    pub(crate) requests: i64,
    pub(crate) bytes: i64,
    pub(crate) bodies_days: i64,
    pub(crate) audit_days: i64,
    pub(crate) cache: Bounds,
}

/// What can be outlived. Times are Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlived {
    /// Exchanges with their answers, up to a time and a number.
    Requests {
        until: (i64, i64),
    },
    /// Only their bodies.
    Bodies {
        before: i64,
    },
    Activity {
        before: i64,
    },
    ActorEvents {
        before: i64,
    },
    Audit {
        before: i64,
    },
    /// Sums of conversations: of each as many rows as hours in which it was used.
    SessionUsage {
        before: i64,
    },
    /// Those kept for an `Idempotency-Key`.
    Answers {
        before: i64,
    },
    /// Those of the response cache that have expired by then.
    Expired {
        by: i64,
    },
    /// Those of the response cache that are too many, up to the time of a last hit and a number.
    Unhit {
        until: (i64, i64),
    },
}

/// How many rows of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = RetentionCounts)]
pub(crate) struct Counts {
    pub(crate) requests: i64,
    /// Exchanges that stay without their bodies.
    pub(crate) bodies: i64,
    pub(crate) activity: i64,
    pub(crate) actor_events: i64,
    pub(crate) audit_log: i64,
    /// Sums of conversations.
    pub(crate) usage_by_session: i64,
    pub(crate) idempotency_keys: i64,
    /// Answers of the response cache.
    pub(crate) response_cache: i64,
}

/// What the rules ask for at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What goes by its age or number, and how much of it there is. Nothing that there is none of.
    pub(crate) outlived: Vec<(Outlived, i64)>,
    /// About how many exchanges more go by the file's size.
    pub(crate) oversized: i64,
    pub(crate) file: FileSize,
}

impl Plan {
    /// What goes in all.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (what, count) in &self.outlived {
            *counts.of(*what) += count;
        }
        counts.requests += self.oversized;
        counts
    }
}

impl Counts {
    pub(crate) fn of(&mut self, what: Outlived) -> &mut i64 {
        match what {
            Outlived::Requests { .. } => &mut self.requests,
            Outlived::Bodies { .. } => &mut self.bodies,
            Outlived::Activity { .. } => &mut self.activity,
            Outlived::ActorEvents { .. } => &mut self.actor_events,
            Outlived::Audit { .. } => &mut self.audit_log,
            Outlived::SessionUsage { .. } => &mut self.usage_by_session,
            Outlived::Answers { .. } => &mut self.idempotency_keys,
            Outlived::Expired { .. } | Outlived::Unhit { .. } => &mut self.response_cache,
        }
    }
}

impl Outlived {
    /// The oldest exchanges, however old.
    pub(crate) fn oldest() -> Self {
        Self::Requests { until: EVERYTHING }
    }

    fn count(self, conn: &Connection) -> Result<i64, DbError> {
        let (sql, before) = match self {
            Self::Requests { until: (at, id) } => {
                return number(conn, COUNT_REQUESTS, params![at, id]);
            }
            Self::Bodies { before } => (COUNT_BODIES, before),
            Self::Activity { before } => (COUNT_ACTIVITY, before),
            Self::ActorEvents { before } => (COUNT_ACTOR_EVENTS, before),
            Self::Audit { before } => (COUNT_AUDIT, before),
            Self::SessionUsage { before } => (COUNT_SESSION_USAGE, before),
            Self::Answers { before } => (COUNT_ANSWERS, before),
            Self::Expired { by } => return cache::count_expired(conn, by),
            Self::Unhit { until } => return cache::count_evicted(conn, until),
        };
        number(conn, sql, params![before])
    }
}

/// What the rules ask for at `now` (Unix ms).
pub(crate) fn plan(conn: &Connection, rules: &Rules, now: i64) -> Result<Plan, DbError> {
    let before = |days: i64| (days > 0).then(|| now.saturating_sub(days.saturating_mul(DAY_MS)));
    let too_old = before(rules.days).map(|before| (before.saturating_sub(1), i64::MAX));
    let too_many = if rules.requests > 0 {
        newest_too_many(conn, rules.requests)?
    } else {
        None
    };
    let until = too_old.max(too_many);
    let mut outlived = Vec::new();
    let mut ask = |what: Outlived, count: i64| {
        if count > 0 {
            outlived.push((what, count));
        }
    };
    let mut gone = 0;
    if let Some(until) = until {
        let what = Outlived::Requests { until };
        gone = what.count(conn)?;
        ask(what, gone);
    }
    if let Some(before) = before(rules.bodies_days) {
        let (at, id) = until.unwrap_or((i64::MIN, 0));
        let count = number(conn, COUNT_BODIES, params![before, at, id])?;
        ask(Outlived::Bodies { before }, count);
    }
    let mut plain = Vec::new();
    if let Some(before) = before(rules.audit_days) {
        plain.extend([
            Outlived::Activity { before },
            Outlived::ActorEvents { before },
            Outlived::Audit { before },
            Outlived::SessionUsage { before },
        ]);
    }
    plain.push(Outlived::Answers {
        before: now.saturating_sub(idempotency::KEPT_MS),
    });
    plain.push(Outlived::Expired { by: now });
    if let Some(until) = cache::too_many(conn, rules.cache)? {
        plain.push(Outlived::Unhit { until });
    }
    for what in plain {
        let count = what.count(conn)?;
        ask(what, count);
    }
    let file = file_size(conn)?;
    let oversized = if excess(&file, rules) > 0 {
        let all = number(conn, ALL_REQUESTS, params![])?;
        by_size(all, gone, &file, rules)
    } else {
        0
    };
    Ok(Plan {
        outlived,
        oversized,
        file,
    })
}

/// By how many bytes the file holds more than it may. Free pages do not count: they are given back, or used first.
pub(crate) fn excess(file: &FileSize, rules: &Rules) -> i64 {
    if rules.bytes == 0 {
        0
    } else {
        (file.bytes - file.free_bytes - rules.bytes).max(0)
    }
}

/// About how many of `all` exchanges go for the file's size when `gone` go anyway, as if all took the same space.
fn by_size(all: i64, gone: i64, file: &FileSize, rules: &Rules) -> i64 {
    let used = (file.bytes - file.free_bytes).max(1);
    let share = i128::from(all) * i128::from(excess(file, rules));
    let needed = (share + i128::from(used) - 1) / i128::from(used);
    let needed = i64::try_from(needed).unwrap_or(i64::MAX);
    (needed - gone).clamp(0, (all - gone).max(0))
}

/// The newest exchange that is one too many when `most` are kept.
fn newest_too_many(conn: &Connection, most: i64) -> Result<Option<(i64, i64)>, DbError> {
    let mut statement = conn.prepare_cached(NEWEST_TOO_MANY)?;
    let mut rows = statement.query_map([most], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.next().transpose()?)
}

/// Removes at most `most` of what is meant. Returns how many.
pub(super) fn remove(conn: &Connection, what: Outlived, most: u32) -> Result<usize, DbError> {
    let (sql, before) = match what {
        Outlived::Requests { until: (at, id) } => {
            return Ok(conn
                .prepare_cached(DELETE_REQUESTS)?
                .execute((at, id, most))?);
        }
        Outlived::Bodies { before } => return drop_bodies(conn, before, most),
        Outlived::Activity { before } => (DELETE_ACTIVITY, before),
        Outlived::ActorEvents { before } => (DELETE_ACTOR_EVENTS, before),
        Outlived::Audit { before } => (DELETE_AUDIT, before),
        Outlived::SessionUsage { before } => (DELETE_SESSION_USAGE, before),
        Outlived::Answers { before } => (DELETE_ANSWERS, before),
        Outlived::Expired { by } => return cache::expire(conn, by, most),
        Outlived::Unhit { until } => return cache::evict(conn, until, most),
    };
    Ok(conn.prepare_cached(sql)?.execute((before, most))?)
}

/// Puts notes in the place of bodies, as for those that are too long, and takes the words out.
fn drop_bodies(conn: &Connection, before: i64, most: u32) -> Result<usize, DbError> {
    let ids: Vec<i64> = conn
        .prepare_cached(WITH_BODIES)?
        .query_map((before, most), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for id in &ids {
        let [asked, asked_qwen, answered, answered_qwen] = conn
            .prepare_cached(LENGTHS)?
            .query_row((id, body::HEADER), |row| {
                Ok([
                    note(row, "openai_request")?,
                    note(row, "qwen_request")?,
                    note(row, "openai_response")?,
                    note(row, "qwen_response")?,
                ])
            })?;
        conn.prepare_cached(DROP_REQUEST)?
            .execute((id, asked, asked_qwen))?;
        conn.prepare_cached(DROP_RESPONSE)?
            .execute((id, answered, answered_qwen))?;
        recordings::delete(conn, *id)?;
        words::remove(conn, *id)?;
    }
    Ok(ids.len())
}

/// The note for a body of which the length or the header is known; none for none.
fn note(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<String>> {
    let bytes = match row.get_ref(column)? {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(length) => u64::try_from(length).ok(),
        ValueRef::Blob(header) => body::unpacked_length(header),
        ValueRef::Real(_) | ValueRef::Text(_) => None,
    };
    Ok(Some(
        json!({"qwarden": {"omitted": "too old", "bytes": bytes}}).to_string(),
    ))
}

fn number(conn: &Connection, sql: &str, values: impl rusqlite::Params) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(sql)?
        .query_row(values, |row| row.get(0))?)
}

#[cfg(test)]
mod tests;
