//! Killing an actor on purpose. Compiled for tests only.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::db::ops::WriteOp;
use crate::http::App;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/fault/crash/{actor}", post(crash))
        .route("/api/fault/database-thread", post(database_thread))
        .route("/api/fault/handler", get(handler))
        .route("/api/fault/stalled-writer", get(stalled_writer))
}

/// Panics inside the actor.
async fn crash(
    State(app): State<App>,
    Path(actor): Path<String>,
) -> Result<axum::Json<Value>, ApiError> {
    if app.handles.supervision.crash(&actor) {
        Ok(axum::Json(json!({"crashed": actor})))
    } else {
        Err(ApiError::UnknownActor(format!("no actor `{actor}` lives")))
    }
}

/// Panics on the thread of the writing connection, which never comes back by itself.
async fn database_thread(State(app): State<App>) -> axum::Json<Value> {
    let outcome = app.handles.database.write(WriteOp::Panic).await;
    axum::Json(json!({"outcome": format!("{outcome:?}")}))
}

/// Never answers: the writing connection's thread does nothing for as long as the client waits.
async fn stalled_writer(State(app): State<App>) -> Result<axum::Json<Value>, ApiError> {
    let (_until_the_client_leaves, over) = std::sync::mpsc::channel();
    app.handles.database.stall(over)?;
    std::future::pending().await
}

/// Panics inside a handler.
#[expect(clippy::panic, reason = "the point of fault injection")]
async fn handler() -> axum::Json<Value> {
    panic!("injected fault")
}
