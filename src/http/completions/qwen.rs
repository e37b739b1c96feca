//! :3000 without the Qwen adapter: everything that needs a login says that there is none.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::clock::{now_ms, rfc3339};
use crate::http::App;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(about))
        .route("/health", get(health))
        .route("/v1/chat/completions", post(login_needed))
        .route("/v1/models", get(login_needed))
        .route("/v1/models/{*id}", get(login_needed))
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
    let standing = app.handles.credentials.standing().await?;
    let sessions = app.handles.sessions.active().await?;
    Ok(Json(json!({
        "status": "healthy",
        "timestamp": rfc3339(now_ms()),
        "uptime": app.started.elapsed().as_secs(),
        "checks": {
            "authentication": if standing.stored > 0 { "ok" } else { "not_configured" },
            "errors": "ok",
        },
        "sessions": {"active": sessions},
    })))
}

async fn login_needed() -> ApiError {
    ApiError::MissingCredentials
}
