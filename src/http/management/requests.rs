//! `/api/requests/{id}`: one exchange as the history keeps it.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};

use crate::db::history::{self, StoredExchange};
use crate::http::App;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/api/requests/{id}", get(show))
}

/// The request, its answer and every attempt. `id` is the exchange's UUID, with or without the `req_` of
/// `x-request-id`.
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<StoredExchange>, ApiError> {
    let wanted = id.strip_prefix("req_").unwrap_or(&id).to_owned();
    let found = app
        .handles
        .database
        .read(move |conn| history::exchange(conn, &wanted))
        .await?;
    found.map(Json).ok_or(ApiError::RequestNotFound { id })
}
