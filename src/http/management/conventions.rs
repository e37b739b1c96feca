//! What holds for every route of :3002 (management contract, 0.3): entity tags, changes that happen one after another and
//! to their end, and answers that are given again under the same `Idempotency-Key`.
//!
//! An entity tag is `"STATE-BODY"`. `If-None-Match` means both parts, `If-Match` the first one: what is merely observed,
//! such as a provider's latency, makes a body new but is nobody's change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::clock::now_ms;
use crate::db::idempotency::{self, KeptAnswer};
use crate::db::ops::WriteOp;
use crate::hex;
use crate::http::App;
use crate::http::error::ApiError;
use crate::http::extract;
use crate::http::management::changes::Asked;
use crate::http::management::playground;
use crate::tasks::lock;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// What decides who may ask, and what is checked against its likes, is changed by one at a time.
const IN_TURN: [&str; 4] = [
    "/api/settings/",
    "/api/auth/",
    "/api/keys",
    "/api/virtual-models",
];
/// What may be much, and is taken away piece by piece.
const LONG_REMOVALS: [&str; 2] = ["/api/sessions", "/api/cache"];
const LONGEST_KEY: usize = 255;

/// The state behind an answer, for its entity tag; without one the answer itself counts.
#[derive(Clone)]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn of(state: &impl Serialize) -> Self {
        Self(digest(&serde_json::to_vec(state).unwrap_or_default()))
    }
}

/// Marks an answer that holds a secret: it is not kept for its idempotency key.
#[derive(Clone, Copy)]
pub(crate) struct Unkept;

/// The layer.
pub(crate) async fn conventions(State(app): State<App>, request: Request, next: Next) -> Response {
    match *request.method() {
        Method::GET => {
            let known = request.headers().get(IF_NONE_MATCH).cloned();
            tagged(next.run(request).await, known.as_ref()).await
        }
        // Changes nothing, may be long, and must not outlive its client: an upstream would go on talking to nobody.
        Method::POST if request.uri().path() == playground::PATH => next.run(request).await,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            match changing(app, request, next).await {
                Ok(response) => response,
                Err(error) => error.into_response(),
            }
        }
        _ => next.run(request).await,
    }
}

/// Adds the entity tag; 304 when the client has this answer already.
async fn tagged(response: Response, known: Option<&HeaderValue>) -> Response {
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if response.status() != StatusCode::OK || !is_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return ApiError::Internal.into_response();
    };
    let body = body.to_bytes();
    let own = digest(&body);
    let state = parts.extensions.get::<Version>();
    let tag = format!("\"{}-{own}\"", state.map_or(&own, |version| &version.0));
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .map(|one| one.trim().trim_start_matches("W/"))
                .any(|one| one == "*" || one == tag)
        });
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(ETAG, tag);
    }
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(hyper::header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

/// Makes a change to its end, even when the client leaves.
async fn changing(app: App, request: Request, next: Next) -> Result<Response, ApiError> {
    let (parts, body) = extract::management_body(request).await?;
    let key = idempotency_key(&parts)?;
    let is_quick = is_quick(&parts);
    let turns = app.changes.clone();
    let tasks = app.tasks.clone();
    let asked = Asked::by(&parts.extensions);
    let change = asked.for_whom(async move {
        // The same request at the same time waits for its own first answer; nobody else does.
        let own = key.as_ref().map(|key| turns.under(key, &parts));
        let _own = match &own {
            Some(own) => Some(own.lock().await),
            None => None,
        };
        let _turn = if is_quick {
            Some(turns.one.lock().await)
        } else {
            None
        };
        if let Some(wanted) = parts.headers.get(IF_MATCH) {
            unchanged(&parts.uri, &parts.headers, wanted, &next).await?;
        }
        let Some(key) = key else {
            return Ok(next.run(Request::from_parts(parts, body.into())).await);
        };
        once(&app, key, parts, body, next).await
    });
    let running = tasks.spawn("management change", Box::pin(change));
    running.await.map_err(|_| ApiError::Internal)?
}

/// Those that only ask others, or take much away, may take long, and leave nothing behind that another could overwrite.
fn is_quick(parts: &Parts) -> bool {
    let path = parts.uri.path();
    match parts.method {
        Method::POST => path.ends_with("able") || IN_TURN.iter().any(|one| path.starts_with(one)),
        Method::DELETE => {
            parts.headers.contains_key(IF_MATCH)
                || !LONG_REMOVALS.iter().any(|one| path.starts_with(one))
        }
        _ => true,
    }
}

/// Refuses when what is at `uri` now is not what the client saw.
async fn unchanged(
    uri: &Uri,
    headers: &HeaderMap,
    wanted: &HeaderValue,
    next: &Next,
) -> Result<(), ApiError> {
    let wanted = wanted.to_str().unwrap_or_default();
    if wanted.trim() == "*" {
        return Ok(());
    }
    let mut path = uri.path();
    loop {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().map_err(|_| ApiError::Internal)?;
        if let Some(host) = headers.get(hyper::header::HOST) {
            request
                .headers_mut()
                .insert(hyper::header::HOST, host.clone());
        }
        let seen = tagged(next.clone().run(request).await, None).await;
        let tag = seen.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        match (seen.status(), tag) {
            (StatusCode::OK, Some(tag)) => {
                let now = state_part(tag);
                let mut seen_by_client = wanted.split(',').map(|tag| state_part(tag.trim()));
                return if seen_by_client.any(|state| state == now) {
                    Ok(())
                } else {
                    Err(ApiError::Changed)
                };
            }
            // The change itself says best what is missing.
            (StatusCode::NOT_FOUND, _) => return Ok(()),
            // A part that cannot be read by itself belongs to what is above it.
            (StatusCode::METHOD_NOT_ALLOWED, _) => match path.rsplit_once('/') {
                Some((above, _)) if !above.is_empty() => path = above,
                _ => return Err(ApiError::Changed),
            },
            _ => return Err(ApiError::Changed),
        }
    }
}

fn state_part(tag: &str) -> &str {
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    tag.split_once('-').map_or(tag, |(state, _)| state)
}

fn idempotency_key(parts: &Parts) -> Result<Option<String>, ApiError> {
    let Some(key) = parts
        .headers
        .get(IDEMPOTENCY_KEY)
        .filter(|_| parts.method == Method::POST)
    else {
        return Ok(None);
    };
    let key = key.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(ApiError::Validation(vec![format!(
            "`idempotency-key` must be 1 to {LONGEST_KEY} printable characters"
        )]));
    }
    Ok(Some(key.to_owned()))
}

