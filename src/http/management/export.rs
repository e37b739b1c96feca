//! `/api/requests/export`: the history as a file, for other programs.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::actors::database::{Database, StoreError};
use crate::db::error::DbError;
use crate::db::filter::Slice;
use crate::db::history::list::{self, RequestFilter, RowName};
use crate::db::history::{self, StoredExchange};
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::management::requests;
use crate::http::params::Params;

/// Exchanges, and bytes of the file, of one read: what is in memory at a time, save one long exchange.
const CHUNK: i64 = 100;
const CHUNK_BYTES: usize = 1 << 20;

/// The columns of the table, in order.
const COLUMNS: [&str; 25] = [
    "id",
    "request_id",
    "client_request_id",
    "session_id",
    "timestamp",
    "method",
    "path",
    "model",
    "stream",
    "provider",
    "status",
    "upstream_model",
    "http_status",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_microusd",
    "ttft_ms",
    "duration_ms",
    "attempts",
    "error",
    "error_code",
    "openai_request",
    "openai_response",
];

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export))
}

#[derive(Clone, Copy)]
enum Format {
    Jsonl,
    /// `guarded`: no cell begins like a formula.
    Csv {
        guarded: bool,
    },
}

/// The exchanges of a filter as a file, the newest first: as `GET /api/requests/{id}` tells them, one a line, or as a
/// table. Streamed; what is added meanwhile is not in it.
#[utoipa::path(get, path = "/api/requests/export", tag = "history",
    params(
        ("format" = String, Query, description = "`jsonl` or `csv`"),
        ("guard" = Option<bool>, Query,
            description = "In a table: an apostrophe before texts that a spreadsheet would run as a formula. True unless given"),
        ("session_id" = Option<String>, Query),
        ("model" = Option<String>, Query),
        ("provider" = Option<String>, Query),
        ("status" = Option<String>, Query,
            description = "`in_progress`, `completed`, `failed`, `client_closed` or `interrupted`"),
        ("stream" = Option<bool>, Query),
        ("has_error" = Option<bool>, Query),
        ("tag" = Option<String>, Query, description = "`name`, or `name:value`, of `x-qwarden-tags`"),
        ("start_date" = Option<i64>, Query, description = "Unix time, ms; included"),
        ("end_date" = Option<i64>, Query, description = "Unix time, ms; included"),
        ("q" = Option<String>, Query,
            description = "Words, `\"phrases\"` and `beginnings*` that are all in the texts of the request and its answer")),
    responses((status = 200, body = String, content_type = "application/x-ndjson")))]
async fn export(State(app): State<App>, params: Params) -> Result<Response, ApiError> {
    let words = [("jsonl", false), ("csv", true)];
    let Some(is_table) = params.word("format", &words)? else {
        return Err(ApiError::Query {
            param: "format",
            code: "invalid_query",
            message: "`format` must be one of jsonl, csv".into(),
        });
    };
    let guarded = params.flag("guard")?.unwrap_or(true);
    let (format, kind, name) = if is_table {
        let name = "attachment; filename=\"qwarden-requests.csv\"";
        (Format::Csv { guarded }, "text/csv; charset=utf-8", name)
    } else {
        let name = "attachment; filename=\"qwarden-requests.jsonl\"";
        (Format::Jsonl, "application/x-ndjson", name)
    };
    let mut reading = Reading {
        database: app.handles.database.clone(),
        filter: requests::filter(&params)?,
        format,
        after: None,
        is_over: false,
    };
    // The first part before the head: a database that cannot be read is a 503, not a file that breaks off.
    let mut first = match format {
        Format::Jsonl => Vec::new(),
        Format::Csv { .. } => {
            table(|table| table.write_record(COLUMNS)).map_err(StoreError::from)?
        }
    };
    first.extend(reading.next().await?.unwrap_or_default());
    let rest = stream::try_unfold(reading, async |mut reading| {
        let part = reading.next().await?;
        Ok::<_, StoreError>(part.map(|part| (Bytes::from(part), reading)))
    });
    let begin = stream::once(std::future::ready(Ok(Bytes::from(first))));
    let mut response = Response::new(Body::from_stream(futures_util::StreamExt::chain(
        begin, rest,
    )));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// An export under way. Holds no transaction between two parts: a slow client must not keep the log from being folded.
struct Reading {
    database: Database,
    filter: RequestFilter,
    format: Format,
    /// The last exchange told.
    after: Option<(i64, i64)>,
    is_over: bool,
}

impl Reading {
    /// The next part of the file; none at its end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let (filter, format, after) = (self.filter.clone(), self.format, self.after);
        let read = move |conn: &_| {
            let slice = Slice {
                limit: CHUNK,
                offset: 0,
                after,
            };
            let places = list::places(conn, &filter, slice)?;
            let mut part = Vec::new();
            let mut last = None;
            for place in places {
                // Deleted between two reads is left out; within one nothing is.
                if let Some(exchange) = history::exchange(conn, &RowName::Number(place.1))? {
                    write(&mut part, &exchange, format)?;
                }
                last = Some(place);
                if part.len() > CHUNK_BYTES {
                    break;
                }
            }
            Ok((part, last))
        };
        let (part, last) = self.database.read(read).await?;
        self.is_over = last.is_none();
        self.after = last;
        Ok(last.map(|_| part))
    }
}

