//! Reading answers over HTTP: bodies with a cap and a clock, and the headers that matter.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream;
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout;

use super::error::{Phase, UpstreamError};
use super::http::reason;
use super::quota;
use super::{Answer, AnswerHeaders, ByteStream, tape};
use crate::clock;
use crate::limits::upstreams::{ERROR_LIMIT, ERROR_TIME, RETRY_AFTER_LIMIT};
use crate::protocol::openai::error::{self, UpstreamFault};

/// What a body is, by its `content-type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContentType {
    EventStream,
    Missing,
    /// The type without parameters, in lower case.
    Other(String),
}

pub(super) fn content_type(headers: &HeaderMap) -> ContentType {
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = text
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        "" => ContentType::Missing,
        "text/event-stream" => ContentType::EventStream,
        _ => ContentType::Other(kind.chars().take(80).collect()),
    }
}

pub(super) fn answer_headers(headers: &HeaderMap) -> AnswerHeaders {
    let names = [
        "x-request-id",
        "request-id",
        "x-oneapi-request-id",
        "cf-ray",
    ];
    let id = names
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok());
    AnswerHeaders {
        upstream_request_id: id
            .filter(|id| !id.is_empty())
            .map(|id| id.chars().take(200).collect()),
        used_up_for: quota::used_up_for(headers, clock::now_ms()),
        ..AnswerHeaders::default()
    }
}

/// The events of an answer. What is none, though the status says that it is one, becomes a typed error.
pub(super) async fn event_stream(
    provider: String,
    mut response: Response,
    idle: Duration,
) -> Result<Answer, UpstreamError> {
    let (status, headers) = (
        response.status().as_u16(),
        answer_headers(response.headers()),
    );
    let kind = content_type(response.headers());
    let first = match &kind {
        ContentType::Missing => next_chunk(&provider, &mut response, idle).await?,
        ContentType::EventStream | ContentType::Other(_) => None,
    };
    if kind == ContentType::EventStream || first.as_deref().is_some_and(looks_like_events) {
        return Ok(Answer::Stream {
            status,
            headers,
            bytes: byte_stream(provider, first, response, idle),
        });
    }
    let body = collect_error(&mut response, first).await;
    let what = match &kind {
        ContentType::Other(kind) => format!("`{kind}` instead of an event stream"),
        ContentType::Missing | ContentType::EventStream => {
            "something else than an event stream".to_owned()
        }
    };
    Err(not_an_answer(provider, &body, &what))
}

/// Whether a body without a content type begins like server-sent events.
fn looks_like_events(first: &[u8]) -> bool {
    let start = first
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(first)
        .trim_ascii_start();
    [b"data:".as_slice(), b"event:", b"id:", b"retry:", b":"]
        .iter()
        .any(|field| start.starts_with(field))
}

/// The rest of a body as a stream; an upstream that says nothing for `idle` ends it with an error.
pub(super) fn byte_stream(
    provider: String,
    first: Option<Bytes>,
    mut response: Response,
    idle: Duration,
) -> ByteStream {
    // They lie in what was read from the connection, which would have to keep that beside what it reads next.
    *response.headers_mut() = HeaderMap::new();
    let rest = stream::unfold(Some((provider, response)), move |state| async move {
        let (provider, mut response) = state?;
        match next_chunk(&provider, &mut response, idle).await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some((provider, response)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    stream::iter(first.map(Ok)).chain(rest).boxed()
}

/// The next piece that is not empty; None at the end.
pub(super) async fn next_chunk(
    provider: &str,
    response: &mut Response,
    idle: Duration,
) -> Result<Option<Bytes>, UpstreamError> {
    loop {
        match timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) if chunk.is_empty() => {}
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(error)) => {
                let provider = provider.to_owned();
                return Err(match tape::silence(&error) {
                    Some(after) => UpstreamError::Timeout {
                        provider,
                        phase: Phase::Idle,
                        after,
                    },
                    None => UpstreamError::Cut {
                        provider,
                        reason: reason(error),
                    },
                });
            }
            Err(_) => {
                return Err(UpstreamError::Timeout {
                    provider: provider.to_owned(),
                    phase: Phase::Idle,
                    after: idle,
                });
            }
        }
    }
}

