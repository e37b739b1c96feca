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

/// Panics inside a handler.
#[expect(clippy::panic, reason = "the point of fault injection")]
async fn handler() -> axum::Json<Value> {
    panic!("injected fault")
}
