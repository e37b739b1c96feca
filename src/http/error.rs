//! Every error a client can get: one table from cause to status, type, code, words and whether to try again.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{HeaderValue, SET_COOKIE, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use crate::actors::address::Unavailable;
use crate::actors::backups::BackupError;
use crate::actors::database::StoreError;
use crate::actors::ports::PortTaken;
use crate::actors::root::RestartError;
use crate::actors::router::resolve::NoTarget;
use crate::db::error::DbError;
use crate::exchange::record::client_status;
use crate::exchange::{NobodyTakesIt, Refusal};
use crate::protocol::dialect::Dialect;
use crate::protocol::openai::request::FieldError;
use crate::providers::UpstreamError;

/// A failed request.
#[derive(Clone, Debug)]
pub(crate) enum ApiError {
    /// A completion request with these faults.
    Fields(Vec<FieldError>),
    /// A management body with these faults.
    Validation(Vec<String>),
    Query {
        param: &'static str,
        code: &'static str,
        message: String,
    },
    NoRoute {
        method: String,
        path: String,
    },
    Method {
        method: String,
        path: String,
    },
    MediaType {
        got: Option<String>,
    },
    Encoding {
        got: String,
    },
    TooLarge {
        limit: usize,
    },
    /// The path and the query are longer than this.
    TargetTooLong {
        limit: usize,
    },
    HeadersTooLarge,
    /// Its path or its query cannot be decoded.
    Unreadable,
    BodyBroken,
    BodyTooSlow,
    Host {
        got: Option<String>,
    },
    Origin {
        got: String,
    },
    ProviderNotFound {
        id: String,
    },
    ProviderExists {
        id: String,
    },
    ProviderNameExists {
        name: String,
    },
    ProviderActive {
        id: String,
    },
    InvalidConfig(Vec<(String, String)>),
    /// Well formed, but it would not do; the code says what.
    Unfit {
        code: &'static str,
        faults: Vec<String>,
    },
    RequestNotFound {
        id: String,
    },
    /// It was not recorded.
    RecordingNotFound {
        id: String,
    },
    /// What is recorded is not enough.
    NotReplayable {
        reason: String,
    },
    /// One is under way.
    ImportRunning,
    /// One is under way.
    BackupRunning,
    SessionNotFound {
        id: String,
    },
    UnknownSetting {
        key: String,
    },
    /// There is nothing of that name; the code says what was meant.
    Missing {
        code: &'static str,
        message: String,
    },
    /// It is there already, or in use.
    Taken {
        code: &'static str,
        message: String,
    },
    /// `If-Match` names another state than the one there is.
    Changed,
    /// The key came before, with another body.
    IdempotencyConflict {
        key: String,
    },
    Forbidden {
        code: &'static str,
        message: String,
    },
    /// No token or key, or a wrong one.
    Unauthorized {
        kind: &'static str,
        code: &'static str,
        message: String,
        /// A cookie that is of no use any more is taken back.
        forget: Option<&'static str>,
    },
    /// Too often, in words.
    TooMany {
        code: &'static str,
        message: String,
        after: Duration,
    },
    ProviderDisabled {
        id: String,
    },
    /// Well-formed, but it cannot be put to use.
    Unusable {
        param: &'static str,
        message: String,
    },
    CredentialsExpired,
    /// There is no login at chat.qwen.ai.
    LoginMissing,
    ModelNotFound {
        id: String,
        closest: Vec<String>,
    },
    NoTarget(NoTarget),
    Upstream {
        error: Box<UpstreamError>,
        attempts: u32,
    },
    /// Every target is closed.
    Closed(NobodyTakesIt),
    Unavailable(Unavailable),
    Db(DbError),
    UnknownActor(String),
    PortTaken(PortTaken),
    Overloaded,
    ShuttingDown,
    Internal,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    After(Duration),
    /// So late that no client should wait for it.
    Later(Duration),
}

/// An error as the client reads it.
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) errors: Vec<String>,
    pub(crate) details: Option<Value>,
    pub(crate) retry: Retry,
}

/// When a passing error says nothing of its own about when to come back.
const SOON: Duration = Duration::from_secs(1);
/// Longer than that a client should not be kept waiting for its turn.
const PATIENCE: Duration = Duration::from_mins(1);
const INVALID: &str = "invalid_request_error";

