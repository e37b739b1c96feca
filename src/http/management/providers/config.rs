//! `/api/providers/{id}/config`: the configuration of a provider, key by key.

use axum::extract::{Path, Request, State};
use axum::response::AppendHeaders;
use axum::{Extension, Json};
use hyper::header::{CACHE_CONTROL, HeaderName};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::router::ProviderView;
use crate::clock::now_ms;
use crate::db::providers::{ConfigRow, ProviderChange};
use crate::http::App;
use crate::http::access::Principal;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{ConfigBody, ConfigValueBody, Done};
use crate::http::management::conventions::Version;
use crate::http::management::providers::shape::{masked, shown_config};
use crate::http::management::providers::{apply, body, find};
use crate::http::params::Params;
use crate::secrets::MASK;

type NoStore = AppendHeaders<[(HeaderName, &'static str); 1]>;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show, put))
        .routes(routes!(patch, remove))
}

/// A configuration.
#[derive(Serialize, ToSchema)]
#[schema(as = ShownConfig)]
struct Shown {
    provider_id: String,
    config: Map<String, Value>,
    masked: bool,
}

/// A configuration that was changed.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedConfig)]
struct Changed {
    provider_id: String,
    /// Secrets are masked.
    config: Map<String, Value>,
    updated_count: usize,
}

/// One key of a configuration.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedKey)]
struct UpdatedKey {
    provider_id: String,
    key: String,
    /// The mask when it is sensitive.
    value: Value,
    is_sensitive: bool,
    /// Unix time, ms.
    updated_at: i64,
}

/// The configuration, its secrets masked.
#[utoipa::path(get, path = "/config", tag = "providers",
    params(("id" = String, Path),
        ("mask" = Option<bool>, Query, description = "`false` asks for the secrets themselves; only with the admin token")),
    responses((status = 200, body = Shown)))]
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> Result<(Extension<Version>, NoStore, Json<Shown>), ApiError> {
    let view = find(&app, &id).await?;
    let masked = params.flag("mask")? != Some(false);
    if !masked && Principal::in_request(request.extensions()) != Principal::Admin {
        return Err(ApiError::Forbidden {
            code: "unmasking_refused",
            message: "secrets are shown to the holder of the admin token only".into(),
        });
    }
    let mut config = shown_config(&view.stored.config);
    let version = Version::of(&(&view.stored.provider, &config));
    if !masked {
        let plain = view.stored.config.into_iter();
        config = plain
            .map(|row| {
                let value = if row.sealed { MASK.into() } else { row.value };
                (row.key, value)
            })
            .collect();
    }
    let shown = Shown {
        provider_id: id,
        config,
        masked,
    };
    Ok((
        Extension(version),
        AppendHeaders([(CACHE_CONTROL, "no-store")]),
        Json(shown),
    ))
}

/// Sets the given keys and keeps the others; a value that is the mask stays as it is.
#[utoipa::path(put, path = "/config", tag = "providers",
    params(("id" = String, Path), ("replace" = Option<bool>, Query, description = "Drop the keys that are not given")),
    request_body = ConfigBody, responses((status = 200, body = Changed)))]
async fn put(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> Result<Json<Changed>, ApiError> {
    let replaces = params.flag("replace")? == Some(true);
    let mut body = extract::json_object(request).await?;
    let view = find(&app, &id).await?;
    let Some(Value::Object(config)) = body.remove("config") else {
        return Err(ApiError::Validation(vec![
            "`config` must be an object".into(),
        ]));
    };
    let change = ProviderChange {
        id: id.clone(),
        put: body::filled(config, &view.stored.config)?,
        replaces,
        at: now_ms(),
        ..ProviderChange::default()
    };
    let updated_count = change.put.len();
    let after = changed(&app, &view, change).await?;
    Ok(Json(Changed {
        provider_id: id,
        config: shown_config(&after.stored.config),
        updated_count,
    }))
}

/// Sets one key.
#[utoipa::path(patch, path = "/config/{key}", tag = "providers",
    params(("id" = String, Path), ("key" = String, Path)),
    request_body = ConfigValueBody, responses((status = 200, body = UpdatedKey)))]
async fn patch(
    State(app): State<App>,
    Path((id, key)): Path<(String, String)>,
    request: Request,
) -> Result<Json<UpdatedKey>, ApiError> {
    let mut body = extract::json_object(request).await?;
    let view = find(&app, &id).await?;
    let mut faults = Vec::new();
    let is_sensitive = body.get("is_sensitive").filter(|value| !value.is_null());
    if is_sensitive.is_some_and(|value| !value.is_boolean()) {
        faults.push("`is_sensitive` must be true or false".to_owned());
    }
    let is_sensitive = is_sensitive.and_then(Value::as_bool);
    let Some(value) = body.remove("value") else {
        faults.push("`value` is required".to_owned());
        return Err(ApiError::Validation(faults));
    };
    if !faults.is_empty() {
        return Err(ApiError::Validation(faults));
    }
    let mut put = body::filled(Map::from_iter([(key.clone(), value)]), &view.stored.config)?;
    for row in &mut put {
        row.is_sensitive = is_sensitive.unwrap_or(row.is_sensitive);
    }
    let change = ProviderChange {
        id: id.clone(),
        put,
        at: now_ms(),
        ..ProviderChange::default()
    };
    let updated_at = change.at;
    let after = changed(&app, &view, change).await?;
    let row = row(&after, &key).ok_or(ApiError::Internal)?;
    Ok(Json(UpdatedKey {
        provider_id: id,
        key,
        value: masked(row),
        is_sensitive: row.is_sensitive,
        updated_at,
    }))
}

/// Removes one key; refused when an enabled provider needs it.
#[utoipa::path(delete, path = "/config/{key}", tag = "providers",
    params(("id" = String, Path), ("key" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(
    State(app): State<App>,
    Path((id, key)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let view = find(&app, &id).await?;
    if row(&view, &key).is_none() {
        return Err(ApiError::Missing {
            code: "config_key_not_found",
            message: format!("the configuration of provider `{id}` has no key `{key}`"),
        });
    }
    let change = ProviderChange {
        id,
        remove: vec![key],
        at: now_ms(),
        ..ProviderChange::default()
    };
    changed(&app, &view, change).await?;
    Ok(Done::new("Configuration key deleted"))
}

async fn changed(
    app: &App,
    view: &ProviderView,
    change: ProviderChange,
) -> Result<ProviderView, ApiError> {
    body::check_change(&view.stored, &change, &app.own)?;
    apply(app, view, change, "updated").await
}

fn row<'a>(view: &'a ProviderView, key: &str) -> Option<&'a ConfigRow> {
    view.stored.config.iter().find(|row| row.key == key)
}
