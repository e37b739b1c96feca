//! History as it is written: the request at the beginning of an exchange, the rest at its end.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, named_params};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::db::body::Body;
use crate::db::cache::{self, Key};
use crate::db::error::DbError;
#[cfg(test)]
use crate::db::history::words;
use crate::db::keys;
use crate::db::recordings::{self, Packed};
use crate::db::usage;
use crate::routing::budgets::Spent;

/// A session that was deleted meanwhile is left out: history is never refused for its content.
const BEGIN: &str = "
    INSERT INTO requests (request_id, client_request_id, session_id, timestamp, method, path, port, user_agent,
                          openai_request, model, stream, plan, tags, key_id, created_at)
    VALUES (:request_id, :client_request_id, (SELECT id FROM sessions WHERE id = :session_id), :timestamp, :method,
            :path, :port, :user_agent,
            :openai_request, :model, :stream, :plan, :tags, :key_id, :timestamp)
        ON CONFLICT (request_id) DO NOTHING";

const RESPOND: &str = "
    INSERT INTO responses (request_id, session_id, response_id, timestamp, openai_response, prompt_tokens,
                           completion_tokens, total_tokens, cached_tokens, reasoning_tokens, cost_microusd, finish_reason, error,
                           error_code, provider_id, upstream_model, http_status, upstream_status, attempts, queue_ms,
                           ttft_ms, duration_ms, created_at, from_cache)
    SELECT id, session_id, :response_id, :finished_at,
           :openai_response, :prompt_tokens, :completion_tokens, :total_tokens, :cached_tokens, :reasoning_tokens, :cost_microusd, :finish_reason,
           :error, :error_code, :provider_id, :upstream_model, :http_status, :upstream_status, :attempts, :queue_ms,
           :ttft_ms, :duration_ms, :finished_at, :from_cache
      FROM requests
     WHERE request_id = :request_id AND status IN ('in_progress', 'interrupted')
        ON CONFLICT (request_id) DO NOTHING";

const SETTLE: &str = "
    UPDATE requests SET status = :status, provider_id = :provider_id WHERE request_id = :request_id";

const ATTEMPT: &str = "
    INSERT INTO attempts (request_id, number, provider_id, upstream_model, started_at, duration_ms, ttft_ms,
                          upstream_status, outcome, error, error_code, resumed_at)
    SELECT id, :number, :provider_id, :upstream_model, :started_at, :duration_ms, :ttft_ms, :upstream_status, :outcome,
           :error, :error_code, :resumed_at
      FROM requests
     WHERE request_id = :request_id";

const SESSION: &str = "SELECT session_id FROM requests WHERE request_id = ?1";

/// What of an exchange may be in the index: another operation of the same transaction may have taken it, or its answer, away.
const SAID: &str = "
    SELECT q.id AS id, r.request_id IS NOT NULL AS is_answered
      FROM requests q
      LEFT JOIN responses r ON r.request_id = q.id
     WHERE q.request_id = ?1 AND q.bodies_dropped = 0";

const INTERRUPT: &str = "
    UPDATE requests SET status = 'interrupted' WHERE status = 'in_progress' AND timestamp < :before";

/// What a client asked. Written before an upstream is called. Has no `Debug`: bodies are never logged.
#[derive(Clone)]
pub(crate) struct RequestRow {
    pub(crate) request_id: String,
    /// The UUID of the exchange that this one repeats.
    pub(crate) replay_of: Option<String>,
    /// What the client wants to find it by.
    pub(crate) tags: BTreeMap<String, String>,
    /// The client's own name for it.
    pub(crate) client_request_id: Option<String>,
    pub(crate) session_id: Option<String>,
    /// Unix time, ms.
    pub(crate) timestamp: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The port it came in at.
    pub(crate) port: u16,
    pub(crate) user_agent: Option<String>,
    pub(crate) openai_request: Body,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Where it may go, as JSON.
    pub(crate) plan: Option<String>,
    /// The id of the client's key, if it sent one.
    pub(crate) key_id: Option<String>,
    /// What its dialect needs to tell the answer again, as JSON; none where no client may ask for that.
    pub(crate) kept: Option<String>,
    /// What of it can be searched for.
    pub(crate) words: String,
}

