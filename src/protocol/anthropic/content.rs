//! The content and the counts of one answer, between Anthropic's blocks and a chat completion's message.

use serde_json::{Map, Value, json};

use super::{UNSIGNED, finish_reason, stop_reason};
use crate::protocol::dialect::extra;
use crate::protocol::openai::chunk::Usage;

/// The chat completion of a whole message. With `keeps_all` what a chat completion has no word for comes along.
pub(crate) fn completion(message: &Value, keeps_all: bool, created: u64) -> Value {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let mut calls = Vec::new();
    let blocks = message.get("content").and_then(Value::as_array);
    for block in blocks.into_iter().flatten() {
        let say = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match say("type") {
            "text" => text.push_str(say("text")),
            "thinking" => reasoning.push_str(say("thinking")),
            "tool_use" => {
                let input = block.get("input").cloned().unwrap_or_else(|| json!({}));
                let function = json!({"name": say("name"), "arguments": input.to_string()});
                calls.push(json!({"id": say("id"), "type": "function", "function": function}));
            }
            _ => {}
        }
    }
    let mut told = Map::new();
    told.insert("role".into(), json!("assistant"));
    told.insert("content".into(), json!(text));
    if !reasoning.is_empty() {
        told.insert("reasoning_content".into(), json!(reasoning));
    }
    if !calls.is_empty() {
        told.insert("tool_calls".into(), Value::Array(calls));
    }
    let stop = message
        .get("stop_reason")
        .and_then(Value::as_str)
        .unwrap_or("end_turn");
    if keeps_all {
        if let Some(blocks) = message.get("content") {
            told.insert(extra::CONTENT.into(), blocks.clone());
        }
        if let Some(sequence @ Value::String(_)) = message.get("stop_sequence") {
            told.insert(extra::STOP_SEQUENCE.into(), sequence.clone());
        }
    }
    json!({
        "id": message.get("id").cloned().unwrap_or_else(|| json!("msg")),
        "object": "chat.completion",
        "created": created,
        "model": message.get("model").cloned().unwrap_or_default(),
        "choices": [{"index": 0, "message": told, "finish_reason": finish_reason(stop)}],
        "usage": chat_usage(message.get("usage").unwrap_or(&Value::Null)),
    })
}

/// The content blocks of a chat completion's message, and why it ended.
pub(crate) fn blocks(choice: &Value) -> (Vec<Value>, &'static str, Option<Value>) {
    let message = choice.get("message").unwrap_or(&Value::Null);
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let has_calls = calls.is_some_and(|calls| !calls.is_empty());
    let reason = choice.get("finish_reason").and_then(Value::as_str);
    let sequence = message
        .get(extra::STOP_SEQUENCE)
        .filter(|sequence| sequence.is_string());
    let stop = if sequence.is_some() {
        "stop_sequence"
    } else {
        stop_reason(reason, has_calls)
    };
    // It was Anthropic's own, and stays as it is.
    if let Some(Value::Array(own)) = message.get(extra::CONTENT) {
        return (own.clone(), stop, sequence.cloned());
    }
    let say = |name: &str| {
        message
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let mut blocks = Vec::new();
    if let Some(thought) = say("reasoning_content").or_else(|| say("reasoning")) {
        let signature = say(extra::SIGNATURE).unwrap_or(UNSIGNED);
        blocks.push(json!({"type": "thinking", "thinking": thought, "signature": signature}));
    }
    let text = say("content").or_else(|| say("refusal"));
    if let Some(text) = text {
        blocks.push(json!({"type": "text", "text": text}));
    }
    for call in calls.into_iter().flatten() {
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = function.get("arguments").unwrap_or(&Value::Null);
        blocks.push(json!({
            "type": "tool_use",
            "id": call.get("id").cloned().unwrap_or_default(),
            "name": function.get("name").cloned().unwrap_or_default(),
            "input": input(arguments),
        }));
    }
    (blocks, stop, sequence.cloned())
}

/// A call's arguments as the object they must be. What is none reaches the client as text, so that it fails there in words.
pub(crate) fn input(arguments: &Value) -> Value {
    let parsed = match arguments {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Value::Null => json!({}),
        other => other.clone(),
    };
    match parsed {
        Value::Object(_) => parsed,
        other => json!({"arguments": other}),
    }
}

/// Anthropic's counts as a chat completion's: there the cached part is a part of the prompt, here it stands beside it.
pub(crate) fn chat_usage(usage: &Value) -> Value {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64);
    let (read, written) = (
        count("cache_read_input_tokens").unwrap_or(0),
        count("cache_creation_input_tokens").unwrap_or(0),
    );
    let prompt = count("input_tokens").unwrap_or(0) + read + written;
    let output = count("output_tokens").unwrap_or(0);
    let mut told = json!({
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
    });
    if read + written > 0 {
        told["prompt_tokens_details"] =
            json!({"cached_tokens": read, "cache_write_tokens": written});
    }
    told
}

/// The reverse.
pub(crate) fn usage(usage: Option<Usage>) -> Value {
    let usage = usage.unwrap_or_default();
    let (read, written) = (usage.cached.unwrap_or(0), usage.cache_write.unwrap_or(0));
    let input = usage.prompt.unwrap_or(0).saturating_sub(read + written);
    let mut told = json!({
        "input_tokens": input,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.completion.unwrap_or(0),
    });
    if usage.is_estimated {
        told[extra::ESTIMATED] = json!(true);
    }
    told
}
