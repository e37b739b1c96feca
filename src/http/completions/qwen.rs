//! :3000: the user's own chat.qwen.ai login as an OpenAI-compatible endpoint.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use crate::actors::router::resolve::closest;
use crate::clock::{now_ms, rfc3339};
use crate::exchange::Refusal;
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::completions::{chat, passing};
use crate::http::error::ApiError;
use crate::protocol::qwen::models::QwenModel;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(about))
        .route("/health", get(health))
        .route("/v1/chat/completions", post(complete))
        .route("/v1/completions", post(complete_text))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
}

async fn about() -> Json<Value> {
    Json(json!({
        "name": "qwarden qwen proxy",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "OpenAI-compatible proxy for a chat.qwen.ai login",
        "endpoints": {
            "chat": "POST /v1/chat/completions",
            "models": "GET /v1/models",
            "model": "GET /v1/models/{id}",
            "health": "GET /health",
        },
    }))
}

async fn health(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let logins = app.handles.credentials.all().await?;
    let sessions = app.handles.sessions.active().await?;
    Ok(Json(json!({
        "status": "healthy",
        "timestamp": rfc3339(now_ms()),
        "uptime": app.started.elapsed().as_secs(),
        "checks": {
            "authentication": if logins.is_empty() { "not_configured" } else { "ok" },
            "errors": "ok",
        },
        "sessions": {"active": sessions, "spare_chats": app.qwen.spare_chats()},
    })))
}

/// Completes a chat with the stored login, streamed or whole.
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let plan = app.qwen.plan();
    chat::complete_with(app.qwen_port.clone(), app, request, Some(plan)).await
}

/// Completes a text as a chat: the site only chats.
async fn complete_text(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    passing::complete_as_chat(&app.qwen_port, &app, request, app.qwen.plan()).await
}

async fn models(
    State(app): State<App>,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let models = listed(&app).await?;
    let permitted = models.iter().filter(|model| allowed.permits(&model.id));
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
