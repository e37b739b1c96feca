//! Bodies: bounded, JSON only, and refused in words.

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Body as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::http::request::Parts;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::http::error::ApiError;
use crate::http::intake::Intake;
use crate::limits::connections::{
    BODY_DEADLINE, BODY_STALL, COPIED, DISCARD_DEADLINE, DISCARDED, MANAGEMENT_LIMIT,
};

/// The whole body, at most `limit` bytes, whatever it is declared to be.
pub(crate) async fn bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    not_encoded(request.headers())?;
    let intake = request.extensions().get::<Intake>().cloned();
    collected(request.into_body(), limit, intake.as_ref()).await
}

/// The whole body, at most `limit` bytes, declared to be JSON.
pub(crate) async fn json_bytes(request: Request, limit: usize) -> Result<Bytes, ApiError> {
    declared_json(request.headers())?;
    let intake = request.extensions().get::<Intake>().cloned();
    collected(request.into_body(), limit, intake.as_ref()).await
}

/// A management request with its body read; what is not empty must be declared to be JSON.
pub(crate) async fn management_body(request: Request) -> Result<(Parts, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    if !body.is_end_stream() {
        declared_json(&parts.headers)?;
    }
    let bytes = collected(body, MANAGEMENT_LIMIT, None).await?;
    Ok((parts, bytes))
}

async fn collected(
    mut body: Body,
    limit: usize,
    intake: Option<&Intake>,
) -> Result<Bytes, ApiError> {
    // A body that announces its length need not be read to know that it is too long.
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        discard(body).await;
        return Err(ApiError::TooLarge { limit });
    }
    let mut collected = Collected::Nothing;
    let until = Instant::now() + BODY_DEADLINE;
    loop {
        let patience = BODY_STALL.min(until.saturating_duration_since(Instant::now()));
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => return Err(ApiError::BodyTooSlow),
            Ok(None) => return Ok(collected.finish()),
            Ok(Some(Err(_))) => return Err(ApiError::BodyBroken),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(bytes) = frame.into_data() {
            if collected.len() + bytes.len() > limit {
                discard(body).await;
                return Err(ApiError::TooLarge { limit });
            }
            if let Some(intake) = intake
                && !intake.buffering.take(bytes.len())
            {
                intake.let_come(body);
                return Err(ApiError::BodiesFull);
            }
            collected = collected.and(bytes, body.size_hint().lower());
        }
    }
}

/// A management body: one JSON object.
pub(crate) async fn json_object(request: Request) -> Result<Map<String, Value>, ApiError> {
    let bytes = json_bytes(request, MANAGEMENT_LIMIT).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::Validation(vec![
            "the body must be a JSON object".into(),
        ])),
        // Only the place is told: serde's own words repeat the input.
        Err(error) => Err(ApiError::Validation(vec![format!(
            "the body is not JSON (line {}, column {})",
            error.line(),
            error.column()
        )])),
    }
}

/// A management body that may be left out.
pub(crate) async fn optional_object(request: Request) -> Result<Map<String, Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.map_err(|_| ApiError::BodyBroken)?;
    let bytes = bytes.to_bytes();
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    json_object(Request::from_parts(parts, bytes.into())).await
}

fn not_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING) {
        let got = encoding.to_str().unwrap_or("an unreadable one").to_owned();
        if !got.eq_ignore_ascii_case("identity") {
            return Err(ApiError::Encoding { got });
        }
    }
    Ok(())
}

fn declared_json(headers: &HeaderMap) -> Result<(), ApiError> {
    not_encoded(headers)?;
    let got = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = got.map(|got| {
        got.split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    match essence.as_deref() {
        Some("application/json") => Ok(()),
        _ => Err(ApiError::MediaType {
            got: got.map(str::to_owned),
        }),
    }
}

/// Reads what a client that is refused still sends, within bounds, and throws it away.
pub(crate) async fn discard(mut body: Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DISCARDED {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_DEADLINE, reading).await;
}

/// A body as it arrives. One that comes in one piece, as most do, is never copied.
enum Collected {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Collected {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn and(self, bytes: Bytes, expected: u64) -> Self {
        match self {
            Self::Nothing => Self::One(bytes),
            Self::One(first) => {
                let expected = usize::try_from(expected).unwrap_or_default();
                let mut many = BytesMut::with_capacity(first.len() + bytes.len() + expected);
                many.extend_from_slice(&first);
                many.extend_from_slice(&bytes);
                Self::Many(many)
            }
            Self::Many(mut many) => {
                many.extend_from_slice(&bytes);
                Self::Many(many)
            }
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            // A small one would keep the connection's whole read buffer for as long as its answer streams.
            Self::One(bytes) if bytes.len() <= COPIED => Bytes::copy_from_slice(&bytes),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}
