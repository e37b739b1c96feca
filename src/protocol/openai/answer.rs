//! Whole answers: put together from a stream, or read from a body.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::chunk::{ChoiceDelta, Scan, ToolCallDelta, Usage};
use super::error::{self, UpstreamFault};
use super::{build, lenient};
use crate::protocol::dialect::extra;

/// Most bytes of text kept of one answer, unless the caller says otherwise.
pub(crate) const DEFAULT_TEXT_LIMIT: usize = 1024 * 1024;

/// What a choice or a call costs beside its text, so that empty ones are bounded too.
const ENTRY_COST: usize = 64;

/// The answer a stream amounts to so far.
#[derive(Debug)]
pub(crate) struct Assembled {
    limit: usize,
    size: usize,
    truncated: bool,
    id: Option<String>,
    model: Option<String>,
    created: Option<u64>,
    choices: BTreeMap<u64, Choice>,
    usage: Option<Usage>,
}

#[derive(Debug, Default)]
struct Choice {
    content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    calls: Vec<Call>,
    /// See [`extra::ITEMS`].
    items: Vec<Value>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default)]
struct Call {
    index: u64,
    id: Option<String>,
    name: Option<String>,
    arguments: String,
}

impl Default for Assembled {
    fn default() -> Self {
        Self::new(DEFAULT_TEXT_LIMIT)
    }
}

impl Assembled {
    /// Keeps at most `limit` bytes of text. What comes after is dropped, and the answer marked; usage and finish
    /// reasons are taken all the same.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            size: 0,
            truncated: false,
            id: None,
            model: None,
            created: None,
            choices: BTreeMap::new(),
            usage: None,
        }
    }

    /// Takes one event.
    pub(crate) fn feed(&mut self, scan: &Scan) {
        if self.id.is_none() {
            self.id = scan.id.clone().filter(|id| !id.is_empty());
        }
        if self.model.is_none() {
            self.model = scan.model.clone().filter(|model| !model.is_empty());
        }
        self.created = self.created.or(scan.created);
        self.usage = scan.usage.or(self.usage);
        for delta in &scan.choices {
            self.add_choice(delta);
        }
    }

    /// Whether every choice seen has its finish reason: with `[DONE]`, what tells a whole answer from a cut one.
    pub(crate) fn is_complete(&self) -> bool {
        !self.choices.is_empty()
            && self
                .choices
                .values()
                .all(|choice| choice.finish_reason.is_some())
    }

    /// Whether nothing of an answer has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.choices.is_empty() && self.usage.is_none()
    }

    /// Whether text was dropped because of the limit.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// What comes after this is told anew.
    pub(crate) fn take_usage(&mut self) -> Option<Usage> {
        self.usage.take()
    }

    /// The finish reason of the first choice.
    pub(crate) fn finish_reason(&self) -> Option<String> {
        self.choices
            .values()
            .next()
            .and_then(|choice| choice.finish_reason.clone())
    }

    /// The `chat.completion` object. A choice without a finish reason has `null`: none is made up.
    pub(crate) fn to_json(&self) -> Value {
        let choices: Vec<Value> = self
            .choices
            .iter()
            .map(|(index, choice)| choice.to_json(*index))
            .collect();
        let mut whole = Map::new();
        whole.insert("id".into(), json!(self.id.as_deref().unwrap_or_default()));
        whole.insert("object".into(), json!("chat.completion"));
        whole.insert("created".into(), json!(self.created.unwrap_or(0)));
        whole.insert(
            "model".into(),
            json!(self.model.as_deref().unwrap_or_default()),
        );
        whole.insert("choices".into(), Value::Array(choices));
        if let Some(usage) = &self.usage {
            whole.insert("usage".into(), build::usage_json(usage));
        }
        Value::Object(whole)
    }

    fn add_choice(&mut self, delta: &ChoiceDelta) {
        if !self.choices.contains_key(&delta.index) && !self.take(ENTRY_COST) {
            return;
        }
        // Taken out while it is written: `take` borrows the whole answer.
        let mut choice = self.choices.remove(&delta.index).unwrap_or_default();
        self.append(&mut choice.content, delta.content.as_deref());
        self.append(&mut choice.reasoning, delta.reasoning.as_deref());
        self.append(&mut choice.refusal, delta.refusal.as_deref());
        for call in &delta.tool_calls {
            self.add_call(&mut choice.calls, call);
        }
        for item in &delta.items {
            if self.take(ENTRY_COST + size(item)) {
                choice.items.push(item.clone());
            }
        }
        if delta.finish_reason.is_some() {
            choice.finish_reason.clone_from(&delta.finish_reason);
        }
        self.choices.insert(delta.index, choice);
    }

    fn add_call(&mut self, calls: &mut Vec<Call>, delta: &ToolCallDelta) {
        let length = delta.arguments.as_ref().map_or(0, String::len);
        let names =
            delta.id.as_ref().map_or(0, String::len) + delta.name.as_ref().map_or(0, String::len);
        let known = calls
            .iter_mut()
            .rev()
            .find(|call| call.index == delta.index)
            .filter(|call| !is_another(call, delta));
        if let Some(call) = known {
            if self.take(length + names) {
                call.id = call.id.take().or_else(|| delta.id.clone());
                call.name = call.name.take().or_else(|| delta.name.clone());
                call.arguments
                    .push_str(delta.arguments.as_deref().unwrap_or_default());
            }
        } else if self.take(ENTRY_COST + length + names) {
            calls.push(Call {
                index: delta.index,
                id: delta.id.clone(),
                name: delta.name.clone(),
                arguments: delta.arguments.clone().unwrap_or_default(),
            });
        }
    }

    fn append(&mut self, target: &mut Option<String>, text: Option<&str>) {
        if let Some(text) = text
            && self.take(text.len())
        {
            target.get_or_insert_with(String::new).push_str(text);
        }
    }

    fn take(&mut self, cost: usize) -> bool {
        if cost > 0 && (self.truncated || self.size.saturating_add(cost) > self.limit) {
            self.truncated = true;
            return false;
        }
        self.size += cost;
        true
    }
}

