//! `/api/providers`: the registry as the user edits it.

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::actors::database::StoreError;
use crate::actors::router::{ProviderView, conflict};
use crate::clock::{new_id, now_ms};
use crate::db::audit::AuditRow;
use crate::db::error::DbError;
use crate::db::ops::WriteOp;
use crate::db::providers::{ConfigRow, ProviderRow, is_sensitive};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::providers::{self, Definition};
use crate::settings;

const MASK: &str = "***MASKED***";
/// Ids that routes of this API, or built-in providers, have taken.
const RESERVED: &[&str] = &["echo", "types", "bulk"];
const MOST_LISTED: usize = 1_000;
const LISTED: usize = 50;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/providers", get(list).post(create))
        .route("/api/providers/{id}", get(show).delete(remove))
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(rename = "type")]
    kind: Option<String>,
    enabled: Option<String>,
    q: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
}

#[derive(Deserialize)]
struct RemoveQuery {
    force: Option<String>,
}

/// A provider whose fields are checked.
struct NewProvider {
    provider: ProviderRow,
    config: Vec<ConfigRow>,
}

async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let limit = bounded(
        query.limit.as_deref(),
        "limit",
        "invalid_limit",
        1,
        MOST_LISTED,
    )?
    .unwrap_or(LISTED);
    let offset = bounded(
        query.offset.as_deref(),
        "offset",
        "invalid_offset",
        0,
        usize::MAX,
    )?
    .unwrap_or_default();
    let wanted = |view: &&ProviderView| {
        let provider = &view.stored.provider;
        let named = |q: &String| {
            let q = q.to_lowercase();
            provider.id.to_lowercase().contains(&q) || provider.name.to_lowercase().contains(&q)
        };
        query
            .kind
            .as_ref()
            .is_none_or(|kind| *kind == provider.kind)
            && query
                .enabled
                .as_ref()
                .is_none_or(|enabled| (enabled == "true") == provider.enabled)
            && query.q.as_ref().is_none_or(named)
    };
    let views = app.handles.router.providers().await?;
    let matching: Vec<_> = views.iter().filter(wanted).collect();
    let page: Vec<_> = matching
        .iter()
        .skip(offset)
        .take(limit)
        .map(|view| summary(view))
        .collect();
    Ok(Json(json!({
        "total": matching.len(),
        "count": page.len(),
        "limit": limit,
        "offset": offset,
        "has_more": offset + page.len() < matching.len(),
        "providers": page,
    })))
}

async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let views = app.handles.router.providers().await?;
    match views.iter().find(|view| view.stored.provider.id == id) {
        Some(view) => Ok(Json(detail(view))),
        None => Err(ApiError::ProviderNotFound { id }),
    }
}

