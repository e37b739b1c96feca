//! Lists of exchanges and of their answers, newest first.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params_from_iter};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::db::body;
use crate::db::error::DbError;
use crate::db::filter::{Filter, Slice};
use crate::db::history::words::{self, Query};
use crate::db::history::{StoredResponse, json_column, stored_response};
use crate::db::recordings;

/// Which exchanges are meant; what is absent is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestFilter {
    pub(crate) session_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    /// `in_progress`, `completed`, `failed`, `client_closed`, `interrupted`.
    pub(crate) status: Option<String>,
    pub(crate) stream: Option<bool>,
    pub(crate) has_error: Option<bool>,
    /// The id of the client's key.
    pub(crate) key: Option<String>,
    /// A tag's name, and its value where that counts.
    pub(crate) tag: Option<(String, Option<String>)>,
    /// Unix time, ms; included.
    pub(crate) from: Option<i64>,
    /// Unix time, ms; included.
    pub(crate) until: Option<i64>,
    /// What its texts say.
    pub(crate) said: Option<Query>,
}

/// Which answers are meant; what is absent is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseFilter {
    pub(crate) session_id: Option<String>,
    /// The exchange's UUID.
    pub(crate) request_id: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) has_error: Option<bool>,
    /// Unix time, ms; included.
    pub(crate) from: Option<i64>,
    /// Unix time, ms; included.
    pub(crate) until: Option<i64>,
}

/// A row as clients name it: SQLite's number, or our UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RowName {
    Number(i64),
    Uuid(String),
}

impl RowName {
    /// All digits are a number; anything else, `2zzz` too, is the other kind of id.
    pub(crate) fn read(text: &str) -> Self {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if is_number => Self::Number(number),
            _ => Self::Uuid(text.to_owned()),
        }
    }

    fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Uuid(_) => None,
        }
    }

    fn uuid(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Uuid(uuid) => Some(uuid),
        }
    }
}

/// An exchange in a list. Has no `Debug`: bodies are never logged.
#[derive(Serialize, ToSchema)]
pub(crate) struct ListedRequest {
    pub(crate) id: i64,
    pub(crate) request_id: String,
    pub(crate) session_id: Option<String>,
    pub(crate) timestamp: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) provider: Option<String>,
    /// The id of the client's key, if it sent one.
    pub(crate) key_id: Option<String>,
    pub(crate) status: String,
    #[schema(value_type = Value)]
    pub(crate) openai_request: Option<Box<RawValue>>,
    #[schema(value_type = Value)]
    pub(crate) qwen_request: Option<Box<RawValue>>,
    pub(crate) created_at: i64,
    /// What its client gave it to be found by.
    #[schema(value_type = Option<HashMap<String, String>>)]
    pub(crate) tags: Option<Box<RawValue>>,
    pub(crate) response_summary: Option<Summary>,
    /// Where it says what is looked for. Absent unless something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snippet: Option<String>,
}

/// How an exchange in a list ended.
#[derive(Serialize, ToSchema)]
#[schema(as = ResponseSummary)]
pub(crate) struct Summary {
    pub(crate) response_id: String,
    pub(crate) finish_reason: Option<String>,
    pub(crate) total_tokens: Option<i64>,
    /// Millionths of a US dollar; none when no price is known.
    pub(crate) cost_microusd: Option<i64>,
    pub(crate) duration_ms: i64,
    pub(crate) ttft_ms: Option<i64>,
    pub(crate) http_status: u16,
    pub(crate) error: Option<String>,
    pub(crate) error_code: Option<String>,
    /// No upstream was asked.
    pub(crate) from_cache: bool,
}

/// The exchange that an answer belongs to.
#[derive(Serialize, ToSchema)]
#[schema(as = AskedRequest)]
pub(crate) struct Asked {
    pub(crate) id: i64,
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) timestamp: i64,
}

const RESPONSE_COLUMNS: &str = "
    SELECT responses.id, responses.request_id, responses.session_id, response_id, responses.timestamp, qwen_response,
           openai_response, parent_id, prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens,
           cost_microusd, finish_reason, error, error_code, responses.provider_id, upstream_model, http_status,
           upstream_status, attempts, queue_ms, ttft_ms, duration_ms, responses.created_at, from_cache
      FROM responses";

const ASKED: &str = "SELECT id, request_id, model, stream, timestamp FROM requests WHERE id = ?1";

