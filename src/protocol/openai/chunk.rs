//! Reading one event of a chat stream: what is in it, without taking offence at how it is written.

use serde::Deserialize;
use serde_json::Value;

use super::error::{self, UpstreamFault};
use super::lenient::{self, Text};
use crate::protocol::dialect::extra;

/// Tokens as the upstream counted them; None where it said nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: Option<u64>,
    pub(crate) completion: Option<u64>,
    pub(crate) total: Option<u64>,
    /// The part of `prompt` that came from a cache.
    pub(crate) cached: Option<u64>,
    /// The part of `prompt` that was put into a cache.
    pub(crate) cache_write: Option<u64>,
    /// The part of `completion` that was reasoning.
    pub(crate) reasoning: Option<u64>,
    /// The upstream gave no counts: these are ours.
    pub(crate) is_estimated: bool,
}

impl Usage {
    /// Reads a `usage` object; None when it is not one, or names no count.
    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        let count = |path: &str| value.pointer(path).and_then(lenient::count);
        let usage = Self {
            prompt: count("/prompt_tokens").or_else(|| count("/input_tokens")),
            completion: count("/completion_tokens").or_else(|| count("/output_tokens")),
            total: count("/total_tokens"),
            // QUIRK(deepseek): the cached part has a name of its own.
            cached: count("/prompt_tokens_details/cached_tokens")
                .or_else(|| count("/prompt_cache_hit_tokens")),
            // QUIRK(openrouter): the one that tells it.
            cache_write: count("/prompt_tokens_details/cache_write_tokens"),
            reasoning: count("/completion_tokens_details/reasoning_tokens"),
            is_estimated: value.get(extra::ESTIMATED) == Some(&Value::Bool(true)),
        };
        (usage != Self::default()).then_some(usage)
    }
}

/// What one event holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scan {
    /// The end marker `[DONE]`.
    pub(crate) done: bool,
    /// An error inside the stream.
    pub(crate) error: Option<UpstreamFault>,
    pub(crate) usage: Option<Usage>,
    /// The chunk that only carries usage: a client that did not ask for it does not get it.
    pub(crate) usage_only: bool,
    pub(crate) choices: Vec<ChoiceDelta>,
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    /// Unix seconds.
    pub(crate) created: Option<u64>,
}

impl Scan {
    /// Whether a client would see anything of the answer in this event: text, reasoning, a call or a refusal.
    pub(crate) fn has_content(&self) -> bool {
        let shown = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        self.choices.iter().any(|choice| {
            shown(&choice.content)
                || shown(&choice.reasoning)
                || shown(&choice.refusal)
                || !choice.tool_calls.is_empty()
        })
    }
}

/// One choice's part of a chunk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ChoiceDelta {
    pub(crate) index: u64,
    pub(crate) content: Option<String>,
    /// `reasoning_content` (`DeepSeek`, Qwen) or `reasoning` (`OpenRouter`, Groq).
    pub(crate) reasoning: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) tool_calls: Vec<ToolCallDelta>,
    /// Items of a response that a chat has no word for, as they came: what its author sealed among them.
    pub(crate) items: Vec<Value>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) has_role: bool,
}

/// A piece of one tool call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ToolCallDelta {
    /// The place in the list when the upstream names none.
    pub(crate) index: u64,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    /// A fragment of JSON text.
    pub(crate) arguments: Option<String>,
}

/// Reads the data of one event. Fails only when it is neither `[DONE]` nor a JSON object.
pub(crate) fn scan(data: &str) -> Result<Scan, serde_json::Error> {
    if data.trim() == "[DONE]" {
        return Ok(Scan {
            done: true,
            ..Scan::default()
        });
    }
    let wire: WireChunk = serde_json::from_str(data)?;
    let usage = wire.usage.as_ref().and_then(Usage::from_value);
    let error = match wire.error {
        Some(error @ (Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Bool(true))) => {
            error::read_value(&serde_json::json!({ "error": error, "message": wire.message.0, "code": wire.code }))
        }
        _ if wire.choices.is_empty() && usage.is_none() => wire.message.0.map(|message| {
            let kind = wire.kind.0;
            error::read_value(&serde_json::json!({ "error": { "message": message, "code": wire.code, "type": kind } }))
                .unwrap_or_else(|| UpstreamFault::text(&message))
        }),
        _ => None,
    };
    Ok(Scan {
        done: false,
        error,
        usage_only: wire.choices.is_empty() && usage.is_some(),
        usage,
        choices: wire
            .choices
            .into_iter()
            .map(WireChoice::into_delta)
            .collect(),
        id: wire.id.0,
        model: wire.model.0,
        created: wire.created.as_ref().and_then(lenient::count),
    })
}

#[derive(Deserialize)]
struct WireChunk {
    #[serde(default)]
    id: Text,
    #[serde(default)]
    model: Text,
    created: Option<Value>,
    #[serde(default, deserialize_with = "lenient::list")]
    choices: Vec<WireChoice>,
    usage: Option<Value>,
    error: Option<Value>,
    #[serde(default)]
    message: Text,
    code: Option<Value>,
    #[serde(default, rename = "type")]
    kind: Text,
}

#[derive(Deserialize)]
struct WireChoice {
    index: Option<Value>,
    delta: Option<WireDelta>,
    /// Some servers send the last chunk like a whole answer.
    message: Option<WireDelta>,
    #[serde(default)]
    finish_reason: Text,
}

