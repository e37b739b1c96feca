//! The older program's addresses (management contract, 1.13): its management under `/v1` on the router's port, and lists
//! in `OpenAI`'s form on the Qwen proxy's. Served by the routes of :3002, under another name.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::http::App;
use crate::http::error::ApiError;

/// What the layers here need.
#[derive(Clone)]
pub(crate) struct Aliases(pub(crate) Arc<Managed>);

/// The routes of :3002 with their conventions.
pub(crate) struct Managed {
    pub(crate) app: App,
    pub(crate) management: Router,
}

/// On :3001. `OpenAI`'s own paths stay what they are there.
pub(crate) async fn on_router(
    State(aliases): State<Aliases>,
    request: Request,
    next: Next,
) -> Response {
    match managed(request.method(), request.uri().path()) {
        Some(path) => match with_query(&path, request.uri().query()) {
            Ok(uri) => aliases.serve(request, uri).await,
            Err(refused) => refused.into_response(),
        },
        None => next.run(request).await,
    }
}

/// On :3000: reading and deleting what belongs to conversations, with a login alone.
pub(crate) async fn on_qwen(
    State(aliases): State<Aliases>,
    request: Request,
    next: Next,
) -> Response {
    let Some(wanted) = Listed::of(request.method(), request.uri().path()) else {
        return next.run(request).await;
    };
    match aliases.0.app.handles.credentials.all().await {
        Ok(logins) if logins.is_empty() => return ApiError::LoginMissing.into_response(),
        Ok(_) => {}
        Err(unavailable) => return ApiError::from(unavailable).into_response(),
    }
    let path = request.uri().path().replacen("/v1/", "/api/", 1);
    let id = path.rsplit('/').next().unwrap_or_default().to_owned();
    let Ok(uri) = with_query(&wanted.path(&path), request.uri().query()) else {
        return ApiError::Unreadable.into_response();
    };
    let session = session_of(&uri);
    let answer = aliases.serve(request, uri).await;
    wanted.shown(answer, &id, session.as_deref()).await
}

