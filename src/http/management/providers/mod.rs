//! `/api/providers`: the registry as the user edits it (management contract, 1.3 to 1.5).

mod actions;
mod body;
mod config;
mod links;
pub(crate) mod shape;
mod types;

use std::cmp::Reverse;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, http::header::LOCATION};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::actors::router::{ProviderView, conflict};
use crate::db::error::DbError;
use crate::http::App;
use crate::http::access::Principal;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{ChangedProvider, Done, NewProviderBody};
use crate::http::management::changes::{self, Change};
use crate::http::management::conventions::Version;
use crate::http::management::providers::body::NewProvider;
use crate::http::management::providers::shape::{Detail, Provider, Summary};
use crate::http::management::settings::change as change_settings;
use crate::http::params::{PageInfo, PageParams, Params};
use crate::settings;

/// Ids that routes of this API, or built-in providers, have taken.
const RESERVED: &[&str] = &["echo", "types", "bulk"];
const LISTED: i64 = 50;

pub(crate) fn routes() -> OpenApiRouter<App> {
    let parts = || config::routes().merge(links::routes());
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(types::types))
        .routes(routes!(show, change, remove))
        .routes(routes!(actions::enable))
        .routes(routes!(actions::disable))
        .routes(routes!(actions::test))
        .routes(routes!(actions::reload))
        .nest("/api/providers/{id}", parts())
        // The original served them here only (D7).
        .nest("/api/{id}", parts())
}

/// Providers of a list.
#[derive(Serialize, ToSchema)]
struct ProviderList {
    #[serde(flatten)]
    page: PageInfo,
    providers: Vec<Summary>,
}

/// All providers, by falling priority.
#[utoipa::path(get, path = "/api/providers", tag = "providers",
    params(PageParams,
        ("type" = Option<String>, Query, description = "Only those of this type"),
        ("enabled" = Option<bool>, Query, description = "Only those that are, or are not"),
        ("q" = Option<String>, Query, description = "Part of an id or a name")),
    responses((status = 200, body = ProviderList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<ProviderList>, ApiError> {
    let page = params.page(LISTED)?;
    let kind = params.text("type");
    let enabled = params.flag("enabled")?;
    let q = params.text("q").map(|q| q.to_lowercase());
    let wanted = |view: &&ProviderView| {
        let provider = &view.stored.provider;
        kind.as_ref().is_none_or(|kind| *kind == provider.kind)
            && enabled.is_none_or(|enabled| enabled == provider.enabled)
            && q.as_ref().is_none_or(|q| {
                provider.id.to_lowercase().contains(q) || provider.name.to_lowercase().contains(q)
            })
    };
    let views = app.handles.router.providers().await?;
    let matching: Vec<&ProviderView> = views.iter().filter(wanted).collect();
    let (providers, page) = page.of(matching, |view| {
        let provider = &view.stored.provider;
        (Reverse(provider.priority), provider.name.clone())
    })?;
    let providers = providers.into_iter().map(Summary::from).collect();
    Ok(Json(ProviderList { page, providers }))
}

/// One provider, its configuration without secrets, and its models.
#[utoipa::path(get, path = "/api/providers/{id}", tag = "providers",
    params(("id" = String, Path)), responses((status = 200, body = Detail)))]
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<(Extension<Version>, Json<Detail>), ApiError> {
    let view = find(&app, &id).await?;
    Ok((
        Extension(Version::of(&view.stored)),
        Json(Detail::from(&view)),
    ))
}

/// Stores a provider; the next completion can use it.
#[utoipa::path(post, path = "/api/providers", tag = "providers",
    request_body = NewProviderBody,
    responses((status = 201, body = Detail, headers(("location" = String, description = "Where it is")))))]
async fn create(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let new = NewProvider::checked(&extract::json_object(request).await?, &app.own)?;
    let (id, name) = (new.provider.id.clone(), new.provider.name.clone());
    if RESERVED.contains(&id.as_str()) {
        return Err(ApiError::ProviderExists { id });
    }
    let registering = app.handles.router.register(new.provider, new.config).await;
    registering.map_err(|error| match conflict(&error) {
        Some("id") => ApiError::ProviderExists { id: id.clone() },
        Some("name") => ApiError::ProviderNameExists { name },
        _ => error.into(),
    })?;
    let view = find(&app, &id).await?;
    told(&app, &id, "created", None, Some(&view)).await;
    let location = AppendHeaders([(LOCATION, format!("/api/providers/{id}"))]);
    let detail = Json(Detail::from(&view));
    Ok((StatusCode::CREATED, location, detail).into_response())
}

