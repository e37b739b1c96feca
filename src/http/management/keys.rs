//! `/api/keys`: the keys of clients. A key is shown when it is made, and never again.

use axum::extract::{Path, Request, State};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, LOCATION};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::{new_id, now_ms};
use crate::db::keys::KeyRow;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::{Done, KeyBody, NewKeyBody};
use crate::http::management::changes::{self, Change};
use crate::http::management::conventions::{Unkept, Version};
use crate::http::management::fields::Fields;
use crate::http::params::{PageInfo, PageParams, Params};
use crate::routing::budgets::{Budgets, Span};
use crate::routing::facts::{DEAREST, dollars, microusd};
use crate::secrets::tokens::{self, Hashed};

const LISTED: i64 = 50;
const LONGEST: usize = 200;
const MOST_MODELS: usize = 1_000;
const FASTEST: i64 = 1_000_000;
/// How much of a key is shown afterwards: enough to tell it, not to guess it.
const PREFIX: usize = 10;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
}

/// A key as it may be shown.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct Shown {
    id: String,
    name: String,
    /// How it begins.
    prefix: String,
    /// Null: every model. `groq/*` means all that begin so.
    allowed_models: Option<Vec<String>>,
    /// Unix time, ms.
    expires_at: Option<i64>,
    disabled: bool,
    rate_per_minute: Option<i64>,
    tokens_per_day: Option<i64>,
    tokens_per_month: Option<i64>,
    /// US dollars.
    cost_per_day: Option<f64>,
    /// US dollars.
    cost_per_month: Option<f64>,
    /// Unix time, ms.
    created_at: i64,
    /// Unix time, ms.
    updated_at: i64,
    /// Unix time, ms, to the minute.
    last_used_at: Option<i64>,
}

/// A key, and what was used with it.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyWithUsage)]
struct Viewed {
    #[serde(flatten)]
    shown: Shown,
    usage: Usage,
}

/// What was used with a key.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyUsage)]
struct Usage {
    today: UsageOf,
    this_month: UsageOf,
}

/// What was used in a day or a month (UTC).
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyUsageOf)]
struct UsageOf {
    requests: i64,
    tokens: i64,
    /// US dollars, as far as prices are known.
    cost: f64,
    /// Unix time, ms.
    resets_at: i64,
}

impl From<Span> for UsageOf {
    fn from(span: Span) -> Self {
        Self {
            requests: span.spent.requests,
            tokens: span.spent.tokens,
            cost: dollars(span.spent.cost_microusd),
            resets_at: span.until,
        }
    }
}

/// Keys of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyList)]
struct KeyList {
    #[serde(flatten)]
    page: PageInfo,
    keys: Vec<Viewed>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = NewApiKey)]
struct Made {
    #[serde(flatten)]
    shown: Shown,
    /// The key itself: it is not shown again.
    key: String,
}

impl From<&KeyRow> for Shown {
    fn from(row: &KeyRow) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            prefix: row.prefix.clone(),
            allowed_models: row.allowed_models.clone(),
            expires_at: row.expires_at,
            disabled: row.disabled,
            rate_per_minute: row.rate_per_minute,
            tokens_per_day: row.budgets.tokens_per_day,
            tokens_per_month: row.budgets.tokens_per_month,
            cost_per_day: row.budgets.cost_per_day_microusd.map(dollars),
            cost_per_month: row.budgets.cost_per_month_microusd.map(dollars),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_used_at: row.last_used_at,
        }
    }
}

/// All keys, the oldest first.
#[utoipa::path(get, path = "/api/keys", tag = "keys", params(PageParams), responses((status = 200, body = KeyList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<KeyList>, ApiError> {
    let page = params.page(LISTED)?;
    let rows = app.keys.all().await?;
    let place = |row: &&KeyRow| (row.created_at, row.id.clone());
    let (keys, page) = page.of(rows.iter().collect(), place)?;
    let keys = keys.into_iter().map(|row| viewed(&app, row)).collect();
    Ok(Json(KeyList { page, keys }))
}

/// Makes a key, and shows it this one time.
#[utoipa::path(post, path = "/api/keys", tag = "keys", request_body = NewKeyBody,
    responses((status = 201, body = Made, headers(("location" = String, description = "Where it is")))))]
async fn create(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let body = extract::json_object(request).await?;
    let key = tokens::generate("qw-").map_err(|_| ApiError::Internal)?;
    let hashed = Hashed::of(&key).map_err(|_| ApiError::Internal)?;
    let now = now_ms();
    let blank = KeyRow {
        id: new_id(),
        name: String::new(),
        prefix: key.chars().take(PREFIX).collect(),
        hash: hashed.text(),
        allowed_models: None,
        expires_at: None,
        disabled: false,
        rate_per_minute: None,
        budgets: Budgets::default(),
        created_at: now,
        updated_at: now,
        last_used_at: None,
    };
    let row = filled(&body, blank)?;
    app.keys.put(row.clone()).await?;
    told(&app, "created", None, Some(&row)).await;
    let location = AppendHeaders([(LOCATION, format!("/api/keys/{}", row.id))]);
    let made = Made {
        shown: Shown::from(&row),
        key: key.as_str().to_owned(),
    };
    Ok((
        StatusCode::CREATED,
        Extension(Unkept),
        location,
        AppendHeaders([(CACHE_CONTROL, "no-store")]),
        Json(made),
    )
        .into_response())
}