/// Answers as before when the request came before.
async fn once(
    app: &App,
    key: String,
    parts: Parts,
    body: Bytes,
    next: Next,
) -> Result<Response, ApiError> {
    let method = parts.method.to_string();
    let path = parts.uri.to_string();
    let body_hash = digest(&body);
    let known = {
        let (key, method, path) = (key.clone(), method.clone(), path.clone());
        let find = move |conn: &_| idempotency::find(conn, &key, &method, &path, now_ms());
        app.handles.database.read(find).await?
    };
    if let Some(known) = known {
        if known.body_hash != body_hash {
            return Err(ApiError::IdempotencyConflict { key });
        }
        let mut response = Response::new(Body::from(known.body));
        *response.status_mut() = StatusCode::from_u16(known.status).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        let location = known.location.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(location)) = location {
            headers.insert(LOCATION, location);
        }
        return Ok(response);
    }
    let response = next.run(Request::from_parts(parts, body.into())).await;
    let is_secret = response.extensions().get::<Unkept>().is_some();
    if !response.status().is_success() || is_secret {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| ApiError::Internal)?;
    let body = body.to_bytes();
    let location = parts.headers.get(LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let answer = KeptAnswer {
        key,
        method,
        path,
        body_hash,
        status: parts.status.as_u16(),
        location: location.map(str::to_owned),
        body: String::from_utf8_lossy(&body).into_owned(),
        at: now_ms(),
    };
    if let Err(error) = app
        .handles
        .database
        .write(WriteOp::RememberAnswer(answer))
        .await
    {
        tracing::warn!(%error, "an answer is not kept for its idempotency key");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hex::encode(hash.get(..8).unwrap_or(&hash))
}

/// Serialises changes; see the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Turns {
    one: Arc<tokio::sync::Mutex<()>>,
    /// Of requests that carry an `Idempotency-Key`, by what they are the same by.
    keyed: Arc<Mutex<HashMap<Name, Weak<tokio::sync::Mutex<()>>>>>,
}

/// Key, method and path.
type Name = (String, String, String);

impl Turns {
    /// The lock of requests that are the same as this one. Forgotten once nobody waits for it.
    fn under(&self, key: &str, parts: &Parts) -> Arc<tokio::sync::Mutex<()>> {
        let name = (
            key.to_owned(),
            parts.method.to_string(),
            parts.uri.to_string(),
        );
        let mut keyed = lock(&self.keyed);
        keyed.retain(|_, known| known.strong_count() > 0);
        if let Some(known) = keyed.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        let own = Arc::new(tokio::sync::Mutex::new(()));
        keyed.insert(name, Arc::downgrade(&own));
        own
    }
}
