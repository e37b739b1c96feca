//! `/api/chat`: completions for whoever manages, from the dashboard's own origin, and the models that can be asked.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::App;
use crate::http::completions::chat;
use crate::http::error::ApiError;

pub(crate) const PATH: &str = "/api/chat/completions";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(complete))
        .routes(routes!(models))
}

/// What a request may name as its model.
#[derive(Serialize, ToSchema)]
#[schema(as = AskableModels)]
struct Askable {
    models: Vec<AskableModel>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct AskableModel {
    id: String,
    /// Who is asked first.
    provider: String,
    /// All who have it.
    providers: Vec<String>,
    context_length: Option<u64>,
    capabilities: Vec<String>,
}

/// Completes a chat as `POST /v1/chat/completions` of the router port does, headers and errors included, streamed when
/// `stream` says so. No client's key is needed, and none is charged. It ends when its client leaves.
#[utoipa::path(post, path = "/api/chat/completions", tag = "history",
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "A chat request of OpenAI's API"),
    responses((status = 200, description = "A completion; with `stream`, its pieces as server-sent events",
        content((serde_json::Value = "application/json"), (String = "text/event-stream")))))]
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    chat::complete_with(app.router_port.clone(), app, request, None).await
}

/// Every name a request of a client may have as its model: those that `GET /v1/models` of the router port lists.
// Not at `/api/chat/models`, which is where the models of a provider called `chat` are.
#[utoipa::path(get, path = "/api/chat/completions/models", tag = "history",
    responses((status = 200, body = Askable)))]
async fn models(State(app): State<App>) -> Result<Json<Askable>, ApiError> {
    let offers = app.handles.router.models().await?;
    let models = offers.into_iter().map(|offer| AskableModel {
        id: offer.id,
        provider: offer.provider,
        providers: offer.providers,
        context_length: offer.context_length,
        capabilities: offer.capabilities,
    });
    Ok(Json(Askable {
        models: models.collect(),
    }))
}