/// Each status by itself: so its index alone answers.
const SINCE: &str = "
    SELECT coalesce(sum(number), 0) AS total, coalesce(sum(number) FILTER (WHERE status = 'completed'), 0) AS completed,
           coalesce(sum(number) FILTER (WHERE status = 'failed'), 0) AS failed
      FROM (SELECT status, count(*) AS number
              FROM requests
             WHERE status IN ('in_progress', 'completed', 'failed', 'client_closed', 'interrupted') AND timestamp >= ?1
             GROUP BY status)";

const DELETE_REQUEST: &str = "DELETE FROM requests WHERE request_id = ?1";

const DELETE_RESPONSE: &str = "DELETE FROM responses WHERE response_id = ?1 RETURNING request_id";

/// Bytes of bodies read for the snippets of one list: a page of long conversations must not take seconds.
const SNIPPETS_READ: usize = 64 << 20;

/// The exchanges of a filter, and how many there are of them. Bodies are left out unless `with_bodies`.
pub(crate) fn requests(
    conn: &Connection,
    wanted: &RequestFilter,
    slice: Slice,
    with_bodies: bool,
) -> Result<(Vec<ListedRequest>, i64), DbError> {
    let filter = request_filter(wanted);
    let total = count(conn, "requests", "", &filter)?;
    let mut rows = listed(conn, filter, slice, with_bodies)?;
    if let Some(query) = &wanted.said {
        let mut left = SNIPPETS_READ;
        for row in &mut rows {
            if left == 0 {
                break;
            }
            let (snippet, read) = words::snippet(conn, row.id, query)?;
            row.snippet = snippet;
            left = left.saturating_sub(read);
        }
    }
    Ok((rows, total))
}

/// The newest `limit` exchanges from `since` (Unix ms) on that have their answer, without bodies.
pub(crate) fn answered(
    conn: &Connection,
    since: i64,
    limit: i64,
) -> Result<Vec<ListedRequest>, DbError> {
    let mut filter = Filter::default();
    filter.and("requests.timestamp >= ?", Some(since));
    filter.only("EXISTS (SELECT 1 FROM responses WHERE responses.request_id = requests.id)");
    let slice = Slice {
        limit,
        offset: 0,
        after: None,
    };
    listed(conn, filter, slice, false)
}

fn listed(
    conn: &Connection,
    mut filter: Filter,
    mut slice: Slice,
    with_bodies: bool,
) -> Result<Vec<ListedRequest>, DbError> {
    if slice.offset > 0 && slice.after.is_none() {
        let Some((time, left)) = beginning(conn, &filter, slice.offset)? else {
            return Ok(Vec::new());
        };
        filter.and("requests.timestamp <= ?", Some(time));
        slice.offset = left;
    }
    filter.and_two("(requests.timestamp, requests.id) < (?, ?)", slice.after);
    let bodies = if with_bodies {
        "openai_request, qwen_request"
    } else {
        "NULL AS openai_request, NULL AS qwen_request"
    };
    let sql = format!(
        "SELECT requests.id AS id, requests.request_id AS uuid, requests.session_id AS session_id,
                requests.timestamp AS timestamp, method, path, model, stream, requests.provider_id AS provider_id,
                key_id, status, {bodies}, json_extract(tags, '$.tags') AS tags, requests.created_at AS created_at,
                response_id, finish_reason, total_tokens, cost_microusd, duration_ms, ttft_ms, http_status, error,
                error_code, from_cache
           FROM (SELECT requests.id AS wanted FROM requests{}
                  ORDER BY requests.timestamp DESC, requests.id DESC LIMIT {} OFFSET {})
           JOIN requests ON requests.id = wanted
           LEFT JOIN responses ON responses.request_id = requests.id
          ORDER BY requests.timestamp DESC, requests.id DESC",
        filter.clause(),
        slice.limit,
        slice.offset
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), listed_request)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Where a part of the list begins that is not its first: the time of its first row, and how many rows of that very time
/// are still in front of it; none when the list ends before. The indexes have the rows by time but not by number within a
/// time, so that leaving out many by both would sort them all: 350 ms instead of 50 near the end of a million.
fn beginning(
    conn: &Connection,
    filter: &Filter,
    offset: i64,
) -> Result<Option<(i64, i64)>, DbError> {
    let clause = filter.clause();
    let mut values = filter.values();
    values.push(&offset);
    let sql = format!(
        "SELECT requests.timestamp AS timestamp FROM requests{clause} ORDER BY requests.timestamp DESC LIMIT 1 OFFSET ?"
    );
    let time: Option<i64> = conn
        .prepare_cached(&sql)?
        .query_row(params_from_iter(values), |row| row.get("timestamp"))
        .optional()?;
    let Some(time) = time else {
        return Ok(None);
    };
    let word = if clause.is_empty() { "WHERE" } else { "AND" };
    let mut values = filter.values();
    values.push(&time);
    let sql =
        format!("SELECT count(*) AS newer FROM requests{clause} {word} requests.timestamp > ?");
    let newer: i64 = conn
        .prepare_cached(&sql)?
        .query_row(params_from_iter(values), |row| row.get("newer"))?;
    // More than were left out may have come between the two looks.
    Ok(Some((time, (offset - newer).max(0))))
}

