//! `/v1/responses`: `OpenAI`'s Responses, on every provider, with the history as their store.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};

use crate::actors::ports::Port;
use crate::actors::router::plan::RoutePlan;
use crate::clock::now_ms;
use crate::db::history::kept::{self, KeptExchange};
use crate::db::ops::WriteOp;
use crate::http::App;
use crate::http::clients::Allowed;
use crate::http::completions::asking::{Asking, Spoken};
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::changes::{self, Change};
use crate::http::params::Params;
use crate::protocol::dialect::{Native, Original};
use crate::protocol::openai::request::FieldError;
use crate::protocol::responses::answer::{Head, Status};
use crate::protocol::responses::back;
use crate::protocol::responses::kept::{Kept, Stored};
use crate::protocol::responses::request::{self, Asked, Before};
use crate::protocol::responses::telling::Teller;
use crate::protocol::responses::{request_of, response_id};
use crate::settings;

const PATH: &str = "/v1/responses";
/// Items of a page.
const LISTED: usize = 20;
const MOST_LISTED: usize = 100;

/// All routes, for the router's port.
pub(crate) fn routes() -> Router<App> {
    stored().route(PATH, post(respond))
}

/// What can be asked of a response that is stored: the same on both ports.
pub(crate) fn stored() -> Router<App> {
    Router::new()
        .route("/v1/responses/{id}", get(show).delete(remove))
        .route("/v1/responses/{id}/input_items", get(input_items))
}

/// Answers, streamed or whole.
async fn respond(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    respond_with(app.router_port.clone(), app, request, None).await
}

/// The same for either port: `plan` is given where the port decides the target.
pub(crate) async fn respond_with(
    port: Arc<Port>,
    app: App,
    request: Request,
    plan: Option<RoutePlan>,
) -> Result<Response, ApiError> {
    let mut asking = Asking::of(&port, &request, PATH, plan)?;
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    let body = extract::json_bytes(request, limit).await?;
    let asked = request::read(&body).map_err(ApiError::Fields)?;
    let before = before(&app, &asked, &asking.allowed).await?;
    let translated = asked.chat(&before).map_err(ApiError::Fields)?;
    let earlier = back::items(&before.messages, &translated.names);
    if asked.store
        && let Ok(kept) = serde_json::to_string(&Kept::of(&translated))
    {
        asking.keep(kept);
    }
    let original = Original {
        body,
        native: Some(asked.native(earlier, &before.items)),
        beta: None,
        created: now_ms() / 1_000,
    };
    let head = Head {
        request_id: asking.id().to_owned(),
        created: original.created,
        echo: translated.echo,
        model: asked.model().unwrap_or_default(),
    };
    let spoken = Spoken {
        native: Native::of(original.clone(), PATH),
        original: Some(original),
        chat: translated.chat,
        session: asked.session,
        telling: Some(Box::new(Teller::new(head, translated.names))),
    };
    asking.answer(&app, spoken).await
}

/// A stored response.
async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let stored = stored_response(&app, &id, allowed).await?;
    stored.response().map(Json).map_err(|_| ApiError::Internal)
}

/// Removes it from the history; the usage it was counted in stays.
async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    allowed: Option<Extension<Allowed>>,
) -> Result<Json<Value>, ApiError> {
    let stored = stored_response(&app, &id, allowed).await?;
    let request_id = stored.request_id;
    let op = WriteOp::DeleteRequest {
        request_id: request_id.clone(),
    };
    app.handles.database.write(op).await?;
    let change = Change {
        entity: "request",
        id: &request_id,
        action: "deleted",
        event: "requests:updated",
        detail: json!({"requestId": request_id}),
        before: None,
        after: None,
    };
    changes::record(&app, change).await;
    Ok(Json(
        json!({"id": id, "object": "response.deleted", "deleted": true}),
    ))
}

/// What a stored response was asked with, the newest first unless asked otherwise.
async fn input_items(
    State(app): State<App>,
    Path(id): Path<String>,
    allowed: Option<Extension<Allowed>>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let limit = match params.text("limit") {
        None => LISTED,
        Some(text) => match text.parse() {
            Ok(limit) if (1..=MOST_LISTED).contains(&limit) => limit,
            _ => {
                return Err(ApiError::Query {
                    param: "limit",
                    code: "invalid_value",
                    message: format!("`limit` must be a number from 1 to {MOST_LISTED}"),
                });
            }
        },
    };
    let order = params.word("order", &[("asc", true), ("desc", false)])?;
    let mut items = stored_response(&app, &id, allowed).await?.input_items();
    if order != Some(true) {
        items.reverse();
    }
    let after = params.text("after");
    let first = match &after {
        None => 0,
        Some(after) => {
            let place = items.iter().position(|item| item["id"] == after.as_str());
            place.map_or(items.len(), |place| place + 1)
        }
    };
    let mut page = items.split_off(first);
    let has_more = page.len() > limit;
    page.truncate(limit);
    let id_of = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(Json(json!({
        "object": "list",
        "first_id": id_of(page.first()),
        "last_id": id_of(page.last()),
        "has_more": has_more,
        "data": page,
    })))
}