/// A whole body of at most `limit` bytes.
pub(super) async fn collect(
    provider: &str,
    response: &mut Response,
    limit: usize,
    idle: Duration,
) -> Result<Bytes, UpstreamError> {
    let too_large = || UpstreamError::TooLarge {
        provider: provider.to_owned(),
        limit,
    };
    let announced = response
        .content_length()
        .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced > limit {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(provider, response, idle).await? {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// As much of a body as comes within the limits for errors. Never fails: what came is better than nothing.
pub(super) async fn collect_error(response: &mut Response, first: Option<Bytes>) -> Vec<u8> {
    let mut body = first.unwrap_or_default().to_vec();
    let reading = async {
        while body.len() < ERROR_LIMIT {
            let Ok(Some(chunk)) = response.chunk().await else {
                break;
            };
            body.extend_from_slice(&chunk);
        }
    };
    // Out of time: the part that came is still read.
    let _ = timeout(ERROR_TIME, reading).await;
    body.truncate(ERROR_LIMIT);
    body
}

/// The error of an answer that is not 2xx.
pub(super) async fn status_error(provider: String, mut response: Response) -> UpstreamError {
    let status = response.status().as_u16();
    if response.status().is_redirection() {
        return UpstreamError::Malformed {
            provider,
            reason: format!("redirect refused (status {status}); check the base URL"),
        };
    }
    let headers = response.headers();
    let now = clock::now_ms();
    let retry_after = retry_after(headers)
        .or_else(|| quota::used_up_for(headers, now))
        .or_else(|| quota::reset(headers, now).filter(|_| status == 429));
    let should_retry = match response
        .headers()
        .get("x-should-retry")
        .map(reqwest::header::HeaderValue::as_bytes)
    {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        _ => None,
    };
    let body = collect_error(&mut response, None).await;
    UpstreamError::Status {
        provider,
        status,
        fault: error::read(&body),
        retry_after,
        should_retry,
    }
}

/// What a 2xx body that is not an answer amounts to. `what` says what it was, for a body without an error in it.
pub(super) fn not_an_answer(provider: String, body: &[u8], what: &str) -> UpstreamError {
    if let Some(fault) = in_band_fault(body) {
        return UpstreamError::InBand { provider, fault };
    }
    let reason = if body.trim_ascii().is_empty() {
        "an empty body".to_owned()
    } else if error::is_html(body) {
        error::read(body).message
    } else {
        what.to_owned()
    };
    UpstreamError::Malformed { provider, reason }
}

fn in_band_fault(body: &[u8]) -> Option<UpstreamFault> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    if value
        .get("choices")
        .is_some_and(|choices| !choices.is_null())
        && value.get("error").is_none_or(serde_json::Value::is_null)
    {
        return None;
    }
    error::read_value(&value)
}

/// `retry-after-ms` (`OpenAI`), else `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let seconds = |text: &str, scale: f64| {
        let number: f64 = text.parse().ok()?;
        (number >= 0.0)
            .then(|| (number / scale).min(RETRY_AFTER_LIMIT.as_secs_f64()))
            .map(Duration::from_secs_f64)
    };
    if let Some(wait) = text("retry-after-ms").and_then(|text| seconds(text, 1000.0)) {
        return Some(wait);
    }
    let text = text("retry-after")?;
    seconds(text, 1.0).or_else(|| {
        let at = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()?;
        let wait = u64::try_from(at.as_millisecond() - clock::now_ms()).unwrap_or(0);
        Some(Duration::from_millis(wait).min(RETRY_AFTER_LIMIT))
    })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn waits(name: &'static str, value: &str) -> Option<Duration> {
        retry_after(&HeaderMap::from_iter([(
            reqwest::header::HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )]))
    }

    #[test]
    fn waits_are_read_in_every_form() {
        assert_eq!(waits("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(
            waits("retry-after", "1.5"),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(
            waits("retry-after-ms", "250"),
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            waits("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO)
        );
        assert_eq!(
            waits("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT"),
            Some(RETRY_AFTER_LIMIT)
        );
        for bad in ["-1", "soon", "", "NaN"] {
            assert_eq!(waits("retry-after", bad), None, "{bad}");
        }
        assert_eq!(waits("retry-after", "1e300"), Some(RETRY_AFTER_LIMIT));
    }

    #[test]
    fn content_types_lose_their_parameters() {
        let of = |text: &str| {
            content_type(&HeaderMap::from_iter([(
                CONTENT_TYPE,
                HeaderValue::from_str(text).unwrap(),
            )]))
        };
        assert_eq!(
            of("Text/Event-Stream; charset=utf-8"),
            ContentType::EventStream
        );
        assert_eq!(
            of("application/json"),
            ContentType::Other("application/json".into())
        );
        assert_eq!(content_type(&HeaderMap::new()), ContentType::Missing);
    }
}
