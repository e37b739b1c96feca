//! Tables `usage_rollups` and `usage_by_session`: sums per hour, provider and model, of all exchanges and of conversations.

use rusqlite::{Connection, named_params};

use crate::db::days;
use crate::db::error::DbError;
use crate::db::histogram::Histogram;
use crate::db::history::{ExchangeStatus, OutcomeRow};

pub(super) const HOUR_MS: i64 = 3_600_000;
/// No exchange counts for more: an upstream that claims absurd numbers would overflow the sums, and end the counting.
const MOST: i64 = 1_000_000_000;
/// The same for its cost: a million dollars.
const DEAREST: i64 = 1_000_000_000_000;

const ADD: &str = "
    INSERT INTO usage_rollups (hour, provider, model, requests, completed, failed, client_closed, attempts,
                               prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens,
                               duration_ms, cost_microusd)
    VALUES (:hour, :provider, :model, 1, :completed, :failed, :client_closed, :attempts, :prompt_tokens,
            :completion_tokens, :total_tokens, :cached_tokens, :reasoning_tokens, :duration_ms, :cost_microusd)
        ON CONFLICT (hour, provider, model) DO UPDATE
       SET requests = requests + 1,
           completed = completed + excluded.completed,
           failed = failed + excluded.failed,
           client_closed = client_closed + excluded.client_closed,
           attempts = attempts + excluded.attempts,
           prompt_tokens = prompt_tokens + excluded.prompt_tokens,
           completion_tokens = completion_tokens + excluded.completion_tokens,
           total_tokens = total_tokens + excluded.total_tokens,
           cached_tokens = cached_tokens + excluded.cached_tokens,
           reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
           duration_ms = duration_ms + excluded.duration_ms,
           cost_microusd = cost_microusd + excluded.cost_microusd";

const LATENCIES: &str = "
    SELECT durations, first_contents FROM usage_latencies WHERE hour = ?1 AND provider = ?2 AND model = ?3";

const PUT_LATENCIES: &str = "
    INSERT INTO usage_latencies (hour, provider, model, durations, first_contents)
    VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (hour, provider, model) DO UPDATE
       SET durations = excluded.durations, first_contents = excluded.first_contents";

const ADD_TO_SESSION: &str = "
    INSERT INTO usage_by_session (session_id, hour, provider, model, requests, completed, failed, client_closed, attempts,
                                  prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens,
                                  duration_ms, cost_microusd, durations, first_contents)
    VALUES (:session, :hour, :provider, :model, 1, :completed, :failed, :client_closed, :attempts, :prompt_tokens,
            :completion_tokens, :total_tokens, :cached_tokens, :reasoning_tokens, :duration_ms, :cost_microusd,
            :durations, :first_contents)
        ON CONFLICT (session_id, hour, provider, model) DO UPDATE
       SET requests = requests + 1,
           completed = completed + excluded.completed,
           failed = failed + excluded.failed,
           client_closed = client_closed + excluded.client_closed,
           attempts = attempts + excluded.attempts,
           prompt_tokens = prompt_tokens + excluded.prompt_tokens,
           completion_tokens = completion_tokens + excluded.completion_tokens,
           total_tokens = total_tokens + excluded.total_tokens,
           cached_tokens = cached_tokens + excluded.cached_tokens,
           reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
           duration_ms = duration_ms + excluded.duration_ms,
           cost_microusd = cost_microusd + excluded.cost_microusd,
           durations = excluded.durations,
           first_contents = excluded.first_contents";

const SESSION_LATENCIES: &str = "
    SELECT durations, first_contents
      FROM usage_by_session
     WHERE session_id = ?1 AND hour = ?2 AND provider = ?3 AND model = ?4";

/// What an answer in the history was counted for, when it is not known yet whose conversation it belongs to.
const ANSWERED: &str = "
    SELECT r.model, r.status, a.timestamp, a.provider_id, a.from_cache, a.attempts, a.prompt_tokens, a.completion_tokens,
           a.total_tokens, a.cached_tokens, a.reasoning_tokens, a.cost_microusd, a.duration_ms, a.ttft_ms
      FROM requests r
      JOIN responses a ON a.request_id = r.id
     WHERE r.request_id = ?1 AND a.session_id IS NULL";

/// What one exchange took.
pub(super) struct Spent<'a> {
    /// Empty when none took it, or none is known.
    pub(super) provider: &'a str,
    /// Empty when it must not make a row of its own.
    pub(super) model: &'a str,
    /// Unix time, ms.
    pub(super) finished_at: i64,
    pub(super) status: ExchangeStatus,
    pub(super) attempts: usize,
    pub(super) prompt_tokens: Option<i64>,
    pub(super) completion_tokens: Option<i64>,
    pub(super) total_tokens: Option<i64>,
    pub(super) cached_tokens: Option<i64>,
    pub(super) reasoning_tokens: Option<i64>,
    pub(super) cost_microusd: Option<i64>,
    pub(super) duration_ms: i64,
    pub(super) ttft_ms: Option<i64>,
}