/// What `asked` goes on from, and what it refers to.
async fn before(app: &App, asked: &Asked, allowed: &Allowed) -> Result<Before, ApiError> {
    let mut before = Before::default();
    if let Some(id) = &asked.previous {
        let found = find(app, id, allowed).await?;
        let messages = match found {
            None => Err(
                "it does not exist here, was deleted, was made with `store: false` or with another API key",
            ),
            Some(Found::LeftOut) => {
                Err("its texts were not kept (settings `logging.logRequests`, \
                `logging.logResponses`, `history.maxBody`, `retention.bodiesDays`)")
            }
            Some(Found::Whole(stored)) => stored
                .messages()
                .ok_or("its answer did not come to its end"),
        };
        before.messages = messages.map_err(|why| {
            let message = format!(
                "the response `{id}` cannot be gone on with: {why}; send the whole conversation as `input`, without \
                 `previous_response_id`"
            );
            ApiError::Fields(vec![FieldError {
                param: Some("previous_response_id".to_owned()),
                message,
                code: "previous_response_not_found",
            }])
        })?;
    }
    let requests: BTreeSet<&str> = asked.references().filter_map(request_of).collect();
    for request_id in requests {
        if let Some(Found::Whole(stored)) = find(app, &response_id(request_id), allowed).await? {
            before.items.extend(stored.items());
        }
    }
    Ok(before)
}

async fn stored_response(
    app: &App,
    id: &str,
    allowed: Option<Extension<Allowed>>,
) -> Result<Stored, ApiError> {
    let allowed = allowed
        .map(|Extension(allowed)| allowed)
        .unwrap_or_default();
    let missing = |why: &str| ApiError::Missing {
        code: "response_not_found",
        message: format!("there is no response `{id}`{why}"),
    };
    match find(app, id, &allowed).await? {
        Some(Found::Whole(stored)) => Ok(*stored),
        Some(Found::LeftOut) => Err(missing(" any more: its texts were not kept")),
        None => Err(missing(
            "; only what was made with `store` and the same API key can be asked for",
        )),
    }
}

enum Found {
    Whole(Box<Stored>),
    /// It is known, but its texts are not.
    LeftOut,
}

/// The response `id`, if it was made with the same key.
async fn find(app: &App, id: &str, allowed: &Allowed) -> Result<Option<Found>, ApiError> {
    let Some(request_id) = request_of(id).filter(|_| id.starts_with("resp_")) else {
        return Ok(None);
    };
    let request_id = request_id.to_owned();
    let read = move |conn: &_| kept::find(conn, &request_id);
    let found = app.handles.database.read(read).await?;
    let found = found.filter(|found| found.key_id.as_deref() == allowed.key_id());
    Ok(found.map(|found| match read_stored(found) {
        Some(stored) => Found::Whole(Box::new(stored)),
        None => Found::LeftOut,
    }))
}

fn read_stored(found: KeptExchange) -> Option<Stored> {
    let chat: Map<String, Value> = serde_json::from_str(&found.request).ok()?;
    // A note stands where a body was left out.
    if !chat.contains_key("messages") {
        return None;
    }
    let answer: Option<Value> = match &found.answer {
        Some(answer) => Some(serde_json::from_str(answer).ok()?),
        None => None,
    };
    let is_told = |answer: &Value| answer["choices"].is_array();
    let status = match found.status.as_str() {
        "completed" if answer.as_ref().is_some_and(is_told) => None,
        "completed" => return None,
        "in_progress" => Some(Status::InProgress),
        "client_closed" => Some(Status::Cancelled),
        _ => Some(Status::Failed {
            code: found
                .error_code
                .unwrap_or_else(|| "server_error".to_owned()),
            message: found
                .error
                .unwrap_or_else(|| "the gateway ended before the answer did".to_owned()),
        }),
    };
    Some(Stored {
        request_id: found.request_id,
        created: found.timestamp / 1_000,
        kept: serde_json::from_str(&found.kept).ok()?,
        chat,
        answer: answer.filter(is_told),
        status,
    })
}
