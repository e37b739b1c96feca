//! The response object around what a model said.

use serde_json::{Map, Value, json};

use super::response_id;
use crate::protocol::dialect::extra;
use crate::protocol::openai::chunk::Usage;

/// What is known of a response before its answer comes.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Our id of the request.
    pub(crate) request_id: String,
    /// Unix seconds.
    pub(crate) created: i64,
    /// What it repeats of the request.
    pub(crate) echo: Map<String, Value>,
    /// The model by the name the client asked for, until the upstream tells its own.
    pub(crate) model: String,
}

/// How a response stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    InProgress,
    Completed,
    /// It ended early, for this reason.
    Incomplete(&'static str),
    Failed {
        code: String,
        message: String,
    },
    /// The client left.
    Cancelled,
}

impl Status {
    /// What a finish reason of a chat means.
    pub(crate) fn of(finish_reason: Option<&str>) -> Self {
        match finish_reason {
            Some("length" | "max_tokens") => Self::Incomplete("max_output_tokens"),
            Some("content_filter") => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Head {
    /// The whole object.
    pub(crate) fn response(
        &self,
        status: &Status,
        output: &[Value],
        usage: Option<&Value>,
    ) -> Value {
        let mut response = self.echo.clone();
        let incomplete = match status {
            Status::Incomplete(reason) => json!({"reason": reason}),
            _ => Value::Null,
        };
        let error = match status {
            Status::Failed { code, message } => json!({"code": code, "message": message}),
            _ => Value::Null,
        };
        for (key, value) in [
            ("id", json!(response_id(&self.request_id))),
            ("object", json!("response")),
            ("created_at", json!(self.created)),
            ("status", json!(status.word())),
            ("error", error),
            ("incomplete_details", incomplete),
            ("model", json!(self.model)),
            ("output", json!(output)),
            ("usage", json!(usage)),
        ] {
            response.insert(key.into(), value);
        }
        Value::Object(response)
    }
}

/// The tokens of a chat in the words of a response.
pub(super) fn usage(chat: &Usage) -> Value {
    let (input, output) = (
        chat.prompt.unwrap_or_default(),
        chat.completion.unwrap_or_default(),
    );
    let mut usage = json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": chat.cached.unwrap_or_default(),
            "cache_write_tokens": chat.cache_write.unwrap_or_default(),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": chat.reasoning.unwrap_or_default()},
        "total_tokens": chat.total.unwrap_or(input.saturating_add(output)),
    });
    if chat.is_estimated {
        usage[extra::ESTIMATED] = json!(true);
    }
    usage
}