impl Told {
    fn new(status: StatusCode, kind: &str, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.into(),
            code: code.into(),
            message: message.into(),
            param: None,
            errors: Vec::new(),
            details: None,
            retry: Retry::Never,
        }
    }

    fn param(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    fn retry(self, after: Duration) -> Self {
        Self {
            retry: Retry::After(after),
            ..self
        }
    }

    fn retry_or_later(self, after: Duration) -> Self {
        let retry = if after > PATIENCE {
            Retry::Later(after)
        } else {
            Retry::After(after)
        };
        Self { retry, ..self }
    }

    fn details(self, details: Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    fn errors(self, errors: Vec<String>) -> Self {
        Self { errors, ..self }
    }

    /// `{"error":{..},"message","requestId"}` (management contract, 0.2).
    pub(crate) fn body(&self, request_id: &str) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "param": self.param,
        });
        if !self.errors.is_empty() {
            error["errors"] = json!(self.errors);
        }
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({"error": error, "message": self.message, "requestId": request_id})
    }

    /// The body in the words of the client's dialect.
    pub(crate) fn body_in(&self, dialect: Dialect, request_id: &str) -> Value {
        match dialect {
            Dialect::Chat | Dialect::Responses => self.body(request_id),
            // Its SDKs read `error.type`, and show `error.message`.
            Dialect::Anthropic => json!({
                "type": "error",
                "error": {
                    "type": anthropic_type(self.status.as_u16()),
                    "message": self.message,
                    "code": self.code,
                },
                "request_id": request_id,
            }),
            Dialect::Ollama => json!({"error": self.message}),
        }
    }
}

/// The type of an error with this status in Anthropic's dialect (its documentation, "Errors").
pub(crate) fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        status if status < 500 => "invalid_request_error",
        _ => "api_error",
    }
}

