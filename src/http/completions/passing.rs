//! What is no chat: embeddings, images, speech, text completions, moderations.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use hyper::header::CONTENT_TYPE;

use crate::actors::ports::Port;
use crate::clock::now_ms;
use crate::exchange::passing::{can_pass, question};
use crate::http::App;
use crate::http::completions::asking::{Asking, Spoken};
use crate::http::error::ApiError;
use crate::http::extract;
use crate::protocol::dialect::Original;
use crate::protocol::openai::completion::{self, CompletionTelling};
use crate::protocol::openai::request::named::{self, Named};
use crate::settings;

const COMPLETIONS: &str = "/v1/completions";

/// A path that is passed on.
#[derive(Clone, Copy)]
struct Way {
    ours: &'static str,
    /// Below a provider's base URL.
    theirs: &'static str,
    /// A form with files is taken too.
    has_files: bool,
}

const WAYS: [Way; 8] = [
    way("/v1/embeddings", "embeddings", false),
    way("/v1/moderations", "moderations", false),
    way("/v1/images/generations", "images/generations", false),
    way("/v1/images/edits", "images/edits", true),
    way("/v1/images/variations", "images/variations", true),
    way("/v1/audio/speech", "audio/speech", false),
    way("/v1/audio/transcriptions", "audio/transcriptions", true),
    way("/v1/audio/translations", "audio/translations", true),
];

const fn way(ours: &'static str, theirs: &'static str, has_files: bool) -> Way {
    Way {
        ours,
        theirs,
        has_files,
    }
}

pub(crate) fn routes() -> Router<App> {
    let ways = WAYS.into_iter().fold(Router::new(), |routes, way| {
        let handler = move |State(app): State<App>, request: Request| pass(app, request, way);
        routes.route(way.ours, post(handler))
    });
    ways.route(COMPLETIONS, post(complete))
}

async fn pass(app: App, request: Request, way: Way) -> Result<Response, ApiError> {
    let asking = Asking::of(&app.router_port, &request, way.ours, None)?;
    let (named, content_type) = read(&app, request, way.has_files).await?;
    asking
        .pass(&app, (named, content_type), way.theirs, None)
        .await
}

async fn read(app: &App, request: Request, has_files: bool) -> Result<(Named, String), ApiError> {
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if has_files && content_type.to_ascii_lowercase().starts_with("multipart/") {
        let body = extract::bytes(request, limit).await?;
        let named = named::form(&content_type, body).map_err(ApiError::Fields)?;
        return Ok((named, content_type));
    }
    let body = extract::json_bytes(request, limit).await?;
    let named = named::json(body).map_err(ApiError::Fields)?;
    Ok((named, "application/json".to_owned()))
}

/// Completes a text: by the providers' own route, or as a chat where a model only chats.
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let mut asking = Asking::of(&app.router_port, &request, COMPLETIONS, None)?;
    let (named, content_type) = read(&app, request, false).await?;
    asking.check(&app, named.model.as_deref())?;
    let question = question(&named, asking.wishes());
    let plan = app.exchanges.router.plan(question).await?;
    let Ok(plan) = plan else {
        // Which is told, and put down, where it is passed on.
        return asking
            .pass(&app, (named, content_type), "completions", None)
            .await;
    };
    if can_pass(&plan) {
        asking.go(plan);
        return asking
            .pass(&app, (named, content_type), "completions", None)
            .await;
    }
    asking.go(plan);
    asking.answer(&app, as_chat(&named)?).await
}

/// Completes a text where there are only chats.
pub(crate) async fn complete_as_chat(
    port: &Arc<Port>,
    app: &App,
    request: Request,
    plan: crate::actors::router::plan::RoutePlan,
) -> Result<Response, ApiError> {
    let asking = Asking::of(port, &request, COMPLETIONS, Some(plan))?;
    let (named, _) = read(app, request, false).await?;
    asking.answer(app, as_chat(&named)?).await
}

fn as_chat(named: &Named) -> Result<Spoken, ApiError> {
    let chat = completion::chat(&named.body).map_err(ApiError::Fields)?;
    Ok(Spoken {
        original: Some(Original::translated(named.body.clone(), now_ms() / 1_000)),
        telling: Some(Box::new(CompletionTelling)),
        ..Spoken::chat(chat)
    })
}
