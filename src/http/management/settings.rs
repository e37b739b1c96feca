//! `/api/settings`: typed values, checked before they are stored, in force when the answer is there.

use axum::Json;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::binding::is_place;
use crate::clock::now_ms;
use crate::db::settings::SettingRow;
use crate::http::App;
use crate::http::access::Principal;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{SettingBody, SettingsBody};
use crate::http::management::changes::{self, Asked, Kept};
use crate::http::params::Params;
use crate::providers::address::text_refusal;
use crate::secrets::MASK;
use crate::settings::{self, Kind, Setting, Settings};

/// Keys of shells and dashboards, which are kept and not looked into.
const FREE: &str = "x.";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(bulk))
        .routes(routes!(show, put, reset))
}

/// Values by key.
#[derive(Serialize, ToSchema)]
struct SettingList {
    settings: Map<String, Value>,
    /// The one that was asked for, or `all`.
    category: String,
    /// With `details=true`: what each may be, in the order of the documentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<Shown>>,
}

/// One setting.
#[derive(Serialize, ToSchema)]
#[schema(as = SettingDetail)]
#[serde(rename_all = "camelCase")]
struct Shown {
    key: String,
    /// Null where there is none. A secret is masked.
    value: Value,
    category: String,
    requires_restart: bool,
    is_default: bool,
    /// Unix time, ms.
    #[serde(rename = "updated_at")]
    updated_at: Option<i64>,
    #[serde(flatten)]
    known: Option<Known>,
}

/// What is known of a setting that qwarden itself reads; of those that shells keep (`x.`) nothing is.
#[derive(Serialize, ToSchema)]
#[schema(as = KnownSetting)]
struct Known {
    #[schema(required = false)]
    default: Value,
    /// Its JSON type.
    #[serde(rename = "type")]
    #[schema(required = false)]
    kind: &'static str,
    /// What narrows the type, in JSON Schema's words.
    #[schema(required = false)]
    constraints: Value,
    #[schema(required = false)]
    description: &'static str,
    /// The environment variable that is read when nothing is stored.
    #[schema(required = false)]
    env: Option<&'static str>,
}

/// What a setting is now.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedSetting)]
struct Changed {
    key: String,
    value: Value,
    #[serde(rename = "requiresRestart")]
    requires_restart: bool,
    /// Unix time, ms; of a value that was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<i64>,
    message: &'static str,
}

/// What became of many.
#[derive(Serialize, ToSchema)]
#[schema(as = ChangedSettings)]
struct Many {
    message: String,
    updated: Vec<String>,
    errors: Vec<Refused>,
    #[serde(rename = "requiresRestart")]
    requires_restart: bool,
}

/// A value that was not taken, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedSetting)]
struct Refused {
    key: String,
    error: String,
}

/// Every value in force, by key.
#[utoipa::path(get, path = "/api/settings", tag = "settings",
    params(
        ("category" = Option<String>, Query, description = "The part of the keys before the first dot"),
        ("details" = Option<bool>, Query, description = "With what each may be")),
    responses((status = 200, body = SettingList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<SettingList>, ApiError> {
    let category_wanted = params.text("category");
    let is_detailed = params.flag("details")? == Some(true);
    let stored = app.store.stored().await?;
    let current = app.settings.borrow().clone();
    let known = settings::SETTINGS
        .iter()
        .map(|setting| (setting.key.to_owned(), current.shown(setting.key)));
    let free = stored
        .iter()
        .filter(|row| row.key.starts_with(FREE))
        .map(|row| (row.key.clone(), parsed(&row.value)));
    let wanted = |key: &str| {
        category_wanted
            .as_deref()
            .is_none_or(|wanted| wanted == category(key))
    };
    let values: Map<String, Value> = known.chain(free).filter(|(key, _)| wanted(key)).collect();
    let details = is_detailed.then(|| {
        let wanted = settings::SETTINGS.iter().filter(|one| wanted(one.key));
        wanted.map(|one| detail(&current, one, &stored)).collect()
    });
    Ok(Json(SettingList {
        settings: values,
        details,
        category: category_wanted.unwrap_or_else(|| "all".into()),
    }))
}

/// One setting, with what it may be.
#[utoipa::path(get, path = "/api/settings/{key}", tag = "settings",
    params(("key" = String, Path)),
    responses((status = 200, body = Shown)))]
async fn show(State(app): State<App>, Path(key): Path<String>) -> Result<Json<Shown>, ApiError> {
    let stored = app.store.stored().await?;
    let row = stored.iter().find(|row| row.key == key);
    let Some(setting) = settings::find(&key) else {
        let row = row
            .filter(|_| key.starts_with(FREE))
            .ok_or_else(|| unknown(&key))?;
        return Ok(Json(Shown {
            value: parsed(&row.value),
            category: category(&key).to_owned(),
            requires_restart: false,
            is_default: false,
            updated_at: Some(row.updated_at),
            known: None,
            key,
        }));
    };
    let current = app.settings.borrow().clone();
    Ok(Json(detail(&current, setting, &stored)))
}

