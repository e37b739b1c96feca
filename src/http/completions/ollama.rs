//! Ollama's API on a port of its own, for tools that speak nothing else.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::actors::router::catalogue::Offer;
use crate::actors::router::resolve::closest;
use crate::clock::{now_ms, rfc3339};
use crate::exchange::told_as;
use crate::hex;
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::completions::asking::{Asking, Spoken};
use crate::http::completions::chat;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::protocol::dialect::Original;
use crate::protocol::ollama::answer::{OllamaTelling, Shape};
use crate::protocol::ollama::catalogue::{self, Known};
use crate::protocol::ollama::embedding::Embed;
use crate::protocol::ollama::request::{self, Asked};
use crate::protocol::openai::request::{FieldError, named};
use crate::settings;

/// The version of Ollama whose API this is: clients ask for it before they use what is newer.
const VERSION: &str = "0.12.6";
const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";
const EMBED: &str = "/api/embed";
const EMBEDDINGS: &str = "/api/embeddings";
/// What Ollama's clients append to a name without a tag.
const LATEST: &str = ":latest";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(about))
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(running))
        .route("/api/show", post(show))
        .route(CHAT, post(complete_chat))
        .route(GENERATE, post(generate))
        .route(EMBED, post(embed))
        .route(EMBEDDINGS, post(embeddings))
        .route("/v1/chat/completions", post(complete))
}

/// By these words clients tell that Ollama is here.
async fn about() -> &'static str {
    "Ollama is running"
}

async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

async fn tags(
    State(app): State<App>,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let offers = app.handles.router.models().await?;
    let shown = offers.iter().filter(|offer| allowed.permits(&offer.id));
    let rows: Vec<Value> = shown.map(|offer| told(offer, catalogue::tag)).collect();
    Ok(Json(json!({"models": rows})))
}

/// What is loaded where is the upstreams' own matter.
async fn running() -> Json<Value> {
    Json(json!({"models": []}))
}

async fn show(
    State(app): State<App>,
    allowed: Option<Extension<Allowed>>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let body = body(&app, request).await?;
    let name = request::shown(&body).map_err(ApiError::Fields)?;
    let offer = offered(&app, &name).await?;
    allowed.check(Some(&offer.id))?;
    Ok(Json(told(&offer, catalogue::shown)))
}

/// As :3001 has it.
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    chat::complete_with(app.ollama_port.clone(), app, request, None).await
}

async fn complete_chat(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    answer(&app, request, (CHAT, Shape::Chat), request::chat).await
}

async fn generate(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let path = (GENERATE, Shape::Generate);
    answer(&app, request, path, request::generate).await
}

async fn answer(
    app: &App,
    request: Request,
    (path, shape): (&'static str, Shape),
    read: fn(&[u8]) -> Result<Asked, Vec<FieldError>>,
) -> Result<Response, ApiError> {
    let asking = Asking::of(&app.ollama_port, &request, path, None)?;
    let clock = told_as::clock();
    let body = body(app, request).await?;
    match read(&body).map_err(ApiError::Fields)? {
        Asked::Load { model, unloads } => {
            let offer = offered(app, &model).await?;
            asking.allowed.check(Some(&offer.id))?;
            let telling = OllamaTelling::new(shape, model, true, clock);
            Ok(Json(telling.loaded(unloads)).into_response())
        }
        Asked::Completion(completion) => {
            let named = real_name(app, &completion.model).await?;
            let chat = completion.chat(&named);
            let telling =
                OllamaTelling::new(shape, completion.model, completion.shows_thinking, clock);
            let spoken = Spoken {
                original: Some(Original::translated(body, now_ms() / 1_000)),
                telling: Some(Box::new(telling)),
                ..Spoken::chat(chat)
            };
            asking.answer(app, spoken).await
        }
    }
}

async fn embed(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    vectors(&app, request, EMBED).await
}

async fn embeddings(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    vectors(&app, request, EMBEDDINGS).await
}

async fn vectors(app: &App, request: Request, path: &'static str) -> Result<Response, ApiError> {
    let asking = Asking::of(&app.ollama_port, &request, path, None)?;
    let clock = told_as::clock();
    let body = body(app, request).await?;
    let embed = Embed::read(&body, path == EMBEDDINGS).map_err(ApiError::Fields)?;
    let named = real_name(app, &embed.model).await?;
    let named = named::json(embed.request(&named)).map_err(ApiError::Fields)?;
    let telling = Box::new(embed.telling(clock));
    let json = "application/json".to_owned();
    asking
        .pass(app, (named, json), "embeddings", Some(telling))
        .await
}

/// Ollama looks at no content type, and its documentation's own examples send that of a form. A page that posts a form
/// names its origin, and is refused by that.
async fn body(app: &App, request: Request) -> Result<Bytes, ApiError> {
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    extract::bytes(request, limit).await
}

/// The model that a client means: one that is called so, or without `:latest`.
async fn real_name(app: &App, name: &str) -> Result<String, ApiError> {
    let Some(bare) = name.strip_suffix(LATEST) else {
        return Ok(name.to_owned());
    };
    let offers = app.handles.router.models().await?;
    let has_tag = offers.iter().any(|offer| offer.id == name);
    Ok(if has_tag { name } else { bare }.to_owned())
}

async fn offered(app: &App, name: &str) -> Result<Offer, ApiError> {
    let offers = app.handles.router.models().await?;
    let bare = name.strip_suffix(LATEST).unwrap_or(name);
    let mut found = None;
    for offer in &offers {
        if offer.id == name {
            return Ok(offer.clone());
        }
        if offer.id == bare {
            found = Some(offer);
        }
    }
    found.cloned().ok_or_else(|| {
        let names: Vec<String> = offers.iter().map(|offer| offer.id.clone()).collect();
        ApiError::ModelNotFound {
            closest: closest(name, &names),
            id: name.to_owned(),
        }
    })
}

fn told(offer: &Offer, tell: fn(&Known<'_>) -> Value) -> Value {
    let seconds = i64::try_from(offer.created.unwrap_or_default()).unwrap_or_default();
    let made_at = rfc3339(seconds.saturating_mul(1_000));
    let digest = hex::encode(&Sha256::digest(offer.id.as_bytes()));
    tell(&Known {
        name: &offer.id,
        owner: offer.owned_by.as_deref().unwrap_or(&offer.provider),
        made_at: &made_at,
        capabilities: &offer.capabilities,
        context_length: offer.context_length,
        digest: &digest,
    })
}
