//! `POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's dialect, for every provider.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use hyper::header::HeaderName;
use serde_json::{Value, json};

use crate::actors::ports::Port;
use crate::actors::router::plan::RoutePlan;
use crate::clock::now_ms;
use crate::http::App;
use crate::http::completions::asking::{Asking, Spoken};
use crate::http::completions::chat;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::protocol::anthropic::request::{self, Read};
use crate::protocol::anthropic::telling::Messages;
use crate::protocol::dialect::{Native, Original};
use crate::protocol::openai;
use crate::settings;

const PATH: &str = "/v1/messages";
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

pub(crate) fn routes() -> Router<App> {
    Router::new().route(PATH, post(complete)).merge(counting())
}

/// What either port serves in the same way.
pub(crate) fn counting() -> Router<App> {
    Router::new().route("/v1/messages/count_tokens", post(count_tokens))
}

async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    complete_with(app.router_port.clone(), app, request, None).await
}

/// The same for either port: `plan` is given where the port decides the target.
pub(crate) async fn complete_with(
    port: Arc<Port>,
    app: App,
    request: Request,
    plan: Option<RoutePlan>,
) -> Result<Response, ApiError> {
    let asking = Asking::of(&port, &request, PATH, plan)?;
    let beta = chat::header(request.headers(), &BETA);
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    let body = extract::json_bytes(request, limit).await?;
    let Read {
        chat,
        model,
        session,
    } = request::read(&body).map_err(ApiError::Fields)?;
    let chat = chat.to_string();
    // A stream's first event cannot wait for a better count; its last ones have one.
    let (_, tokens) = openai::request::estimate(&chat);
    let telling = Messages::new(asking.id(), model, tokens);
    let original = Original {
        body,
        native: None,
        beta,
        created: now_ms() / 1_000,
    };
    let spoken = Spoken {
        native: Native::of(original.clone(), PATH),
        original: Some(original),
        chat: chat.into(),
        session,
        telling: Some(Box::new(telling)),
    };
    asking.answer(&app, spoken).await
}

/// How many tokens a request has, by our own count: no upstream is asked.
async fn count_tokens(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    let body = extract::json_bytes(request, limit).await?;
    let read = request::read(&body).map_err(ApiError::Fields)?;
    Ok(Json(
        json!({"input_tokens": app.exchanges.counting.request(read.chat, body.len()).await}),
    ))
}
