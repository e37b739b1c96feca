//! An upstream's events of Anthropic's dialect as those of a chat stream.

use serde_json::{Map, Value, json};

use super::{content, finish_reason};
use crate::protocol::dialect::extra;
use crate::protocol::sse;

/// Translates one stream.
#[derive(Default)]
pub(crate) struct Translator {
    /// What a chat completion has no word for comes along.
    keeps_all: bool,
    /// Unix seconds.
    created: u64,
    id: String,
    model: String,
    /// The counts so far: the first event has those of the prompt, the last ones those of the answer.
    usage: Map<String, Value>,
    block: Block,
    calls: u64,
}

/// The block that is being read.
#[derive(Default)]
enum Block {
    /// None, or one whose text is passed on as it comes.
    #[default]
    Plain,
    Call {
        /// The input its first event named; some servers send all of it there.
        input: Value,
        has_fragments: bool,
    },
    /// Of a kind that a chat completion has no word for.
    Other { block: Value, json: String },
}

impl Translator {
    /// With `keeps_all` what a chat completion has no word for comes along; `created` is the time in Unix seconds.
    pub(crate) fn new(keeps_all: bool, created: u64) -> Self {
        Self {
            keeps_all,
            created,
            ..Self::default()
        }
    }

    /// What one event becomes, appended to `out`. Events of an unknown type become nothing.
    pub(crate) fn event(&mut self, data: &str, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let event: Value = serde_json::from_str(data)?;
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                let message = &event["message"];
                message["id"]
                    .as_str()
                    .unwrap_or("msg")
                    .clone_into(&mut self.id);
                message["model"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut self.model);
                self.count(&message["usage"]);
                self.chunk(&json!({"role": "assistant", "content": ""}), None, out);
            }
            "content_block_start" => self.begin(&event["content_block"], out),
            "content_block_delta" => self.delta(&event["delta"], out),
            "content_block_stop" => self.end_block(out),
            "message_delta" => {
                self.count(&event["usage"]);
                if let Some(stop) = event["delta"]["stop_reason"].as_str() {
                    let mut delta = json!({});
                    if self.keeps_all && event["delta"]["stop_sequence"].is_string() {
                        delta[extra::STOP_SEQUENCE] = event["delta"]["stop_sequence"].clone();
                    }
                    self.chunk(&delta, Some(finish_reason(stop)), out);
                }
            }
            "message_stop" => {
                let usage = content::chat_usage(&Value::Object(self.usage.clone()));
                let last = json!({
                    "id": self.id, "object": "chat.completion.chunk", "created": self.created,
                    "model": self.model, "choices": [], "usage": usage,
                });
                out.extend_from_slice(&sse::data(&last.to_string()));
                out.extend_from_slice(&sse::data("[DONE]"));
            }
            "error" => {
                let error = json!({"error": event["error"]});
                out.extend_from_slice(&sse::data(&error.to_string()));
            }
            "ping" => out.extend_from_slice(&sse::comment("ping")),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, block: &Value, out: &mut Vec<u8>) {
        self.block = Block::Plain;
        let text = |name: &str| block[name].as_str().filter(|text| !text.is_empty());
        match block["type"].as_str().unwrap_or_default() {
            "text" => {
                if let Some(text) = text("text") {
                    self.chunk(&json!({"content": text}), None, out);
                }
            }
            "thinking" => {
                if let Some(thought) = text("thinking") {
                    self.chunk(&json!({"reasoning_content": thought}), None, out);
                }
            }
            "redacted_thinking" if !self.keeps_all => {}
            "redacted_thinking" => {
                self.chunk(&json!({(extra::REDACTED): [block["data"]]}), None, out);
            }
            "tool_use" => {
                let function = json!({"name": block["name"], "arguments": ""});
                let call = json!({"index": self.calls, "id": block["id"], "type": "function", "function": function});
                self.chunk(&json!({"tool_calls": [call]}), None, out);
                self.block = Block::Call {
                    input: block["input"].clone(),
                    has_fragments: false,
                };
            }
            _ => {
                self.block = Block::Other {
                    block: block.clone(),
                    json: String::new(),
                };
            }
        }
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<u8>) {
        let text = |name: &str| delta[name].as_str().filter(|text| !text.is_empty());
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => {
                if let Some(text) = text("text") {
                    self.chunk(&json!({"content": text}), None, out);
                }
            }
            "thinking_delta" => {
                if let Some(thought) = text("thinking") {
                    self.chunk(&json!({"reasoning_content": thought}), None, out);
                }
            }
            "signature_delta" if self.keeps_all => {
                self.chunk(&json!({(extra::SIGNATURE): delta["signature"]}), None, out);
            }
            "input_json_delta" => {
                let Some(fragment) = text("partial_json") else {
                    return;
                };
                match &mut self.block {
                    Block::Call { has_fragments, .. } => {
                        *has_fragments = true;
                        self.arguments(fragment, out);
                    }
                    Block::Other { json, .. } => json.push_str(fragment),
                    Block::Plain => {}
                }
            }
            _ => {}
        }
    }

    fn end_block(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.block) {
            Block::Plain => {}
            Block::Call {
                input,
                has_fragments,
            } => {
                if !has_fragments {
                    let input = if input.is_object() { input } else { json!({}) };
                    self.arguments(&input.to_string(), out);
                }
                self.calls += 1;
            }
            Block::Other { mut block, json } => {
                if let Ok(input) = serde_json::from_str::<Value>(&json) {
                    block["input"] = input;
                }
                if self.keeps_all {
                    self.chunk(&json!({(extra::BLOCKS): [block]}), None, out);
                }
            }
        }
    }

    fn arguments(&self, fragment: &str, out: &mut Vec<u8>) {
        let call = json!({"index": self.calls, "function": {"arguments": fragment}});
        self.chunk(&json!({"tool_calls": [call]}), None, out);
    }

    fn count(&mut self, usage: &Value) {
        for (name, count) in usage.as_object().into_iter().flatten() {
            if !count.is_null() {
                self.usage.insert(name.clone(), count.clone());
            }
        }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>, out: &mut Vec<u8>) {
        let chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        });
        out.extend_from_slice(&sse::data(&chunk.to_string()));
    }
}
