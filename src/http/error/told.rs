//! An error as the client reads it, in the words of its dialect.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::limits::connections::LONGEST_WAIT;
use crate::protocol::dialect::Dialect;

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

pub(super) const INVALID: &str = "invalid_request_error";

impl Told {
    pub(super) fn new(
        status: StatusCode,
        kind: &str,
        code: &str,
        message: impl Into<String>,
    ) -> Self {
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

    pub(super) fn param(self, param: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    pub(super) fn retry(self, after: Duration) -> Self {
        Self {
            retry: Retry::After(after),
            ..self
        }
    }

    pub(super) fn retry_or_later(self, after: Duration) -> Self {
        let retry = if after > LONGEST_WAIT {
            Retry::Later(after)
        } else {
            Retry::After(after)
        };
        Self { retry, ..self }
    }

    pub(super) fn details(self, details: Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    pub(super) fn errors(self, errors: Vec<String>) -> Self {
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
fn anthropic_type(status: u16) -> &'static str {
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