impl ApiError {
    /// The table.
    pub(crate) fn told(&self) -> Told {
        use StatusCode as S;
        match self {
            Self::Fields(faults) => {
                let messages: Vec<String> =
                    faults.iter().map(|fault| fault.message.clone()).collect();
                let first = faults.first();
                let mut told = Told::new(
                    S::BAD_REQUEST,
                    INVALID,
                    first.map_or("invalid_request", |f| f.code),
                    messages.join("; "),
                );
                told.param = first.and_then(|fault| fault.param.clone());
                told.errors(messages)
            }
            Self::Validation(messages) => {
                let message = format!("validation failed: {}", messages.join("; "));
                Told::new(
                    S::BAD_REQUEST,
                    "validation_error",
                    "invalid_request",
                    message,
                )
                .errors(messages.clone())
            }
            Self::Query {
                param,
                code,
                message,
            } => Told::new(S::BAD_REQUEST, "validation_error", code, message.clone()).param(*param),
            Self::NoRoute { method, path } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "not_found",
                format!("route not found: {method} {path}; GET / lists what is served here"),
            ),
            Self::Method { method, path } => Told::new(
                S::METHOD_NOT_ALLOWED,
                INVALID,
                "method_not_allowed",
                format!("{path} does not take {method}; the `allow` header lists what it takes"),
            ),
            Self::MediaType { got } => {
                let got = got.as_deref().unwrap_or("none");
                Told::new(
                    S::UNSUPPORTED_MEDIA_TYPE,
                    INVALID,
                    "unsupported_media_type",
                    format!("send `content-type: application/json`; got {got}"),
                )
            }
            Self::Encoding { got } => Told::new(
                S::UNSUPPORTED_MEDIA_TYPE,
                INVALID,
                "unsupported_encoding",
                format!("send the body without `content-encoding`; got {got}"),
            ),
            Self::TooLarge { limit } => Told::new(
                S::PAYLOAD_TOO_LARGE,
                INVALID,
                "request_too_large",
                format!("the body is longer than the limit of {limit} bytes"),
            )
            .details(json!({"limit_bytes": limit})),
            Self::TargetTooLong { limit } => Told::new(
                S::URI_TOO_LONG,
                INVALID,
                "target_too_long",
                format!("the path and the query are longer than the limit of {limit} bytes"),
            )
            .details(json!({"limit_bytes": limit})),
            Self::HeadersTooLarge => Told::new(
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                INVALID,
                "headers_too_large",
                "the headers are more than 100, or longer than 64 KiB",
            ),
            Self::Unreadable => Told::new(
                S::BAD_REQUEST,
                INVALID,
                "invalid_request",
                "the path or the query cannot be read; percent-encode them as UTF-8",
            ),
            Self::BodyBroken => Told::new(
                S::BAD_REQUEST,
                INVALID,
                "invalid_body",
                "the body ended early or is not framed as HTTP/1.1 asks",
            ),
            Self::BodyTooSlow => Told::new(
                S::REQUEST_TIMEOUT,
                INVALID,
                "body_timeout",
                "the body stalled; send the request again",
            )
            .retry(SOON),
            Self::Host { got: None } => Told::new(
                S::BAD_REQUEST,
                INVALID,
                "invalid_host",
                "send exactly one `host` header",
            ),
            Self::Host { got: Some(got) } => Told::new(
                S::FORBIDDEN,
                "permission_error",
                "host_not_allowed",
                format!("the host `{got}` is not served here; use localhost or 127.0.0.1"),
            ),
            Self::Origin { got } => Told::new(
                S::FORBIDDEN,
                "permission_error",
                "origin_not_allowed",
                format!("pages of `{got}` may not use this gateway"),
            ),
            Self::ProviderNotFound { id } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "provider_not_found",
                format!("there is no provider `{id}`; GET /api/providers lists them"),
            ),
            Self::ProviderExists { id } => Told::new(
                S::CONFLICT,
                "conflict_error",
                "provider_exists",
                format!("the provider id `{id}` is taken; choose another id"),
            )
            .param("id"),
            Self::ProviderNameExists { name } => Told::new(
                S::CONFLICT,
                "conflict_error",
                "provider_name_exists",
                format!("the provider name `{name}` is taken; choose another name"),
            )
            .param("name"),
            Self::ProviderActive { id } => Told::new(
                S::CONFLICT,
                "conflict_error",
                "provider_active",
                format!(
                    "`{id}` is the active provider; choose another one first, or repeat with `?force=true`"
                ),
            ),
            Self::InvalidConfig(faults) => {
                let messages: Vec<String> = faults
                    .iter()
                    .map(|(key, why)| format!("config.{key} {why}"))
                    .collect();
                let mut told = Told::new(
                    S::UNPROCESSABLE_ENTITY,
                    "validation_error",
                    "invalid_config",
                    messages.join("; "),
                );
                told.param = faults.first().map(|(key, _)| format!("config.{key}"));
                told.errors(messages)
            }
            Self::Unfit { code, faults } => Told::new(
                S::UNPROCESSABLE_ENTITY,
                "validation_error",
                code,
                format!("validation failed: {}", faults.join("; ")),
            )
            .errors(faults.clone()),
            Self::RequestNotFound { id } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "request_not_found",
                format!("there is no request `{id}`"),
            ),
            Self::RecordingNotFound { id } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "recording_not_found",
                format!(
                    "the request `{id}` was not recorded; set `history.record`, or send `x-qwarden-record: true`"
                ),
            ),
            Self::NotReplayable { reason } => Told::new(
                S::UNPROCESSABLE_ENTITY,
                "invalid_request_error",
                "recording_not_replayable",
                reason.clone(),
            ),
            Self::UnknownSetting { key } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "unknown_setting",
                format!("there is no setting `{key}`; GET /api/settings lists them"),
            ),
            Self::Unusable { param, message } => Told {
                param: Some((*param).to_owned()),
                ..Told::new(
                    S::UNPROCESSABLE_ENTITY,
                    "validation_error",
                    "unusable_value",
                    message.clone(),
                )
            },
            Self::Missing { code, message } => {
                Told::new(S::NOT_FOUND, "not_found_error", code, message.clone())
            }
            Self::Taken { code, message } => {
                Told::new(S::CONFLICT, "conflict_error", code, message.clone())
            }
            Self::Changed => Told::new(
                S::PRECONDITION_FAILED,
                "conflict_error",
                "precondition_failed",
                "it was changed since; read it again and repeat with its new `etag` in `if-match`",
            ),
            Self::IdempotencyConflict { key } => Told::new(
                S::CONFLICT,
                "conflict_error",
                "idempotency_conflict",
                format!(
                    "the idempotency key `{key}` came before with another body; make a new key for a new request"
                ),
            ),
            Self::Forbidden { code, message } => {
                Told::new(S::FORBIDDEN, "permission_error", code, message.clone())
            }
            Self::Unauthorized {
                kind,
                code,
                message,
                ..
            } => Told::new(S::UNAUTHORIZED, kind, code, message.clone()),
            Self::TooMany {
                code,
                message,
                after,
            } => Told::new(
                S::TOO_MANY_REQUESTS,
                "rate_limit_error",
                code,
                message.clone(),
            )
            .retry_or_later(*after),
            Self::ProviderDisabled { id } => Told::new(
                S::BAD_REQUEST,
                "provider_disabled_error",
                "provider_disabled",
                format!("provider `{id}` is disabled; POST /api/providers/{id}/enable enables it"),
            ),
            Self::ImportRunning => Told::new(
                S::CONFLICT,
                "conflict_error",
                "import_running",
                "an import is under way; ask again when it has ended",
            ),
            Self::BackupRunning => Told::new(
                S::CONFLICT,
                "conflict_error",
                "backup_running",
                "a backup is under way; ask again when it has ended",
            ),
            Self::SessionNotFound { id } => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "session_not_found",
                format!("there is no session `{id}`"),
            ),
            Self::LoginMissing => Told::new(
                S::UNAUTHORIZED,
                "authentication_error",
                "missing_credentials",
                "Qwen credentials not configured. POST a login to /api/qwen/credentials on the management port",
            ),
            Self::CredentialsExpired => Told::new(
                S::UNPROCESSABLE_ENTITY,
                "validation_error",
                "credentials_expired",
                "this login has expired already; log in at chat.qwen.ai again and store the new session",
            ),
            Self::ModelNotFound { id, closest } => {
                let no_target = NoTarget::UnknownModel {
                    model: id.clone(),
                    closest: closest.clone(),
                    trouble: Vec::new(),
                };
                Self::NoTarget(no_target).told()
            }
            Self::NoTarget(reason) => no_target(reason),
            Self::Upstream { error, attempts } => upstream(error, *attempts),
            Self::Closed(nobody) => Told::new(
                StatusCode::from_u16(nobody.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                if nobody.status == 429 {
                    "rate_limit_error"
                } else {
                    "overloaded_error"
                },
                nobody.code,
                &nobody.message,
            )
            .retry(nobody.retry_after),
            Self::Unavailable(reason) => unavailable(reason),
            Self::Db(error) => db(error),
            Self::UnknownActor(message) => Told::new(
                S::NOT_FOUND,
                "not_found_error",
                "actor_not_found",
                message.clone(),
            ),
            Self::PortTaken(taken) => Told::new(
                S::CONFLICT,
                "conflict_error",
                "port_in_use",
                taken.to_string(),
            )
            .details(json!({"port": taken.address.port()})),
            Self::Overloaded => Told::new(
                S::SERVICE_UNAVAILABLE,
                "overloaded_error",
                "overloaded",
                "too many completions run at once; try again shortly",
            )
            .retry(SOON),
            Self::ShuttingDown => Told::new(
                S::SERVICE_UNAVAILABLE,
                "server_error",
                "server_shutdown",
                "the gateway is shutting down; send the request again",
            )
            .retry(SOON),
            Self::Internal => Told::new(
                S::INTERNAL_SERVER_ERROR,
                "internal_error",
                "internal_error",
                "the gateway failed at this request; its log has the details under the request id",
            ),
        }
    }
}