/// Stores the provider; the next completion can use it.
async fn create(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let new = NewProvider::checked(&extract::json_object(request).await?)?;
    let (id, name) = (new.provider.id.clone(), new.provider.name.clone());
    if RESERVED.contains(&id.as_str()) {
        return Err(ApiError::ProviderExists { id });
    }
    let own = app.clone();
    // Runs to its end even when the client leaves: the row and the registry must not part.
    let registered = app.tasks.spawn("register provider", async move {
        let after = shown(&new.provider);
        own.handles
            .router
            .register(new.provider, new.config)
            .await?;
        audit(
            &own,
            "create",
            after["id"].as_str().unwrap_or_default(),
            None,
            Some(after.clone()),
        )
        .await;
        Ok::<_, StoreError>(())
    });
    registered
        .await
        .map_err(|_| ApiError::Internal)?
        .map_err(|error| match conflict(&error) {
            Some("id") => ApiError::ProviderExists { id: id.clone() },
            Some("name") => ApiError::ProviderNameExists { name },
            _ => error.into(),
        })?;
    let detail = show(State(app.clone()), Path(id.clone())).await?;
    app.handles.events.publish(
        "providers:updated",
        "created",
        format!("provider {id} created"),
        json!({"providerId": id}),
    );
    let mut response = (StatusCode::CREATED, detail).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/providers/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Forgets the provider; the next completion cannot use it, those under way finish.
async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<Json<Value>, ApiError> {
    let active = app.store.active_provider().as_deref() == Some(id.as_str());
    if active && query.force.as_deref() != Some("true") {
        return Err(ApiError::ProviderActive { id });
    }
    let views = app.handles.router.providers().await?;
    let before = views
        .iter()
        .find(|view| view.stored.provider.id == id)
        .map(|view| shown(&view.stored.provider));
    let (own, removed) = (app.clone(), id.clone());
    let removing = app.tasks.spawn("remove provider", async move {
        own.handles.router.remove(&removed).await?;
        audit(&own, "delete", &removed, before, None).await;
        if active {
            // The next by priority takes its place; none leaves the choice to the model's name.
            let views = own.handles.router.providers().await?;
            let next = views
                .iter()
                .find(|view| view.stored.provider.enabled && view.loaded.is_ok());
            let next = next.map(|view| Value::from(view.stored.provider.id.clone()));
            own.store.put(settings::ACTIVE_PROVIDER, next).await?;
        }
        Ok::<_, StoreError>(())
    });
    removing
        .await
        .map_err(|_| ApiError::Internal)?
        .map_err(|error| match error {
            StoreError::Db(DbError::Missing { .. }) => {
                ApiError::ProviderNotFound { id: id.clone() }
            }
            error => error.into(),
        })?;
    app.handles.events.publish(
        "providers:updated",
        "deleted",
        format!("provider {id} deleted"),
        json!({"providerId": id}),
    );
    Ok(Json(
        json!({"success": true, "message": "Provider deleted"}),
    ))
}

/// Keeps who changed what. The change is made already: a trail that cannot be written is logged, not undone.
async fn audit(app: &App, action: &str, id: &str, before: Option<Value>, after: Option<Value>) {
    let row = AuditRow {
        id: new_id(),
        principal: "local".into(),
        action: action.into(),
        entity: "provider".into(),
        entity_id: Some(id.to_owned()),
        before,
        after,
        request_id: None,
        timestamp: now_ms(),
    };
    if let Err(error) = app.handles.database.write(WriteOp::RecordAudit(row)).await {
        tracing::warn!(%error, action, provider.id = id, "a change is not in the audit log");
    }
}

impl NewProvider {
    /// Checks every field, and names every fault at once.
    fn checked(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let mut faults = Vec::new();
        let id = text(body, "id", &mut faults);
        if let Some(id) = &id
            && !(id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && id.len() <= 100)
        {
            faults.push("`id` must be lower-case letters, digits and `-`, at most 100".into());
        }
        let name = text(body, "name", &mut faults);
        let kind = text(body, "type", &mut faults);
        let enabled = typed(
            body,
            "enabled",
            "true or false",
            Value::as_bool,
            &mut faults,
        )
        .unwrap_or(true);
        let priority =
            typed(body, "priority", "an integer", Value::as_i64, &mut faults).unwrap_or(0);
        let description = typed(
            body,
            "description",
            "a string",
            |value| value.as_str().map(str::to_owned),
            &mut faults,
        );
        let config = typed(
            body,
            "config",
            "an object",
            |value| value.as_object().cloned(),
            &mut faults,
        )
        .unwrap_or_default();
        let (Some(id), Some(name), Some(kind), true) = (id, name, kind, faults.is_empty()) else {
            return Err(ApiError::Validation(faults));
        };
        providers::check(&Definition {
            id: id.clone(),
            kind: kind.clone(),
            config: config.clone(),
        })
        .map_err(|invalid| {
            ApiError::InvalidConfig(
                invalid
                    .errors
                    .into_iter()
                    .map(|fault| (fault.key, fault.message))
                    .collect(),
            )
        })?;
        let now = now_ms();
        let config = config
            .into_iter()
            .map(|(key, value)| ConfigRow {
                is_sensitive: is_sensitive(&key),
                key,
                value,
            })
            .collect();
        let provider = ProviderRow {
            id,
            name,
            kind,
            enabled,
            priority,
            description,
            origin: "user".into(),
            auto_enable: false,
            created_at: now,
            updated_at: now,
        };
        Ok(Self { provider, config })
    }
}

/// A required, non-empty string.
fn text(body: &Map<String, Value>, key: &str, faults: &mut Vec<String>) -> Option<String> {
    match body.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.clone()),
        None | Some(Value::Null) => {
            faults.push(format!("`{key}` is required"));
            None
        }
        Some(_) => {
            faults.push(format!("`{key}` must be a non-empty string"));
            None
        }
    }
}

