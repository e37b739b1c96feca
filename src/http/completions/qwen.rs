//! :3000: the user's own chat.qwen.ai login as an OpenAI-compatible endpoint.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::actors::credentials::NoLogin;
use crate::actors::router::resolve::closest;
use crate::clock::{now_ms, rfc3339};
use crate::db::filter::Slice;
use crate::db::history::list::{self, ResponseFilter};
use crate::db::sessions::{self, SessionFilter, SessionState};
use crate::exchange::Refusal;
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::completions::models::{anthropic_list, in_anthropic, speaks_anthropic};
use crate::http::completions::{chat, messages, passing, responses};
use crate::http::error::ApiError;
use crate::http::metrics;
use crate::protocol::qwen::models::QwenModel;
use crate::providers::qwen::PROVIDER;

/// Failures within an hour beyond which something is wrong.
const MOST_FAILURES: i64 = 100;
const RECENT_MS: i64 = 3_600_000;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(about))
        .route("/health", get(health))
        .route("/health/detailed", get(detailed))
        .route("/metrics", get(metrics::show))
        .route("/v1/chat/completions", post(complete))
        .route("/v1/messages", post(complete_messages))
        .merge(messages::counting())
        .route("/v1/responses", post(respond))
        .route("/v1/completions", post(complete_text))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .merge(responses::stored())
}

async fn about() -> Json<Value> {
    Json(json!({
        "name": "qwarden qwen proxy",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "OpenAI-compatible proxy for a chat.qwen.ai login",
        "endpoints": {
            "chat": "POST /v1/chat/completions",
            "messages": "POST /v1/messages",
            "responses": "POST /v1/responses",
            "models": "GET /v1/models",
            "model": "GET /v1/models/{id}",
            "health": "GET /health, /health/detailed",
            "metrics": "GET /metrics",
        },
    }))
}

/// 503 where more has failed within the last hour than can be chance.
async fn health(State(app): State<App>) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (status, body, _) = checked(&app).await?;
    Ok((status, Json(body)))
}

/// The same, with numbers. What only a program of another kind has is null.
async fn detailed(State(app): State<App>) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (status, mut body, failures) = checked(&app).await?;
    let active = app.handles.sessions.active().await?;
    body["checks"]["sessions"] = "ok".into();
    body["metrics"] = json!({
        "sessions": {"activeSessions": active, "totalCreated": failures.sessions, "totalCleaned": null},
        "memory": {"rss": metrics::resident_bytes(), "heapUsed": null, "heapTotal": null, "external": null},
        "process": {
            "pid": std::process::id(),
            "uptime": app.started.elapsed().as_secs(),
            "version": env!("CARGO_PKG_VERSION"),
            "nodeVersion": null,
            "platform": std::env::consts::OS,
        },
    });
    let by_type: Map<String, Value> = app
        .qwen
        .calls()
        .errors
        .into_iter()
        .map(|(error, count)| (error, count.into()))
        .collect();
    body["errors"] = json!({
        "recent_count": failures.recent,
        "unresolved_count": failures.recent,
        "last_error": failures.last,
        "statistics": {
            "total": failures.all,
            "unresolved": failures.recent,
            "by_type": by_type,
            "by_severity": {},
        },
    });
    Ok((status, Json(body)))
}

/// What failed at the site.
struct Failures {
    /// Within the last hour.
    recent: i64,
    /// Since the history begins.
    all: i64,
    last: Option<String>,
    /// Conversations that are stored.
    sessions: i64,
}

