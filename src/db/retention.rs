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

const MERGE: &str = "INSERT INTO history_words (history_words, rank) VALUES ('merge', ?1)";

const WORDS: &str = "SELECT count(*) FROM history_words_docsize";

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

/// The database file, without its write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = DatabaseFile)]
pub(crate) struct FileSize {
    pub(crate) bytes: i64,
    /// Of them, those of pages that hold nothing.
    pub(crate) free_bytes: i64,
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

/// How many exchanges have words.
pub(crate) fn with_words(conn: &Connection) -> Result<i64, DbError> {
    number(conn, WORDS, params![])
}

/// The file as this connection sees it.
pub(crate) fn file_size(conn: &Connection) -> Result<FileSize, DbError> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let page = pragma("page_size")?;
    Ok(FileSize {
        bytes: page * pragma("page_count")?,
        free_bytes: page * pragma("freelist_count")?,
    })
}

/// Work on the file that changes no row, in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Gives that many free pages back to the disk.
    Shrink { pages: u32 },
    /// Begins to write the index of words anew, without those that were deleted.
    RewriteWords,
    /// Goes on with that, by about so many pages.
    GoOn { pages: u32 },
    /// Lets the file grow to so many pages only, or as far as it likes again: a full disk, for the self-test.
    Cap { pages: Option<u32> },
}

impl Upkeep {
    /// What kind of work it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Shrink { .. } => "shrink the file",
            Self::RewriteWords | Self::GoOn { .. } => "rewrite words",
            Self::Cap { .. } => "cap the file",
        }
    }
}

/// Carries out one piece. Returns what is left: bytes that are free, or pages that were written; none when it is done, or
/// cannot be done.
pub(super) fn carry_out(conn: &Connection, upkeep: Upkeep) -> Result<Option<i64>, DbError> {
    match upkeep {
        Upkeep::Shrink { pages } => shrink(conn, pages),
        Upkeep::RewriteWords => merge(conn, -1),
        Upkeep::GoOn { pages } => merge(conn, i64::from(pages)),
        Upkeep::Cap { pages } => cap(conn, pages),
    }
}

/// Of this connection only: it ends with it.
fn cap(conn: &Connection, pages: Option<u32>) -> Result<Option<i64>, DbError> {
    /// As many as there can be (<https://sqlite.org/limits.html>).
    const MOST: u32 = 4_294_967_294;
    let pages = pages.unwrap_or(MOST);
    let allowed = conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| {
        row.get(0)
    })?;
    Ok(Some(allowed))
}

fn merge(conn: &Connection, pages: i64) -> Result<Option<i64>, DbError> {
    const IDLE: u64 = 2;
    let before = conn.total_changes();
    conn.prepare_cached(MERGE)?.execute([pages])?;
    // With nothing to do it changes less than two rows (https://sqlite.org/fts5.html, 6.8).
    let changed = conn.total_changes().saturating_sub(before);
    Ok((changed >= IDLE).then(|| i64::try_from(changed).unwrap_or(i64::MAX)))
}

