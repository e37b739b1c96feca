//! `/api/sessions`: conversations that Qwen keeps for us.

use axum::extract::{Path, State};
use axum::routing::delete;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::http::App;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/api/sessions/{id}", delete(remove))
}

/// Deletes a conversation, and its chat at the site where the setting says so.
async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let sessions = app.handles.sessions.clone();
    let key = id.clone();
    let deleting = app
        .tasks
        .spawn("delete session", async move { sessions.delete(&key).await });
    let place = deleting.await.map_err(|_| ApiError::Internal)??;
    let place = place.ok_or(ApiError::SessionNotFound { id })?;
    app.qwen.forget(place);
    Ok(Json(json!({"success": true, "message": "Session deleted"})))
}