fn no_target(reason: &NoTarget) -> Told {
    let (status, code, param) = match reason {
        NoTarget::UnknownModel { .. } => (StatusCode::NOT_FOUND, "model_not_found", Some("model")),
        NoTarget::UnknownProvider { .. } => {
            (StatusCode::NOT_FOUND, "provider_not_found", Some("model"))
        }
        NoTarget::ProviderDisabled { .. } => {
            (StatusCode::NOT_FOUND, "provider_disabled", Some("model"))
        }
        NoTarget::Misconfigured { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_config", None)
        }
        NoTarget::NoModel => (StatusCode::BAD_REQUEST, "missing_model", Some("model")),
    };
    let mut told = Told::new(status, INVALID, code, reason.to_string());
    told.param = param.map(str::to_owned);
    told
}

fn upstream(error: &UpstreamError, attempts: u32) -> Told {
    let status = StatusCode::from_u16(client_status(error)).unwrap_or(StatusCode::BAD_GATEWAY);
    let kind = match status.as_u16() {
        429 => "rate_limit_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        504 => "timeout_error",
        502 | 503 => "connection_error",
        _ => "provider_error",
    };
    let (kind, code, message) = match error.fault() {
        Some(fault) => (
            fault.kind.clone().unwrap_or_else(|| kind.to_owned()),
            fault
                .code
                .clone()
                .unwrap_or_else(|| error.code().to_owned()),
            fault.message.clone(),
        ),
        None => (kind.to_owned(), error.code().to_owned(), error.to_string()),
    };
    let details = json!({"provider": error.provider(), "upstream_status": error.status(), "attempts": attempts});
    let told = Told::new(status, &kind, &code, message).details(details);
    if error.is_retryable() {
        told.retry(error.retry_after().unwrap_or(SOON))
    } else {
        told
    }
}

