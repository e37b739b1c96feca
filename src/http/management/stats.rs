//! `/api/responses/stats`: sums, rates and percentiles (management contract, 1.9).

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::db::histogram::Histogram;
use crate::db::sessions;
use crate::db::stats::{self, GroupBy, StatsFilter};
use crate::db::sums::Sums;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::activity::percent;
use crate::http::params::Params;

/// Groups by session unless told otherwise, and the most.
const SESSIONS: i64 = 100;
const MOST_SESSIONS: i64 = 200;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Sums over completions that have ended.
#[derive(Serialize, ToSchema)]
#[schema(as = Statistics)]
struct Shown {
    #[serde(flatten)]
    all: Numbers,
    /// What `groups` are told apart by.
    group_by: Option<String>,
    /// In the order of their keys.
    groups: Vec<Group>,
}

/// One group of the sums.
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsGroup)]
struct Group {
    /// A provider, a model, a session, or the beginning of an hour or a day (Unix time, ms, as text).
    key: String,
    #[serde(flatten)]
    numbers: Numbers,
}

/// See [`Shown`].
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsNumbers)]
struct Numbers {
    total_responses: i64,
    completed: i64,
    failed: i64,
    client_closed: i64,
    attempts: i64,
    total_tokens: i64,
    total_completion_tokens: i64,
    total_prompt_tokens: i64,
    total_cached_tokens: i64,
    total_reasoning_tokens: i64,
    /// Millionths of a US dollar.
    cost_microusd: i64,
    avg_duration_ms: i64,
    p50_duration_ms: Option<u64>,
    p95_duration_ms: Option<u64>,
    p99_duration_ms: Option<u64>,
    /// Until the first content.
    p50_ttft_ms: Option<u64>,
    p95_ttft_ms: Option<u64>,
    p99_ttft_ms: Option<u64>,
    /// Percent of those that neither the client ended nor are under way; 0 of none.
    success_rate: f64,
}

/// Sums over completions, from roll-ups that survive the deletion of history: those of conversations for as long as the audit
/// log is kept (`retention.auditDays`). Times count by whole hours.
#[utoipa::path(get, path = "/api/responses/stats", tag = "history",
    params(
        ("session_id" = Option<String>, Query, description = "Of one conversation"),
        ("provider" = Option<String>, Query),
        ("model" = Option<String>, Query),
        ("start_date" = Option<i64>, Query, description = "Unix time, ms"),
        ("end_date" = Option<i64>, Query, description = "Unix time, ms"),
        ("group_by" = Option<String>, Query, description = "`provider`, `model`, `hour`, `day` or `session`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Most groups by `session`, those used last")),
    responses((status = 200, body = Shown)))]
async fn show(State(app): State<App>, params: Params) -> Result<Json<Shown>, ApiError> {
    let (from, until) = params.dates()?;
    let words = [
        ("provider", GroupBy::Provider),
        ("model", GroupBy::Model),
        ("hour", GroupBy::Hour),
        ("day", GroupBy::Day),
        ("session", GroupBy::Session),
    ];
    let by = params.word("group_by", &words)?;
    let limit = params.integer("limit", "invalid_limit", 1, MOST_SESSIONS)?;
    let limit = limit.unwrap_or(SESSIONS);
    let filter = StatsFilter {
        from,
        until,
        provider: params.text("provider"),
        model: params.text("model"),
        session: params.text("session_id"),
        sessions: usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let read = move |conn: &_| {
        if let Some(session) = &filter.session
            && sessions::find(conn, session)?.is_none()
            && !stats::knows_session(conn, session)?
        {
            return Ok(Err(session.clone()));
        }
        stats::sums(conn, &filter, by).map(Ok)
    };
    let found = app.handles.database.read(read).await?;
    let (all, groups) = found.map_err(|id| ApiError::SessionNotFound { id })?;
    let groups = groups.into_iter().map(|(key, sums)| Group {
        key,
        numbers: Numbers::from(&sums),
    });
    Ok(Json(Shown {
        all: Numbers::from(&all),
        group_by: params.text("group_by"),
        groups: groups.collect(),
    }))
}

impl From<&Sums> for Numbers {
    fn from(sums: &Sums) -> Self {
        let ended = sums.completed + sums.failed;
        let [p50, p95, p99] = percentiles(&sums.durations);
        let [first50, first95, first99] = percentiles(&sums.first_contents);
        Self {
            total_responses: sums.requests,
            completed: sums.completed,
            failed: sums.failed,
            client_closed: sums.client_closed,
            attempts: sums.attempts,
            total_tokens: sums.total_tokens,
            total_completion_tokens: sums.completion_tokens,
            total_prompt_tokens: sums.prompt_tokens,
            total_cached_tokens: sums.cached_tokens,
            total_reasoning_tokens: sums.reasoning_tokens,
            cost_microusd: sums.cost_microusd,
            avg_duration_ms: sums.duration_ms / sums.requests.max(1),
            p50_duration_ms: p50,
            p95_duration_ms: p95,
            p99_duration_ms: p99,
            p50_ttft_ms: first50,
            p95_ttft_ms: first95,
            p99_ttft_ms: first99,
            success_rate: if ended == 0 {
                0.0
            } else {
                percent(sums.completed, ended)
            },
        }
    }
}

fn percentiles(histogram: &Histogram) -> [Option<u64>; 3] {
    [50, 95, 99].map(|percent| histogram.percentile(percent))
}
