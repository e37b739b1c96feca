//! The outermost layer of every port: request id in and out, panics caught, every error written in one form.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use hyper::{HeaderMap, Method};

use crate::clock::new_id;
use crate::http::App;
use crate::http::error::{ApiError, Retry};
use crate::http::guard::{self, Page};
use crate::limits::connections::{LONGEST_HEADERS, LONGEST_ID, LONGEST_TARGET, MOST_HEADERS};
use crate::protocol::dialect::Dialect;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The name Anthropic's SDKs read.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Marks the requests of the port that speaks Ollama's dialect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfOllama;

/// The ids of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    /// Ours, in the history.
    pub(crate) own: String,
    /// What the client sent, if it did.
    pub(crate) client: Option<String>,
}

impl RequestId {
    fn shown(&self) -> String {
        self.client
            .clone()
            .unwrap_or_else(|| format!("req_{}", self.own))
    }
}

/// Runs what is inside it, whatever that does.
pub(crate) async fn envelope(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId {
        own: new_id(),
        client: client_id(request.headers()),
    };
    let shown = id.shown();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let dialect = dialect(&request);
    request.extensions_mut().insert(id);
    let settings = app.settings.borrow().clone();
    let admitted = bounded(&request).and_then(|()| guard::admit(&request, &settings));
    let (page, admitted) = match admitted {
        Ok(page) => (page, Ok(())),
        Err(refused) => (Page::Untold, Err(refused)),
    };
    let response = match admitted {
        Ok(()) if let Some(answer) = page.preflight(&request) => answer,
        Ok(()) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => ApiError::Internal.into_response(),
        },
        Err(refused) => refused.into_response(),
    };
    let error = response.extensions().get::<Arc<ApiError>>().cloned();
    let error = error.or_else(|| unwritten(&response));
    let mut response = match error {
        Some(error) => written(
            &error,
            &shown,
            (&method, &path, dialect),
            response.headers(),
        ),
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(&shown) {
        if dialect == Dialect::Anthropic {
            response
                .headers_mut()
                .insert(ANTHROPIC_REQUEST_ID, value.clone());
        }
        response.headers_mut().insert(REQUEST_ID, value);
    }
    page.mark(response.headers_mut());
    // What it tells is of the moment, and of one user (S20). The viewer's own files say otherwise.
    if path.starts_with("/api") {
        let cached = response.headers_mut().entry(CACHE_CONTROL);
        cached.or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// How the client speaks. Paths below `/api/` are Ollama's where [`OfOllama`] says so, and management's elsewhere.
fn dialect(request: &Request) -> Dialect {
    let by_path = Dialect::of_path(request.uri().path());
    let speaks_anthropic = request.headers().contains_key("anthropic-version");
    match by_path {
        Dialect::Ollama => request
            .extensions()
            .get::<OfOllama>()
            .map_or(Dialect::Chat, |_| Dialect::Ollama),
        Dialect::Chat if speaks_anthropic => Dialect::Anthropic,
        dialect => dialect,
    }
}

/// Heads are bounded (S15). What does not even fit into hyper's buffer is refused by hyper itself, without a body.
fn bounded(request: &Request) -> Result<(), ApiError> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > LONGEST_TARGET) {
        return Err(ApiError::TargetTooLong {
            limit: LONGEST_TARGET,
        });
    }
    let headers = request.headers();
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if headers.len() > MOST_HEADERS || bytes > LONGEST_HEADERS {
        return Err(ApiError::HeadersTooLarge);
    }
    // hyper takes anything that ends in `chunked`, and would hand on what is still packed (S17).
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_plain || headers.get_all(TRANSFER_ENCODING).iter().count() > 1 {
        return Err(ApiError::BodyBroken);
    }
    Ok(())
}

/// What a library refused by itself, such as a path that is no UTF-8, has words of its own.
fn unwritten(response: &Response) -> Option<Arc<ApiError>> {
    let kind = response.headers().get(CONTENT_TYPE)?;
    let is_text = kind.as_bytes().starts_with(b"text/plain");
    (response.status().is_client_error() && is_text).then(|| Arc::new(ApiError::Unreadable))
}

fn written(
    error: &ApiError,
    request_id: &str,
    (method, path, dialect): (&Method, &str, Dialect),
    set: &HeaderMap,
) -> Response {
    let told = error.told();
    let (status, code, message) = (
        told.status.as_u16(),
        told.code.as_str(),
        told.message.as_str(),
    );
    if told.status.is_server_error() {
        tracing::warn!(request.id = request_id, %method, path, status, code, message, "request failed");
    } else {
        tracing::debug!(request.id = request_id, %method, path, status, code, message, "request refused");
    }
    let body = told.body_in(dialect, request_id).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = told.status;
    let headers = response.headers_mut();
    headers.extend(set.clone());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(hyper::header::CONTENT_LENGTH);
    // The official SDKs and Claude Code obey this one (client-behaviour.md, 6).
    match told.retry {
        Retry::Never => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Retry::After(after) | Retry::Later(after) => {
            let should = match told.retry {
                Retry::After(_) => "true",
                Retry::Never | Retry::Later(_) => "false",
            };
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(should));
            let seconds = after.as_millis().div_ceil(1_000).max(1);
            headers.insert(
                RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)),
            );
        }
    }
    response
}

/// What the client calls its request, when that is fit to be shown again.
fn client_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    (!id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .then(|| id.to_owned())
}