impl RequestRow {
    /// What is said of it besides, as one JSON object; none when that is nothing.
    fn tags_json(&self) -> Option<String> {
        let mut all = Map::new();
        if let Some(replay_of) = &self.replay_of {
            all.insert("replay_of".into(), replay_of.as_str().into());
        }
        if !self.tags.is_empty() {
            all.insert("tags".into(), json!(self.tags));
        }
        let kept = self.kept.as_deref().map(serde_json::from_str::<Value>);
        if let Some(Ok(kept)) = kept {
            all.insert("kept".into(), kept);
        }
        (!all.is_empty()).then(|| Value::Object(all).to_string())
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExchangeStatus {
    Completed,
    Failed,
    ClientClosed,
}

impl ExchangeStatus {
    pub(in crate::db) fn parse(text: &str) -> Option<Self> {
        [Self::Completed, Self::Failed, Self::ClientClosed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// As the column says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::ClientClosed => "client_closed",
        }
    }
}

/// The end of an exchange. Has no `Debug`: bodies are never logged.
#[derive(Clone)]
pub(crate) struct OutcomeRow {
    pub(crate) response_id: String,
    pub(crate) status: ExchangeStatus,
    /// The provider of the last attempt.
    pub(crate) provider_id: Option<String>,
    pub(crate) upstream_model: Option<String>,
    /// Unix time, ms.
    pub(crate) finished_at: i64,
    pub(crate) openai_response: Option<Body>,
    /// What of it can be searched for; none when the exchange is not to be found.
    pub(crate) words: Option<String>,
    pub(crate) prompt_tokens: Option<i64>,
    pub(crate) completion_tokens: Option<i64>,
    pub(crate) total_tokens: Option<i64>,
    pub(crate) cached_tokens: Option<i64>,
    pub(crate) reasoning_tokens: Option<i64>,
    /// Of all attempts; none when no price is known.
    pub(crate) cost_microusd: Option<i64>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_code: Option<String>,
    /// What the client was answered.
    pub(crate) http_status: u16,
    /// What the last upstream answered.
    pub(crate) upstream_status: Option<u16>,
    /// From the request's arrival to the first attempt.
    pub(crate) queue_ms: Option<i64>,
    /// From the request's arrival to the first content.
    pub(crate) ttft_ms: Option<i64>,
    pub(crate) duration_ms: i64,
    pub(crate) attempts: Vec<AttemptRow>,
    pub(crate) recording: Option<Packed>,
    /// The kept answer that was given again; no upstream was asked.
    pub(crate) from_cache: Option<Key>,
}

impl OutcomeRow {
    /// What it counts for; an answer that was given again took no tokens.
    pub(crate) fn spent(&self) -> Spent {
        let tokens = usage::tokens(
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
        );
        Spent {
            requests: 1,
            tokens: if self.from_cache.is_some() { 0 } else { tokens },
            cost_microusd: usage::cost(self.cost_microusd),
        }
    }
}

/// How one try at a target ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttemptOutcome {
    Succeeded,
    Failed,
    Cancelled,
}

impl AttemptOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// One try at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AttemptRow {
    /// From 1.
    pub(crate) number: u32,
    pub(crate) provider_id: String,
    pub(crate) upstream_model: String,
    /// Unix time, ms.
    pub(crate) started_at: i64,
    pub(crate) duration_ms: i64,
    /// From its start to the first content.
    pub(crate) ttft_ms: Option<i64>,
    pub(crate) upstream_status: Option<u16>,
    pub(crate) outcome: AttemptOutcome,
    pub(crate) error: Option<String>,
    pub(crate) error_code: Option<String>,
    /// It went on with an answer of which the client had so many characters.
    pub(crate) resumed_at: Option<i64>,
}

/// Writes the request row, unless it is there.
pub(in crate::db) fn begin(conn: &Connection, request: &RequestRow) -> Result<(), DbError> {
    conn.prepare_cached(BEGIN)?.execute(named_params! {
        ":request_id": request.request_id,
        ":client_request_id": request.client_request_id,
        ":tags": request.tags_json(),
        ":session_id": request.session_id,
        ":timestamp": request.timestamp,
        ":method": request.method,
        ":path": request.path,
        ":port": request.port,
        ":user_agent": request.user_agent,
        ":openai_request": request.openai_request,
        ":model": request.model,
        ":stream": request.stream,
        ":plan": request.plan,
        ":key_id": request.key_id,
    })?;
    Ok(())
}

