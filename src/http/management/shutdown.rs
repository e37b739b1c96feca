//! `POST /api/shutdown`: ends the process as SIGTERM does (management contract, 7), for the holder of the admin token.

use axum::Json;
use axum::extract::{Request, State};
use hyper::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::access::{self, Principal};
use crate::http::error::ApiError;
use crate::http::management::bodies::Done;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(end))
}

/// Lets open requests finish within `server.drainTimeout`, stores what is queued, and ends the process. Needs the admin
/// token, also from this machine.
#[utoipa::path(post, path = "/api/shutdown", tag = "proxy", responses((status = 202, body = Done)))]
async fn end(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    if app.settings.borrow().admin_token().is_none() {
        return Err(access::not_set());
    }
    if Principal::in_request(request.extensions()) != Principal::Admin {
        return Err(ApiError::Forbidden {
            code: "admin_token_required",
            message: "only who holds the admin token may end the process".into(),
        });
    }
    app.ending.cancel();
    Ok((StatusCode::ACCEPTED, Done::new("qwarden is shutting down")))
}