/// About the bytes of a value.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 1 + size(item)).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| 4 + key.len() + size(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// QUIRK(gemini): several calls, each whole, all with the same index; they differ in their ids.
fn is_another(call: &Call, delta: &ToolCallDelta) -> bool {
    delta.name.is_some() && delta.id.is_some() && call.id.is_some() && call.id != delta.id
}

impl Choice {
    fn to_json(&self, index: u64) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), json!(self.content));
        for (key, text) in [
            ("reasoning_content", &self.reasoning),
            ("refusal", &self.refusal),
        ] {
            if let Some(text) = text {
                message.insert(key.into(), json!(text));
            }
        }
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self.calls.iter().map(Call::to_json).collect();
            message.insert("tool_calls".into(), Value::Array(calls));
        }
        if !self.items.is_empty() {
            message.insert(extra::ITEMS.into(), json!(self.items));
        }
        json!({ "index": index, "message": message, "finish_reason": self.finish_reason })
    }
}

impl Call {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id.as_deref().unwrap_or_default(),
            "type": "function",
            "function": { "name": self.name.as_deref().unwrap_or_default(), "arguments": self.arguments },
        })
    }
}

/// What a body that is not a stream holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// Of the first choice.
    pub(crate) finish_reason: Option<String>,
    pub(crate) error: Option<UpstreamFault>,
    pub(crate) has_choices: bool,
}

/// Reads a body that should be a `chat.completion`. Fails when it is not JSON of that or an error's shape.
pub(crate) fn scan_whole(body: &[u8]) -> Result<Whole, serde_json::Error> {
    let wire: WireWhole = serde_json::from_slice(body)?;
    let has_choices = !wire.choices.is_empty();
    let failed = wire
        .error
        .as_ref()
        .is_some_and(|error| !matches!(error, Value::Null | Value::Bool(false)));
    Ok(Whole {
        id: wire.id.0,
        model: wire.model.0,
        usage: wire.usage.as_ref().and_then(Usage::from_value),
        finish_reason: wire
            .choices
            .into_iter()
            .next()
            .and_then(|choice| choice.finish_reason.0),
        error: if has_choices && !failed {
            None
        } else {
            serde_json::from_slice(body)
                .ok()
                .as_ref()
                .and_then(error::read_value)
        },
        has_choices,
    })
}

