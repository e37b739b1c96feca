//! Tables `requests`, `attempts` and `responses`: one exchange each, from its beginning to its end.

mod exchange;
pub(crate) mod kept;
pub(crate) mod list;
pub(crate) mod words;

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::db::body;
use crate::db::error::DbError;
use crate::db::json;

#[cfg(test)]
pub(super) use exchange::finish;
pub(crate) use exchange::{AttemptOutcome, AttemptRow, ExchangeStatus, OutcomeRow, RequestRow};
pub(super) use exchange::{begin, interrupt, said, settle};
use list::RowName;
pub(super) use list::{delete_request, delete_response};

#[cfg(test)]
const COUNTS: &str = "
    SELECT (SELECT count(*) FROM requests) AS requests,
           (SELECT count(*) FROM responses) AS responses,
           (SELECT count(*) FROM requests WHERE status = 'in_progress') AS in_progress";

const REQUEST: &str = "
    SELECT id, request_id, client_request_id, session_id, timestamp, method, path, port, user_agent, openai_request,
           qwen_request, model, stream, provider_id, status, json_extract(tags, '$.replay_of') AS replay_of,
           json_extract(tags, '$.tags') AS tags, plan, key_id, created_at,
           EXISTS (SELECT 1 FROM recordings WHERE recordings.request_id = requests.id) AS has_recording
      FROM requests
     WHERE request_id = :uuid OR id = :number";

const REPLAYS: &str = "
    SELECT request_id
      FROM requests
     WHERE tags IS NOT NULL AND json_extract(tags, '$.replay_of') = ?1
     ORDER BY id";

const RESPONSE: &str = "
    SELECT id, request_id, session_id, response_id, timestamp, qwen_response, openai_response, parent_id,
           prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd,
           finish_reason, error, error_code, provider_id, upstream_model, http_status, upstream_status, attempts,
           queue_ms, ttft_ms, duration_ms, created_at, from_cache
      FROM responses
     WHERE request_id = :id";

const ATTEMPTS: &str = "
    SELECT number, provider_id, upstream_model, started_at, duration_ms, ttft_ms, upstream_status, outcome, error,
           error_code, resumed_at
      FROM attempts
     WHERE request_id = :id
     ORDER BY number";

#[cfg(test)]
/// How much history there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct HistoryCounts {
    pub(crate) requests: i64,
    pub(crate) responses: i64,
    pub(crate) in_progress: i64,
}

/// One exchange as the management API shows it. Has no `Debug`: bodies are never logged.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredExchange {
    pub(crate) id: i64,
    pub(crate) request_id: String,
    pub(crate) client_request_id: Option<String>,
    pub(crate) session_id: Option<String>,
    pub(crate) timestamp: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) port: Option<u16>,
    pub(crate) user_agent: Option<String>,
    #[schema(value_type = Value)]
    pub(crate) openai_request: Box<RawValue>,
    #[schema(value_type = Value)]
    pub(crate) qwen_request: Option<Box<RawValue>>,
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) provider: Option<String>,
    /// The id of the client's key, if it sent one.
    pub(crate) key_id: Option<String>,
    pub(crate) status: String,
    pub(crate) created_at: i64,
    /// The UUID of the exchange that this one repeats.
    pub(crate) replay_of: Option<String>,
    /// What its client gave it to be found by.
    #[schema(value_type = Option<HashMap<String, String>>)]
    pub(crate) tags: Option<Box<RawValue>>,
    /// The UUIDs of those that repeat this one, the oldest first.
    pub(crate) replays: Vec<String>,
    /// Whether `GET /api/requests/{id}/recording` has something to tell.
    pub(crate) has_recording: bool,
    /// Which targets it had, and why; none when it never came so far.
    #[schema(value_type = Value)]
    pub(crate) plan: Option<Box<RawValue>>,
    pub(crate) attempts: Vec<AttemptRow>,
    pub(crate) response: Option<StoredResponse>,
}

/// The answer within a [`StoredExchange`]. Has no `Debug`: bodies are never logged.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredResponse {
    pub(crate) id: i64,
    pub(crate) request_id: i64,
    pub(crate) session_id: Option<String>,
    pub(crate) response_id: String,
    pub(crate) timestamp: i64,
    #[schema(value_type = Value)]
    pub(crate) qwen_response: Option<Box<RawValue>>,
    #[schema(value_type = Value)]
    pub(crate) openai_response: Option<Box<RawValue>>,
    pub(crate) parent_id: Option<String>,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) completion_tokens: Option<i64>,
    pub(crate) total_tokens: Option<i64>,
    pub(crate) cached_tokens: Option<i64>,
    pub(crate) reasoning_tokens: Option<i64>,
    /// Of all attempts, millionths of a US dollar; none when no price is known.
    pub(crate) cost_microusd: Option<i64>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_code: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) upstream_model: Option<String>,
    pub(crate) http_status: u16,
    pub(crate) upstream_status: Option<u16>,
    pub(crate) attempts: i64,
    pub(crate) queue_ms: Option<i64>,
    pub(crate) ttft_ms: Option<i64>,
    pub(crate) duration_ms: i64,
    pub(crate) created_at: i64,
    /// The answer was kept from an earlier request: no upstream was asked, and the tokens are not counted again.
    pub(crate) from_cache: bool,
}

