//! A chat completion told as Anthropic's message, whole or event by event.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{UNSIGNED, content, stop_reason};
use crate::protocol::dialect::{Telling, extra};
use crate::protocol::openai::chunk::{self, ToolCallDelta, Usage};

/// See the module.
pub(crate) struct Messages {
    id: String,
    /// What the client asked for: it looks for the same name in the answer.
    model: String,
    /// About how many tokens the request has: a stream's first event tells them, long before an upstream does.
    input_tokens: u64,
    has_begun: bool,
    /// The number of the next block.
    next: u64,
    open: Open,
    signature: Option<String>,
    /// Calls in the order they began.
    calls: Vec<Call>,
    has_calls: bool,
    finish_reason: Option<String>,
    stop_sequence: Option<String>,
    usage: Option<Usage>,
    has_failed: bool,
}

/// The block that is being told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Thinking,
    Text,
    /// The call at this place of `calls`.
    Call(usize),
}

/// One call. Blocks are told one after the other, so a second one waits until the first is whole.
struct Call {
    index: u64,
    id: Option<String>,
    name: Option<String>,
    arguments: String,
    is_told: bool,
}

impl Messages {
    /// `id` is the gateway's id of the request.
    pub(crate) fn new(id: &str, model: String, input_tokens: u64) -> Self {
        Self {
            id: format!("msg_{}", id.replace('-', "")),
            model,
            input_tokens,
            has_begun: false,
            next: 0,
            open: Open::Nothing,
            signature: None,
            calls: Vec::new(),
            has_calls: false,
            finish_reason: None,
            stop_sequence: None,
            usage: None,
            has_failed: false,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let usage = json!({
            "input_tokens": self.input_tokens, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "output_tokens": 0,
        });
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
        });
        put(out, "message_start", &json!({"message": message}));
    }

    fn start(&mut self, open: Open, block: &Value, out: &mut Vec<u8>) {
        self.open = open;
        let event = json!({"index": self.next, "content_block": block});
        put(out, "content_block_start", &event);
    }

    fn delta(&self, delta: &Value, out: &mut Vec<u8>) {
        let event = json!({"index": self.next, "delta": delta});
        put(out, "content_block_delta", &event);
    }

    /// Ends the block that is being told.
    fn close(&mut self, out: &mut Vec<u8>) {
        match self.open {
            Open::Nothing => return,
            Open::Thinking => {
                let signature = self.signature.take();
                let signature = signature.as_deref().unwrap_or(UNSIGNED);
                self.delta(
                    &json!({"type": "signature_delta", "signature": signature}),
                    out,
                );
            }
            Open::Text | Open::Call(_) => {}
        }
        put(out, "content_block_stop", &json!({"index": self.next}));
        self.next += 1;
        self.open = Open::Nothing;
    }

    /// A block that is whole already.
    fn block(&mut self, block: &Value, out: &mut Vec<u8>) {
        self.close(out);
        self.start(Open::Text, block, out);
        self.close(out);
    }

    fn reasoning(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Open::Thinking {
            self.finish_calls(out);
            self.close(out);
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.start(Open::Thinking, &block, out);
        }
        self.delta(&json!({"type": "thinking_delta", "thinking": text}), out);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if self.open != Open::Text {
            self.finish_calls(out);
            self.close(out);
            self.start(Open::Text, &json!({"type": "text", "text": ""}), out);
        }
        self.delta(&json!({"type": "text_delta", "text": text}), out);
    }

    fn call(&mut self, delta: &ToolCallDelta, out: &mut Vec<u8>) {
        self.has_calls = true;
        let known = self.calls.iter().position(|call| call.index == delta.index);
        let place = known.unwrap_or(self.calls.len());
        if known.is_none() {
            self.calls.push(Call {
                index: delta.index,
                id: None,
                name: None,
                arguments: String::new(),
                is_told: false,
            });
        }
        let fragment = delta.arguments.as_deref().unwrap_or_default();
        if let Some(call) = self.calls.get_mut(place) {
            call.id = call.id.take().or_else(|| delta.id.clone());
            call.name = call.name.take().or_else(|| delta.name.clone());
            call.arguments.push_str(fragment);
        }
        match self.open {
            Open::Call(current) if current == place => {
                if !fragment.is_empty() {
                    self.fragment(fragment, out);
                }
            }
            Open::Call(current) => {
                let is_whole = self.calls.get(current).is_none_or(|call| {
                    serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments).is_ok()
                });
                if is_whole {
                    self.close(out);
                    self.tell_call(place, out);
                }
            }
            Open::Nothing | Open::Thinking | Open::Text => {
                self.close(out);
                self.tell_call(place, out);
            }
        }
    }

    /// Begins to tell a call; the rest of it may still come.
    fn tell_call(&mut self, place: usize, out: &mut Vec<u8>) {
        let Some(call) = self.calls.get_mut(place) else {
            return;
        };
        if call.is_told || call.name.is_none() {
            return;
        }
        call.is_told = true;
        let id = call
            .id
            .clone()
            .unwrap_or_else(|| format!("toolu_{}_{}", self.id, call.index));
        let block = json!({"type": "tool_use", "id": id, "name": call.name, "input": {}});
        let arguments = call.arguments.clone();
        self.start(Open::Call(place), &block, out);
        if !arguments.is_empty() {
            self.fragment(&arguments, out);
        }
    }

    fn fragment(&self, text: &str, out: &mut Vec<u8>) {
        let delta = json!({"type": "input_json_delta", "partial_json": text});
        self.delta(&delta, out);
    }

    /// Tells the calls that waited for others.
    fn finish_calls(&mut self, out: &mut Vec<u8>) {
        for place in 0..self.calls.len() {
            let waits = self
                .calls
                .get(place)
                .is_some_and(|call| !call.is_told && call.name.is_some());
            if waits {
                self.close(out);
                self.tell_call(place, out);
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.finish_calls(out);
        self.close(out);
        let stop = match &self.stop_sequence {
            Some(_) => "stop_sequence",
            None => stop_reason(self.finish_reason.as_deref(), self.has_calls),
        };
        let delta = json!({"stop_reason": stop, "stop_sequence": self.stop_sequence});
        let usage = content::usage(self.usage);
        put(
            out,
            "message_delta",
            &json!({"delta": delta, "usage": usage}),
        );
        put(out, "message_stop", &json!({}));
    }

    fn fail(&mut self, fault: &chunk::Scan, out: &mut Vec<u8>) {
        let Some(fault) = &fault.error else { return };
        if std::mem::replace(&mut self.has_failed, true) {
            return;
        }
        let kind = match fault.code.as_deref() {
            Some("invalid_request_error") => "invalid_request_error",
            // It passes: Claude Code asks again (client-behaviour.md, 7).
            _ => "overloaded_error",
        };
        let error = json!({"type": kind, "message": fault.message, "code": fault.code});
        put(out, "error", &json!({"error": error}));
    }

    /// Members that only Anthropic's dialect knows.
    fn extras(&mut self, data: &str, out: &mut Vec<u8>) {
        let has_some = [
            extra::SIGNATURE,
            extra::REDACTED,
            extra::BLOCKS,
            extra::STOP_SEQUENCE,
        ]
        .iter()
        .any(|name| data.contains(name));
        if !has_some {
            return;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let delta = &event["choices"][0]["delta"];
        if let Some(signature) = delta[extra::SIGNATURE].as_str() {
            self.signature = Some(signature.to_owned());
        }
        if let Some(sequence) = delta[extra::STOP_SEQUENCE].as_str() {
            self.stop_sequence = Some(sequence.to_owned());
        }
        for hidden in delta[extra::REDACTED].as_array().into_iter().flatten() {
            self.block(&json!({"type": "redacted_thinking", "data": hidden}), out);
        }
        for block in delta[extra::BLOCKS].as_array().into_iter().flatten() {
            self.block(block, out);
        }
    }
}

impl Telling for Messages {
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        let completion: Value = serde_json::from_slice(completion)?;
        let (content, stop, sequence) = content::blocks(&completion["choices"][0]);
        let usage = Usage::from_value(&completion["usage"]);
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop, "stop_sequence": sequence,
            "usage": content::usage(usage),
        });
        Ok(message.to_string().into())
    }

    fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        let Ok(scan) = chunk::scan(data) else { return };
        if scan.error.is_some() {
            self.fail(&scan, out);
            return;
        }
        if self.has_failed {
            return;
        }
        if scan.done {
            self.end(out);
            return;
        }
        self.begin(out);
        self.usage = scan.usage.or(self.usage);
        // Of several answers the first is told: the dialect knows one.
        for choice in scan.choices.iter().filter(|choice| choice.index == 0) {
            let shown = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
            if let Some(text) = shown(&choice.reasoning) {
                self.reasoning(&text, out);
            }
            if let Some(text) = shown(&choice.content).or_else(|| shown(&choice.refusal)) {
                self.text(&text, out);
            }
            for call in &choice.tool_calls {
                self.call(call, out);
            }
            if choice.finish_reason.is_some() {
                self.finish_reason.clone_from(&choice.finish_reason);
            }
        }
        self.extras(data, out);
    }

    fn silence(&mut self, out: &mut Vec<u8>) {
        if self.has_begun {
            put(out, "ping", &json!({}));
        } else {
            out.extend_from_slice(b": waiting for the model\n\n");
        }
    }
}

/// One event; its type is a member of its data too.
fn put(out: &mut Vec<u8>, name: &str, data: &Value) {
    let mut data = data.clone();
    data["type"] = json!(name);
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}