/// An optional field of one type; `null` counts as absent.
fn typed<T>(
    body: &Map<String, Value>,
    key: &str,
    wanted: &str,
    read: impl Fn(&Value) -> Option<T>,
    faults: &mut Vec<String>,
) -> Option<T> {
    let value = body.get(key).filter(|value| !value.is_null())?;
    let read = read(value);
    if read.is_none() {
        faults.push(format!("`{key}` must be {wanted}"));
    }
    read
}

fn bounded(
    text: Option<&str>,
    param: &'static str,
    code: &'static str,
    least: usize,
    most: usize,
) -> Result<Option<usize>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ if most == usize::MAX => Err(ApiError::Query {
            param,
            code,
            message: format!("`{param}` must be an integer from {least}"),
        }),
        _ => Err(ApiError::Query {
            param,
            code,
            message: format!("`{param}` must be an integer from {least} to {most}"),
        }),
    }
}

/// The contract's Provider.
pub(crate) fn shown(provider: &ProviderRow) -> Value {
    json!({
        "id": provider.id,
        "name": provider.name,
        "type": provider.kind,
        "enabled": provider.enabled,
        "priority": provider.priority,
        "description": provider.description,
        "created_at": provider.created_at,
        "updated_at": provider.updated_at,
        "origin": provider.origin,
        "auto_enable": provider.auto_enable,
    })
}

fn summary(view: &ProviderView) -> Value {
    let mut body = shown(&view.stored.provider);
    body["runtime_status"] = json!(if view.stored.provider.enabled && view.loaded.is_ok() {
        "loaded"
    } else {
        "not_loaded"
    });
    body["health"] = json!({
        "state": view.listing.state(),
        "latency_ms": view.listing.latency_ms,
        "checked_at": view.listing.checked_at,
        "error": view.loaded.as_ref().err().or(view.listing.error.as_ref()),
    });
    body
}

fn detail(view: &ProviderView) -> Value {
    let mut body = summary(view);
    let config = view
        .stored
        .config
        .iter()
        .map(|row| (row.key.clone(), masked(row)))
        .collect::<Map<_, _>>();
    body["config"] = Value::Object(config);
    body["models"] = json!(view.stored.models);
    body
}

/// A configuration value as it may be shown.
pub(crate) fn masked(row: &ConfigRow) -> Value {
    match &row.value {
        _ if row.is_sensitive => MASK.into(),
        // Headers are named by the user: some of them carry keys.
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    (
                        key.clone(),
                        if is_sensitive(key) {
                            MASK.into()
                        } else {
                            value.clone()
                        },
                    )
                })
                .collect(),
        ),
        Value::String(text) if row.key == "baseURL" => masked_query(text).into(),
        value => value.clone(),
    }
}

/// A URL without the secrets of its query; the rest of it, such as Azure's `api-version`, stays.
fn masked_query(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_sensitive(name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_body_is_named_at_once() {
        let body = json!({"id": "Bad Id", "name": "", "priority": "7"});
        let Err(ApiError::Validation(faults)) =
            NewProvider::checked(body.as_object().expect("an object"))
        else {
            panic!("it is refused");
        };
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