/// One of our own, with what it may be.
fn detail(current: &Settings, setting: &'static Setting, stored: &[SettingRow]) -> Shown {
    let row = stored.iter().find(|row| row.key == setting.key);
    let value = current.shown(setting.key);
    let default = setting.default_value().unwrap_or(Value::Null);
    Shown {
        key: setting.key.to_owned(),
        category: category(setting.key).to_owned(),
        requires_restart: setting.needs_restart(),
        is_default: value == default,
        value,
        updated_at: row.map(|row| row.updated_at),
        known: Some(Known {
            default,
            kind: setting.kind.name(),
            constraints: setting.kind.constraints(),
            description: setting.help,
            env: setting.env,
        }),
    }
}

/// Stores one value.
#[utoipa::path(put, path = "/api/settings/{key}", tag = "settings",
    params(("key" = String, Path)),
    request_body = SettingBody,
    responses((status = 200, body = Changed)))]
async fn put(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Changed>, ApiError> {
    let principal = Principal::in_request(request.extensions());
    let body = extract::json_object(request).await?;
    let value = body
        .get("value")
        .filter(|value| !value.is_null())
        .ok_or_else(|| ApiError::Validation(vec!["`value` is required".into()]))?
        .clone();
    let needs_restart = checked(&app, &key, &value).await?;
    change(&app, principal, vec![(key.clone(), Some(value.clone()))]).await?;
    let is_secret = settings::find(&key).is_some_and(Setting::is_secret);
    let value = if is_secret { MASK.into() } else { value };
    let message = if needs_restart {
        "Setting updated. It takes effect at the next start."
    } else {
        "Setting updated."
    };
    Ok(Json(Changed {
        key,
        value,
        requires_restart: needs_restart,
        updated_at: Some(now_ms()),
        message,
    }))
}

/// Stores many: those that are good, or with `?atomic=true` all or none.
#[utoipa::path(post, path = "/api/settings/bulk", tag = "settings",
    params(("atomic" = Option<bool>, Query, description = "All or none")),
    request_body = SettingsBody,
    responses((status = 200, body = Many)))]
async fn bulk(
    State(app): State<App>,
    params: Params,
    request: Request,
) -> Result<Json<Many>, ApiError> {
    let principal = Principal::in_request(request.extensions());
    let body = extract::json_object(request).await?;
    let Some(wanted) = body.get("settings").and_then(Value::as_object) else {
        return Err(ApiError::Validation(vec![
            "`settings` must be an object of keys and values".into(),
        ]));
    };
    let (mut good, mut errors, mut needs_restart) = (Vec::new(), Vec::new(), false);
    for (key, value) in wanted {
        match checked(&app, key, value).await {
            Ok(restart) => {
                needs_restart |= restart;
                good.push((key.clone(), Some(value.clone())));
            }
            Err(error) => errors.push((key.clone(), words(&error))),
        }
    }
    let is_atomic = params.flag("atomic")? == Some(true);
    if !errors.is_empty() && (is_atomic || good.is_empty()) {
        return Err(ApiError::Validation(
            errors.into_iter().map(|(_, message)| message).collect(),
        ));
    }
    let updated: Vec<String> = good.iter().map(|(key, _)| key.clone()).collect();
    change(&app, principal, good).await?;
    let errors = errors
        .into_iter()
        .map(|(key, error)| Refused { key, error })
        .collect();
    Ok(Json(Many {
        message: format!("{} settings updated", updated.len()),
        updated,
        errors,
        requires_restart: needs_restart,
    }))
}

/// Goes back to the default.
#[utoipa::path(delete, path = "/api/settings/{key}", tag = "settings",
    params(("key" = String, Path)),
    responses((status = 200, body = Changed)))]
