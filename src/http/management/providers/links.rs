//! `/api/providers/{id}/models`: which models a provider is asked for.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::response::{AppendHeaders, IntoResponse, Response};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::StoreError;
use crate::actors::router::ProviderView;
use crate::clock::{new_id, now_ms};
use crate::db::error::DbError;
use crate::db::models::{self, Link, LinkedModel, NewLink};
use crate::db::ops::WriteOp;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{Done, NewLinkBody};
use crate::http::management::changes::{self, Change};
use crate::http::management::fields::Fields;
use crate::http::management::models::{find_model, missing_model};
use crate::http::management::providers::find;
use crate::routing::facts;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, link))
        .routes(routes!(unlink))
        .routes(routes!(set_default))
}

/// The models of a provider.
#[derive(Serialize, ToSchema)]
struct Linked {
    provider_id: String,
    models: Vec<LinkedShown>,
    total: usize,
}

/// A linked model, with the state the original computed.
#[derive(Serialize, ToSchema)]
struct LinkedShown {
    #[serde(flatten)]
    linked: LinkedModel,
    status: &'static str,
}

/// The model a provider is asked for when a request names none.
#[derive(Serialize, ToSchema)]
struct DefaultSet {
    provider_id: String,
    default_model: LinkedShown,
    message: &'static str,
}

/// The models of a provider, its default first.
#[utoipa::path(get, path = "/models", tag = "models",
    params(("id" = String, Path)), responses((status = 200, body = Linked)))]
async fn list(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Linked>, ApiError> {
    let view = find(&app, &id).await?;
    let models: Vec<_> = view.stored.models.into_iter().map(shown).collect();
    Ok(Json(Linked {
        provider_id: id,
        total: models.len(),
        models,
    }))
}

/// Says that a provider offers a model.
#[utoipa::path(post, path = "/models", tag = "models",
    params(("id" = String, Path)), request_body = NewLinkBody, responses((status = 201, body = Link)))]
async fn link(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = extract::json_object(request).await?;
    find(&app, &id).await?;
    let mut fields = Fields::of(&body);
    let model = fields.required("model_id", 200);
    let is_default = fields.boolean("is_default").unwrap_or(false);
    let config = fields.object("config");
    fields.end()?;
    let faults = config.as_ref().map(facts::faults).unwrap_or_default();
    if !faults.is_empty() {
        return Err(ApiError::InvalidConfig(faults));
    }
    let config = config.map(Into::into);
    let model = model.ok_or(ApiError::Internal)?;
    find_model(&app, &model).await?;
    let new = NewLink {
        provider_id: id.clone(),
        model_id: model.clone(),
        is_default,
        config,
        at: now_ms(),
    };
    let op = WriteOp::LinkModel {
        link: new,
        operation: new_id(),
    };
    let linking = app.handles.database.write(op).await;
    linking.map_err(|error| match error {
        StoreError::Db(DbError::Conflict { .. }) => ApiError::Taken {
            code: "model_already_linked",
            message: format!("model `{model}` is linked to provider `{id}` already"),
        },
        error => error.into(),
    })?;
    let link = stored(&app, &id, &model).await?;
    told(&app, &id, &model, "linked", (None, Some(json!(link)))).await?;
    let path = format!("/api/providers/{id}/models");
    let body = (
        StatusCode::CREATED,
        AppendHeaders([(LOCATION, path)]),
        Json(link),
    );
    Ok(body.into_response())
}

/// Takes a model from a provider.
#[utoipa::path(delete, path = "/models/{model_id}", tag = "models",
    params(("id" = String, Path), ("model_id" = String, Path)), responses((status = 200, body = Done)))]
async fn unlink(
    State(app): State<App>,
    Path((id, model)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    find(&app, &id).await?;
    let op = WriteOp::UnlinkModel {
        provider: id.clone(),
        model: model.clone(),
        operation: new_id(),
    };
    let before = stored(&app, &id, &model).await?;
    let unlinking = app.handles.database.write(op).await;
    unlinking.map_err(|error| not_linked(error, &id, &model))?;
    told(&app, &id, &model, "unlinked", (Some(json!(before)), None)).await?;
    Ok(Done::new("Model unlinked from provider"))
}

/// Makes a linked model the one a provider is asked for when a request names none.
#[utoipa::path(put, path = "/models/{model_id}/default", tag = "models",
    params(("id" = String, Path), ("model_id" = String, Path)), responses((status = 200, body = DefaultSet)))]
async fn set_default(
    State(app): State<App>,
    Path((id, model)): Path<(String, String)>,
) -> Result<Json<DefaultSet>, ApiError> {
    let before = default_model(&find(&app, &id).await?);
    let op = WriteOp::SetDefaultModel {
        provider: id.clone(),
        model: model.clone(),
        at: now_ms(),
    };
    let setting = app.handles.database.write(op).await;
    setting.map_err(|error| not_linked(error, &id, &model))?;
    let after = json!({"default_model": model});
    told(&app, &id, &model, "default", (Some(before), Some(after))).await?;
    let view = find(&app, &id).await?;
    let linked = view.stored.models.into_iter();
    let linked = linked
        .map(shown)
        .find(|shown| shown.linked.model.id == model);
    Ok(Json(DefaultSet {
        provider_id: id,
        default_model: linked.ok_or_else(|| missing_model(&model))?,
        message: "Default model updated",
    }))
}

fn default_model(view: &ProviderView) -> Value {
    let mut models = view.stored.models.iter();
    let default = models.find(|linked| linked.is_default);
    json!({"default_model": default.map(|linked| &linked.model.id)})
}

async fn stored(app: &App, provider: &str, model: &str) -> Result<Link, ApiError> {
    let (id, name) = (provider.to_owned(), model.to_owned());
    let read = move |conn: &_| models::link_of(conn, &id, &name);
    let link = app.handles.database.read(read).await?;
    link.ok_or_else(|| unlinked(provider, model))
}

/// The router must know before the answer goes out.
async fn told(
    app: &App,
    provider: &str,
    model: &str,
    action: &'static str,
    (before, after): (Option<Value>, Option<Value>),
) -> Result<(), ApiError> {
    app.handles.router.refresh().await?;
    let change = Change {
        entity: "link",
        id: model,
        action,
        event: "models:updated",
        detail: json!({"modelId": model, "providerId": provider}),
        before,
        after,
    };
    changes::record(app, change).await;
    Ok(())
}

fn not_linked(error: StoreError, provider: &str, model: &str) -> ApiError {
    match error {
        StoreError::Db(DbError::Missing { .. }) => unlinked(provider, model),
        error => error.into(),
    }
}

fn unlinked(provider: &str, model: &str) -> ApiError {
    ApiError::Missing {
        code: "model_not_linked",
        message: format!("model `{model}` is not linked to provider `{provider}`"),
    }
}

fn shown(linked: LinkedModel) -> LinkedShown {
    LinkedShown {
        linked,
        status: "active",
    }
}
