//! `GET /api/route/models`: what can be asked for now, who serves it, and what is known of it there.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::router::ProviderView;
use crate::actors::router::catalogue::{Offer, facts_of};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::providers::shape::ModelHealth;
use crate::routing::facts::{self, Facts};
use crate::settings;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Everything a client can ask for.
#[derive(Serialize, ToSchema)]
struct RouteModels {
    /// What requests get that name no model: `active_model`.
    default_model: Option<String>,
    /// Whose default model they get else: `active_provider`.
    default_provider: Option<String>,
    models: Vec<RouteModel>,
}

/// A name that a client can ask for. Each of a provider's models can be asked for as `provider/model`, too.
#[derive(Serialize, ToSchema)]
struct RouteModel {
    id: String,
    /// It stands for other names: see `/api/virtual-models`.
    is_virtual: bool,
    owned_by: Option<String>,
    /// What its providers and an operator say that it can do.
    capabilities: Vec<String>,
    /// Tokens; of several providers the least.
    context_length: Option<u64>,
    /// In the order of their priority.
    providers: Vec<Serving>,
}

/// A provider that serves a model, and what is known of it there; null where nobody says.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelAtProvider)]
struct Serving {
    provider: String,
    /// What the provider is asked for when a request names no model.
    is_default: bool,
    context_length: Option<u64>,
    max_output: Option<u64>,
    tools: Option<bool>,
    vision: Option<bool>,
    structured: Option<bool>,
    price: Option<ShownPrice>,
    /// How it did; null when it was not used yet.
    health: Option<ModelHealth>,
}

/// US dollars for a million tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelPrice)]
struct ShownPrice {
    input: f64,
    output: f64,
    cached_input: f64,
    cache_write: f64,
}

/// What can be asked for now: every model of every enabled provider by its own name, and the virtual models without `*`.
/// Providers whose list is older than a minute are asked for it again.
#[utoipa::path(get, path = "/api/route/models", tag = "routing", responses((status = 200, body = RouteModels)))]
async fn list(State(app): State<App>) -> Result<Json<RouteModels>, ApiError> {
    let offers = app.handles.router.models().await?;
    let views = app.handles.router.providers().await?;
    let settings = app.settings.borrow().clone();
    let text = |key| settings.text(key).map(str::to_owned);
    let bare = offers.into_iter().filter(|offer| !is_qualified(offer));
    Ok(Json(RouteModels {
        default_model: text(settings::ACTIVE_MODEL),
        default_provider: text(settings::ACTIVE_PROVIDER),
        models: bare.map(|offer| shown(offer, &views)).collect(),
    }))
}

/// Whether it is the same model again, as `provider/model`. A virtual model may be called so.
fn is_qualified(offer: &Offer) -> bool {
    let own = offer.id.strip_prefix(&offer.provider);
    own.is_some_and(|rest| rest.starts_with('/'))
}

fn shown(offer: Offer, views: &[ProviderView]) -> RouteModel {
    let is_virtual = offer.provider == "qwarden";
    let serving = offer.providers.iter().map(|provider| {
        let view = views
            .iter()
            .find(|view| view.stored.provider.id == *provider);
        match view {
            Some(view) if !is_virtual => Serving::at(view, &offer.id),
            _ => Serving::unknown(provider),
        }
    });
    let providers: Vec<Serving> = serving.collect();
    let least = providers
        .iter()
        .filter_map(|serving| serving.context_length);
    RouteModel {
        is_virtual,
        owned_by: offer.owned_by,
        capabilities: offer.capabilities,
        context_length: least.min().or(offer.context_length),
        providers,
        id: offer.id,
    }
}

impl Serving {
    fn at(view: &ProviderView, model: &str) -> Self {
        let Facts {
            context_length,
            max_output,
            tools,
            vision,
            structured,
            price,
            ..
        } = facts_of(&view.stored, &view.listing, model);
        let mut links = view.stored.models.iter();
        let health = ModelHealth::of(&view.doing);
        Self {
            is_default: links.any(|link| link.is_default && link.model.id == model),
            context_length,
            max_output,
            tools,
            vision,
            structured,
            price: price.map(|price| ShownPrice {
                input: dollars(price.input),
                output: dollars(price.output),
                cached_input: dollars(price.cached_input),
                cache_write: dollars(price.cache_write),
            }),
            health: health.into_iter().find(|health| health.model == model),
            ..Self::unknown(&view.stored.provider.id)
        }
    }

    fn unknown(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            is_default: false,
            context_length: None,
            max_output: None,
            tools: None,
            vision: None,
            structured: None,
            price: None,
            health: None,
        }
    }
}

fn dollars(microusd: u64) -> f64 {
    facts::dollars(i64::try_from(microusd).unwrap_or(i64::MAX))
}
