//! `/api/models`: models an operator described (management contract, 1.6).

use std::collections::HashMap;

use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::clock::{new_id, now_ms};
use crate::db::error::DbError;
use crate::db::models::{self, ModelChange, ModelRow};
use crate::db::ops::{WriteOp, Written};
use crate::http::App;
use crate::http::access::Principal;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{ChangedModel, Done, NewModelBody};
use crate::http::management::changes::{self, Change};
use crate::http::management::conventions::Version;
use crate::http::management::fields::Fields;
use crate::http::management::providers::shape::Provider;
use crate::http::management::settings::change as change_settings;
use crate::http::params::{PageInfo, PageParams, Params};
use crate::limits::management::SYNC_DEADLINE;
use crate::providers::UpstreamError;
use crate::settings;

const LISTED: i64 = 50;
const LONGEST: usize = 200;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(sync_all))
        .routes(routes!(sync_one))
        .routes(routes!(show, change, remove))
}

/// A model, with the state the original computed.
#[derive(Serialize, ToSchema)]
struct Model {
    #[serde(flatten)]
    row: ModelRow,
    status: &'static str,
}

/// Models of a list.
#[derive(Serialize, ToSchema)]
struct ModelList {
    #[serde(flatten)]
    page: PageInfo,
    models: Vec<Model>,
}

/// One model.
#[derive(Serialize, ToSchema)]
struct One<T> {
    model: T,
}

/// A model with those who offer it.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelDetail)]
struct Detail {
    #[serde(flatten)]
    model: Model,
    providers: Vec<Offering>,
}

/// A provider that offers a model.
#[derive(Serialize, ToSchema)]
struct Offering {
    #[serde(flatten)]
    provider: Provider,
    is_default: bool,
    model_config: Option<Value>,
}

/// What the sync of one provider did.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Synced {
    success: bool,
    models_added: usize,
    links_added: usize,
    /// How many models the provider lists.
    total_models: Option<usize>,
    error: Option<String>,
}

/// The sync of one provider.
#[derive(Serialize, ToSchema)]
struct SyncedOne {
    success: bool,
    message: String,
    result: Synced,
}

/// The sync of all enabled providers.
#[derive(Serialize, ToSchema)]
struct SyncedAll {
    success: bool,
    message: String,
    /// By provider.
    results: HashMap<String, Synced>,
    totals: SyncTotals,
}

/// Sums of a sync.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SyncTotals {
    providers: usize,
    successful: usize,
    failed: usize,
    total_models_added: usize,
    total_links_added: usize,
}

/// All models, by name.
#[utoipa::path(get, path = "/api/models", tag = "models",
    params(PageParams,
        ("provider" = Option<String>, Query, description = "Only those this provider offers"),
        ("capability" = Option<String>, Query, description = "Only those that can do this"),
        ("q" = Option<String>, Query, description = "Part of an id or a name")),
    responses((status = 200, body = ModelList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<ModelList>, ApiError> {
    let page = params.page(LISTED)?;
    let provider = params.text("provider");
    let capability = params.text("capability");
    let q = params.text("q").map(|q| q.to_lowercase());
    let views = app.handles.router.providers().await?;
    let offered = |id: &str| {
        provider.as_ref().is_none_or(|provider| {
            views
                .iter()
                .filter(|view| view.stored.provider.id == *provider)
                .any(|view| {
                    view.stored
                        .models
                        .iter()
                        .any(|linked| linked.model.id == id)
                })
        })
    };
    let rows = app.handles.database.read(models::all).await?;
    let matching = rows.into_iter().filter(|row| {
        offered(&row.id)
            && capability
                .as_ref()
                .is_none_or(|wanted| row.capabilities.contains(wanted))
            && q.as_ref().is_none_or(|q| {
                row.id.to_lowercase().contains(q) || row.name.to_lowercase().contains(q)
            })
    });
    let place = |row: &ModelRow| (row.name.clone(), row.id.clone());
    let (models, page) = page.of(matching.collect(), place)?;
    let models = models.into_iter().map(shown).collect();
    Ok(Json(ModelList { page, models }))
}

/// One model, with the providers that offer it. A `/` in an id is written `%2F`.
#[utoipa::path(get, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path)), responses((status = 200, body = One<Detail>)))]
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<(Extension<Version>, Json<One<Detail>>), ApiError> {
    let row = find_model(&app, &id).await?;
    let version = Version::of(&row);
    let views = app.handles.router.providers().await?;
    let providers = views.iter().filter_map(|view| {
        let linked = view.stored.models.iter();
        let linked = linked.into_iter().find(|linked| linked.model.id == id)?;
        Some(Offering {
            provider: Provider::from(&view.stored.provider),
            is_default: linked.is_default,
            model_config: linked.provider_config.clone(),
        })
    });
    let model = Detail {
        model: shown(row),
        providers: providers.collect(),
    };
    Ok((Extension(version), Json(One { model })))
}

/// Describes a model.
#[utoipa::path(post, path = "/api/models", tag = "models", request_body = NewModelBody,
    responses((status = 201, body = One<Model>, headers(("location" = String, description = "Where it is")))))]
