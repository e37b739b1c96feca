//! Who may ask: requests that name this machine, and pages that are ours or listed (reliability contract, S2 and S3).
//!
//! A page anywhere on the web can make a browser send requests here, and can name its own host so that it resolves to
//! 127.0.0.1. The `host` header gives the second away, `origin` and `sec-fetch-site` the first.

use std::net::IpAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, StatusCode};

use crate::http::access::Peer;
use crate::http::dashboard;
use crate::http::error::ApiError;
use crate::settings::{CORS_ORIGINS, SERVER_HOST, SERVER_HOST_NAMES, Settings};

const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// What a listed page may send and read.
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
const SENT: [&str; 9] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "x-api-key",
    "x-request-id",
    "x-session-id",
];
const READ: &str = "etag, location, retry-after, x-request-id, x-should-retry, idempotent-replayed, \
    x-qwarden-provider, x-qwarden-model, x-qwarden-attempts, x-qwarden-ignored";
/// Seconds for which a browser need not ask again.
const PREFLIGHT_LASTS: &str = "600";
const ASKS_FOR_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The page a request comes from, where that is told.
pub(crate) enum Page {
    /// None, or one that does not say so.
    Untold,
    /// One of ours.
    Own,
    /// One of another origin that is listed.
    Listed(HeaderValue),
}

/// Lets a request in, or says why not.
pub(crate) fn admit(request: &Request, settings: &Settings) -> Result<Page, ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(ApiError::Host { got: None });
    };
    let host = host.to_str().unwrap_or_default();
    let authority = request
        .uri()
        .authority()
        .map_or(host, |authority| authority.as_str());
    let called = Peer::in_request(request.extensions()).local;
    if !is_served(host, settings, called) || !is_served(authority, settings, called) {
        return Err(ApiError::Host {
            got: Some(host.to_owned()),
        });
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    if let Some(sent) = origins.next() {
        let origin = sent.to_str().unwrap_or_default();
        let is_alone = origins.next().is_none();
        if is_alone && origin == format!("http://{host}") {
            return Ok(Page::Own);
        }
        if is_alone && settings.list(CORS_ORIGINS).any(|listed| listed == origin) {
            return Ok(Page::Listed(sent.clone()));
        }
        return Err(ApiError::Origin {
            got: origin.to_owned(),
        });
    }
    let site = headers
        .get("sec-fetch-site")
        .and_then(|site| site.to_str().ok());
    if matches!(site, Some("cross-site" | "same-site")) && !dashboard::is_navigation(request) {
        return Err(ApiError::Origin {
            got: "another site".into(),
        });
    }
    Ok(Page::Untold)
}

impl Page {
    /// The answer to a browser that asks before it sends; none when this request asks for something else.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let is_preflight = request.method() == Method::OPTIONS
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && !matches!(self, Self::Untold);
        if !is_preflight {
            return None;
        }
        let asked = headers
            .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .map(|name| name.trim().to_ascii_lowercase());
        let allowed: Vec<String> = asked.filter(|name| SENT.contains(&name.as_str())).collect();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        );
        if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", "))
            && !allowed.is_empty()
        {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        answer.insert(
            ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static(PREFLIGHT_LASTS),
        );
        if headers.contains_key(ASKS_FOR_PRIVATE) {
            answer.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
        }
        Some(response)
    }

    /// Lets the page read the answer.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let Self::Listed(origin) = self else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(READ),
        );
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
}

/// A name of ours, or the address that was called: no name leads a browser to that one.
fn is_served(host: &str, settings: &Settings, called: IpAddr) -> bool {
    let name = without_port(host);
    // The name that the user gave as the address to listen on is one of ours, too.
    let listed = settings
        .list(SERVER_HOST_NAMES)
        .chain(settings.text(SERVER_HOST));
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    is_local(host)
        || listed
            .filter(|listed| !listed.is_empty())
            .any(|listed| name.eq_ignore_ascii_case(listed))
        || address.is_ok_and(|address| address == called && !called.is_unspecified())
}

/// Any port is fine, so that a forwarded port works.
fn is_local(host: &str) -> bool {
    let name = without_port(host);
    LOCAL.iter().any(|local| name.eq_ignore_ascii_case(local))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon)
            if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit())
                && !host[..colon].is_empty() =>
        {
            &host[..colon]
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:9",
            "[::1]:3002",
            "[::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:3001",
            "127.0.0.1.nip.io",
            "",
            ":3001",
            "192.168.1.2",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