fn unavailable(reason: &Unavailable) -> Told {
    let after = match reason {
        Unavailable::Melted { retry_after, .. } => (*retry_after).max(SOON),
        _ => SOON,
    };
    Told::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "server_error",
        "unavailable",
        format!("{reason}; try again shortly"),
    )
    .retry(after)
}

fn db(error: &DbError) -> Told {
    match error {
        DbError::Conflict { .. } => Told::new(
            StatusCode::CONFLICT,
            "conflict_error",
            "conflict",
            error.to_string(),
        ),
        DbError::Missing { .. } => Told::new(
            StatusCode::NOT_FOUND,
            "not_found_error",
            "not_found",
            error.to_string(),
        ),
        DbError::Invalid(_) => Told::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "validation_error",
            "invalid_value",
            error.to_string(),
        ),
        DbError::NotImportable(_) | DbError::Unwritable(_) | DbError::NotRestorable(_) => {
            Told::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_error",
                error.code(),
                error.to_string(),
            )
            .param("path")
        }
        DbError::Busy
        | DbError::Full
        | DbError::ReadOnly
        | DbError::Io(_)
        | DbError::Corrupt(_)
        | DbError::Lost(_)
        | DbError::LogLost(_)
        | DbError::Unreadable(_)
        | DbError::Closed
        | DbError::NewerSchema { .. }
        | DbError::Other(_) => Told::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            error.code(),
            error.to_string(),
        )
        .retry(SOON),
    }
}

impl IntoResponse for ApiError {
    /// Only marks the response: the outermost layer knows the request id and writes the body.
    fn into_response(self) -> Response {
        let mut response = self.told().status.into_response();
        if let Self::Unauthorized { forget, .. } = &self {
            let headers = response.headers_mut();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            if let Some(cookie) = forget {
                headers.insert(SET_COOKIE, HeaderValue::from_static(cookie));
            }
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Unavailable> for ApiError {
    fn from(reason: Unavailable) -> Self {
        Self::Unavailable(reason)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Db(error) => Self::Db(error),
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Running => Self::BackupRunning,
            BackupError::Store(error) => error.into(),
        }
    }
}

impl From<RestartError> for ApiError {
    fn from(error: RestartError) -> Self {
        match error {
            RestartError::Unknown { .. } => Self::UnknownActor(error.to_string()),
            RestartError::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoTarget(reason) => Self::NoTarget(reason),
            Refusal::Upstream { error, attempts } => Self::Upstream {
                error: Box::new(error),
                attempts,
            },
            Refusal::Closed(nobody) => Self::Closed(nobody),
            Refusal::Unavailable(reason) => Self::Unavailable(reason),
            Refusal::Overloaded => Self::Overloaded,
            Refusal::ShuttingDown => Self::ShuttingDown,
            Refusal::Broken => Self::Internal,
        }
    }
}