#[cfg(test)]
/// How many rows there are. Counts them, so it takes time with their number.
pub(super) fn counts(conn: &Connection) -> Result<HistoryCounts, DbError> {
    let mut statement = conn.prepare_cached(COUNTS)?;
    Ok(statement.query_row([], |row| {
        Ok(HistoryCounts {
            requests: row.get("requests")?,
            responses: row.get("responses")?,
            in_progress: row.get("in_progress")?,
        })
    })?)
}

/// The exchange a client's request became, with its attempts and its answer so far.
pub(crate) fn exchange(
    conn: &Connection,
    name: &RowName,
) -> Result<Option<StoredExchange>, DbError> {
    let (number, uuid) = match name {
        RowName::Number(number) => (Some(number), None),
        RowName::Uuid(uuid) => (None, Some(uuid)),
    };
    let mut statement = conn.prepare_cached(REQUEST)?;
    let found = statement
        .query_row(
            named_params! { ":uuid": uuid, ":number": number },
            stored_exchange,
        )
        .optional()?;
    let Some(mut exchange) = found else {
        return Ok(None);
    };
    exchange.replays = conn
        .prepare_cached(REPLAYS)?
        .query_map([&exchange.request_id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    exchange.attempts = conn
        .prepare_cached(ATTEMPTS)?
        .query_map(named_params! { ":id": exchange.id }, attempt)?
        .collect::<Result<_, _>>()?;
    exchange.response = conn
        .prepare_cached(RESPONSE)?
        .query_row(named_params! { ":id": exchange.id }, stored_response)
        .optional()?;
    Ok(Some(exchange))
}

fn stored_exchange(row: &Row<'_>) -> rusqlite::Result<StoredExchange> {
    Ok(StoredExchange {
        id: row.get("id")?,
        request_id: row.get("request_id")?,
        client_request_id: row.get("client_request_id")?,
        session_id: row.get("session_id")?,
        timestamp: row.get("timestamp")?,
        method: row.get("method")?,
        path: row.get("path")?,
        port: row.get("port")?,
        user_agent: row.get("user_agent")?,
        openai_request: body::read(row, "openai_request")?
            .unwrap_or_else(|| RawValue::NULL.to_owned()),
        qwen_request: body::read(row, "qwen_request")?,
        model: row.get("model")?,
        stream: row.get("stream")?,
        provider: row.get("provider_id")?,
        key_id: row.get("key_id")?,
        status: row.get("status")?,
        replay_of: row.get("replay_of")?,
        tags: json_column(row, "tags")?,
        replays: Vec::new(),
        created_at: row.get("created_at")?,
        has_recording: row.get("has_recording")?,
        plan: json_column(row, "plan")?,
        attempts: Vec::new(),
        response: None,
    })
}

fn json_column(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Box<RawValue>>> {
    let text: Option<String> = row.get(name)?;
    text.map(|text| json::checked(RawValue::from_string(text)))
        .transpose()
}

fn stored_response(row: &Row<'_>) -> rusqlite::Result<StoredResponse> {
    Ok(StoredResponse {
        id: row.get("id")?,
        request_id: row.get("request_id")?,
        session_id: row.get("session_id")?,
        response_id: row.get("response_id")?,
        timestamp: row.get("timestamp")?,
        qwen_response: body::read(row, "qwen_response")?,
        openai_response: body::read(row, "openai_response")?,
        parent_id: row.get("parent_id")?,
        prompt_tokens: row.get("prompt_tokens")?,
        completion_tokens: row.get("completion_tokens")?,
        total_tokens: row.get("total_tokens")?,
        cached_tokens: row.get("cached_tokens")?,
        reasoning_tokens: row.get("reasoning_tokens")?,
        cost_microusd: row.get("cost_microusd")?,
        finish_reason: row.get("finish_reason")?,
        error: row.get("error")?,
        error_code: row.get("error_code")?,
        provider: row.get("provider_id")?,
        upstream_model: row.get("upstream_model")?,
        http_status: row.get("http_status")?,
        upstream_status: row.get("upstream_status")?,
        attempts: row.get("attempts")?,
        queue_ms: row.get("queue_ms")?,
        ttft_ms: row.get("ttft_ms")?,
        duration_ms: row.get("duration_ms")?,
        created_at: row.get("created_at")?,
        from_cache: row.get("from_cache")?,
    })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<AttemptRow> {
    let outcome: String = row.get("outcome")?;
    Ok(AttemptRow {
        number: row.get("number")?,
        provider_id: row.get("provider_id")?,
        upstream_model: row.get("upstream_model")?,
        started_at: row.get("started_at")?,
        duration_ms: row.get("duration_ms")?,
        ttft_ms: row.get("ttft_ms")?,
        upstream_status: row.get("upstream_status")?,
        outcome: AttemptOutcome::parse(&outcome).unwrap_or(AttemptOutcome::Failed),
        error: row.get("error")?,
        error_code: row.get("error_code")?,
        resumed_at: row.get("resumed_at")?,
    })
}

#[cfg(test)]
mod tests;