/// One key.
#[utoipa::path(get, path = "/api/keys/{id}", tag = "keys",
    params(("id" = String, Path)), responses((status = 200, body = Viewed)))]
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<(Extension<Version>, Json<Viewed>), ApiError> {
    let mut viewed = viewed(&app, &find(&app, &id).await?);
    let used = viewed.shown.last_used_at.take();
    let version = Version::of(&viewed.shown);
    viewed.shown.last_used_at = used;
    Ok((Extension(version), Json(viewed)))
}

/// Changes what the body names; the next request finds it changed.
#[utoipa::path(put, path = "/api/keys/{id}", tag = "keys",
    params(("id" = String, Path)), request_body = KeyBody, responses((status = 200, body = Viewed)))]
async fn change(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Viewed>, ApiError> {
    let body = extract::json_object(request).await?;
    let before = find(&app, &id).await?;
    let mut after = filled(&body, before.clone())?;
    if after == before {
        return Ok(Json(viewed(&app, &before)));
    }
    after.updated_at = now_ms();
    app.keys.put(after.clone()).await?;
    told(&app, "updated", Some(&before), Some(&after)).await;
    Ok(Json(viewed(&app, &after)))
}

/// Forgets a key, from the next request on.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "keys",
    params(("id" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    let before = find(&app, &id).await?;
    if !app.keys.remove(&id).await? {
        return Err(missing(&id));
    }
    told(&app, "deleted", Some(&before), None).await;
    Ok(Done::new("API key deleted"))
}

/// `row` with what the body says of it.
fn filled(body: &Map<String, Value>, row: KeyRow) -> Result<KeyRow, ApiError> {
    let mut fields = Fields::of(body);
    let name = if row.name.is_empty() {
        fields.required("name", LONGEST)
    } else {
        fields.optional("name", LONGEST)
    };
    let disabled = fields.boolean("disabled").unwrap_or(row.disabled);
    let allowed = fields.texts("allowed_models");
    let is_too_long = |list: &Vec<String>| {
        list.len() > MOST_MODELS || list.iter().any(|model| model.len() > LONGEST)
    };
    if allowed.as_ref().is_some_and(is_too_long) {
        fields.fault(format!(
            "`allowed_models` must be at most {MOST_MODELS} names of at most {LONGEST} bytes"
        ));
    }
    let is_null = |key: &str| body.get(key).is_some_and(Value::is_null);
    let allowed_models = if is_null("allowed_models") {
        None
    } else {
        allowed.or(row.allowed_models)
    };
    let mut number = |key: &str, least: i64, most: i64, old: Option<i64>| {
        if is_null(key) {
            return None;
        }
        let new = fields.integer(key);
        if new.is_some_and(|new| !(least..=most).contains(&new)) {
            fields.fault(format!("`{key}` must be from {least} to {most}"));
        }
        new.or(old)
    };
    let expires_at = number("expires_at", 0, i64::MAX, row.expires_at);
    let rate_per_minute = number("rate_per_minute", 1, FASTEST, row.rate_per_minute);
    let old = row.budgets;
    let tokens_per_day = number("tokens_per_day", 0, i64::MAX, old.tokens_per_day);
    let tokens_per_month = number("tokens_per_month", 0, i64::MAX, old.tokens_per_month);
    let mut cost = |key: &str, old: Option<i64>| match body.get(key) {
        None => old,
        Some(Value::Null) => None,
        Some(value) => {
            let cost = microusd(value).and_then(|cost| i64::try_from(cost).ok());
            if cost.is_none() {
                fields.fault(format!("`{key}` must be dollars, from 0 to {DEAREST}"));
            }
            cost
        }
    };
    let budgets = Budgets {
        tokens_per_day,
        tokens_per_month,
        cost_per_day_microusd: cost("cost_per_day", old.cost_per_day_microusd),
        cost_per_month_microusd: cost("cost_per_month", old.cost_per_month_microusd),
    };
    fields.end()?;
    Ok(KeyRow {
        name: name.unwrap_or(row.name),
        allowed_models,
        expires_at,
        disabled,
        rate_per_minute,
        budgets,
        ..row
    })
}

fn viewed(app: &App, row: &KeyRow) -> Viewed {
    let used = app.keys.used(&row.id);
    Viewed {
        shown: Shown::from(row),
        usage: Usage {
            today: used.day.into(),
            this_month: used.month.into(),
        },
    }
}

async fn find(app: &App, id: &str) -> Result<KeyRow, ApiError> {
    let rows = app.keys.all().await?;
    let found = rows.into_iter().find(|row| row.id == id);
    found.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> ApiError {
    ApiError::Missing {
        code: "key_not_found",
        message: format!("there is no API key `{id}`; GET /api/keys lists them"),
    }
}

async fn told(app: &App, action: &'static str, before: Option<&KeyRow>, after: Option<&KeyRow>) {
    let shown = |row: Option<&KeyRow>| row.map(|row| json!(Shown::from(row)));
    let id = before.or(after).map_or("", |row| row.id.as_str());
    let change = Change {
        entity: "key",
        id,
        action,
        event: "keys:updated",
        detail: json!({"keyId": id}),
        before: shown(before),
        after: shown(after),
    };
    changes::record(app, change).await;
}
