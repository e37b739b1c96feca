//! `/api/auth`: the admin token, and logging in with it.

use axum::extract::{Request, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, SET_COOKIE};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::now_ms;
use crate::http::App;
use crate::http::access::{self, LOGIN, Peer, Principal};
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{Done, LoginBody};
use crate::http::management::conventions::Unkept;
use crate::http::management::fields::Fields;
use crate::http::management::settings::change;
use crate::limits::access::LOGIN_LASTS;
use crate::secrets::tokens;
use crate::settings::{self, AUTH_ADMIN_TOKEN};

const LONGEST: usize = 1_000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(make, remove))
        .routes(routes!(log_in))
        .routes(routes!(log_out))
}

/// What a client has to know before it asks for anything else.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthState)]
struct Standing {
    /// There is an admin token.
    configured: bool,
    /// `remote` or `always`: who needs it.
    required: String,
    /// `local` or `admin`: what this request counts as; null when it would be refused elsewhere.
    principal: Option<&'static str>,
}

/// A token, shown once.
#[derive(Serialize, ToSchema)]
#[schema(as = NewAdminToken)]
struct Made {
    token: String,
    message: &'static str,
}

/// A login of a browser.
#[derive(Serialize, ToSchema)]
#[schema(as = LoggedIn)]
struct LoggedIn {
    success: bool,
    /// Unix time, ms.
    expires_at: i64,
}

/// Whether there is an admin token, and who needs it.
#[utoipa::path(get, path = "/api/auth", tag = "auth", responses((status = 200, body = Standing)))]
async fn show(State(app): State<App>, request: Request) -> Json<Standing> {
    let now = app.settings.borrow().clone();
    let principal = request.extensions().get::<Principal>().copied();
    Json(Standing {
        configured: now.admin_token().is_some(),
        required: now
            .text(settings::AUTH_REQUIRED)
            .unwrap_or_default()
            .to_owned(),
        principal: principal.map(Principal::name),
    })
}

/// Makes a new admin token in place of the old one, and shows it this one time.
#[utoipa::path(post, path = "/api/auth/token", tag = "auth", responses((status = 201, body = Made)))]
async fn make(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let token = tokens::generate("qwa-").map_err(|_| ApiError::Internal)?;
    let value = Some(json!(token.as_str()));
    change(
        &app,
        Principal::in_request(request.extensions()),
        vec![(AUTH_ADMIN_TOKEN.to_owned(), value)],
    )
    .await?;
    let made = Made {
        token: token.as_str().to_owned(),
        message: "Keep it: it is not shown again.",
    };
    Ok((
        StatusCode::CREATED,
        Extension(Unkept),
        AppendHeaders([(CACHE_CONTROL, "no-store")]),
        Json(made),
    )
        .into_response())
}

/// Forgets the admin token: clients of this machine have full use, secrets stay masked for all.
#[utoipa::path(delete, path = "/api/auth/token", tag = "auth", responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, request: Request) -> Result<Json<Done>, ApiError> {
    if app.settings.borrow().admin_token().is_none() {
        return Err(ApiError::Missing {
            code: "admin_token_not_set",
            message: "there is no admin token".into(),
        });
    }
    change(
        &app,
        Principal::in_request(request.extensions()),
        vec![(AUTH_ADMIN_TOKEN.to_owned(), None)],
    )
    .await?;
    Ok(Done::new("Admin token deleted"))
}

/// Lets a browser in: the answer sets a cookie that counts as the admin token until it ends.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = LoginBody,
    responses((status = 200, body = LoggedIn)))]
async fn log_in(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let peer = Peer::in_request(request.extensions());
    let body = extract::json_object(request).await?;
    let mut fields = Fields::of(&body);
    let token = fields.required("token", LONGEST).unwrap_or_default();
    fields.end()?;
    let known = app.settings.borrow().admin_token();
    let known = known.ok_or_else(access::not_set)?;
    app.gate.verify(&known, &[&token], peer.remote)?;
    let id = app.gate.log_in().map_err(|_| ApiError::Internal)?;
    let lasts = LOGIN_LASTS.as_secs();
    let cookie = format!(
        "{LOGIN}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts}",
        id.as_str()
    );
    let logged_in = LoggedIn {
        success: true,
        expires_at: now_ms() + i64::try_from(LOGIN_LASTS.as_millis()).unwrap_or_default(),
    };
    Ok((
        Extension(Unkept),
        AppendHeaders([(SET_COOKIE, cookie)]),
        AppendHeaders([(CACHE_CONTROL, "no-store")]),
        Json(logged_in),
    )
        .into_response())
}

/// Ends the login of this browser.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", responses((status = 200, body = Done)))]
async fn log_out(State(app): State<App>, request: Request) -> Response {
    app.gate.log_out(request.headers());
    (
        AppendHeaders([(SET_COOKIE, access::FORGET)]),
        Done::new("Logged out"),
    )
        .into_response()
}
