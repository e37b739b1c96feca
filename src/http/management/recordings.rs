//! `/api/requests/{id}/recording`: the raw bytes of an exchange, and what today's code makes of them.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::db::recordings;
use crate::exchange::replay;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::requests;
use crate::protocol::compare::Comparison;
use crate::protocol::recording::Recording;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(play))
}

/// What went over the wire when this exchange was served: the client's request, each call to an upstream with its answer
/// in the pieces it came in (base64) and their times, and what the client was sent. Without secrets. Replayed by
/// `qwarden replay`.
#[utoipa::path(get, path = "/api/requests/{id}/recording", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = serde_json::Value)))]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let recording = find(&app, &id).await?;
    let text = serde_json::to_vec(&recording).map_err(|_| ApiError::Internal)?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Serves the recorded exchange once more from its recording, without any network, and compares what the client would get
/// with what it got. Ids and times do not count.
#[utoipa::path(post, path = "/api/requests/{id}/recording/replay", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = Comparison)))]
async fn play(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Comparison>, ApiError> {
    let recording = find(&app, &id).await?;
    let compared = replay::replay(&recording).await;
    compared.map(Json).map_err(|error| ApiError::NotReplayable {
        reason: error.to_string(),
    })
}

/// The recording of the exchange `id`.
pub(crate) async fn find(app: &App, id: &str) -> Result<Recording, ApiError> {
    let exchange = requests::find(app, id).await?;
    let read = move |conn: &_| recordings::find(conn, exchange.id);
    let packed = app.handles.database.read(read).await?;
    let packed = packed.ok_or_else(|| ApiError::RecordingNotFound { id: id.to_owned() })?;
    Ok(recordings::unpack(&packed).map_err(StoreError::from)?)
}
