//! `/api/supervision`: the actor tree, live.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::events::Event;
use crate::actors::vitals::Snapshot;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::changes::{self, Kept};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tree))
        .routes(routes!(events))
        .routes(routes!(restart))
}

/// What happened lately.
#[derive(Serialize, ToSchema)]
struct Happened {
    events: Vec<Event>,
    total: usize,
}

/// That an actor was restarted.
#[derive(Serialize, ToSchema)]
struct Restarted {
    success: bool,
    name: String,
    message: String,
}

/// The actor tree, live.
#[utoipa::path(get, path = "/api/supervision", tag = "supervision",
    responses((status = 200, body = Snapshot)))]
async fn tree(State(app): State<App>) -> Result<Json<Snapshot>, ApiError> {
    Ok(Json(app.handles.supervision.tree().await?))
}

/// What happened lately, oldest first.
#[utoipa::path(get, path = "/api/supervision/events", tag = "supervision",
    responses((status = 200, body = Happened)))]
async fn events(State(app): State<App>) -> Result<Json<Happened>, ApiError> {
    let kept = app.handles.events.recent().await?;
    let events: Vec<_> = kept.iter().map(|event| Event::clone(event)).collect();
    let total = events.len();
    Ok(Json(Happened { events, total }))
}

/// Ends one actor in order; answers when its next incarnation serves.
#[utoipa::path(post, path = "/api/supervision/{name}/restart", tag = "supervision",
    params(("name" = String, Path)),
    responses((status = 200, body = Restarted)))]
async fn restart(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Restarted>, ApiError> {
    let incarnation = |app: &App| {
        let mut vitals = app.handles.supervision.vitals();
        let vitals = vitals.find(|vitals| vitals.name == name);
        vitals.map(|vitals| json!({"restarts": vitals.restarts()}))
    };
    let before = incarnation(&app);
    app.handles.supervision.restart(&name).await?;
    let kept = Kept {
        entity: "actor",
        id: &name,
        action: "restarted",
        before,
        after: incarnation(&app),
    };
    changes::keep(&app, kept).await;
    Ok(Json(Restarted {
        success: true,
        message: format!("Actor {name} restarted"),
        name,
    }))
}