/// Changes what the body names; the next completion finds it changed.
#[utoipa::path(put, path = "/api/providers/{id}", tag = "providers",
    params(("id" = String, Path)), request_body = ChangedProvider,
    responses((status = 200, body = Detail)))]
async fn change(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Detail>, ApiError> {
    let body = extract::json_object(request).await?;
    let before = find(&app, &id).await?;
    if let Some(change) = body::change(&body, &before.stored)? {
        body::check_change(&before.stored, &change, &app.own)?;
        let after = apply(&app, &before, change, "updated").await?;
        return Ok(Json(Detail::from(&after)));
    }
    Ok(Json(Detail::from(&before)))
}

/// Forgets the provider; the next completion cannot use it, those under way finish.
#[utoipa::path(delete, path = "/api/providers/{id}", tag = "providers",
    params(("id" = String, Path),
        ("force" = Option<bool>, Query, description = "Even when it is the active one; the next by priority takes its place")),
    responses((status = 200, body = Done)))]
async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Done>, ApiError> {
    let is_forced = params.flag("force")? == Some(true);
    let before = find(&app, &id).await?;
    let is_active = app.store.active_provider().as_deref() == Some(id.as_str());
    if is_active && !is_forced {
        return Err(ApiError::ProviderActive { id });
    }
    let removing = app.handles.router.remove(&id).await;
    removing.map_err(|error| missing_provider(error, &id))?;
    told(&app, &id, "deleted", Some(&before), None).await;
    if is_active {
        // The next by priority takes its place; none leaves the choice to the model's name.
        let views = app.handles.router.providers().await?;
        let next = views
            .iter()
            .find(|view| view.stored.provider.enabled && view.loaded.is_ok());
        let next = next.map(|view| Value::from(view.stored.provider.id.clone()));
        let moved = vec![(settings::ACTIVE_PROVIDER.to_owned(), next)];
        change_settings(&app, Principal::Local, moved).await?;
    }
    Ok(Done::new("Provider deleted"))
}

async fn find(app: &App, id: &str) -> Result<ProviderView, ApiError> {
    let views = app.handles.router.providers().await?;
    let found = views.into_iter().find(|view| view.stored.provider.id == id);
    found.ok_or_else(|| ApiError::ProviderNotFound { id: id.to_owned() })
}

/// Makes a checked change, and returns the provider as it is then.
async fn apply(
    app: &App,
    before: &ProviderView,
    change: crate::db::providers::ProviderChange,
    action: &'static str,
) -> Result<ProviderView, ApiError> {
    let id = before.stored.provider.id.as_str();
    let name = change.name.clone().unwrap_or_default();
    let changing = app.handles.router.change(change).await;
    changing.map_err(|error| match conflict(&error) {
        Some("name") => ApiError::ProviderNameExists { name },
        _ => missing_provider(error, id),
    })?;
    let after = find(app, id).await?;
    told(app, id, action, Some(before), Some(&after)).await;
    Ok(after)
}

async fn told(
    app: &App,
    id: &str,
    action: &'static str,
    before: Option<&ProviderView>,
    after: Option<&ProviderView>,
) {
    let shown = |view: Option<&ProviderView>| {
        view.map(|view| {
            let mut shown = json!(Provider::from(&view.stored.provider));
            shown["config"] = Value::Object(shape::shown_config(&view.stored.config));
            shown
        })
    };
    let change = Change {
        entity: "provider",
        id,
        action,
        event: "providers:updated",
        detail: json!({"providerId": id}),
        before: shown(before),
        after: shown(after),
    };
    changes::record(app, change).await;
}

fn missing_provider(error: StoreError, id: &str) -> ApiError {
    match error {
        StoreError::Db(DbError::Missing { .. }) => ApiError::ProviderNotFound { id: id.to_owned() },
        error => error.into(),
    }
}
