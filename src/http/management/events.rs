//! `GET /api/events`: what happens, as it happens (server-sent events).
//!
//! The event's name is its kind; its data carries the detail in the original's field names and a time. A client that comes
//! back names the last event it saw (`Last-Event-ID`), and gets what it missed as far as that is kept; where something is
//! not, `events:lost` says so first.
//!
//! What there is now (providers, models, the ports) is added when an event is told: kept with each event it would fill the
//! memory with copies of lists.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use hyper::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::events::{Event, Heard};
use crate::actors::ports::Connections;
use crate::clock::{now_ms, rfc3339};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::proxy;
use crate::http::params::Params;
use crate::limits::management::KEEP_ALIVE;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(events))
}

/// What happens from now on, or from after `Last-Event-ID`. Begins with `proxy:status`.
#[utoipa::path(get, path = "/api/events", tag = "activity",
    params(
        ("types" = Option<String>, Query, description = "Only these kinds, by comma; `actor:*` means all that begin so"),
        ("last-event-id" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn events(
    State(app): State<App>,
    connections: Option<Extension<Connections>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, ApiError> {
    let last = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned)
        .or_else(|| params.text("last_event_id"));
    let types = Types::read(params.text("types").as_deref());
    let Heard {
        is_incomplete,
        missed,
        coming,
    } = app.handles.events.listen(last).await?;
    let mut first = Vec::new();
    if is_incomplete {
        first.push(lost(None));
    }
    if types.has("proxy:status") {
        let status = proxy::standing(&app).await?;
        first.push(sent(
            None,
            "proxy:status",
            &json!({"status": status, "timestamp": rfc3339(now_ms())}),
        ));
    }
    for event in missed.iter().filter(|event| types.has(event.kind)) {
        first.push(told(&app, event).await);
    }
    let listener = (app, coming, types);
    let live = stream::unfold(listener, |(app, mut coming, types)| async move {
        loop {
            let event = match coming.recv().await {
                Ok(event) if types.has(event.kind) => told(&app, &event).await,
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => lost(Some(missed)),
                Err(RecvError::Closed) => return None,
            };
            return Some((event, (app, coming, types)));
        }
    });
    // The port's closing ends the stream, or it would be waited for.
    let closing = connections.map(|Extension(connections)| connections.closing.clone());
    let ended = async move {
        match closing {
            Some(closing) => closing.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let all = stream::iter(first).chain(live).take_until(Box::pin(ended));
    Ok(Sse::new(all.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// That something will not be told any more; how much, where that is known.
fn lost(count: Option<u64>) -> Sent {
    let data = json!({"lost": count, "timestamp": rfc3339(now_ms())});
    sent(None, "events:lost", &data)
}

/// What there is now of what the event is about (management contract, 6.1).
async fn now(app: &App, kind: &str) -> Result<Value, ApiError> {
    Ok(match kind {
        "proxy:status" => json!({"status": proxy::standing(app).await?}),
        "lifecycle:update" => json!(proxy::standing(app).await?),
        "providers:updated" => json!(proxy::providers_now(app).await?),
        "models:updated" => json!(proxy::models_now(app).await?),
        "credentials:updated" => json!({"credentials": proxy::credentials_now(app).await?}),
        _ => Value::Null,
    })
}

async fn told(app: &App, event: &Event) -> Sent {
    let mut data = json!({
        "action": event.action,
        "description": event.description,
        "timestamp": rfc3339(event.at),
        "at": event.at,
    });
    if let (Some(data), Some(detail)) = (data.as_object_mut(), event.detail.as_object()) {
        data.extend(detail.clone());
    }
    // An actor that cannot be asked now keeps nobody from hearing that something happened.
    if let (Some(data), Ok(Value::Object(now))) = (data.as_object_mut(), now(app, event.kind).await)
    {
        data.extend(now);
    }
    port_of_lifecycle(&mut data);
    sent(Some(&event.id), event.kind, &data)
}

/// A listener does not know its port.
fn port_of_lifecycle(data: &mut Value) {
    let port = data["lifecycle"]["process"]
        .as_str()
        .and_then(|process| data[process]["port"].as_u64());
    if let Some(port) = port {
        data["lifecycle"]["port"] = port.into();
    }
}

fn sent(id: Option<&str>, kind: &str, data: &Value) -> Sent {
    let event = Sent::default().event(kind).data(data.to_string());
    match id {
        Some(id) => event.id(id),
        None => event,
    }
}

/// Which kinds a listener wants.
struct Types(Vec<String>);

impl Types {
    fn read(text: Option<&str>) -> Self {
        let kinds = text.unwrap_or_default().split(',').map(str::trim);
        Self(
            kinds
                .filter(|kind| !kind.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn has(&self, kind: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(begin) => kind.starts_with(begin),
                None => kind == wanted,
            })
    }
}
