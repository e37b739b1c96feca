//! `/api/supervision`: the actor tree, live.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::actors::vitals::Snapshot;
use crate::http::App;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/supervision", get(tree))
        .route("/api/supervision/events", get(events))
        .route("/api/supervision/{name}/restart", post(restart))
}

async fn tree(State(app): State<App>) -> Result<Json<Snapshot>, ApiError> {
    Ok(Json(app.handles.supervision.tree().await?))
}

/// What happened lately, oldest first.
async fn events(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    let events = app.handles.events.recent().await?;
    Ok(Json(
        json!({"events": events.iter().map(|event| &**event).collect::<Vec<_>>(), "total": events.len()}),
    ))
}

/// Ends one actor in order; answers when its next incarnation serves.
async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.handles.supervision.restart(&name).await?;
    Ok(Json(
        json!({"success": true, "name": name, "message": format!("Actor {name} restarted")}),
    ))
}