/// Times and numbers of the exchanges of a filter, the newest first, as far as `slice` says.
pub(crate) fn places(
    conn: &Connection,
    wanted: &RequestFilter,
    slice: Slice,
) -> Result<Vec<(i64, i64)>, DbError> {
    let mut filter = request_filter(wanted);
    filter.and_two("(requests.timestamp, requests.id) < (?, ?)", slice.after);
    let sql = format!(
        "SELECT requests.timestamp AS timestamp, requests.id AS id FROM requests{}
          ORDER BY requests.timestamp DESC, requests.id DESC
          LIMIT {} OFFSET {}",
        filter.clause(),
        slice.limit,
        slice.offset
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), |row| {
        Ok((row.get("timestamp")?, row.get("id")?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The answers of a filter, and how many there are of them.
pub(crate) fn responses(
    conn: &Connection,
    wanted: &ResponseFilter,
    slice: Slice,
) -> Result<(Vec<StoredResponse>, i64), DbError> {
    let mut filter = response_filter(wanted);
    let join = response_join(wanted);
    let total = count(conn, "responses", join, &filter)?;
    filter.and_two("(responses.timestamp, responses.id) < (?, ?)", slice.after);
    let sql = format!(
        "{RESPONSE_COLUMNS} {join}{} ORDER BY responses.timestamp DESC, responses.id DESC LIMIT {} OFFSET {}",
        filter.clause(),
        slice.limit,
        slice.offset
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), stored_response)?;
    Ok((rows.collect::<Result<_, _>>()?, total))
}

/// An answer by its own name.
pub(crate) fn response(
    conn: &Connection,
    name: &RowName,
) -> Result<Option<(StoredResponse, Option<Asked>)>, DbError> {
    let mut filter = Filter::default();
    filter.and("responses.id = ?", name.number());
    filter.and("responses.response_id = ?", name.uuid().map(str::to_owned));
    let sql = format!("{RESPONSE_COLUMNS}{}", filter.clause());
    let found = conn
        .prepare_cached(&sql)?
        .query_row(params_from_iter(filter.values()), stored_response)
        .optional()?;
    let Some(response) = found else {
        return Ok(None);
    };
    let asked = conn
        .prepare_cached(ASKED)?
        .query_row([response.request_id], |row| {
            Ok(Asked {
                id: row.get("id")?,
                request_id: row.get("request_id")?,
                model: row.get("model")?,
                stream: row.get("stream")?,
                timestamp: row.get("timestamp")?,
            })
        })
        .optional()?;
    Ok(Some((response, asked)))
}

/// What happened to exchanges since `from` (Unix ms): how many began, ended well, and failed.
pub(crate) fn since(conn: &Connection, from: i64) -> Result<(i64, i64, i64), DbError> {
    let mut statement = conn.prepare_cached(SINCE)?;
    Ok(statement.query_row([from], |row| {
        Ok((row.get("total")?, row.get("completed")?, row.get("failed")?))
    })?)
}

/// Removes an exchange with its answer and attempts.
pub(in crate::db) fn delete_request(conn: &Connection, uuid: &str) -> Result<usize, DbError> {
    Ok(conn.prepare_cached(DELETE_REQUEST)?.execute([uuid])?)
}

/// Removes an answer, its words and its recording; its exchange stays.
pub(in crate::db) fn delete_response(conn: &Connection, uuid: &str) -> Result<usize, DbError> {
    let request: Option<i64> = conn
        .prepare_cached(DELETE_RESPONSE)?
        .query_row([uuid], |row| row.get("request_id"))
        .optional()?;
    let Some(request) = request else {
        return Ok(0);
    };
    recordings::delete(conn, request)?;
    words::remove_answer(conn, request)?;
    Ok(1)
}

/// How many exchanges a session has.
pub(crate) fn of_session(conn: &Connection, session: &str) -> Result<i64, DbError> {
    let mut statement =
        conn.prepare_cached("SELECT count(*) FROM requests WHERE session_id = :id")?;
    Ok(statement.query_row(named_params! { ":id": session }, |row| row.get(0))?)
}

fn request_filter(wanted: &RequestFilter) -> Filter {
    let mut filter = Filter::default();
    filter.and("requests.session_id = ?", wanted.session_id.clone());
    filter.and("requests.model = ?", wanted.model.clone());
    filter.and("requests.provider_id = ?", wanted.provider.clone());
    filter.and("requests.status = ?", wanted.status.clone());
    filter.and("requests.stream = ?", wanted.stream);
    filter.and("requests.key_id = ?", wanted.key.clone());
    match wanted.tag.clone() {
        Some((name, Some(value))) => filter.and_two(
            "requests.tags IS NOT NULL
             AND EXISTS (SELECT 1 FROM json_each(requests.tags, '$.tags') WHERE key = ? AND value = ?)",
            Some((name, value)),
        ),
        Some((name, None)) => filter.and(
            "requests.tags IS NOT NULL
             AND EXISTS (SELECT 1 FROM json_each(requests.tags, '$.tags') WHERE key = ?)",
            Some(name),
        ),
        None => {}
    }
    filter.and("requests.timestamp >= ?", wanted.from);
    filter.and("requests.timestamp <= ?", wanted.until);
    match wanted.has_error {
        Some(true) => filter.only("requests.status = 'failed'"),
        Some(false) => filter.only("requests.status <> 'failed'"),
        None => {}
    }
    let said = wanted.said.as_ref();
    filter.and(words::SAID, said.map(|query| query.expression().to_owned()));
    filter
}

fn response_filter(wanted: &ResponseFilter) -> Filter {
    let mut filter = Filter::default();
    filter.and("responses.session_id = ?", wanted.session_id.clone());
    filter.and("responses.finish_reason = ?", wanted.finish_reason.clone());
    filter.and("responses.provider_id = ?", wanted.provider.clone());
    filter.and("responses.timestamp >= ?", wanted.from);
    filter.and("responses.timestamp <= ?", wanted.until);
    filter.and("requests.request_id = ?", wanted.request_id.clone());
    filter.and("requests.model = ?", wanted.model.clone());
    match wanted.has_error {
        Some(true) => filter.only("responses.error IS NOT NULL"),
        Some(false) => filter.only("responses.error IS NULL"),
        None => {}
    }
    filter
}

fn response_join(wanted: &ResponseFilter) -> &'static str {
    if wanted.request_id.is_some() || wanted.model.is_some() {
        "JOIN requests ON requests.id = responses.request_id"
    } else {
        ""
    }
}

fn count(conn: &Connection, table: &str, join: &str, filter: &Filter) -> Result<i64, DbError> {
    let sql = format!("SELECT count(*) FROM {table} {join}{}", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    Ok(statement.query_row(params_from_iter(filter.values()), |row| row.get(0))?)
}

fn listed_request(row: &Row<'_>) -> rusqlite::Result<ListedRequest> {
    let response_id: Option<String> = row.get("response_id")?;
    let response_summary = response_id
        .map(|response_id| {
            Ok::<_, rusqlite::Error>(Summary {
                response_id,
                finish_reason: row.get("finish_reason")?,
                total_tokens: row.get("total_tokens")?,
                cost_microusd: row.get("cost_microusd")?,
                duration_ms: row.get("duration_ms")?,
                ttft_ms: row.get("ttft_ms")?,
                http_status: row.get("http_status")?,
                error: row.get("error")?,
                error_code: row.get("error_code")?,
                from_cache: row.get("from_cache")?,
            })
        })
        .transpose()?;
    Ok(ListedRequest {
        id: row.get("id")?,
        request_id: row.get("uuid")?,
        session_id: row.get("session_id")?,
        timestamp: row.get("timestamp")?,
        method: row.get("method")?,
        path: row.get("path")?,
        model: row.get("model")?,
        stream: row.get("stream")?,
        provider: row.get("provider_id")?,
        key_id: row.get("key_id")?,
        tags: json_column(row, "tags")?,
        status: row.get("status")?,
        openai_request: body::read(row, "openai_request")?,
        qwen_request: body::read(row, "qwen_request")?,
        created_at: row.get("created_at")?,
        response_summary,
        snippet: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing;

    const ALL: Slice = Slice {
        limit: 10,
        offset: 0,
        after: None,
    };

    fn history() -> Connection {
        let conn = testing::database();
        conn.execute_batch(
            "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
             VALUES ('s', 'c', 'hi', 1, 1, 9);
             INSERT INTO requests (id, request_id, session_id, timestamp, method, path, openai_request, model, stream,
                                   provider_id, status, created_at)
             VALUES (1, 'u1', 's', 10, 'POST', '/p', '{\"a\":1}', 'm', 1, 'p', 'completed', 10),
                    (2, 'u2', NULL, 10, 'POST', '/p', '{}', 'm', 0, 'q', 'failed', 10),
                    (3, 'u3', NULL, 12, 'POST', '/p', '{}', 'n', 0, NULL, 'in_progress', 12);
             INSERT INTO responses (id, request_id, session_id, response_id, timestamp, total_tokens, prompt_tokens,
                                    completion_tokens, finish_reason, error, provider_id, http_status, duration_ms,
                                    created_at)
             VALUES (1, 1, 's', 'r1', 11, 5, 2, 3, 'stop', NULL, 'p', 200, 7, 11),
                    (2, 2, NULL, 'r2', 12, NULL, NULL, NULL, NULL, 'broken', 'q', 502, 1, 12);",
        )
        .unwrap();
        conn
    }

    #[test]
    fn filters_combine_and_cursors_go_on_where_a_page_ended() {
        let conn = history();
        let list = |filter: &RequestFilter, slice| {
            let (rows, total) = requests(&conn, filter, slice, true).unwrap();
            (rows.iter().map(|row| row.id).collect::<Vec<_>>(), total)
        };
        let all = RequestFilter::default();
        assert_eq!(list(&all, ALL), (vec![3, 2, 1], 3));
        let after = |after| Slice {
            limit: 1,
            after: Some(after),
            ..ALL
        };
        assert_eq!(list(&all, after((12, 3))), (vec![2], 3));
        assert_eq!(list(&all, after((10, 2))), (vec![1], 3));
        for (offset, ids) in [(1, vec![2, 1]), (2, vec![1]), (3, vec![])] {
            assert_eq!(list(&all, Slice { offset, ..ALL }), (ids, 3));
        }
        let model = RequestFilter {
            model: Some("m".into()),
            ..RequestFilter::default()
        };
        assert_eq!(list(&model, Slice { offset: 1, ..ALL }), (vec![1], 2));
        let narrow = RequestFilter {
            session_id: Some("s".into()),
            model: Some("m".into()),
            stream: Some(true),
            from: Some(1),
            has_error: Some(false),
            ..RequestFilter::default()
        };
        assert_eq!(list(&narrow, ALL), (vec![1], 1));
        let failed = RequestFilter {
            has_error: Some(true),
            ..RequestFilter::default()
        };
        assert_eq!(list(&failed, ALL), (vec![2], 1));
        let newest = answered(&conn, 0, 1).unwrap();
        assert_eq!(newest.len(), 1, "the one under way takes no place");
        assert_eq!(newest[0].id, 2);
        let (rows, _) = requests(&conn, &narrow, ALL, false).unwrap();
        assert!(rows[0].openai_request.is_none());
        assert_eq!(rows[0].response_summary.as_ref().unwrap().response_id, "r1");
    }

    #[test]
    fn answers_are_found_by_number_and_by_uuid_and_by_nothing_like_them() {
        let conn = history();
        let found = |name: &str| {
            let found = response(&conn, &RowName::read(name)).unwrap();
            found.map(|(response, asked)| (response.id, asked.map(|asked| asked.request_id)))
        };
        assert_eq!(found("2"), Some((2, Some("u2".into()))));
        assert_eq!(found("r1"), Some((1, Some("u1".into()))));
        assert_eq!(found("2zzz"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("99999999999999999999"), None);
        let list = |filter: &ResponseFilter| {
            let (rows, total) = responses(&conn, filter, ALL).unwrap();
            (rows.iter().map(|row| row.id).collect::<Vec<_>>(), total)
        };
        assert_eq!(list(&ResponseFilter::default()), (vec![2, 1], 2));
        let mut filter = ResponseFilter {
            has_error: Some(true),
            request_id: Some("u2".into()),
            ..ResponseFilter::default()
        };
        assert_eq!(list(&filter), (vec![2], 1));
        filter.finish_reason = Some("stop".into());
        assert_eq!(list(&filter), (vec![], 0));
        assert_eq!(of_session(&conn, "s").unwrap(), 1);
        assert_eq!(delete_response(&conn, "r1").unwrap(), 1);
        assert_eq!(delete_request(&conn, "u2").unwrap(), 1);
        assert_eq!(list(&ResponseFilter::default()), (vec![], 0));
    }
}