async fn create(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let body = extract::json_object(request).await?;
    let mut fields = Fields::of(&body);
    let id = fields.required("id", LONGEST);
    if id
        .as_ref()
        .is_some_and(|id| id.chars().any(|c| c.is_whitespace() || c.is_control()))
    {
        fields.fault("`id` must be printable characters without blanks");
    }
    let name = fields.required("name", LONGEST);
    let description = fields.text("description");
    let capabilities = fields.texts("capabilities").unwrap_or_default();
    fields.end()?;
    let (Some(id), Some(name)) = (id, name) else {
        return Err(ApiError::Internal);
    };
    let now = now_ms();
    let model = ModelRow {
        id: id.clone(),
        name,
        description,
        capabilities,
        created_at: now,
        updated_at: now,
    };
    let op = WriteOp::CreateModel {
        model: model.clone(),
        operation: new_id(),
    };
    let creating = app.handles.database.write(op).await;
    creating.map_err(|error| match error {
        StoreError::Db(DbError::Conflict { .. }) => ApiError::Taken {
            code: "model_exists",
            message: format!("the model id `{id}` is taken; PUT /api/models/{id} changes it"),
        },
        error => error.into(),
    })?;
    told(&app, &id, "created", None, Some(json!(model))).await?;
    let location = AppendHeaders([(LOCATION, format!("/api/models/{}", escaped(&id)))]);
    let body = Json(One {
        model: shown(model),
    });
    Ok((StatusCode::CREATED, location, body).into_response())
}

/// Changes what the body names.
#[utoipa::path(put, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path)), request_body = ChangedModel, responses((status = 200, body = One<Model>)))]
async fn change(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<One<Model>>, ApiError> {
    let body = extract::json_object(request).await?;
    let before = find_model(&app, &id).await?;
    let mut fields = Fields::of(&body);
    let change = ModelChange {
        name: fields.optional("name", LONGEST),
        description: fields.nullable("description"),
        capabilities: fields.texts("capabilities"),
        id: id.clone(),
        at: now_ms(),
    };
    fields.end()?;
    let nothing = ModelChange {
        id: id.clone(),
        at: change.at,
        ..ModelChange::default()
    };
    if change == nothing {
        return Ok(Json(One {
            model: shown(before),
        }));
    }
    let changing = app
        .handles
        .database
        .write(WriteOp::ChangeModel(change))
        .await;
    changing.map_err(|error| gone(error, &id))?;
    let after = find_model(&app, &id).await?;
    told(
        &app,
        &id,
        "updated",
        Some(json!(before)),
        Some(json!(after)),
    )
    .await?;
    Ok(Json(One {
        model: shown(after),
    }))
}

/// Forgets a model and its links.
#[utoipa::path(delete, path = "/api/models/{id}", tag = "models",
    params(("id" = String, Path), ("force" = Option<bool>, Query, description = "Even when it is the active one")),
    responses((status = 200, body = Done)))]
async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<Done>, ApiError> {
    let is_forced = params.flag("force")? == Some(true);
    let before = find_model(&app, &id).await?;
    let active = app
        .settings
        .borrow()
        .text(settings::ACTIVE_MODEL)
        .map(str::to_owned);
    let is_active = active.as_deref() == Some(id.as_str());
    if is_active && !is_forced {
        return Err(ApiError::Taken {
            code: "model_active",
            message: format!(
                "`{id}` is the active model; choose another one first, or repeat with `?force=true`"
            ),
        });
    }
    let op = WriteOp::DeleteModel {
        id: id.clone(),
        operation: new_id(),
    };
    let deleting = app.handles.database.write(op).await;
    deleting.map_err(|error| gone(error, &id))?;
    told(&app, &id, "deleted", Some(json!(before)), None).await?;
    if is_active {
        let reset = vec![(settings::ACTIVE_MODEL.to_owned(), None)];
        change_settings(&app, Principal::Local, reset).await?;
    }
    Ok(Done::new("Model deleted"))
}

