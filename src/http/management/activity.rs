//! `/api/activity`: what happened, for people (management contract, 1.10).

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::now_ms;
use crate::db::activity;
use crate::db::history::list::{self, ListedRequest};
use crate::db::{models, usage};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::params::Params;

const LISTED: i64 = 20;
const MOST: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(recent))
        .routes(routes!(stats))
}

/// The newest things that happened.
#[derive(Serialize, ToSchema)]
#[schema(as = Activities)]
struct Recent {
    activities: Vec<Activity>,
    total: usize,
    limit: i64,
}

/// One thing that happened.
#[derive(Serialize, ToSchema)]
struct Activity {
    id: String,
    /// `api_request`, or the kind of an event such as `providers_updated`.
    #[serde(rename = "type")]
    kind: String,
    action: String,
    description: String,
    /// How long ago, in words.
    timestamp: String,
    /// Unix time, ms.
    timestamp_ms: i64,
    metadata: Value,
}

/// Numbers for a first look.
#[derive(Serialize, ToSchema)]
#[schema(as = ActivityStatsBody)]
struct StatsBody {
    stats: Stats,
}

/// See [`StatsBody`].
#[derive(Serialize, ToSchema)]
#[schema(as = ActivityStats)]
struct Stats {
    total_api_requests: i64,
    avg_response_time_ms: i64,
    active_sessions: i64,
    /// Of the last 24 hours.
    recent_errors: i64,
    total_providers: usize,
    total_models: usize,
    requests_last_hour: i64,
    requests_last_day: i64,
    /// Of those that ended in the last 24 hours; 100 when none did.
    success_rate_percent: f64,
}

/// What happened lately, the newest first: completions, changes, starts and stops.
#[utoipa::path(get, path = "/api/activity/recent", tag = "activity",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000),
        ("since" = Option<i64>, Query, minimum = 0, description = "Unix time, ms")),
    responses((status = 200, body = Recent)))]
async fn recent(State(app): State<App>, params: Params) -> Result<Json<Recent>, ApiError> {
    let limit = params
        .integer("limit", "invalid_limit", 1, MOST)?
        .unwrap_or(LISTED);
    let since = params
        .integer("since", "invalid_query", 0, i64::MAX)?
        .unwrap_or(0);
    let read = move |conn: &_| {
        let requests = list::answered(conn, since, limit)?;
        Ok((requests, activity::recent(conn, since, limit)?))
    };
    let (requests, others) = app.handles.database.read(read).await?;
    let now = now_ms();
    let mut activities: Vec<Activity> = requests
        .into_iter()
        .filter_map(|request| exchange(&request, now))
        .collect();
    activities.extend(others.into_iter().map(|row| Activity {
        id: row.id,
        kind: row.kind,
        action: row.action,
        description: row.description,
        timestamp: ago(now - row.timestamp),
        timestamp_ms: row.timestamp,
        metadata: row.metadata,
    }));
    activities.sort_by_key(|activity| std::cmp::Reverse(activity.timestamp_ms));
    activities.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(Recent {
        total: activities.len(),
        activities,
        limit,
    }))
}

/// An exchange that has ended, as a line.
fn exchange(request: &ListedRequest, now: i64) -> Option<Activity> {
    let answer = request.response_summary.as_ref()?;
    let (action, status) = match answer.error {
        None => ("completed", "success"),
        Some(_) => ("failed", "error"),
    };
    Some(Activity {
        id: request.request_id.clone(),
        kind: "api_request".into(),
        action: action.into(),
        description: format!("API request to {} (model: {})", request.path, request.model),
        timestamp: ago(now - request.timestamp),
        timestamp_ms: request.timestamp,
        metadata: json!({
            "method": request.method,
            "path": request.path,
            "status": status,
            "duration_ms": answer.duration_ms,
            "session_id": request.session_id,
            "request_id": request.request_id,
            "provider": request.provider,
            "error": answer.error,
            "finish_reason": answer.finish_reason,
        }),
    })
}

/// Numbers for a first look. Only completions count, not the questions to this API.
#[utoipa::path(get, path = "/api/activity/stats", tag = "activity", responses((status = 200, body = StatsBody)))]
async fn stats(State(app): State<App>) -> Result<Json<StatsBody>, ApiError> {
    let now = now_ms();
    let read = move |conn: &_| {
        let totals = usage::totals(conn)?;
        let hour = list::since(conn, now - HOUR_MS)?;
        let day = list::since(conn, now - 24 * HOUR_MS)?;
        Ok((totals, hour, day, models::all(conn)?.len()))
    };
    let (totals, hour, day, total_models) = app.handles.database.read(read).await?;
    let (requests_last_day, completed, failed) = day;
    let ended = completed + failed;
    let views = app.handles.router.providers().await?;
    Ok(Json(StatsBody {
        stats: Stats {
            total_api_requests: totals.requests,
            avg_response_time_ms: totals.duration_ms / totals.requests.max(1),
            active_sessions: app.handles.sessions.active().await?,
            recent_errors: failed,
            total_providers: views.len(),
            total_models,
            requests_last_hour: hour.0,
            requests_last_day,
            success_rate_percent: percent(completed, ended),
        },
    }))
}

/// With two decimals; 100 of nothing.
pub(crate) fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    let hundredths = part.saturating_mul(10_000) / whole;
    f64::from(i32::try_from(hundredths).unwrap_or(10_000)) / 100.0
}

fn ago(ms: i64) -> String {
    let minutes = ms.max(0) / 60_000;
    let (number, unit) = match minutes {
        0 => return "just now".into(),
        1..60 => (minutes, "minute"),
        60..1_440 => (minutes / 60, "hour"),
        _ => (minutes / 1_440, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_read_well() {
        for (ms, text) in [
            (-5, "just now"),
            (59_000, "just now"),
            (60_000, "1 minute ago"),
            (7_200_000, "2 hours ago"),
            (90_000_000, "1 day ago"),
        ] {
            assert_eq!(ago(ms), text);
        }
        for (part, whole, expected) in [(0, 0, 100.0), (1, 3, 33.33), (3, 3, 100.0), (0, 9, 0.0)] {
            assert!((percent(part, whole) - expected).abs() < 1e-9);
        }
    }
}
