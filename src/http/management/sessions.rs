//! `/api/sessions`: conversations that Qwen keeps for us (management contract, 1.7).

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::now_ms;
use crate::db::history::list::{self, ListedRequest, RequestFilter};
use crate::db::sessions::{self, SessionFilter, SessionState, StoredSession};
use crate::db::stats::{self, StatsFilter};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::bodies::Done;
use crate::http::management::changes::{self, Change};
use crate::http::params::{PageInfo, PageParams, Params};

const LISTED: i64 = 50;
const LISTED_WITHIN: i64 = 100;
/// What a list shows of a first message.
const SHOWN_CHARS: usize = 100;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, clean))
        .routes(routes!(show, remove))
        .routes(routes!(requests))
}

/// Sessions of a list.
#[derive(Serialize, ToSchema)]
struct SessionList {
    #[serde(flatten)]
    page: PageInfo,
    sessions: Vec<Session>,
}

/// A conversation.
#[derive(Serialize, ToSchema)]
struct Session {
    #[serde(flatten)]
    stored: StoredSession,
    expired: bool,
}

/// A conversation by itself.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionDetail)]
struct Detail {
    #[serde(flatten)]
    session: Session,
    request_count: i64,
    usage: Usage,
}

/// What a conversation used, that of exchanges which are gone included.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionUsage)]
#[expect(clippy::struct_field_names, reason = "the names clients know")]
struct Usage {
    prompt_tokens: i64,
    completion_tokens: i64,
    total_tokens: i64,
}

/// The exchanges of a conversation.
#[derive(Serialize, ToSchema)]
struct SessionRequests {
    session_id: String,
    #[serde(flatten)]
    page: PageInfo,
    requests: Vec<ListedRequest>,
}

/// What a cleaning removed, or would remove.
#[derive(Serialize, ToSchema)]
struct Cleaned {
    success: bool,
    deleted: i64,
    message: String,
}

/// All conversations, the newest first.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions",
    params(PageParams,
        ("sort" = Option<String>, Query, description = "`created_at` or `last_accessed`"),
        ("chat_id" = Option<String>, Query, description = "Only those of this chat at the site"),
        ("state" = Option<String>, Query, description = "`active`, `expired` or `all`")),
    responses((status = 200, body = SessionList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<SessionList>, ApiError> {
    let page = params.page(LISTED)?;
    let by_use = params.word("sort", &[("created_at", false), ("last_accessed", true)])?;
    let states = [
        ("active", SessionState::Active),
        ("expired", SessionState::Expired),
        ("all", SessionState::All),
    ];
    let state = params.word("state", &states)?.unwrap_or(SessionState::All);
    let by_use = by_use.unwrap_or(false);
    let filter = SessionFilter {
        state,
        chat_id: params.text("chat_id"),
        by_use,
        after: page.after()?,
    };
    let now = now_ms();
    let slice = page.by_number();
    let read = move |conn: &_| sessions::list(conn, &filter, now, slice);
    let (mut rows, total) = app.handles.database.read(read).await?;
    let page = page.cut(&mut rows, total, |row| {
        let at = if by_use {
            row.last_accessed
        } else {
            row.created_at
        };
        (at, row.id.clone())
    });
    let sessions = rows
        .into_iter()
        .map(|mut row| {
            row.first_user_message = row.first_user_message.chars().take(SHOWN_CHARS).collect();
            shown(row, now)
        })
        .collect();
    Ok(Json(SessionList { page, sessions }))
}

/// One conversation. Reading one that has ended leaves it as it is.
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = String, Path)), responses((status = 200, body = Detail)))]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Detail>, ApiError> {
    let key = id.clone();
    let read = move |conn: &_| {
        let Some(session) = sessions::find(conn, &key)? else {
            return Ok(None);
        };
        let used = StatsFilter {
            session: Some(key.clone()),
            ..StatsFilter::default()
        };
        let (totals, _) = stats::sums(conn, &used, None)?;
        Ok(Some((session, list::of_session(conn, &key)?, totals)))
    };
    let found = app.handles.database.read(read).await?;
    let (session, request_count, totals) = found.ok_or(ApiError::SessionNotFound { id })?;
    Ok(Json(Detail {
        session: shown(session, now_ms()),
        request_count,
        usage: Usage {
            prompt_tokens: totals.prompt_tokens,
            completion_tokens: totals.completion_tokens,
            total_tokens: totals.total_tokens,
        },
    }))
}

/// The exchanges of a conversation, the newest first.
#[utoipa::path(get, path = "/api/sessions/{id}/requests", tag = "sessions",
    params(("id" = String, Path), PageParams), responses((status = 200, body = SessionRequests)))]
async fn requests(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<SessionRequests>, ApiError> {
    let page = params.page(LISTED_WITHIN)?;
    let slice = page.slice()?;
    let key = id.clone();
    let read = move |conn: &_| {
        if sessions::find(conn, &key)?.is_none() {
            return Ok(None);
        }
        let filter = RequestFilter {
            session_id: Some(key.clone()),
            ..RequestFilter::default()
        };
        list::requests(conn, &filter, slice, true).map(Some)
    };
    let found = app.handles.database.read(read).await?;
    let Some((mut requests, total)) = found else {
        return Err(ApiError::SessionNotFound { id });
    };
    let page = page.cut(&mut requests, total, |row| (row.timestamp, row.id));
    Ok(Json(SessionRequests {
        session_id: id,
        page,
        requests,
    }))
}

/// Deletes a conversation with its exchanges, and its chat at the site where the setting says so.
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "sessions",
    params(("id" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    let key = id.clone();
    let read = move |conn: &_| sessions::find(conn, &key);
    let before = app.handles.database.read(read).await?;
    let place = app.handles.sessions.delete(&id).await?;
    let place = place.ok_or_else(|| ApiError::SessionNotFound { id: id.clone() })?;
    app.qwen.forget(place);
    told(&app, &id, json!(before)).await;
    Ok(Done::new("Session deleted"))
}

/// Deletes the conversations that have ended, with their exchanges; the usage they were counted in stays.
#[utoipa::path(delete, path = "/api/sessions", tag = "sessions",
    params(("dry_run" = Option<bool>, Query, description = "Only count them")),
    responses((status = 200, body = Cleaned)))]
async fn clean(State(app): State<App>, params: Params) -> Result<Json<Cleaned>, ApiError> {
    let before = now_ms();
    if params.flag("dry_run")? == Some(true) {
        let count = move |conn: &_| sessions::expired(conn, before);
        let deleted = app.handles.database.read(count).await?;
        return Ok(Json(Cleaned {
            success: true,
            deleted,
            message: format!("{deleted} expired session(s) would be cleaned up"),
        }));
    }
    let deleted = app.handles.sessions.delete_ended(before).await?;
    let deleted = i64::try_from(deleted).unwrap_or(i64::MAX);
    if deleted > 0 {
        told(&app, "expired", json!({"sessions": deleted})).await;
    }
    Ok(Json(Cleaned {
        success: true,
        deleted,
        message: format!("Cleaned up {deleted} expired session(s)"),
    }))
}

async fn told(app: &App, id: &str, before: Value) {
    let change = Change {
        entity: "session",
        id,
        action: "deleted",
        event: "sessions:updated",
        detail: json!({"sessionId": id}),
        before: Some(before),
        after: None,
    };
    changes::record(app, change).await;
}

fn shown(stored: StoredSession, now: i64) -> Session {
    Session {
        expired: stored.expires_at <= now,
        stored,
    }
}
