//! What went wrong with the site or a login, in the terms the exchange decides by and the client reads.

use std::time::Duration;

use crate::actors::address::Unavailable;
use crate::actors::credentials::{LoginState, NoLogin};
use crate::limits::qwen::{SOON, THROTTLED};
use crate::protocol::openai::error::UpstreamFault;
use crate::protocol::qwen::refusal::{Refusal, RefusalKind};
use crate::providers::UpstreamError;
use crate::providers::qwen::PROVIDER;

/// How to log in, for every error that only a login mends.
pub(crate) const HOW: &str = "store one with POST /api/qwen/credentials on the management port \
                              ({\"token\":...,\"cookies\":...} of your own chat.qwen.ai session)";

/// The site refused.
pub(crate) fn refused(refusal: &Refusal) -> UpstreamError {
    let (kind, message) = match refusal.kind {
        RefusalKind::Unauthorized => (
            "authentication_error",
            format!("the stored Qwen login was rejected or has expired; {HOW}"),
        ),
        RefusalKind::Challenge => (
            "permission_error",
            format!(
                "chat.qwen.ai asks for a check; open it in your browser, pass the check, then {HOW}"
            ),
        ),
        RefusalKind::RateLimited | RefusalKind::Parallel | RefusalKind::Quota => {
            ("rate_limit_error", refusal.message.clone())
        }
        RefusalKind::ModelNotFound => ("not_found_error", refusal.message.clone()),
        RefusalKind::ContentFilter | RefusalKind::TooLong => {
            ("invalid_request_error", refusal.message.clone())
        }
        RefusalKind::Busy
        | RefusalKind::ChatInProgress
        | RefusalKind::ChatGone
        | RefusalKind::BadRequest
        | RefusalKind::Internal
        | RefusalKind::BadAnswer => ("qwen_api_error", refusal.message.clone()),
    };
    fault(
        refusal.kind.status(),
        kind,
        refusal.kind.code(),
        message,
        refusal.retry_after_s.map(Duration::from_secs),
        refusal.kind.is_retryable(),
    )
}

/// There is no login that may be used.
pub(crate) fn no_login(none: &NoLogin) -> UpstreamError {
    match none {
        NoLogin::Missing => {
            let message = format!("Qwen credentials not configured; {HOW}");
            fault(
                401,
                "authentication_error",
                "missing_credentials",
                message,
                None,
                false,
            )
        }
        NoLogin::Unusable(LoginState::Challenged) => {
            let message = format!(
                "chat.qwen.ai asks for a check; open it in your browser, pass the check, then {HOW}"
            );
            fault(
                403,
                "permission_error",
                "qwen_challenge",
                message,
                None,
                false,
            )
        }
        NoLogin::Unusable(_) => {
            let message = format!("{none}; {HOW}");
            fault(
                401,
                "authentication_error",
                "credentials_rejected",
                message,
                None,
                false,
            )
        }
        NoLogin::Limited { retry_after } => fault(
            429,
            "rate_limit_error",
            "qwen_rate_limited",
            none.to_string(),
            Some(*retry_after),
            true,
        ),
    }
}

/// An actor of ours gave no answer.
pub(crate) fn unavailable(reason: &Unavailable) -> UpstreamError {
    let message = format!("{reason}; try again shortly");
    fault(
        503,
        "server_error",
        "unavailable",
        message,
        Some(SOON),
        true,
    )
}

/// The site answered with nothing at all: it throttles without saying so (annex A4).
pub(crate) fn nothing() -> UpstreamError {
    let message =
        "Qwen gave an empty answer, which it does to logins that ask too much; try again shortly"
            .to_owned();
    fault(
        429,
        "rate_limit_error",
        "qwen_throttled",
        message,
        Some(THROTTLED),
        true,
    )
}

/// The request asks for what the site cannot do.
pub(crate) fn invalid(message: &str) -> UpstreamError {
    fault(
        400,
        "invalid_request_error",
        "invalid_request",
        message.to_owned(),
        None,
        false,
    )
}

fn fault(
    status: u16,
    kind: &str,
    code: &str,
    message: String,
    retry_after: Option<Duration>,
    should_retry: bool,
) -> UpstreamError {
    let fault = UpstreamFault {
        message,
        kind: Some(kind.into()),
        code: Some(code.into()),
        status: Some(status),
    };
    UpstreamError::Status {
        provider: PROVIDER.into(),
        status,
        fault,
        retry_after,
        should_retry: Some(should_retry),
    }
}