/// Writes how the exchange ended, but for its words ([`said`]). Does nothing when that is known already, and says so. The
/// request row may have been shed, so it is written too when it is missing.
pub(in crate::db) fn settle(
    conn: &Connection,
    request: &RequestRow,
    outcome: &OutcomeRow,
) -> Result<bool, DbError> {
    // The request is there, as a rule. Writing it again in any case would check its body again and use up an id.
    if !respond(conn, &request.request_id, outcome)? {
        begin(conn, request)?;
        if !respond(conn, &request.request_id, outcome)? {
            return Ok(false);
        }
    }
    conn.prepare_cached(SETTLE)?.execute(named_params! {
        ":status": outcome.status.as_str(),
        ":provider_id": outcome.provider_id,
        ":request_id": request.request_id,
    })?;
    for attempt in &outcome.attempts {
        add_attempt(conn, &request.request_id, attempt)?;
    }
    if let Some(recording) = &outcome.recording {
        recordings::insert(conn, &request.request_id, recording)?;
    }
    if let Some(key) = outcome.from_cache {
        cache::hit(conn, key, outcome.finished_at)?;
    }
    let session: Option<String> = conn
        .prepare_cached(SESSION)?
        .query_row([&request.request_id], |row| row.get("session_id"))?;
    if let Some(key) = &request.key_id {
        keys::spend(conn, key, outcome.finished_at, &outcome.spent())?;
    }
    usage::add(conn, &request.model, session.as_deref(), outcome)?;
    Ok(true)
}

/// What was said in an exchange: its number, what was asked and what was answered. None where it is not to be searched, or is
/// not there any more.
pub(in crate::db) fn said<'a>(
    conn: &Connection,
    request: &'a RequestRow,
    outcome: &'a OutcomeRow,
) -> Result<Option<(i64, &'a str, &'a str)>, DbError> {
    let Some(answer) = &outcome.words else {
        return Ok(None);
    };
    let mut said = conn.prepare_cached(SAID)?;
    let said = said.query_row([&request.request_id], |row| {
        let is_answered: bool = row.get("is_answered")?;
        let answer = if is_answered { answer.as_str() } else { "" };
        Ok((row.get("id")?, request.words.as_str(), answer))
    });
    Ok(said.optional()?)
}

/// All of it, as one transaction stores it.
#[cfg(test)]
pub(in crate::db) fn finish(
    conn: &Connection,
    request: &RequestRow,
    outcome: &OutcomeRow,
) -> Result<(), DbError> {
    if settle(conn, request, outcome)?
        && let Some((id, asked, answered)) = said(conn, request, outcome)?
    {
        words::put(conn, id, asked, answered)?;
    }
    Ok(())
}

/// Marks the exchanges that began before `before` (Unix time, ms) and did not end: the process that served them is gone.
pub(in crate::db) fn interrupt(conn: &Connection, before: i64) -> Result<usize, DbError> {
    Ok(conn
        .prepare_cached(INTERRUPT)?
        .execute(named_params! { ":before": before })?)
}

/// False when there was an answer.
fn respond(conn: &Connection, request_id: &str, outcome: &OutcomeRow) -> Result<bool, DbError> {
    let inserted = conn.prepare_cached(RESPOND)?.execute(named_params! {
        ":request_id": request_id,
        ":response_id": outcome.response_id,
        ":finished_at": outcome.finished_at,
        ":openai_response": outcome.openai_response,
        ":prompt_tokens": outcome.prompt_tokens,
        ":completion_tokens": outcome.completion_tokens,
        ":total_tokens": outcome.total_tokens,
        ":cached_tokens": outcome.cached_tokens,
        ":reasoning_tokens": outcome.reasoning_tokens,
        ":cost_microusd": outcome.cost_microusd,
        ":finish_reason": outcome.finish_reason,
        ":error": outcome.error,
        ":error_code": outcome.error_code,
        ":provider_id": outcome.provider_id,
        ":upstream_model": outcome.upstream_model,
        ":http_status": outcome.http_status,
        ":upstream_status": outcome.upstream_status,
        ":attempts": i64::try_from(outcome.attempts.len()).unwrap_or(i64::MAX),
        ":queue_ms": outcome.queue_ms,
        ":ttft_ms": outcome.ttft_ms,
        ":duration_ms": outcome.duration_ms,
        ":from_cache": outcome.from_cache.is_some(),
    })?;
    Ok(inserted == 1)
}

fn add_attempt(conn: &Connection, request_id: &str, attempt: &AttemptRow) -> Result<(), DbError> {
    conn.prepare_cached(ATTEMPT)?.execute(named_params! {
        ":request_id": request_id,
        ":number": attempt.number,
        ":provider_id": attempt.provider_id,
        ":upstream_model": attempt.upstream_model,
        ":started_at": attempt.started_at,
        ":duration_ms": attempt.duration_ms,
        ":ttft_ms": attempt.ttft_ms,
        ":upstream_status": attempt.upstream_status,
        ":outcome": attempt.outcome.as_str(),
        ":error": attempt.error,
        ":error_code": attempt.error_code,
        ":resumed_at": attempt.resumed_at,
    })?;
    Ok(())
}
