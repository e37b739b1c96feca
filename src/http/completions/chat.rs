//! `POST /v1/chat/completions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{AGE, HeaderName, HeaderValue};

use crate::actors::ports::Port;
use crate::actors::router::plan::RoutePlan;
use crate::clock::now_ms;
use crate::exchange::Wishes;
use crate::exchange::cache::{Verdict, Wish};
use crate::http::App;
use crate::http::completions::asking::{Asking, Spoken};
use crate::http::error::ApiError;
use crate::http::extract;
use crate::protocol::dialect::Original;
use crate::protocol::openai::functions::{self, FunctionTelling};
use crate::protocol::openai::request::FieldError;
use crate::settings;

const PATH: &str = "/v1/chat/completions";
const PROVIDER: HeaderName = HeaderName::from_static("x-qwarden-provider");
const MODEL: HeaderName = HeaderName::from_static("x-qwarden-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-qwarden-attempts");
const IGNORED: HeaderName = HeaderName::from_static("x-qwarden-ignored");
const TARGET: HeaderName = HeaderName::from_static("x-qwarden-target");
const NO_FALLBACK: HeaderName = HeaderName::from_static("x-qwarden-no-fallback");
const TIMEOUT: HeaderName = HeaderName::from_static("x-qwarden-timeout");
const TAGS: HeaderName = HeaderName::from_static("x-qwarden-tags");
pub(crate) const RECORD: HeaderName = HeaderName::from_static("x-qwarden-record");
const CACHE: HeaderName = HeaderName::from_static("x-qwarden-cache");
/// Tags of one request, and characters of a tag's name or value.
const MOST_TAGS: usize = 16;
const LONGEST_TAG: usize = 64;
/// The longest silence a client may allow an upstream, ms.
const LONGEST_TIMEOUT: u64 = 3_600_000;
/// Under which names clients send what they call their session (client-behaviour, 2).
const SESSIONS: [HeaderName; 5] = [
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-session-affinity"),
    HeaderName::from_static("x-claude-code-session-id"),
    HeaderName::from_static("session-id"),
    HeaderName::from_static("thread-id"),
];

pub(crate) fn routes() -> Router<App> {
    Router::new().route(PATH, post(complete))
}

/// Completes a chat, streamed or whole.
async fn complete(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    complete_with(app.router_port.clone(), app, request, None).await
}

/// The same for either port: `plan` is given where the port decides the target.
pub(crate) async fn complete_with(
    port: Arc<Port>,
    app: App,
    request: Request,
    plan: Option<RoutePlan>,
) -> Result<Response, ApiError> {
    let asking = Asking::of(&port, &request, PATH, plan)?;
    let limit = app.settings.borrow().size(settings::SERVER_MAX_BODY);
    let body = extract::json_bytes(request, limit).await?;
    asking.answer(&app, spoken(body)).await
}

/// A chat request, in the form that upstreams still take.
fn spoken(body: Bytes) -> Spoken {
    match functions::modern(&body) {
        Some(modern) => Spoken {
            original: Some(Original::translated(body, now_ms() / 1_000)),
            telling: Some(Box::new(FunctionTelling)),
            ..Spoken::chat(modern)
        },
        None => Spoken::chat(body),
    }
}

