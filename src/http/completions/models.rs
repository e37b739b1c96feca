//! `GET /v1/models` and `GET /v1/models/{id}`.

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actors::router::catalogue::Offer;
use crate::actors::router::resolve::closest;
use crate::clock::rfc3339;
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::error::ApiError;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/models", get(list))
        .route("/v1/models/{*id}", get(show))
}

#[derive(Deserialize)]
struct Filter {
    provider: Option<String>,
}

/// OpenAI's model object, and who serves it.
#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    providers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
}

impl From<Offer> for Model {
    fn from(offer: Offer) -> Self {
        Self {
            id: offer.id,
            object: "model",
            created: offer.created.unwrap_or_default(),
            owned_by: offer.owned_by.unwrap_or(offer.provider),
            providers: offer.providers,
            context_length: offer.context_length,
            capabilities: offer.capabilities,
        }
    }
}

/// Every model of every enabled provider; with `provider`, the models of that one by their bare names.
async fn list(
    State(app): State<App>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let mut offers = app.handles.router.models().await?;
    offers.retain(|offer| allowed.permits(&offer.id));
    let models: Vec<Model> = match filter.provider {
        None => offers.into_iter().map(Model::from).collect(),
        Some(provider) => {
            let known = app.handles.router.providers().await?;
            if provider != "echo" && !known.iter().any(|view| view.stored.provider.id == provider) {
                return Err(ApiError::ProviderNotFound { id: provider });
            }
            let prefix = format!("{provider}/");
            let qualified = offers
                .into_iter()
                .filter(|offer| offer.provider == provider);
            let own = qualified.filter_map(|offer| match offer.id.strip_prefix(&prefix) {
                Some(bare) => Some(Offer {
                    id: bare.to_owned(),
                    ..offer
                }),
                None => (provider == "echo").then_some(offer),
            });
            own.map(Model::from).collect()
        }
    };
    if speaks_anthropic(&headers) {
        let models = models.iter();
        return Ok(anthropic_list(
            models.map(|model| in_anthropic(&model.id, model.created)),
        ));
    }
    Ok(Json(json!({"object": "list", "data": models})))
}

/// Whether a client wants the shapes of Anthropic's API; its SDKs always send this header.
pub(crate) fn speaks_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// Anthropic's list, on one page.
pub(crate) fn anthropic_list(models: impl Iterator<Item = Value>) -> Json<Value> {
    let models: Vec<Value> = models.collect();
    let end = |model: Option<&Value>| model.map(|model| model["id"].clone());
    Json(json!({
        "data": models, "has_more": false,
        "first_id": end(models.first()), "last_id": end(models.last()),
    }))
}

/// Anthropic's model object.
pub(crate) fn in_anthropic(id: &str, created: u64) -> Value {
    let created = i64::try_from(created).unwrap_or_default();
    json!({
        "type": "model", "id": id, "display_name": id,
        "created_at": rfc3339(created.saturating_mul(1_000)),
    })
}

async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    allowed.check(Some(&id))?;
    let offers = app.handles.router.models().await?;
    let names: Vec<String> = offers.iter().map(|offer| offer.id.clone()).collect();
    match offers.into_iter().find(|offer| offer.id == id) {
        Some(offer) if speaks_anthropic(&headers) => {
            let created = offer.created.unwrap_or_default();
            Ok(Json(in_anthropic(&offer.id, created)))
        }
        Some(offer) => Ok(Json(json!(Model::from(offer)))),
        None => Err(ApiError::ModelNotFound {
            closest: closest(&id, &names),
            id,
        }),
    }
}
