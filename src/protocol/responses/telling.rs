//! A chat's answer told as a response: event by event, or whole.
//!
//! One item is open at a time, but for calls, whose pieces may come mixed: they end together, when the answer ends.
//! After an error there is `response.failed` and nothing else: what is open stays open.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Head, Status, usage};
use super::names::{Called, Names};
use super::tools;
use crate::protocol::dialect::{Telling, extra};
use crate::protocol::openai::chunk::{self, Scan, ToolCallDelta};

/// Tells one answer.
pub(crate) struct Teller {
    head: Head,
    names: Names,
    sequence: u64,
    has_begun: bool,
    is_over: bool,
    /// Finished items at their places; null where one is not.
    output: Vec<Value>,
    open: Option<Open>,
    calls: Vec<Call>,
    usage: Option<Value>,
    finish_reason: Option<String>,
}

/// An item of text under way.
struct Open {
    kind: Kind,
    place: usize,
    id: String,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Text,
    Refusal,
}

/// A call under way.
struct Call {
    index: u64,
    id: Option<String>,
    arguments: String,
    /// Once its name is known.
    shown: Option<Shown>,
}

struct Shown {
    place: usize,
    item_id: String,
    call_id: String,
    called: Called,
}

impl Teller {
    pub(crate) fn new(head: Head, names: Names) -> Self {
        Self {
            head,
            names,
            sequence: 0,
            has_begun: false,
            is_over: false,
            output: Vec::new(),
            open: None,
            calls: Vec::new(),
            usage: None,
            finish_reason: None,
        }
    }

    /// The response whose answer is the whole chat completion; `status` is given where that is not the answer's own.
    pub(crate) fn response(
        &mut self,
        completion: &str,
        status: Option<Status>,
    ) -> Result<Value, serde_json::Error> {
        let scan = chunk::scan(completion)?;
        let mut unheard = Vec::new();
        self.take(&scan, completion, &mut unheard);
        let status = status.unwrap_or_else(|| Status::of(self.finish_reason.as_deref()));
        self.close(&status, &mut unheard);
        self.close_calls(&status, &mut unheard);
        Ok(self.told(&status))
    }

    fn told(&self, status: &Status) -> Value {
        let finished = self.output.iter().filter(|item| !item.is_null());
        let output: Vec<Value> = finished.cloned().collect();
        self.head.response(status, &output, self.usage.as_ref())
    }

