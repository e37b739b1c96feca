//! `/api/requests`: the exchanges of the history (management contract, 1.8).

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::db::history::list::{self, ListedRequest, RequestFilter, RowName};
use crate::db::history::words::Query;
use crate::db::history::{self, StoredExchange};
use crate::db::ops::WriteOp;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::bodies::Done;
use crate::http::management::changes::{self, Change};
use crate::http::params::{PageInfo, PageParams, Params};

const LISTED: i64 = 50;
/// Characters of a search.
const LONGEST_SEARCH: usize = 256;
/// The fields of a list that carry bodies.
const BODIES: [&str; 2] = ["openai_request", "qwen_request"];

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, remove))
}

/// Exchanges of a list.
#[derive(Serialize, ToSchema)]
struct RequestList {
    #[serde(flatten)]
    page: PageInfo,
    #[schema(value_type = Vec<ListedRequest>)]
    requests: Value,
}

/// Exchanges, the newest first. Filters combine. With `q` each has a `snippet`: where it says what is looked for.
#[utoipa::path(get, path = "/api/requests", tag = "history",
    params(PageParams,
        ("session_id" = Option<String>, Query),
        ("model" = Option<String>, Query),
        ("provider" = Option<String>, Query),
        ("status" = Option<String>, Query,
            description = "`in_progress`, `completed`, `failed`, `client_closed` or `interrupted`"),
        ("stream" = Option<bool>, Query),
        ("has_error" = Option<bool>, Query),
        ("key" = Option<String>, Query, description = "The id of a client's key"),
        ("tag" = Option<String>, Query, description = "`name`, or `name:value`, of `x-qwarden-tags`"),
        ("start_date" = Option<i64>, Query, description = "Unix time, ms; included"),
        ("end_date" = Option<i64>, Query, description = "Unix time, ms; included"),
        ("q" = Option<String>, Query,
            description = "Words, `\"phrases\"` and `beginnings*` that are all in the texts of the request and its answer"),
        ("fields" = Option<String>, Query, description = "Only these fields of each row, by comma; without the bodies a list is light")),
    responses((status = 200, body = RequestList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<RequestList>, ApiError> {
    let page = params.page(LISTED)?;
    let filter = filter(&params)?;
    let is_search = filter.said.is_some();
    let fields = params.text("fields");
    let fields: Option<Vec<&str>> = fields
        .as_deref()
        .map(|fields| fields.split(',').map(str::trim).collect());
    let with_bodies = fields
        .as_ref()
        .is_none_or(|fields| fields.iter().any(|field| BODIES.contains(field)));
    let slice = page.slice()?;
    let read = move |conn: &_| list::requests(conn, &filter, slice, with_bodies);
    let (mut rows, total) = app.handles.database.read(read).await?;
    let page = page.cut(&mut rows, total, |row| (row.timestamp, row.id));
    let mut requests = serde_json::to_value(rows).map_err(|_| ApiError::Internal)?;
    if let (Some(fields), Value::Array(rows)) = (&fields, &mut requests) {
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|key, _| {
                key == "id" || (is_search && key == "snippet") || fields.contains(&key.as_str())
            });
        }
    }
    Ok(Json(RequestList { page, requests }))
}

/// Reads the filter of a query.
pub(crate) fn filter(params: &Params) -> Result<RequestFilter, ApiError> {
    let (from, until) = params.dates()?;
    let states = [
        "in_progress",
        "completed",
        "failed",
        "client_closed",
        "interrupted",
    ];
    Ok(RequestFilter {
        session_id: params.text("session_id"),
        model: params.text("model"),
        provider: params.text("provider"),
        status: params
            .word("status", &states.map(|state| (state, state)))?
            .map(str::to_owned),
        stream: params.flag("stream")?,
        has_error: params.flag("has_error")?,
        key: params.text("key"),
        tag: params.text("tag").map(|tag| match tag.split_once(':') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (tag, None),
        }),
        from,
        until,
        said: said(params)?,
    })
}

/// What is looked for: words, `"phrases"` and `beginnings*`.
fn said(params: &Params) -> Result<Option<Query>, ApiError> {
    let Some(text) = params.text("q") else {
        return Ok(None);
    };
    let refused = |message: String| ApiError::Query {
        param: "q",
        code: "invalid_query",
        message,
    };
    if text.chars().count() > LONGEST_SEARCH {
        return Err(refused(format!(
            "`q` must not be longer than {LONGEST_SEARCH} characters"
        )));
    }
    let query = Query::read(&text);
    query
        .map(Some)
        .ok_or_else(|| refused("`q` must have a letter or a digit in it".into()))
}

/// One exchange with its answer and every attempt. `id` is its number or its UUID, with or without the `req_` of
/// `x-request-id`.
#[utoipa::path(get, path = "/api/requests/{id}", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = StoredExchange)))]
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<StoredExchange>, ApiError> {
    find(&app, &id).await.map(Json)
}

/// Removes an exchange with its answer; the usage it was counted in stays.
#[utoipa::path(delete, path = "/api/requests/{id}", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    let found = find(&app, &id).await?;
    let op = WriteOp::DeleteRequest {
        request_id: found.request_id.clone(),
    };
    app.handles.database.write(op).await?;
    let change = Change {
        entity: "request",
        id: &found.request_id,
        action: "deleted",
        event: "requests:updated",
        detail: json!({"requestId": found.request_id}),
        // What it said is gone: nobody deletes it to have it kept here.
        before: Some(json!({
            "id": found.id, "session_id": found.session_id, "timestamp": found.timestamp, "model": found.model,
            "provider": found.provider, "status": found.status,
        })),
        after: None,
    };
    changes::record(&app, change).await;
    Ok(Done::new("Request deleted"))
}

pub(crate) async fn find(app: &App, id: &str) -> Result<StoredExchange, ApiError> {
    let name = RowName::read(id.strip_prefix("req_").unwrap_or(id));
    let read = move |conn: &_| history::exchange(conn, &name);
    let found = app.handles.database.read(read).await?;
    found.ok_or_else(|| ApiError::RequestNotFound { id: id.to_owned() })
}