async fn reset(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<Changed>, ApiError> {
    let setting = settings::find(&key);
    if setting.is_none() && !key.starts_with(FREE) {
        return Err(unknown(&key));
    }
    let principal = Principal::in_request(request.extensions());
    change(&app, principal, vec![(key.clone(), None)]).await?;
    Ok(Json(Changed {
        value: app.settings.borrow().shown(&key),
        requires_restart: setting.is_some_and(Setting::needs_restart),
        key,
        updated_at: None,
        message: "Setting reset to default value.",
    }))
}

/// Whether `value` may be stored under `key`; the answer says whether it needs a restart to count.
async fn checked(app: &App, key: &str, value: &Value) -> Result<bool, ApiError> {
    let Some(setting) = settings::find(key) else {
        return if key.starts_with(FREE) && key.len() <= 200 {
            Ok(false)
        } else {
            Err(unknown(key))
        };
    };
    if !is_mask(setting, value) {
        setting
            .taken(value)
            .map_err(|fault| ApiError::Validation(vec![fault]))?;
    }
    if matches!(setting.kind, Kind::Port) && value.as_u64() == Some(0) {
        return Err(ApiError::Unusable {
            param: setting.key,
            message: format!(
                "`{key}` must name a port, from 1 to 65535; only a flag may leave the choice to the system"
            ),
        });
    }
    let text = value.as_str().unwrap_or_default();
    if [settings::QWEN_BASE_URL, settings::NETWORK_PROXY].contains(&setting.key)
        && !(text.is_empty() && setting.key == settings::NETWORK_PROXY)
        && let Some(why) = text_refusal(text, &app.own)
    {
        return Err(ApiError::Unusable {
            param: setting.key,
            message: format!("`{key}` {why}"),
        });
    }
    if key == settings::ACTIVE_PROVIDER {
        let id = value.as_str().unwrap_or_default();
        let views = app.handles.router.providers().await?;
        let found = views.iter().find(|view| view.stored.provider.id == id);
        let is_echo = id == crate::providers::echo::KIND;
        if !is_echo && !found.is_some_and(|view| view.stored.provider.enabled) {
            return Err(ApiError::Unusable {
                param: "active_provider",
                message: format!(
                    "`active_provider` must name an enabled provider; GET /api/providers lists them, and `{id}` is none"
                ),
            });
        }
    }
    Ok(setting.needs_restart())
}

/// Stores values that were checked, or with `None` goes back to the default; in force when this returns.
pub(crate) async fn change(
    app: &App,
    principal: Principal,
    wanted: Vec<(String, Option<Value>)>,
) -> Result<(), ApiError> {
    let mut changes = Vec::with_capacity(wanted.len());
    for (key, value) in wanted {
        let kept = match (settings::find(&key), value) {
            (Some(setting), Some(value)) if is_mask(setting, &value) => continue,
            (Some(setting), Some(value)) => Some(
                setting
                    .taken(&value)
                    .map_err(|fault| ApiError::Validation(vec![fault]))?,
            ),
            (_, value) => value,
        };
        changes.push((key, kept));
    }
    if changes.is_empty() {
        return Ok(());
    }
    let before = app.settings.borrow().clone();
    let is_token = |(key, _): &(String, _)| key == settings::AUTH_ADMIN_TOKEN;
    let changes_token = changes.iter().any(is_token);
    if changes_token && before.admin_token().is_some() && principal != Principal::Admin {
        return Err(ApiError::Forbidden {
            code: "admin_token_required",
            message: "only who holds the admin token may change it".into(),
        });
    }
    let after = app.store.preview(&changes).await?;
    app.binding
        .check(&after)
        .await
        .map_err(|(param, message)| ApiError::Unusable { param, message })?;
    let own = app.clone();
    let keys: Vec<String> = changes.iter().map(|(key, _)| key.clone()).collect();
    let carrying_out =
        Asked::here().for_whom(async move { store(&own, &before, &after, changes).await });
    // Runs to its end even when the client leaves: what is stored and what is in force must not part.
    let storing = app.tasks.spawn("store settings", carrying_out);
    storing.await.map_err(|_| ApiError::Internal)??;
    if changes_token {
        app.gate.log_all_out();
    }
    app.handles.events.publish(
        "settings:updated",
        "updated",
        format!("settings changed: {}", keys.join(", ")),
        json!({"keys": keys}),
    );
    Ok(())
}

async fn store(
    app: &App,
    before: &Settings,
    after: &Settings,
    changes: Vec<(String, Option<Value>)>,
) -> Result<(), ApiError> {
    let moving = if changes.iter().any(|(key, _)| is_place(key)) {
        let moving = app.binding.prepare(after).await;
        Some(moving.map_err(ApiError::PortTaken)?)
    } else {
        None
    };
    let keys: Vec<_> = changes
        .iter()
        .map(|(key, value)| (key.clone(), value.is_some()))
        .collect();
    if let Err(error) = app.store.put_all(changes).await {
        if let Some(moving) = moving {
            app.binding.give_up(moving).await;
        }
        return Err(error.into());
    }
    if let Some(moving) = moving {
        app.binding.finish(moving).await;
    }
    let after = app.settings.borrow().clone();
    for (key, is_put) in keys {
        let action = if is_put { "updated" } else { "reset" };
        let kept = Kept {
            entity: "setting",
            id: &key,
            action,
            before: Some(before.shown(&key)),
            after: Some(after.shown(&key)),
        };
        changes::keep(app, kept).await;
    }
    Ok(())
}

/// A form that is sent back as it was shown changes nothing.
fn is_mask(setting: &Setting, value: &Value) -> bool {
    setting.is_secret() && value.as_str() == Some(MASK)
}

fn words(error: &ApiError) -> String {
    let told = error.told();
    told.errors.into_iter().next().unwrap_or(told.message)
}

fn unknown(key: &str) -> ApiError {
    ApiError::UnknownSetting {
        key: key.to_owned(),
    }
}

fn category(key: &str) -> &str {
    match key.split_once('.') {
        Some((category, _)) => category,
        // The two of the original that have no dot are about providers.
        None => "provider",
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