#[derive(Deserialize)]
struct WireWhole {
    #[serde(default)]
    id: lenient::Text,
    #[serde(default)]
    model: lenient::Text,
    #[serde(default, deserialize_with = "lenient::list")]
    choices: Vec<WireWholeChoice>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct WireWholeChoice {
    #[serde(default)]
    finish_reason: lenient::Text,
}

#[cfg(test)]
mod tests {
    use super::super::chunk::scan;
    use super::*;

    fn assembled(limit: usize, chunks: &[&str]) -> Assembled {
        let mut answer = Assembled::new(limit);
        for chunk in chunks {
            answer.feed(&scan(chunk).unwrap());
        }
        answer
    }

    #[test]
    fn a_stream_becomes_the_completion() {
        let answer = assembled(
            1000,
            &[
                r#"{"id":"c","model":"m","created":5,"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"content":"b","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":"{\"x\""}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}}]}"#,
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
                r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
                "[DONE]",
            ],
        );
        assert!(answer.is_complete() && !answer.is_truncated());
        assert_eq!(
            answer.to_json(),
            json!({
                "id": "c", "object": "chat.completion", "created": 5, "model": "m",
                "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": {
                    "role": "assistant", "content": "ab", "reasoning_content": "hm",
                    "tool_calls": [{ "id": "t", "type": "function", "function": { "name": "f", "arguments": "{\"x\":1}" } }],
                } }],
                "usage": { "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 },
            })
        );
    }

    #[test]
    fn a_cut_stream_is_not_complete_and_gets_no_finish_reason() {
        assert!(!Assembled::default().is_complete());
        let answer = assembled(
            1000,
            &[
                r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"}}]}"#,
            ],
        );
        assert!(!answer.is_complete());
        assert_eq!(answer.to_json()["choices"][1]["finish_reason"], Value::Null);
    }

    #[test]
    fn text_past_the_limit_is_dropped_and_said() {
        let long = format!(
            r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#,
            "x".repeat(90)
        );
        let answer = assembled(
            200,
            &[
                &long,
                &long,
                r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#,
            ],
        );
        assert!(answer.is_truncated() && answer.is_complete());
        assert_eq!(
            answer.to_json()["choices"][0]["message"]["content"]
                .as_str()
                .map(str::len),
            Some(90)
        );
    }

    #[test]
    fn calls_that_share_an_index_stay_apart() {
        let call = |id: &str| {
            format!(
                r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":0,"id":"{id}","function":{{"name":"f","arguments":"{{}}"}}}}]}}}}]}}"#
            )
        };
        let answer = assembled(1000, &[&call("a"), &call("b")]);
        assert_eq!(
            answer.to_json()["choices"][0]["message"]["tool_calls"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
    }

    #[test]
    fn whole_bodies_are_told_apart() {
        let whole = scan_whole(br#"{"id":"c","choices":[{"finish_reason":"stop","message":{"content":"a"}}],"usage":{"total_tokens":3}}"#).unwrap();
        assert!(whole.has_choices && whole.error.is_none());
        assert_eq!(
            (
                whole.finish_reason.as_deref(),
                whole.usage.and_then(|usage| usage.total)
            ),
            (Some("stop"), Some(3))
        );
        assert_eq!(
            scan_whole(br#"{"error":{"message":"no"}}"#)
                .unwrap()
                .error
                .unwrap()
                .message,
            "no"
        );
        assert!(!scan_whole(br#"{"object":"list"}"#).unwrap().has_choices);
        assert!(scan_whole(b"<html>").is_err());
    }
}
