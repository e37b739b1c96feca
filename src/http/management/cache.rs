//! `/api/cache`: answers that are given again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::pace;
use crate::clock::now_ms;
use crate::db::cache;
use crate::db::unwanted::Unwanted;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::changes::{self, Change};
use crate::http::params::Params;
use crate::settings::{self, Settings};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, clear))
}

/// What the response cache holds.
#[derive(Serialize, ToSchema)]
#[schema(as = ResponseCache)]
struct Shown {
    /// Whether requests of temperature 0 are answered from it; others can ask for it in any case.
    enabled: bool,
    /// Answers, those that have expired and are not removed yet included.
    entries: i64,
    /// Packed.
    bytes: i64,
    /// Requests answered from it since the start.
    hits: u64,
    /// Requests it had no answer for since the start.
    misses: u64,
    /// Unix time, ms, of the oldest answer.
    oldest: Option<i64>,
    /// `cache.ttl`
    ttl_ms: i64,
    /// `cache.maxEntries`
    max_entries: i64,
    /// `cache.maxBytes`
    max_bytes: i64,
}

/// How many answers were dropped.
#[derive(Serialize, ToSchema)]
#[schema(as = ClearedCache)]
struct Cleared {
    success: bool,
    deleted: usize,
}

/// What the response cache holds, and how often it helped since the start.
#[utoipa::path(get, path = "/api/cache", tag = "database", responses((status = 200, body = Shown)))]
async fn show(State(app): State<App>) -> Result<Json<Shown>, ApiError> {
    let held = app.handles.database.read(cache::held).await?;
    let (hits, misses) = app.exchanges.cache.counts();
    let settings: Arc<Settings> = app.settings.borrow().clone();
    Ok(Json(Shown {
        enabled: settings.flag(settings::CACHE_ENABLED),
        entries: held.entries,
        bytes: held.bytes,
        hits,
        misses,
        oldest: held.oldest,
        ttl_ms: settings.integer(settings::CACHE_TTL),
        max_entries: settings.integer(settings::CACHE_MAX_ENTRIES),
        max_bytes: settings.integer(settings::CACHE_MAX_BYTES),
    }))
}

/// Drops every answer, or those of one model.
#[utoipa::path(delete, path = "/api/cache", tag = "database",
    params(("model" = Option<String>, Query, description = "Only those that were asked for under this name")),
    responses((status = 200, body = Cleared)))]
async fn clear(State(app): State<App>, params: Params) -> Result<Json<Cleared>, ApiError> {
    let model = params.text("model");
    let what = Unwanted::KeptAnswers {
        model: model.clone(),
        by: now_ms(),
    };
    let deleted = pace::discard(&app.handles.database, what).await?;
    let change = Change {
        entity: "cache",
        id: model.as_deref().unwrap_or("all"),
        action: "cleared",
        event: "cache:updated",
        detail: json!({"deleted": deleted, "model": model}),
        before: None,
        after: Some(json!({"deleted": deleted})),
    };
    changes::record(&app, change).await;
    // It gives the pages back to the disk.
    app.handles.retention.nudge();
    Ok(Json(Cleared {
        success: true,
        deleted,
    }))
}
