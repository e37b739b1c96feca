//! `/api/requests/{id}/replay` and `/curl`: sends an exchange of the history again, here or from a shell.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, Request, State};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::ports::Connections;
use crate::clock::new_id;
use crate::db::history::StoredExchange;
use crate::exchange::record::Subject;
use crate::exchange::{Content, Incoming, Refusal, Wishes};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::bodies::ReplayBody;
use crate::http::management::fields::Fields;
use crate::http::management::recordings;
use crate::http::management::requests::find;
use crate::protocol::dialect::{Dialect, Native, Original};
use crate::protocol::openai::request;
use crate::protocol::recording::Sent;

const PATH: &str = "/v1/chat/completions";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(replay))
        .routes(routes!(curl))
}

/// What a repetition brought.
#[derive(Serialize, ToSchema)]
struct Replayed {
    /// The UUID of the new exchange.
    request_id: String,
    replay_of: String,
    /// Whoever answered.
    provider: Option<String>,
    upstream_model: Option<String>,
    attempts: u32,
    /// The completion; null when the upstream failed.
    response: Option<Value>,
    /// Why it failed: `error` of what a client of the completions would have been told.
    error: Option<Value>,
}

/// A line for a shell.
#[derive(Serialize, ToSchema)]
struct Command {
    command: String,
}

/// Sends an exchange again, not streamed, to the same or to another provider or model. The new one names the old one.
#[utoipa::path(post, path = "/api/requests/{id}/replay", tag = "history",
    params(("id" = String, Path)), request_body(content = Option<ReplayBody>),
    responses((status = 200, body = Replayed)))]
async fn replay(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Replayed>, ApiError> {
    let body = extract::optional_object(request).await?;
    let mut fields = Fields::of(&body);
    let provider = fields.optional("provider", 200);
    let model = fields.optional("model", 200);
    fields.end()?;
    let stored = find(&app, &id).await?;
    let mut asked = asked(&stored)?;
    let original = original(&app, &stored).await?;
    let is_redirected = provider.is_some() || model.is_some();
    if let Some(model) = wanted_model(&app, &stored.model, provider, model).await? {
        asked.insert("model".into(), model.into());
    }
    asked.insert("stream".into(), false.into());
    // Refused by some upstreams beside `stream: false`.
    asked.remove("stream_options");
    let parsed = request::parse(Value::Object(asked).to_string().into());
    let on_qwen_port = stored.port == Some(app.qwen_port.address().port());
    let subject = Subject {
        request_id: new_id(),
        client_request_id: None,
        replay_of: Some(stored.request_id.clone()),
        account: None,
        tags: BTreeMap::new(),
        is_recorded: false,
        kept: None,
        original: None,
        path: PATH,
        port: stored.port.unwrap_or_default(),
        user_agent: Some(concat!("qwarden/", env!("CARGO_PKG_VERSION")).into()),
    };
    let request_id = subject.request_id.clone();
    let incoming = Incoming {
        request: parsed.map_err(ApiError::Fields)?,
        is_translated: Dialect::of_path(&stored.path) != Dialect::Chat,
        native: original.and_then(|original| Native::of(original, &stored.path)),
        subject,
        connections: Connections::default(),
        received: Instant::now(),
        session: None,
        wishes: Wishes::default(),
        // What came to the Qwen proxy goes where that sends everything.
        plan: (on_qwen_port && !is_redirected).then(|| app.qwen.plan()),
        // It is sent to see what comes.
        caching: None,
        buffering: None,
    };
    let delivery = match app.exchanges.run(incoming).await {
        Ok(delivery) => delivery,
        // That an upstream fails is what was to be found out.
        Err(Refusal::Upstream { error, attempts }) => {
            let refusal = ApiError::from(Refusal::Upstream { error, attempts });
            let mut told = refusal.told().body(&request_id);
            return Ok(Json(Replayed {
                request_id,
                replay_of: stored.request_id,
                provider: None,
                upstream_model: None,
                attempts,
                response: None,
                error: Some(told["error"].take()),
            }));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let Content::Whole(bytes) = delivery.content else {
        return Err(ApiError::Internal);
    };
    Ok(Json(Replayed {
        request_id,
        replay_of: stored.request_id,
        provider: Some(delivery.provider),
        upstream_model: Some(delivery.upstream_model),
        attempts: delivery.attempts,
        response: Some(serde_json::from_slice(&bytes).map_err(|_| ApiError::Internal)?),
        error: None,
    }))
}

/// An exchange as a command for a POSIX shell. It carries no key.
#[utoipa::path(get, path = "/api/requests/{id}/curl", tag = "history",
    params(("id" = String, Path)),
    responses((status = 200, body = Command)))]
async fn curl(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Command>, ApiError> {
    let stored = find(&app, &id).await?;
    let body = Value::Object(asked(&stored)?).to_string();
    let port = match stored.port {
        Some(port) if port == app.qwen_port.address().port() => &app.qwen_port,
        _ => &app.router_port,
    };
    let unbuffered = if stored.stream { "-N " } else { "" };
    let command = format!(
        "curl {unbuffered}http://{}{PATH} \\\n  -H 'content-type: application/json' \\\n  -d '{}'",
        port.address(),
        body.replace('\'', r"'\''"),
    );
    Ok(Json(Command { command }))
}

/// What the client sent, where that is kept as a whole.
fn asked(stored: &StoredExchange) -> Result<Map<String, Value>, ApiError> {
    let body: Value = serde_json::from_str(stored.openai_request.get()).unwrap_or_default();
    match body {
        Value::Object(body) if body.get("messages").is_some_and(Value::is_array) => Ok(body),
        _ => Err(ApiError::Unusable {
            param: "id",
            message: "the request's body was not kept, or not as a whole; see the settings `logging.logRequests`, \
                      `history.maxBody` and `retention.bodiesDays`"
                .into(),
        }),
    }
}

/// What a client of another dialect sent, asking for a whole answer. Only a recording has it: the history keeps the chat
/// request, or it would hold each such conversation twice.
async fn original(app: &App, stored: &StoredExchange) -> Result<Option<Original>, ApiError> {
    if !stored.has_recording {
        return Ok(None);
    }
    let recording = recordings::find(app, &stored.request_id).await?;
    let Some(mut original) = recording.original.as_ref().map(Sent::original) else {
        return Ok(None);
    };
    let sent = original.native.as_ref().unwrap_or(&original.body);
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(sent) else {
        return Ok(None);
    };
    members.insert("stream".into(), false.into());
    original.native = Some(Value::Object(members).to_string().into());
    Ok(Some(original))
}

/// The model to ask for; none when it stays.
async fn wanted_model(
    app: &App,
    asked: &str,
    provider: Option<String>,
    model: Option<String>,
) -> Result<Option<String>, ApiError> {
    let Some(provider) = provider else {
        return Ok(model);
    };
    let views = app.handles.router.providers().await?;
    let is_known = |id: &str| views.iter().any(|view| view.stored.provider.id == id);
    if !is_known(&provider) {
        return Err(ApiError::ProviderNotFound { id: provider });
    }
    let model = model.unwrap_or_else(|| match asked.split_once('/') {
        Some((before, bare)) if is_known(before) => bare.to_owned(),
        _ => asked.to_owned(),
    });
    Ok(Some(format!("{provider}/{model}")))
}