/// Adds one exchange, for the hour in which it ended, to the sums of all and to those of its conversation. Not idempotent:
/// the caller knows whether it was added before.
pub(super) fn add(
    conn: &Connection,
    model: &str,
    session: Option<&str>,
    outcome: &OutcomeRow,
) -> Result<(), DbError> {
    // An answer that was given again cost nothing, and says nothing of how fast a provider is.
    let is_spent = outcome.from_cache.is_none();
    let told = |count: Option<i64>| count.filter(|_| is_spent);
    let provider = outcome.provider_id.as_deref().filter(|_| is_spent);
    let spent = Spent {
        provider: provider.unwrap_or_default(),
        model: outcome.provider_id.as_ref().map_or("", |_| model),
        finished_at: outcome.finished_at,
        status: outcome.status,
        attempts: outcome.attempts.len(),
        prompt_tokens: told(outcome.prompt_tokens),
        completion_tokens: told(outcome.completion_tokens),
        total_tokens: told(outcome.total_tokens),
        cached_tokens: told(outcome.cached_tokens),
        reasoning_tokens: told(outcome.reasoning_tokens),
        cost_microusd: outcome.cost_microusd,
        duration_ms: outcome.duration_ms,
        ttft_ms: outcome.ttft_ms,
    };
    add_spent(conn, session, &spent)
}

/// The same for an exchange that was served elsewhere. Not idempotent either.
pub(super) fn add_spent(
    conn: &Connection,
    session: Option<&str>,
    spent: &Spent<'_>,
) -> Result<(), DbError> {
    add_to_all(conn, spent)?;
    if let Some(session) = session {
        add_to_session(conn, session, spent)?;
    }
    Ok(())
}

/// Counts an exchange that ended before it was known whose conversation it belongs to. To be asked before its answer is
/// told, so once.
pub(super) fn add_answered(
    conn: &Connection,
    session: &str,
    request_id: &str,
) -> Result<(), DbError> {
    let mut statement = conn.prepare_cached(ANSWERED)?;
    let mut rows = statement.query([request_id])?;
    let Some(row) = rows.next()? else {
        return Ok(());
    };
    let (model, status): (String, String) = (row.get("model")?, row.get("status")?);
    let Some(status) = ExchangeStatus::parse(&status) else {
        return Ok(());
    };
    let provider: Option<String> = row.get("provider_id")?;
    let is_spent = !row.get::<_, bool>("from_cache")?;
    let told = |column| -> Result<Option<i64>, DbError> {
        let count: Option<i64> = row.get(column)?;
        Ok(count.filter(|_| is_spent))
    };
    let spent = Spent {
        provider: provider.as_deref().filter(|_| is_spent).unwrap_or_default(),
        model: provider.as_ref().map_or("", |_| &model),
        finished_at: row.get("timestamp")?,
        status,
        attempts: usize::try_from(row.get::<_, i64>("attempts")?).unwrap_or(0),
        prompt_tokens: told("prompt_tokens")?,
        completion_tokens: told("completion_tokens")?,
        total_tokens: told("total_tokens")?,
        cached_tokens: told("cached_tokens")?,
        reasoning_tokens: told("reasoning_tokens")?,
        cost_microusd: row.get("cost_microusd")?,
        duration_ms: row.get("duration_ms")?,
        ttft_ms: row.get("ttft_ms")?,
    };
    add_to_session(conn, session, &spent)
}

fn add_to_all(conn: &Connection, spent: &Spent<'_>) -> Result<(), DbError> {
    let (prompt, completion) = (
        bounded(spent.prompt_tokens),
        bounded(spent.completion_tokens),
    );
    let total = tokens(
        spent.prompt_tokens,
        spent.completion_tokens,
        spent.total_tokens,
    );
    let is = |status| spent.status == status;
    let hour = hour(spent.finished_at);
    days::reopen(conn, hour)?;
    add_latencies(conn, hour, spent)?;
    conn.prepare_cached(ADD)?.execute(named_params! {
        ":hour": hour,
        ":provider": spent.provider,
        ":model": spent.model,
        ":completed": is(ExchangeStatus::Completed),
        ":failed": is(ExchangeStatus::Failed),
        ":client_closed": is(ExchangeStatus::ClientClosed),
        ":attempts": bounded(i64::try_from(spent.attempts).ok()),
        ":prompt_tokens": prompt,
        ":completion_tokens": completion,
        ":total_tokens": total,
        ":cached_tokens": bounded(spent.cached_tokens),
        ":reasoning_tokens": bounded(spent.reasoning_tokens),
        ":duration_ms": bounded(Some(spent.duration_ms)),
        ":cost_microusd": cost(spent.cost_microusd),
    })?;
    Ok(())
}