/// Says in the headers of an answer where it comes from.
pub(crate) fn mark(
    headers: &mut HeaderMap,
    (provider, model, attempts): (String, String, u32),
    cache: Option<Verdict>,
    ignored: &[&'static str],
) {
    for (name, value) in [
        (PROVIDER, provider),
        (MODEL, model),
        (ATTEMPTS, attempts.to_string()),
    ] {
        // A model name may hold what a header may not: then the header is left out.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    if let Some(verdict) = cache {
        headers.insert(CACHE, HeaderValue::from_static(verdict.word()));
        if let Verdict::Hit { age } = verdict {
            headers.insert(AGE, HeaderValue::from(age));
        }
    }
    if !ignored.is_empty()
        && let Ok(value) = HeaderValue::from_str(&ignored.join(", "))
    {
        headers.insert(IGNORED, value);
    }
}

/// What the client calls its session.
pub(crate) fn session(headers: &HeaderMap) -> Option<String> {
    SESSIONS.iter().find_map(|name| header(headers, name))
}

/// What the client wants of the cache.
pub(crate) fn wish(headers: &HeaderMap) -> Result<Wish, ApiError> {
    let Some(value) = headers.get(CACHE) else {
        return Ok(Wish::Unsaid);
    };
    Wish::read(value.to_str().unwrap_or_default()).ok_or_else(|| {
        ApiError::Fields(vec![FieldError {
            param: Some(CACHE.as_str().to_owned()),
            message: "the header `x-qwarden-cache` must be `on`, `off` or `refresh`".to_owned(),
            code: "invalid_value",
        }])
    })
}

/// What a request says of its own about how it is served.
pub(crate) fn wishes(headers: &HeaderMap) -> Result<Wishes, ApiError> {
    let refused = |param, message: &str| ApiError::Query {
        param,
        code: "invalid_header",
        message: message.into(),
    };
    let targets = match headers.get(&TARGET) {
        None => Vec::new(),
        Some(value) => match names(value.to_str().unwrap_or_default()) {
            targets if targets.is_empty() => {
                return Err(refused(
                    "x-qwarden-target",
                    "`x-qwarden-target` must name models, by comma",
                ));
            }
            targets => targets,
        },
    };
    let no_fallback = match header(headers, &NO_FALLBACK).as_deref() {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => {
            return Err(refused(
                "x-qwarden-no-fallback",
                "`x-qwarden-no-fallback` must be `true` or `false`",
            ));
        }
    };
    let timeout = match header(headers, &TIMEOUT) {
        None => None,
        Some(text) => match text.trim().parse::<u64>() {
            Ok(ms) if (1..=LONGEST_TIMEOUT).contains(&ms) => Some(Duration::from_millis(ms)),
            _ => {
                return Err(refused(
                    "x-qwarden-timeout",
                    "`x-qwarden-timeout` must be milliseconds, from 1 to 3600000",
                ));
            }
        },
    };
    Ok(Wishes {
        targets,
        no_fallback,
        timeout,
    })
}

/// What a request is to be found by: `name=value` by comma; a name alone counts as `true`.
pub(crate) fn tags(headers: &HeaderMap) -> Result<BTreeMap<String, String>, ApiError> {
    let refused = |message: String| ApiError::Query {
        param: "x-qwarden-tags",
        code: "invalid_header",
        message,
    };
    let mut tags = BTreeMap::new();
    let Some(value) = headers.get(&TAGS) else {
        return Ok(tags);
    };
    let text = value
        .to_str()
        .map_err(|_| refused("`x-qwarden-tags` must be of printable ASCII characters".into()))?;
    for tag in names(text) {
        let (name, value) = tag.split_once('=').unwrap_or((&tag, "true"));
        let (name, value) = (name.trim(), value.trim());
        let is_plain =
            |text: &str| text.len() <= LONGEST_TAG && !text.chars().any(char::is_control);
        if name.is_empty() || name.contains(':') || !is_plain(name) || !is_plain(value) {
            return Err(refused(format!(
                "each of `x-qwarden-tags` must be `name=value`, each at most {LONGEST_TAG} characters, the name without `:`"
            )));
        }
        if tags.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(refused(format!("`x-qwarden-tags` names `{name}` twice")));
        }
    }
    if tags.len() > MOST_TAGS {
        return Err(refused(format!(
            "`x-qwarden-tags` must be at most {MOST_TAGS}"
        )));
    }
    Ok(tags)
}

/// The names of a list by comma.
pub(crate) fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(crate) fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.chars().take(256).collect())
}
