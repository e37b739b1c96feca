//! What the layers below say went wrong, as errors of a client.

use hyper::StatusCode;
use serde_json::json;

use super::ApiError;
use super::told::{INVALID, Told};
use crate::actors::address::Unavailable;
use crate::actors::backups::BackupError;
use crate::actors::database::StoreError;
use crate::actors::root::RestartError;
use crate::actors::router::resolve::NoTarget;
use crate::db::error::DbError;
use crate::exchange::Refusal;
use crate::exchange::record::client_status;
use crate::limits::connections::SOON;
use crate::providers::UpstreamError;

pub(super) fn no_target(reason: &NoTarget) -> Told {
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

pub(super) fn upstream(error: &UpstreamError, attempts: u32) -> Told {
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

pub(super) fn unavailable(reason: &Unavailable) -> Told {
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

pub(super) fn db(error: &DbError) -> Told {
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