async fn checked(app: &App) -> Result<(StatusCode, Value, Failures), ApiError> {
    let authentication = match app.handles.credentials.usable().await? {
        Ok(_) => "ok",
        Err(NoLogin::Missing) => "not_configured",
        Err(NoLogin::Unusable(state)) => state.as_str(),
        Err(NoLogin::Limited { .. }) => "limited",
    };
    let sessions = app.handles.sessions.active().await?;
    let now = now_ms();
    let read = move |conn: &_| {
        let failed = |from| ResponseFilter {
            provider: Some(PROVIDER.into()),
            has_error: Some(true),
            from,
            ..ResponseFilter::default()
        };
        let newest = Slice {
            limit: 1,
            offset: 0,
            after: None,
        };
        let every = SessionFilter {
            state: SessionState::All,
            chat_id: None,
            by_use: false,
            after: None,
        };
        let (last, all) = list::responses(conn, &failed(None), newest)?;
        let (_, sessions) = sessions::list(conn, &every, now, newest)?;
        Ok(Failures {
            recent: list::responses(conn, &failed(Some(now - RECENT_MS)), newest)?.1,
            all,
            last: last.into_iter().next().and_then(|row| row.error),
            sessions,
        })
    };
    let failures = app.handles.database.read(read).await?;
    let is_sound = failures.recent <= MOST_FAILURES;
    let (status, word, errors) = if is_sound {
        (StatusCode::OK, "healthy", "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "degraded", "degraded")
    };
    let body = json!({
        "status": word,
        "timestamp": rfc3339(now),
        "uptime": app.started.elapsed().as_secs(),
        "checks": {
            "authentication": authentication,
            "errors": errors,
        },
        "sessions": {"active": sessions, "spare_chats": app.qwen.spare_chats()},
    });
    Ok((status, body, failures))
}

/// Completes a chat with the stored login, streamed or whole.
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let plan = app.qwen.plan();
    chat::complete_with(app.qwen_port.clone(), app, request, Some(plan)).await
}

/// The same in Anthropic's dialect.
async fn complete_messages(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let plan = app.qwen.plan();
    messages::complete_with(app.qwen_port.clone(), app, request, Some(plan)).await
}

/// The same in the Responses dialect.
async fn respond(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let plan = app.qwen.plan();
    responses::respond_with(app.qwen_port.clone(), app, request, Some(plan)).await
}

/// Completes a text as a chat: the site only chats.
async fn complete_text(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    passing::complete_as_chat(&app.qwen_port, &app, request, app.qwen.plan()).await
}

async fn models(
    State(app): State<App>,
    headers: HeaderMap,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let models = listed(&app).await?;
    let permitted = models.iter().filter(|model| allowed.permits(&model.id));
    if speaks_anthropic(&headers) {
        return Ok(anthropic_list(
            permitted.map(|model| in_anthropic(&model.id, 0)),
        ));
    }
    Ok(Json(
        json!({"object": "list", "data": permitted.map(shown).collect::<Vec<_>>()}),
    ))
}

async fn model(
    State(app): State<App>,
    Path(id): Path<String>,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    allowed.check(Some(&id))?;
    let models = listed(&app).await?;
    let found = models
        .iter()
        .find(|model| model.id.eq_ignore_ascii_case(&id));
    if let Some(model) = found {
        return Ok(Json(shown(model)));
    }
    let names: Vec<String> = models.iter().map(|model| model.id.clone()).collect();
    Err(ApiError::ModelNotFound {
        closest: closest(&id, &names),
        id,
    })
}

async fn listed(app: &App) -> Result<std::sync::Arc<Vec<QwenModel>>, ApiError> {
    app.qwen
        .models()
        .await
        .map_err(|error| Refusal::Upstream { error, attempts: 1 }.into())
}

fn shown(model: &QwenModel) -> Value {
    let meta = &model.meta;
    json!({
        "id": model.id,
        "object": "model",
        "created": 0,
        "owned_by": model.owned_by.as_deref().unwrap_or("qwen"),
        "permission": [],
        "root": model.id,
        "parent": null,
        "context_length": model.max_context_length,
        "metadata": {
            "name": model.name,
            "description": meta["description"],
            "capabilities": meta["capabilities"],
            "chat_types": meta["chat_type"],
            "max_context_length": model.max_context_length,
            "max_generation_length": meta["max_generation_length"],
            "abilities": meta["abilities"],
            "is_active": true,
            "is_visitor_active": model.is_visitor_active,
        },
    })
}