/// Gives up to `pages` free pages back to the disk. Returns how many bytes are left free; none when the file was made
/// without the means.
fn shrink(conn: &Connection, pages: u32) -> Result<Option<i64>, DbError> {
    const INCREMENTAL: i64 = 2;
    let kind: i64 = conn.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if kind != INCREMENTAL {
        return Ok(None);
    }
    // Each step of it gives one page back, so it has to be read to its end.
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    Ok(Some(file_size(conn)?.free_bytes))
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
mod tests {
    use super::*;
    use crate::db::history::{self, RequestRow};
    use crate::db::testing::{self, sample_outcome, sample_request};

    /// Ten exchanges, a day apart, the last one on day 10.
    fn history() -> Connection {
        let conn = testing::database();
        for day in 1..=10 {
            let request = RequestRow {
                timestamp: day * DAY_MS,
                ..RequestRow::clone(&sample_request(&format!("r{day}")))
            };
            history::finish(&conn, &request, &sample_outcome(&format!("a{day}"))).unwrap();
        }
        conn
    }

    fn left(conn: &Connection) -> i64 {
        number(conn, "SELECT count(*) FROM requests", params![]).unwrap()
    }

    fn remove_all(conn: &Connection, plan: &Plan) {
        for (what, count) in &plan.outlived {
            let mut removed = 0;
            loop {
                match remove(conn, *what, 2).unwrap() {
                    0 => break,
                    some => removed += i64::try_from(some).unwrap(),
                }
            }
            assert_eq!(removed, *count, "{what:?}");
        }
    }

    #[test]
    fn age_and_number_decide_together() {
        for (rules, kept) in [
            (
                Rules {
                    days: 4,
                    ..Rules::default()
                },
                5,
            ),
            (
                Rules {
                    requests: 3,
                    ..Rules::default()
                },
                3,
            ),
            (
                Rules {
                    days: 4,
                    requests: 7,
                    ..Rules::default()
                },
                5,
            ),
            (
                Rules {
                    days: 9,
                    requests: 2,
                    ..Rules::default()
                },
                2,
            ),
            (
                Rules {
                    days: 20,
                    requests: 20,
                    ..Rules::default()
                },
                10,
            ),
        ] {
            let conn = history();
            let plan = plan(&conn, &rules, 10 * DAY_MS).unwrap();
            assert_eq!(plan.counts().requests, 10 - kept, "{rules:?}");
            remove_all(&conn, &plan);
            assert_eq!(left(&conn), kept, "{rules:?}");
            let words = number(
                &conn,
                "SELECT count(*) FROM history_words_docsize",
                params![],
            );
            assert_eq!(words.unwrap(), kept, "words go along");
            let counted = number(&conn, "SELECT sum(requests) FROM usage_rollups", params![]);
            assert_eq!(counted.unwrap(), 10, "what was counted stays");
        }
    }

    #[test]
    fn bodies_leave_notes_of_their_length_and_no_words() {
        let conn = history();
        let long = json!({"messages": "word ".repeat(2_000)}).to_string();
        let request = RequestRow {
            timestamp: 5,
            openai_request: body::Body::of(long.clone()),
            ..RequestRow::clone(&sample_request("long"))
        };
        history::finish(&conn, &request, &sample_outcome("a")).unwrap();
        let rules = Rules {
            bodies_days: 3,
            requests: 10,
            ..Rules::default()
        };
        // The oldest of them goes as a whole.
        let planned = plan(&conn, &rules, 10 * DAY_MS).unwrap().counts();
        assert_eq!((planned.requests, planned.bodies), (1, 6));
        let rules = Rules {
            requests: 0,
            ..rules
        };
        let plan_now = plan(&conn, &rules, 10 * DAY_MS).unwrap();
        remove_all(&conn, &plan_now);
        assert_eq!(plan(&conn, &rules, 10 * DAY_MS).unwrap().counts().bodies, 0);
        assert_eq!(left(&conn), 11);
        let note = number(
            &conn,
            "SELECT openai_request ->> '$.qwarden.bytes' FROM requests WHERE request_id = 'long'",
            params![],
        );
        assert_eq!(note.unwrap(), i64::try_from(long.len()).unwrap());
        let words = number(
            &conn,
            "SELECT count(*) FROM history_words_docsize",
            params![],
        );
        assert_eq!(words.unwrap(), 4);
    }

    #[test]
    fn free_pages_are_given_back_as_many_as_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let conn = Connection::open(dir.path().join("f.db")).unwrap();
        conn.execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL;
             CREATE TABLE t (b BLOB) STRICT;
             INSERT INTO t VALUES (zeroblob(400000));
             DELETE FROM t;",
        )
        .unwrap();
        let before = file_size(&conn).unwrap();
        assert!(before.free_bytes > 300_000);
        let shrink = |conn: &Connection, pages| carry_out(conn, Upkeep::Shrink { pages });
        let left = shrink(&conn, 10).unwrap().unwrap();
        assert_eq!(left, before.free_bytes - 10 * 4_096);
        assert_eq!(shrink(&conn, 1_000).unwrap(), Some(0));
        assert!(file_size(&conn).unwrap().bytes < before.bytes - 300_000);
        let rigid = Connection::open_in_memory().unwrap();
        assert_eq!(shrink(&rigid, 10).unwrap(), None);
    }

    #[test]
    fn the_index_is_rewritten_without_what_was_deleted() {
        let conn = history();
        let bytes = || {
            let sum = "SELECT sum(length(block)) FROM history_words_data WHERE id > 10";
            number(&conn, sum, params![]).unwrap()
        };
        let before = bytes();
        remove(&conn, Outlived::oldest(), 5).unwrap();
        assert!(carry_out(&conn, Upkeep::RewriteWords).unwrap().is_some());
        while carry_out(&conn, Upkeep::GoOn { pages: 1 })
            .unwrap()
            .is_some()
        {}
        assert!(bytes() < before * 3 / 4, "{before} {}", bytes());
        assert_eq!(with_words(&conn).unwrap(), 5);
        let found = "SELECT count(*) FROM history_words WHERE history_words MATCH 'answered'";
        assert_eq!(number(&conn, found, params![]).unwrap(), 5);
    }

    #[test]
    fn what_is_under_way_stays() {
        let conn = testing::database();
        history::begin(&conn, &sample_request("r")).unwrap();
        let rules = Rules {
            days: 1,
            bodies_days: 1,
            ..Rules::default()
        };
        let plan = plan(&conn, &rules, i64::MAX).unwrap();
        assert_eq!(plan.counts(), Counts::default());
        assert_eq!(remove(&conn, Outlived::oldest(), 9).unwrap(), 0);
    }

    #[test]
    fn the_size_is_guessed_from_what_all_take() {
        let file = FileSize {
            bytes: 1_200,
            free_bytes: 200,
        };
        let rules = |bytes| Rules {
            bytes,
            ..Rules::default()
        };
        for (bytes, gone, more) in [
            (0, 0, 0),
            (1_000, 0, 0),
            (900, 0, 10),
            (900, 4, 6),
            (900, 20, 0),
            (1, 30, 70),
        ] {
            assert_eq!(
                by_size(100, gone, &file, &rules(bytes)),
                more,
                "{bytes} {gone}"
            );
        }
    }
}
