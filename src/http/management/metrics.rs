//! `GET /metrics`: what Prometheus reads.

use axum::extract::State;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::error::ApiError;
use crate::http::metrics;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Counts since the start and the state of the moment, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn show(app: State<App>) -> Result<Response, ApiError> {
    metrics::show(app).await
}