impl Aliases {
    async fn serve(&self, mut request: Request, uri: Uri) -> Response {
        *request.uri_mut() = uri;
        match self.0.management.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// `path` with what was asked of the address that it stands for.
fn with_query(path: &str, query: Option<&str>) -> Result<Uri, ApiError> {
    // The older program's name for `sort`, which it pasted into its SQL.
    let parts = query
        .unwrap_or_default()
        .split('&')
        .filter(|part| !part.is_empty());
    let query: Vec<_> = parts
        .map(|part| match part.strip_prefix("orderBy=") {
            Some(column) => format!("sort={column}"),
            None => part.to_owned(),
        })
        .collect();
    let query = query.join("&");
    let uri = match query.as_str() {
        "" => path.to_owned(),
        query if path.contains('?') => format!("{path}&{query}"),
        query => format!("{path}?{query}"),
    };
    uri.parse().map_err(|_| ApiError::Unreadable)
}

/// The conversation whose sums are asked for.
fn session_of(uri: &Uri) -> Option<String> {
    let Query(mut asked) = Query::<HashMap<String, String>>::try_from_uri(uri).ok()?;
    asked.remove("session_id").filter(|id| !id.is_empty())
}

/// The path of :3002 that a path of :3001 means.
fn managed(method: &Method, path: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("/api/v1/activity/") {
        return Some(format!("/api/activity/{rest}"));
    }
    let rest = path.strip_prefix("/v1/")?;
    if let Some(chat) = rest.strip_prefix("sessions/chat/") {
        return Some(format!("/api/sessions?chat_id={chat}"));
    }
    let (first, _) = rest.split_once('/').unwrap_or((rest, ""));
    let is_managed = match first {
        "providers" | "sessions" | "requests" | "settings" => true,
        "qwen" => rest == "qwen/credentials",
        // Reading models is OpenAI's.
        "models" => method != Method::GET && method != Method::HEAD,
        _ => false,
    };
    is_managed.then(|| format!("/api/{rest}"))
}

/// What a path of :3000 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    List(&'static str),
    One,
    /// The statistics of all, or of one conversation.
    Statistics,
    AnswerOf,
    Deleted,
}

impl Listed {
    fn of(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        // Those of the Responses dialect are told in its own form, and to whom they belong.
        if rest.starts_with("responses/resp_") {
            return None;
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let is_read = method == Method::GET;
        match parts[..] {
            ["sessions"] if is_read => Some(Self::List("sessions")),
            ["requests"] | ["sessions", _, "requests"] if is_read => Some(Self::List("requests")),
            ["responses"] if is_read => Some(Self::List("responses")),
            ["responses", "stats"] | ["sessions", _, "stats"] if is_read => Some(Self::Statistics),
            ["requests", _, "response"] if is_read => Some(Self::AnswerOf),
            ["sessions" | "requests" | "responses", _] if is_read => Some(Self::One),
            ["sessions", _] if method == Method::DELETE => Some(Self::Deleted),
            _ => None,
        }
    }

    /// `path` with `/api` in place of `/v1`.
    fn path(self, path: &str) -> String {
        let middle = path.split('/').nth(3).unwrap_or_default();
        match self {
            Self::Statistics if path.starts_with("/api/sessions/") => {
                format!("/api/responses/stats?session_id={middle}")
            }
            Self::AnswerOf => format!("/api/responses/request/{middle}"),
            _ => path.to_owned(),
        }
    }

    async fn shown(self, answer: Response, id: &str, session: Option<&str>) -> Response {
        if answer.status() != StatusCode::OK || self == Self::One || self == Self::AnswerOf {
            return answer;
        }
        let (mut parts, body) = answer.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return ApiError::Internal.into_response(),
        };
        let Ok(Value::Object(mut told)) = serde_json::from_slice(&body) else {
            return ApiError::Internal.into_response();
        };
        let told = match self {
            Self::List(name) => {
                let data = told.remove(name).unwrap_or_default();
                told.insert("data".into(), data);
                told.insert("object".into(), "list".into());
                Value::Object(told)
            }
            Self::Statistics => statistics(told, session),
            _ => json!({"deleted": true, "session_id": id}),
        };
        parts.headers.remove(CONTENT_LENGTH);
        Response::from_parts(parts, Body::from(told.to_string()))
    }
}

fn statistics(mut told: Map<String, Value>, session: Option<&str>) -> Value {
    told.remove("groups");
    told.remove("group_by");
    json!({"session_id": session.unwrap_or("all"), "statistics": told})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openai_serves_stays() {
        for path in [
            "/v1/models",
            "/v1/models/m",
            "/v1/responses",
            "/v1/responses/resp_1",
            "/v1/chat/completions",
            "/health",
        ] {
            assert_eq!(managed(&Method::GET, path), None, "{path}");
        }
        assert_eq!(managed(&Method::POST, "/v1/responses"), None);
        for (method, path, to) in [
            (Method::GET, "/v1/providers", "/api/providers"),
            (
                Method::PUT,
                "/v1/providers/p/config",
                "/api/providers/p/config",
            ),
            (Method::POST, "/v1/models/sync", "/api/models/sync"),
            (
                Method::GET,
                "/v1/sessions/chat/c1",
                "/api/sessions?chat_id=c1",
            ),
            (
                Method::POST,
                "/v1/qwen/credentials",
                "/api/qwen/credentials",
            ),
            (
                Method::GET,
                "/api/v1/activity/recent",
                "/api/activity/recent",
            ),
        ] {
            assert_eq!(managed(&method, path).as_deref(), Some(to));
        }
    }

    #[test]
    fn conversations_are_read_under_their_old_names() {
        for (path, wanted, to) in [
            ("/v1/sessions", Listed::List("sessions"), "/api/sessions"),
            (
                "/v1/sessions/s/requests",
                Listed::List("requests"),
                "/api/sessions/s/requests",
            ),
            (
                "/v1/sessions/s/stats",
                Listed::Statistics,
                "/api/responses/stats?session_id=s",
            ),
            (
                "/v1/responses/stats",
                Listed::Statistics,
                "/api/responses/stats",
            ),
            (
                "/v1/requests/7/response",
                Listed::AnswerOf,
                "/api/responses/request/7",
            ),
            ("/v1/responses/7", Listed::One, "/api/responses/7"),
        ] {
            let found = Listed::of(&Method::GET, path).unwrap();
            assert_eq!(found, wanted, "{path}");
            assert_eq!(found.path(&path.replacen("/v1/", "/api/", 1)), to);
        }
        for path in [
            "/v1/models",
            "/v1/chat/completions",
            "/v1/responses/resp_1",
            "/v1/sessions/s/else/more",
        ] {
            assert_eq!(Listed::of(&Method::GET, path), None);
        }
        assert_eq!(Listed::of(&Method::POST, "/v1/responses"), None);
    }
}