fn write(part: &mut Vec<u8>, exchange: &StoredExchange, format: Format) -> Result<(), DbError> {
    match format {
        Format::Jsonl => {
            serde_json::to_writer(&mut *part, exchange)
                .map_err(|_| DbError::Other("an exchange could not be written".into()))?;
            part.push(b'\n');
        }
        Format::Csv { guarded } => {
            let cells = cells(exchange);
            part.extend(table(|table| {
                table.write_record(cells.iter().map(|cell| cell.shown(guarded)))
            })?);
        }
    }
    Ok(())
}

/// A part of a table (RFC 4180).
fn table(
    write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>,
) -> Result<Vec<u8>, DbError> {
    let broken = || DbError::Other("a table could not be written".into());
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    write(&mut table).map_err(|_| broken())?;
    table.into_inner().map_err(|_| broken())
}

/// A cell of a table.
enum Cell {
    /// Numbers, which may be negative, and words of ours.
    Plain(String),
    /// From anywhere.
    Text(String),
}

impl Cell {
    fn shown(&self, guarded: bool) -> String {
        match self {
            Self::Text(text)
                if guarded && text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) =>
            {
                format!("'{text}")
            }
            Self::Plain(text) | Self::Text(text) => text.clone(),
        }
    }
}

fn cells(exchange: &StoredExchange) -> [Cell; COLUMNS.len()] {
    let plain = |value: Option<i64>| Cell::Plain(value.map_or_else(String::new, |n| n.to_string()));
    let text = |value: Option<&String>| Cell::Text(value.cloned().unwrap_or_default());
    let body = |value: Option<&RawValue>| {
        Cell::Text(value.map_or_else(String::new, |body| body.get().to_owned()))
    };
    let answer = exchange.response.as_ref();
    let told = |field: fn(&history::StoredResponse) -> Option<i64>| plain(answer.and_then(field));
    [
        plain(Some(exchange.id)),
        text(Some(&exchange.request_id)),
        text(exchange.client_request_id.as_ref()),
        text(exchange.session_id.as_ref()),
        plain(Some(exchange.timestamp)),
        text(Some(&exchange.method)),
        text(Some(&exchange.path)),
        text(Some(&exchange.model)),
        Cell::Plain(exchange.stream.to_string()),
        text(exchange.provider.as_ref()),
        text(Some(&exchange.status)),
        text(answer.and_then(|answer| answer.upstream_model.as_ref())),
        told(|answer| Some(i64::from(answer.http_status))),
        text(answer.and_then(|answer| answer.finish_reason.as_ref())),
        told(|answer| answer.prompt_tokens),
        told(|answer| answer.completion_tokens),
        told(|answer| answer.total_tokens),
        told(|answer| answer.cost_microusd),
        told(|answer| answer.ttft_ms),
        told(|answer| Some(answer.duration_ms)),
        told(|answer| Some(answer.attempts)),
        text(answer.and_then(|answer| answer.error.as_ref())),
        text(answer.and_then(|answer| answer.error_code.as_ref())),
        body(Some(&exchange.openai_request)),
        body(answer.and_then(|answer| answer.openai_response.as_deref())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_are_guarded() {
        let row = |guarded: bool| {
            let cells = ["=1+1", "a,\"b\"\nc", "-5"].map(|text| Cell::Text(text.into()));
            let cells = cells
                .iter()
                .chain([&Cell::Plain("-5".into())])
                .map(|cell| cell.shown(guarded))
                .collect::<Vec<_>>();
            String::from_utf8(table(|table| table.write_record(cells)).unwrap()).unwrap()
        };
        assert_eq!(row(true), "'=1+1,\"a,\"\"b\"\"\nc\",'-5,-5\r\n");
        assert_eq!(row(false), "=1+1,\"a,\"\"b\"\"\nc\",-5,-5\r\n");
    }
}