    fn emit(&mut self, kind: &str, mut event: Value, out: &mut Vec<u8>) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = self.told(&Status::InProgress);
            self.emit(kind, json!({"response": response}), out);
        }
    }

    fn take(&mut self, scan: &Scan, data: &str, out: &mut Vec<u8>) {
        if let Some(model) = scan.model.as_ref().filter(|model| !model.is_empty()) {
            self.head.model.clone_from(model);
        }
        self.begin(out);
        if let Some(told) = &scan.usage {
            self.usage = Some(usage(told));
        }
        // More than one choice cannot be asked for.
        let Some(choice) = scan.choices.iter().find(|choice| choice.index == 0) else {
            return;
        };
        if let Some(text) = &choice.reasoning {
            self.say(Kind::Reasoning, text, out);
        }
        if data.contains(extra::ITEMS) {
            self.items(data, out);
        }
        if let Some(text) = &choice.content {
            self.say(Kind::Text, text, out);
        }
        if let Some(text) = &choice.refusal {
            self.say(Kind::Refusal, text, out);
        }
        for call in &choice.tool_calls {
            self.call(call, out);
        }
        if choice.finish_reason.is_some() {
            self.finish_reason.clone_from(&choice.finish_reason);
        }
    }

    fn place(&mut self) -> usize {
        self.output.push(Value::Null);
        self.output.len() - 1
    }

    fn put(&mut self, place: usize, item: Value, out: &mut Vec<u8>) {
        let event = json!({"output_index": place, "item": item});
        self.emit("response.output_item.done", event, out);
        if let Some(slot) = self.output.get_mut(place) {
            *slot = item;
        }
    }

    fn say(&mut self, kind: Kind, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(&Status::Completed, out);
            self.open(kind, out);
        }
        let Some(open) = self.open.as_mut() else {
            return;
        };
        open.text.push_str(text);
        let (id, place) = (open.id.clone(), open.place);
        let event = match kind {
            Kind::Reasoning => {
                json!({"item_id": id, "output_index": place, "summary_index": 0, "delta": text})
            }
            Kind::Refusal => {
                json!({"item_id": id, "output_index": place, "content_index": 0, "delta": text})
            }
            Kind::Text => {
                json!({"item_id": id, "output_index": place, "content_index": 0, "delta": text, "logprobs": []})
            }
        };
        self.emit(kind.delta(), event, out);
    }

    fn open(&mut self, kind: Kind, out: &mut Vec<u8>) {
        let place = self.place();
        let prefix = if kind == Kind::Reasoning { "rs" } else { "msg" };
        let open = Open {
            kind,
            place,
            id: format!("{prefix}_{}_{place}", self.head.request_id),
            text: String::new(),
        };
        let item = open.item("in_progress");
        self.emit(
            "response.output_item.added",
            json!({"output_index": place, "item": item}),
            out,
        );
        let part = kind.part("");
        let (name, event) = match kind {
            Kind::Reasoning => (
                "response.reasoning_summary_part.added",
                json!({"item_id": open.id, "output_index": place, "summary_index": 0, "part": part}),
            ),
            Kind::Text | Kind::Refusal => (
                "response.content_part.added",
                json!({"item_id": open.id, "output_index": place, "content_index": 0, "part": part}),
            ),
        };
        self.emit(name, event, out);
        self.open = Some(open);
    }

    /// Ends the text under way, as what `status` makes of it.
    fn close(&mut self, status: &Status, out: &mut Vec<u8>) {
        if let Some(open) = self.open.take() {
            let item = self.end(&open, status, out);
            self.put(open.place, item, out);
        }
    }

    /// Ends the parts of `open`; gives the item.
    fn end(&mut self, open: &Open, status: &Status, out: &mut Vec<u8>) -> Value {
        let (id, place, text) = (&open.id, open.place, &open.text);
        let part = open.kind.part(text);
        match open.kind {
            Kind::Reasoning => {
                let at = json!({"item_id": id, "output_index": place, "summary_index": 0});
                self.emit(
                    "response.reasoning_summary_text.done",
                    with(&at, "text", json!(text)),
                    out,
                );
                self.emit(
                    "response.reasoning_summary_part.done",
                    with(&at, "part", part),
                    out,
                );
            }
            Kind::Text | Kind::Refusal => {
                let at = json!({"item_id": id, "output_index": place, "content_index": 0});
                if open.kind == Kind::Text {
                    let done = with(&with(&at, "text", json!(text)), "logprobs", json!([]));
                    self.emit("response.output_text.done", done, out);
                } else {
                    self.emit(
                        "response.refusal.done",
                        with(&at, "refusal", json!(text)),
                        out,
                    );
                }
                self.emit("response.content_part.done", with(&at, "part", part), out);
            }
        }
        open.item(item_status(status))
    }

    fn call(&mut self, delta: &ToolCallDelta, out: &mut Vec<u8>) {
        self.close(&Status::Completed, out);
        let known = self
            .calls
            .iter()
            .rposition(|call| call.index == delta.index);
        // QUIRK(gemini): several calls, each whole, all with the same index; they differ in their ids.
        let known = known.filter(|at| {
            let call = self.calls.get(*at);
            !call.is_some_and(|call| {
                call.shown.is_some()
                    && delta.name.is_some()
                    && delta.id.is_some()
                    && call.id != delta.id
            })
        });
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call {
                index: delta.index,
                id: None,
                arguments: String::new(),
                shown: None,
            });
            self.calls.len() - 1
        });
        if let Some(name) = &delta.name {
            self.show(at, name, delta.id.as_ref(), out);
        }
        let text = delta.arguments.as_deref().unwrap_or_default();
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        call.id = call.id.take().or_else(|| delta.id.clone());
        call.arguments.push_str(text);
        // What a custom tool gets is read out of the whole arguments.
        let Some(shown) = call.shown.as_ref().filter(|shown| !shown.called.is_custom) else {
            return;
        };
        if !text.is_empty() {
            let event =
                json!({"item_id": shown.item_id, "output_index": shown.place, "delta": text});
            self.emit("response.function_call_arguments.delta", event, out);
        }
    }

    fn show(&mut self, at: usize, name: &str, id: Option<&String>, out: &mut Vec<u8>) {
        if self.calls.get(at).is_none_or(|call| call.shown.is_some()) {
            return;
        }
        let called = self.names.called(name);
        let place = self.place();
        let prefix = if called.is_custom { "ctc" } else { "fc" };
        let call_id = id
            .cloned()
            .unwrap_or_else(|| format!("call_{}_{place}", self.head.request_id));
        let shown = Shown {
            place,
            item_id: format!("{prefix}_{}_{place}", self.head.request_id),
            call_id,
            called,
        };
        let item = shown.item("", "in_progress");
        self.emit(
            "response.output_item.added",
            json!({"output_index": place, "item": item}),
            out,
        );
        let Some(call) = self.calls.get_mut(at) else {
            return;
        };
        let early = call.arguments.clone();
        if !early.is_empty() && !shown.called.is_custom {
            let event = json!({"item_id": shown.item_id, "output_index": place, "delta": early});
            call.shown = Some(shown);
            self.emit("response.function_call_arguments.delta", event, out);
        } else {
            call.shown = Some(shown);
        }
    }

    fn close_calls(&mut self, status: &Status, out: &mut Vec<u8>) {
        for call in std::mem::take(&mut self.calls) {
            // A call that never had a name calls nothing.
            let Some(shown) = call.shown else {
                continue;
            };
            let at = json!({"item_id": shown.item_id, "output_index": shown.place});
            if shown.called.is_custom {
                let input = tools::input_of(&call.arguments);
                let delta = with(&at, "delta", json!(input));
                self.emit("response.custom_tool_call_input.delta", delta, out);
                self.emit(
                    "response.custom_tool_call_input.done",
                    with(&at, "input", json!(input)),
                    out,
                );
            } else {
                let done = with(&at, "arguments", json!(call.arguments));
                let done = with(&done, "name", json!(shown.called.name));
                self.emit("response.function_call_arguments.done", done, out);
            }
            let item = shown.item(&call.arguments, item_status(status));
            self.put(shown.place, item, out);
        }
    }

    /// Gives out items that an upstream of the same dialect made.
    fn items(&mut self, data: &str, out: &mut Vec<u8>) {
        let Ok(chunk) = serde_json::from_str::<Value>(data) else {
            return;
        };
        let choice = &chunk["choices"][0];
        for holder in [&choice["delta"], &choice["message"]] {
            for item in holder[extra::ITEMS].as_array().into_iter().flatten() {
                self.item(item, out);
            }
        }
    }

    fn item(&mut self, item: &Value, out: &mut Vec<u8>) {
        let is_reasoning = |open: &Open| open.kind == Kind::Reasoning;
        if item["type"] == "reasoning" && self.open.as_ref().is_some_and(is_reasoning) {
            // Its text was told already; what only its author can read comes with the end.
            if let Some(open) = self.open.take() {
                let mut told = self.end(&open, &Status::Completed, out);
                told["encrypted_content"] = item["encrypted_content"].clone();
                self.put(open.place, told, out);
            }
            return;
        }
        self.close(&Status::Completed, out);
        let place = self.place();
        self.emit(
            "response.output_item.added",
            json!({"output_index": place, "item": item}),
            out,
        );
        self.put(place, item.clone(), out);
    }
}