#[derive(Deserialize, Default)]
struct WireDelta {
    #[serde(default)]
    role: Text,
    #[serde(default)]
    content: Text,
    #[serde(default)]
    reasoning_content: Text,
    #[serde(default)]
    reasoning: Text,
    #[serde(default)]
    refusal: Text,
    #[serde(default, deserialize_with = "lenient::list")]
    tool_calls: Vec<WireToolCall>,
    /// See [`extra::ITEMS`].
    #[serde(default, deserialize_with = "lenient::list")]
    responses_items: Vec<Value>,
}

#[derive(Deserialize)]
struct WireToolCall {
    index: Option<Value>,
    #[serde(default)]
    id: Text,
    function: Option<WireFunction>,
}

#[derive(Deserialize, Default)]
struct WireFunction {
    #[serde(default)]
    name: Text,
    arguments: Option<Value>,
}

impl WireChoice {
    fn into_delta(self) -> ChoiceDelta {
        let delta = self.delta.or(self.message).unwrap_or_default();
        let calls = delta.tool_calls.into_iter().zip(0u64..);
        ChoiceDelta {
            index: self.index.as_ref().and_then(lenient::count).unwrap_or(0),
            content: delta.content.0,
            reasoning: delta.reasoning_content.0.or(delta.reasoning.0),
            refusal: delta.refusal.0,
            tool_calls: calls.map(|(call, place)| call.into_delta(place)).collect(),
            items: delta.responses_items,
            finish_reason: self.finish_reason.0.filter(|reason| !reason.is_empty()),
            has_role: delta.role.0.is_some(),
        }
    }
}

impl WireToolCall {
    fn into_delta(self, place: u64) -> ToolCallDelta {
        let function = self.function.unwrap_or_default();
        ToolCallDelta {
            index: self
                .index
                .as_ref()
                .and_then(lenient::count)
                .unwrap_or(place),
            id: self.id.0.filter(|id| !id.is_empty()),
            name: function.name.0.filter(|name| !name.is_empty()),
            arguments: function.arguments.and_then(|arguments| match arguments {
                Value::String(text) => Some(text),
                Value::Null => None,
                // Some servers send the arguments as the object itself.
                other => Some(other.to_string()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_taken_apart() {
        let scan = scan(
            r#"{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant",
            "content":"hi","reasoning":"hm","tool_calls":[{"index":1,"id":"t","type":"function","function":{"name":"f","arguments":"{"}}]},
            "finish_reason":null,"logprobs":null}],"usage":null}"#,
        )
        .unwrap();
        let choice = &scan.choices[0];
        assert_eq!(
            (
                choice.content.as_deref(),
                choice.reasoning.as_deref(),
                choice.has_role
            ),
            (Some("hi"), Some("hm"), true)
        );
        assert_eq!(choice.finish_reason, None);
        let call = ToolCallDelta {
            index: 1,
            id: Some("t".into()),
            name: Some("f".into()),
            arguments: Some("{".into()),
        };
        assert_eq!(choice.tool_calls, [call]);
        assert_eq!(
            (
                scan.id.as_deref(),
                scan.created,
                scan.usage_only,
                scan.error.is_none()
            ),
            (Some("c1"), Some(7), false, true)
        );
        assert!(scan.has_content());
    }

    #[test]
    fn null_and_odd_types_are_tolerated() {
        for data in [
            "{}",
            r#"{"choices":null,"usage":null,"error":null}"#,
            r#"{"choices":[{"index":null,"delta":null,"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"}],"tool_calls":null}}],"created":1.5}"#,
            r#"{"choices":[{"delta":{"role":null,"content":7,"tool_calls":[{"function":{"arguments":{}}}]},"finish_reason":""}]}"#,
        ] {
            assert_eq!(scan(data).unwrap().error, None, "{data}");
        }
        assert!(scan("{\"choices\":[").is_err());
        assert!(scan("7").is_err());
        assert!(scan(" [DONE] ").unwrap().done);
    }

    #[test]
    fn usage_is_read_wherever_it_is() {
        let only = scan(
            r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4.0,"total_tokens":"7",
            "prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        )
        .unwrap();
        assert!(only.usage_only);
        let expected = Usage {
            prompt: Some(3),
            completion: Some(4),
            total: Some(7),
            cached: Some(1),
            cache_write: Some(1),
            reasoning: Some(2),
            is_estimated: false,
        };
        assert_eq!(only.usage, Some(expected));
        assert!(
            !scan(r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":3}}"#)
                .unwrap()
                .usage_only
        );
    }

    #[test]
    fn errors_inside_the_stream_are_seen() {
        for (data, message, status) in [
            (
                r#"{"error":{"message":"boom","code":502},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
                "boom",
                Some(502),
            ),
            (r#"{"error":"boom"}"#, "boom", None),
            (
                r#"{"object":"error","message":"boom","code":400}"#,
                "boom",
                Some(400),
            ),
            (
                r#"{"code":"InvalidParameter","message":"boom"}"#,
                "boom",
                None,
            ),
        ] {
            let fault = scan(data).unwrap().error.unwrap();
            assert_eq!(
                (fault.message.as_str(), fault.status),
                (message, status),
                "{data}"
            );
        }
    }
}