fn add_to_session(conn: &Connection, session: &str, spent: &Spent<'_>) -> Result<(), DbError> {
    let hour = hour(spent.finished_at);
    let (mut durations, mut first_contents) = (Histogram::default(), Histogram::default());
    let mut statement = conn.prepare_cached(SESSION_LATENCIES)?;
    let mut rows = statement.query((session, hour, spent.provider, spent.model))?;
    if let Some(row) = rows.next()? {
        durations.merge(row.get_ref("durations")?.as_blob().unwrap_or_default());
        first_contents.merge(row.get_ref("first_contents")?.as_blob().unwrap_or_default());
    }
    durations.add(spent.duration_ms);
    if let Some(ttft) = spent.ttft_ms {
        first_contents.add(ttft);
    }
    let is = |status| spent.status == status;
    let total = tokens(
        spent.prompt_tokens,
        spent.completion_tokens,
        spent.total_tokens,
    );
    conn.prepare_cached(ADD_TO_SESSION)?
        .execute(named_params! {
            ":session": session,
            ":hour": hour,
            ":provider": spent.provider,
            ":model": spent.model,
            ":completed": is(ExchangeStatus::Completed),
            ":failed": is(ExchangeStatus::Failed),
            ":client_closed": is(ExchangeStatus::ClientClosed),
            ":attempts": bounded(i64::try_from(spent.attempts).ok()),
            ":prompt_tokens": bounded(spent.prompt_tokens),
            ":completion_tokens": bounded(spent.completion_tokens),
            ":total_tokens": total,
            ":cached_tokens": bounded(spent.cached_tokens),
            ":reasoning_tokens": bounded(spent.reasoning_tokens),
            ":duration_ms": bounded(Some(spent.duration_ms)),
            ":cost_microusd": cost(spent.cost_microusd),
            ":durations": durations.to_bytes(),
            ":first_contents": first_contents.to_bytes(),
        })?;
    Ok(())
}

fn hour(at: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(HOUR_MS))
}

fn add_latencies(conn: &Connection, hour: i64, spent: &Spent<'_>) -> Result<(), DbError> {
    let (mut durations, mut first_contents) = (Histogram::default(), Histogram::default());
    let mut statement = conn.prepare_cached(LATENCIES)?;
    let mut rows = statement.query((hour, spent.provider, spent.model))?;
    if let Some(row) = rows.next()? {
        durations.merge(row.get_ref("durations")?.as_blob().unwrap_or_default());
        first_contents.merge(row.get_ref("first_contents")?.as_blob().unwrap_or_default());
    }
    durations.add(spent.duration_ms);
    if let Some(ttft) = spent.ttft_ms {
        first_contents.add(ttft);
    }
    conn.prepare_cached(PUT_LATENCIES)?.execute((
        hour,
        spent.provider,
        spent.model,
        durations.to_bytes(),
        first_contents.to_bytes(),
    ))?;
    Ok(())
}

/// Sums of exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: i64,
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    pub(crate) duration_ms: i64,
}

const TOTALS: &str = "
    SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(completed), 0) AS completed,
           coalesce(sum(failed), 0) AS failed, coalesce(sum(duration_ms), 0) AS duration_ms";

/// All exchanges there ever were.
pub(crate) fn totals(conn: &Connection) -> Result<Totals, DbError> {
    let mut totals = Totals::default();
    for span in days::spans(conn, i64::MIN, i64::MAX)? {
        let table = if span.is_closed {
            "usage_hours"
        } else {
            "usage_rollups"
        };
        let sql = format!("{TOTALS} FROM {table} WHERE hour >= ?1 AND hour <= ?2");
        conn.prepare_cached(&sql)?
            .query_row((span.from, span.until), |row| {
                totals.requests += row.get::<_, i64>("requests")?;
                totals.completed += row.get::<_, i64>("completed")?;
                totals.failed += row.get::<_, i64>("failed")?;
                totals.duration_ms += row.get::<_, i64>("duration_ms")?;
                Ok(())
            })?;
    }
    Ok(totals)
}

/// For how many tokens an exchange counts.
pub(super) fn tokens(prompt: Option<i64>, completion: Option<i64>, total: Option<i64>) -> i64 {
    total.map_or_else(
        || bounded(prompt) + bounded(completion),
        |total| bounded(Some(total)),
    )
}

/// For how many micro-dollars it counts.
pub(super) fn cost(cost: Option<i64>) -> i64 {
    cost.unwrap_or(0).clamp(0, DEAREST)
}

fn bounded(count: Option<i64>) -> i64 {
    count.unwrap_or(0).clamp(0, MOST)
}