impl Telling for Teller {
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        let text = String::from_utf8_lossy(completion);
        let response = self.response(&text, None)?;
        Ok(serde_json::to_vec(&response)?.into())
    }

    fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        // What the exchange sends can be read.
        let Ok(scan) = chunk::scan(data) else {
            return;
        };
        if self.is_over {
            return;
        }
        if let Some(error) = &scan.error {
            self.is_over = true;
            self.begin(out);
            let status = Status::Failed {
                code: error
                    .code
                    .clone()
                    .unwrap_or_else(|| "server_error".to_owned()),
                message: error.message.clone(),
            };
            let response = self.told(&status);
            self.emit("response.failed", json!({"response": response}), out);
        } else if scan.done {
            self.is_over = true;
            self.begin(out);
            let status = Status::of(self.finish_reason.as_deref());
            self.close(&status, out);
            self.close_calls(&status, out);
            let response = self.told(&status);
            let kind = match status {
                Status::Incomplete(_) => "response.incomplete",
                _ => "response.completed",
            };
            self.emit(kind, json!({"response": response}), out);
        } else {
            self.take(&scan, data, out);
        }
    }
}

impl Kind {
    fn delta(self) -> &'static str {
        match self {
            Self::Reasoning => "response.reasoning_summary_text.delta",
            Self::Text => "response.output_text.delta",
            Self::Refusal => "response.refusal.delta",
        }
    }

    fn part(self, text: &str) -> Value {
        match self {
            Self::Reasoning => json!({"type": "summary_text", "text": text}),
            Self::Text => {
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
            }
            Self::Refusal => json!({"type": "refusal", "refusal": text}),
        }
    }
}

impl Open {
    fn item(&self, status: &str) -> Value {
        let parts = if self.text.is_empty() {
            json!([])
        } else {
            json!([self.kind.part(&self.text)])
        };
        match self.kind {
            Kind::Reasoning => {
                json!({"id": self.id, "type": "reasoning", "summary": parts, "status": status})
            }
            Kind::Text | Kind::Refusal => {
                json!({"id": self.id, "type": "message", "role": "assistant", "status": status, "content": parts})
            }
        }
    }
}

impl Shown {
    fn item(&self, arguments: &str, status: &str) -> Value {
        let mut item = if self.called.is_custom {
            let input = if arguments.is_empty() {
                String::new()
            } else {
                tools::input_of(arguments)
            };
            json!({"type": "custom_tool_call", "input": input})
        } else {
            json!({"type": "function_call", "arguments": arguments})
        };
        item["id"] = json!(self.item_id);
        item["status"] = json!(status);
        item["call_id"] = json!(self.call_id);
        item["name"] = json!(self.called.name);
        if let Some(namespace) = &self.called.namespace {
            item["namespace"] = json!(namespace);
        }
        item
    }
}

fn item_status(status: &Status) -> &'static str {
    match status {
        Status::Completed | Status::InProgress => "completed",
        Status::Incomplete(_) | Status::Failed { .. } | Status::Cancelled => "incomplete",
    }
}

fn with(event: &Value, key: &str, value: Value) -> Value {
    let mut event = event.clone();
    event[key] = value;
    event
}

#[cfg(test)]
mod tests;