/// Asks every enabled provider for its models and keeps those that are new; what was made by hand stays.
#[utoipa::path(post, path = "/api/models/sync", tag = "models", responses((status = 200, body = SyncedAll)))]
async fn sync_all(State(app): State<App>) -> Result<Json<SyncedAll>, ApiError> {
    let views = app.handles.router.providers().await?;
    let ids = views
        .iter()
        .filter(|view| view.stored.provider.enabled)
        .map(|view| view.stored.provider.id.clone());
    let syncs = ids.map(|id| {
        let app = app.clone();
        async move {
            let synced = sync(&app, &id).await;
            synced.map(|synced| (id, synced))
        }
    });
    let results: HashMap<String, Synced> = futures_util::future::join_all(syncs)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    refreshed(&app, "all", json!(results)).await?;
    let successful = results.values().filter(|synced| synced.success).count();
    let totals = SyncTotals {
        providers: results.len(),
        successful,
        failed: results.len() - successful,
        total_models_added: results.values().map(|synced| synced.models_added).sum(),
        total_links_added: results.values().map(|synced| synced.links_added).sum(),
    };
    Ok(Json(SyncedAll {
        success: totals.failed == 0,
        message: format!("{} of {} providers synced", successful, totals.providers),
        results,
        totals,
    }))
}

/// Asks one provider for its models and keeps those that are new; what was made by hand stays.
#[utoipa::path(post, path = "/api/models/sync/{provider_id}", tag = "models",
    params(("provider_id" = String, Path)), responses((status = 200, body = SyncedOne)))]
async fn sync_one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<SyncedOne>, ApiError> {
    let result = sync(&app, &id).await?;
    refreshed(&app, &id, json!(result)).await?;
    let message = match &result.error {
        None => format!("provider {id} synced"),
        Some(error) => error.clone(),
    };
    Ok(Json(SyncedOne {
        success: result.success,
        message,
        result,
    }))
}

async fn sync(app: &App, id: &str) -> Result<Synced, ApiError> {
    let adapter = app.handles.router.adapter(id).await?;
    let adapter = adapter.ok_or_else(|| ApiError::ProviderNotFound { id: id.to_owned() })?;
    let failed = |error: String| Synced {
        success: false,
        models_added: 0,
        links_added: 0,
        total_models: None,
        error: Some(error),
    };
    let listed = match adapter {
        Err(invalid) => return Ok(failed(invalid.to_string())),
        Ok(adapter) => adapter.models(SYNC_DEADLINE).await,
    };
    let listed = match listed {
        Err(error) => return Ok(failed(UpstreamError::to_string(&error))),
        Ok(listed) => listed,
    };
    let total = listed.len();
    let models = listed
        .into_iter()
        .map(|model| model.id)
        .filter(|id| !id.is_empty() && id.len() <= LONGEST)
        .collect();
    let op = WriteOp::OfferModels {
        provider: id.to_owned(),
        models,
        at: now_ms(),
        operation: new_id(),
    };
    let (models_added, links_added) = match app.handles.database.write(op).await? {
        Written::Offered { models, links } => (models, links),
        _ => (0, 0),
    };
    Ok(Synced {
        success: true,
        models_added,
        links_added,
        total_models: Some(total),
        error: None,
    })
}

async fn refreshed(app: &App, id: &str, synced: Value) -> Result<(), ApiError> {
    app.handles.router.refresh().await?;
    let change = Change {
        entity: "models of provider",
        id,
        action: "synced",
        event: "models:updated",
        detail: json!({"modelId": null, "providerId": id}),
        before: None,
        after: Some(synced),
    };
    changes::record(app, change).await;
    Ok(())
}

/// The router must know before the answer goes out.
async fn told(
    app: &App,
    id: &str,
    action: &'static str,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ApiError> {
    app.handles.router.refresh().await?;
    let change = Change {
        entity: "model",
        id,
        action,
        event: "models:updated",
        detail: Value::Object(Map::from_iter([("modelId".to_owned(), id.into())])),
        before,
        after,
    };
    changes::record(app, change).await;
    Ok(())
}

pub(crate) async fn find_model(app: &App, id: &str) -> Result<ModelRow, ApiError> {
    let rows = app.handles.database.read(models::all).await?;
    let found = rows.into_iter().find(|row| row.id == id);
    found.ok_or_else(|| missing_model(id))
}

pub(crate) fn missing_model(id: &str) -> ApiError {
    ApiError::Missing {
        code: "model_not_found",
        message: format!("there is no model `{id}`; GET /api/models lists them"),
    }
}

fn gone(error: StoreError, id: &str) -> ApiError {
    match error {
        StoreError::Db(DbError::Missing { .. }) => missing_model(id),
        error => error.into(),
    }
}

fn shown(row: ModelRow) -> Model {
    Model {
        row,
        status: "active",
    }
}

/// As one segment of a path.
pub(crate) fn escaped(id: &str) -> String {
    let mut path = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push('%');
            path.push_str(&crate::hex::encode(&[byte]).to_ascii_uppercase());
        }
    }
    path
}
