//! `/api/responses`: the answers of the history (management contract, 1.9).

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::db::history::StoredResponse;
use crate::db::history::list::{self, Asked, ResponseFilter, RowName};
use crate::db::ops::WriteOp;
use crate::db::sessions;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::bodies::Done;
use crate::http::management::changes::{self, Change};
use crate::http::management::requests;
use crate::http::params::{PageInfo, PageParams, Params};

const LISTED: i64 = 50;
const LISTED_WITHIN: i64 = 100;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, remove))
        .routes(routes!(of_request))
        .routes(routes!(of_session))
}

/// Answers of a list.
#[derive(Serialize, ToSchema)]
struct ResponseList {
    #[serde(flatten)]
    page: PageInfo,
    /// Null when the list is not of one session.
    session_id: Option<String>,
    responses: Vec<StoredResponse>,
}

/// An answer with what was asked.
#[derive(Serialize, ToSchema)]
#[schema(as = ResponseDetail)]
struct Detail {
    #[serde(flatten)]
    response: StoredResponse,
    request: Option<Asked>,
}

/// Answers, the newest first. Filters combine.
#[utoipa::path(get, path = "/api/responses", tag = "history",
    params(PageParams,
        ("session_id" = Option<String>, Query),
        ("request_id" = Option<String>, Query, description = "The exchange's UUID"),
        ("finish_reason" = Option<String>, Query),
        ("provider" = Option<String>, Query),
        ("model" = Option<String>, Query),
        ("has_error" = Option<bool>, Query),
        ("start_date" = Option<i64>, Query, description = "Unix time, ms; included"),
        ("end_date" = Option<i64>, Query, description = "Unix time, ms; included")),
    responses((status = 200, body = ResponseList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<ResponseList>, ApiError> {
    let filter = filter(&params)?;
    listed(&app, &params, LISTED, filter, None).await
}

/// Reads the filter of a query.
pub(crate) fn filter(params: &Params) -> Result<ResponseFilter, ApiError> {
    let (from, until) = params.dates()?;
    let request_id = params.text("request_id");
    Ok(ResponseFilter {
        session_id: params.text("session_id"),
        request_id: request_id.map(|id| id.strip_prefix("req_").unwrap_or(&id).to_owned()),
        finish_reason: params.text("finish_reason"),
        provider: params.text("provider"),
        model: params.text("model"),
        has_error: params.flag("has_error")?,
        from,
        until,
    })
}

async fn listed(
    app: &App,
    params: &Params,
    default: i64,
    filter: ResponseFilter,
    session_id: Option<String>,
) -> Result<Json<ResponseList>, ApiError> {
    let page = params.page(default)?;
    let slice = page.slice()?;
    let read = move |conn: &_| list::responses(conn, &filter, slice);
    let (mut responses, total) = app.handles.database.read(read).await?;
    let page = page.cut(&mut responses, total, |row| (row.timestamp, row.id));
    Ok(Json(ResponseList {
        page,
        session_id,
        responses,
    }))
}

/// One answer, by its number or its UUID.
#[utoipa::path(get, path = "/api/responses/{id}", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = Detail)))]
async fn show(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Detail>, ApiError> {
    find(&app, &id).await.map(Json)
}

/// The answer of an exchange, by the exchange's number or UUID.
#[utoipa::path(get, path = "/api/responses/request/{request_id}", tag = "history",
    params(("request_id" = String, Path)), responses((status = 200, body = StoredResponse)))]
async fn of_request(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<StoredResponse>, ApiError> {
    let exchange = requests::find(&app, &id).await?;
    let response = exchange.response.ok_or_else(|| missing(&id))?;
    Ok(Json(response))
}

/// The answers of a conversation, the newest first.
#[utoipa::path(get, path = "/api/responses/session/{session_id}", tag = "history",
    params(("session_id" = String, Path), PageParams), responses((status = 200, body = ResponseList)))]
async fn of_session(
    State(app): State<App>,
    Path(id): Path<String>,
    params: Params,
) -> Result<Json<ResponseList>, ApiError> {
    let key = id.clone();
    let known = app
        .handles
        .database
        .read(move |conn| sessions::find(conn, &key))
        .await?;
    if known.is_none() {
        return Err(ApiError::SessionNotFound { id });
    }
    let filter = ResponseFilter {
        session_id: Some(id.clone()),
        ..ResponseFilter::default()
    };
    listed(&app, &params, LISTED_WITHIN, filter, Some(id)).await
}

/// Removes an answer; its exchange and the usage it was counted in stay.
#[utoipa::path(delete, path = "/api/responses/{id}", tag = "history",
    params(("id" = String, Path)), responses((status = 200, body = Done)))]
async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Done>, ApiError> {
    let found = find(&app, &id).await?;
    // What it said is gone: nobody deletes it to have it kept here.
    let before = json!({
        "id": found.response.id, "request_id": found.response.request_id, "timestamp": found.response.timestamp,
        "provider": found.response.provider, "http_status": found.response.http_status,
    });
    let response_id = found.response.response_id;
    let op = WriteOp::DeleteResponse {
        response_id: response_id.clone(),
    };
    app.handles.database.write(op).await?;
    let change = Change {
        entity: "response",
        id: &response_id,
        action: "deleted",
        event: "requests:updated",
        detail: json!({"responseId": response_id}),
        before: Some(before),
        after: None,
    };
    changes::record(&app, change).await;
    Ok(Done::new("Response deleted"))
}

async fn find(app: &App, id: &str) -> Result<Detail, ApiError> {
    let name = RowName::read(id);
    let read = move |conn: &_| list::response(conn, &name);
    let found = app.handles.database.read(read).await?;
    let (response, request) = found.ok_or_else(|| missing(id))?;
    Ok(Detail { response, request })
}

fn missing(id: &str) -> ApiError {
    ApiError::Missing {
        code: "response_not_found",
        message: format!("there is no response `{id}`"),
    }
}
