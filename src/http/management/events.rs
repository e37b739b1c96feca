//! `GET /api/events`: what happens, as it happens (server-sent events).
//!
//! The event's name is its kind; its data carries the detail in the original's field names and a time. A client that comes
//! back names the last event it saw (`Last-Event-ID`), and gets what it missed as far as that is kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

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

const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
    let Heard { missed, coming } = app.handles.events.listen(last).await?;
    let mut first = Vec::new();
    if types.has("proxy:status") {
        let status = Value::Object(proxy::standing(&app).await?);
        first.push(sent(
            None,
            "proxy:status",
            &json!({"status": status, "timestamp": rfc3339(now_ms())}),
        ));
    }
    first.extend(
        missed
            .iter()
            .filter(|event| types.has(event.kind))
            .map(told),
    );
    let live = stream::unfold((coming, types), |(mut coming, types)| async move {
        loop {
            match coming.recv().await {
                Ok(event) if types.has(event.kind) => return Some((told(&event), (coming, types))),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    let event = sent(
                        None,
                        "events:lost",
                        &json!({"lost": missed, "timestamp": rfc3339(now_ms())}),
                    );
                    return Some((event, (coming, types)));
                }
                Err(RecvError::Closed) => return None,
            }
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

fn told(event: &Arc<Event>) -> Sent {
    let mut data = json!({
        "action": event.action,
        "description": event.description,
        "timestamp": rfc3339(event.at),
        "at": event.at,
    });
    if let (Some(data), Some(detail)) = (data.as_object_mut(), event.detail.as_object()) {
        data.extend(detail.clone());
    }
    sent(Some(&event.id), event.kind, &data)
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
