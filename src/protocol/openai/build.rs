//! Writing chat chunks and completions, for adapters whose upstream does not speak this format.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::chunk::Usage;
use crate::protocol::dialect::extra;

/// What every chunk of one answer repeats.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Unix seconds.
    pub(crate) created: u64,
}

/// One choice's new part; absent fields are not written.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<CallDelta>,
}

impl Delta {
    /// What the first chunk of an answer carries.
    pub(crate) fn role() -> Self {
        Self {
            role: Some("assistant"),
            content: Some(String::new()),
            ..Self::default()
        }
    }

    pub(crate) fn content(text: impl Into<String>) -> Self {
        Self {
            content: Some(text.into()),
            ..Self::default()
        }
    }

    pub(crate) fn reasoning(text: impl Into<String>) -> Self {
        Self {
            reasoning_content: Some(text.into()),
            ..Self::default()
        }
    }

    pub(crate) fn call(call: CallDelta) -> Self {
        Self {
            tool_calls: vec![call],
            ..Self::default()
        }
    }
}

/// A piece of a tool call; the first one of a call carries id, type and name.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct CallDelta {
    pub(crate) index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    pub(crate) function: FunctionDelta,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct FunctionDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) arguments: String,
}

impl CallDelta {
    /// The first piece of a call.
    pub(crate) fn start(index: u64, id: String, name: String) -> Self {
        let function = FunctionDelta {
            name: Some(name),
            arguments: String::new(),
        };
        Self {
            index,
            id: Some(id),
            kind: Some("function"),
            function,
        }
    }

    /// A later piece: a fragment of the arguments' JSON text.
    pub(crate) fn arguments(index: u64, fragment: String) -> Self {
        Self {
            index,
            function: FunctionDelta {
                name: None,
                arguments: fragment,
            },
            ..Self::default()
        }
    }
}

/// A `chat.completion.chunk` of choice 0.
pub(crate) fn chunk(head: &Head, delta: &Delta, finish_reason: Option<&str>) -> String {
    json!({
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish_reason }],
    })
    .to_string()
}

/// The chunk that only carries usage; sent when the client asked for it.
pub(crate) fn usage_chunk(head: &Head, usage: &Usage) -> String {
    json!({
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "choices": [],
        "usage": usage_json(usage),
    })
    .to_string()
}

/// A `usage` object. The three counts the SDKs require are always there.
pub(crate) fn usage_json(usage: &Usage) -> Value {
    let (prompt, completion) = (usage.prompt.unwrap_or(0), usage.completion.unwrap_or(0));
    let mut out = Map::new();
    out.insert("prompt_tokens".into(), json!(prompt));
    out.insert("completion_tokens".into(), json!(completion));
    out.insert(
        "total_tokens".into(),
        json!(usage.total.unwrap_or(prompt.saturating_add(completion))),
    );
    if let Some(cached) = usage.cached {
        out.insert(
            "prompt_tokens_details".into(),
            json!({ "cached_tokens": cached }),
        );
    }
    if let Some(reasoning) = usage.reasoning {
        out.insert(
            "completion_tokens_details".into(),
            json!({ "reasoning_tokens": reasoning }),
        );
    }
    if usage.is_estimated {
        out.insert(extra::ESTIMATED.into(), json!(true));
    }
    Value::Object(out)
}

/// The error object of a stream or a body.
pub(crate) fn error(message: &str, kind: &str, code: Option<&str>) -> String {
    json!({ "error": { "message": message, "type": kind, "code": code, "param": null } })
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::super::chunk::scan;
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let head = Head {
            id: "c".into(),
            model: "m".into(),
            created: 1,
        };
        let first = scan(&chunk(&head, &Delta::role(), None)).unwrap();
        assert!(first.choices[0].has_role && !first.has_content());
        let call = Delta::call(CallDelta::start(0, "t".into(), "f".into()));
        assert_eq!(
            scan(&chunk(&head, &call, Some("tool_calls")))
                .unwrap()
                .choices[0]
                .finish_reason
                .as_deref(),
            Some("tool_calls")
        );
        let usage = Usage {
            prompt: Some(1),
            completion: Some(2),
            total: Some(3),
            cached: Some(0),
            cache_write: None,
            is_estimated: false,
            reasoning: Some(0),
        };
        assert_eq!(
            scan(&usage_chunk(&head, &usage)).unwrap().usage,
            Some(usage)
        );
        assert_eq!(
            scan(&error("no", "server_error", None))
                .unwrap()
                .error
                .unwrap()
                .kind
                .as_deref(),
            Some("server_error")
        );
        assert!(!chunk(&head, &Delta::content("a"), None).contains("tool_calls"));
    }
}
