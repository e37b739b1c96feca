//! `GET /` and `GET /health` of the router's port.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::actors::ports::PROBED;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::providers::shape::masked;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(about))
        .route("/health", get(health))
}

/// That the port answers; asks nobody.
pub(crate) fn live() -> Router<App> {
    Router::new().route(PROBED, get(async || Json(json!({"status": "ok"}))))
}

async fn about(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let views = app.handles.router.providers().await?;
    let registered: Vec<_> = views
        .iter()
        .map(|view| view.stored.provider.id.as_str())
        .collect();
    Ok(Json(json!({
        "name": "qwarden",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "OpenAI-compatible router over many providers",
        "endpoints": {
            "chat": "POST /v1/chat/completions",
            "messages": "POST /v1/messages",
            "responses": "POST /v1/responses",
            "completions": "POST /v1/completions",
            "embeddings": "POST /v1/embeddings",
            "models": "GET /v1/models",
            "model": "GET /v1/models/{id}",
            "health": "GET /health",
        },
        "registeredProviders": registered,
    })))
}

/// What the router knows of its providers; asks none of them.
async fn health(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let views = app.handles.router.providers().await?;
    let mut providers = Map::new();
    for view in views.iter().filter(|view| view.stored.provider.enabled) {
        let base_url = view
            .stored
            .config
            .iter()
            .find(|row| row.key == "baseURL")
            .map(masked);
        let error = view.loaded.as_ref().err().or(view.listing.error.as_ref());
        providers.insert(
            view.stored.provider.name.clone(),
            json!({"status": view.listing.state(), "baseURL": base_url, "error": error}),
        );
    }
    let registered: Vec<_> = views
        .iter()
        .map(|view| view.stored.provider.id.as_str())
        .collect();
    Ok(Json(
        json!({"status": "ok", "providers": providers, "registeredProviders": registered}),
    ))
}
