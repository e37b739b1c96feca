//! `/api/logs`: the newest log lines of the process, as a list and as they come.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::ports::Connections;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::limits::management::KEEP_ALIVE;
use crate::logs::{self, KEPT, LEVELS, Line};
use crate::settings::LOGGING_LEVEL;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(live))
}

/// Log lines.
#[derive(Serialize, ToSchema)]
struct LogList {
    /// Oldest first.
    lines: Vec<Line>,
    /// Of the lines kept, those that fit; `lines` are the newest of them.
    total: usize,
    /// Lines the process keeps.
    kept: usize,
    /// The least severe level that is logged now (setting `logging.level`).
    level: String,
}

/// The newest log lines of this process. Libraries are logged only when they warn.
#[utoipa::path(get, path = "/api/logs", tag = "activity",
    params(
        ("level" = Option<String>, Query, description = "Least severe level: `error`, `warn`, `info`, `debug` or `trace`"),
        ("q" = Option<String>, Query, description = "What a line says, in whatever case"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only lines after the one of this `seq`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 2000)),
    responses((status = 200, body = LogList)))]
async fn list(State(app): State<App>, params: Params) -> Result<Json<LogList>, ApiError> {
    let level = params.word("level", &LEVELS)?;
    let said = params.text("q").map(|text| text.to_lowercase());
    let after = after(&params)?;
    let limit = params.integer(
        "limit",
        "invalid_limit",
        1,
        KEPT.try_into().unwrap_or(i64::MAX),
    )?;
    let limit = limit.map_or(KEPT, |limit| usize::try_from(limit).unwrap_or(KEPT));
    let mut lines = logs::lately().after(after);
    lines.retain(|line| {
        level.is_none_or(|level| line.reaches(level))
            && said.as_ref().is_none_or(|text| line.says(text))
    });
    let total = lines.len();
    let newest = lines.iter().skip(total.saturating_sub(limit));
    let lines = newest.map(|line| Line::clone(line)).collect();
    let level = app.settings.borrow().text(LOGGING_LEVEL).map(str::to_owned);
    Ok(Json(LogList {
        lines,
        total,
        kept: KEPT,
        level: level.unwrap_or_default(),
    }))
}

/// Log lines from after `after` on, and as they come: an event `log` for each, `lost` where a slow reader missed some.
#[utoipa::path(get, path = "/api/logs/live", tag = "activity",
    params(("after" = Option<i64>, Query, minimum = 0, description = "The `seq` of the last line that is known")),
    responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn live(
    connections: Option<Extension<Connections>>,
    params: Params,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, ApiError> {
    let (missed, coming) = logs::lately().listen(after(&params)?);
    let first = stream::iter(missed).map(|line| told(&line));
    let coming = stream::unfold(coming, |mut coming| async move {
        let event = match coming.recv().await {
            Ok(line) => told(&line),
            Err(RecvError::Lagged(lost)) => {
                let data = json!({ "lost": lost });
                Sent::default().event("lost").data(data.to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((event, coming))
    });
    // The port's closing ends the stream, or it would be waited for.
    let closing = connections.map(|Extension(connections)| connections.closing.clone());
    let ended = async move {
        match closing {
            Some(closing) => closing.cancelled_owned().await,
            None => std::future::pending().await,
        }
    };
    let all = first.chain(coming).take_until(Box::pin(ended));
    Ok(Sse::new(all.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn told(line: &Line) -> Sent {
    let data = serde_json::to_string(line).unwrap_or_default();
    Sent::default()
        .event("log")
        .id(line.seq.to_string())
        .data(data)
}

fn after(params: &Params) -> Result<u64, ApiError> {
    let after = params.integer("after", "invalid_query", 0, i64::MAX)?;
    Ok(after
        .and_then(|after| u64::try_from(after).ok())
        .unwrap_or(0))
}
