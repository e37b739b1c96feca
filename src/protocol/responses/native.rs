//! An upstream that speaks Responses itself: what it is sent, and its answer as that of a chat.
//!
//! Nothing is stored there: what went before is in each request, so any upstream can take the next one.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::names::{Called, Names};
use super::tools::{self, Tools};
use crate::protocol::dialect::extra;
use crate::protocol::openai::build::{self, Head};
use crate::protocol::openai::chunk::Usage;
use crate::protocol::sse;

/// `body` for the upstream's `model`.
pub(crate) fn request(body: &[u8], model: &str) -> Option<Bytes> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    members.insert("model".to_owned(), to_raw_value(model).ok()?);
    serde_json::to_vec(&members).ok().map(Bytes::from)
}

/// What the functions of a request are called in the chat that its answer becomes.
pub(crate) fn names(body: &[u8]) -> Names {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).unwrap_or_default();
    Tools::read(members.get("tools").map(AsRef::as_ref), &mut Vec::new()).names
}

/// Reads one stream.
pub(crate) struct Reading {
    head: Head,
    names: Names,
    /// Calls by their place in the output: their index in the chat, and whether anything of their arguments came.
    calls: HashMap<u64, (u64, bool)>,
    is_over: bool,
}

impl Reading {
    pub(crate) fn new(names: Names) -> Self {
        Self {
            head: Head {
                id: String::new(),
                model: String::new(),
                created: 0,
            },
            names,
            calls: HashMap::new(),
            is_over: false,
        }
    }

    /// Appends what the data of one event means. What cannot be read is appended as it is: the exchange knows what to do.
    pub(crate) fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            // An end marker of chats comes from some servers here too; it is not the end of a response.
            if data.trim() != "[DONE]" {
                out.extend_from_slice(&sse::data(data));
            }
            return;
        };
        if self.is_over {
            return;
        }
        let place = event["output_index"].as_u64().unwrap_or_default();
        let text = event["delta"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "response.created" => {
                self.meet(&event["response"]);
                self.say(&json!({"role": "assistant", "content": ""}), out);
            }
            "response.output_text.delta" => self.say(&json!({"content": text}), out),
            "response.refusal.delta" => self.say(&json!({"refusal": text}), out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.say(&json!({"reasoning_content": text}), out);
            }
            "response.reasoning_summary_part.added"
                if event["summary_index"].as_u64() > Some(0) =>
            {
                self.say(&json!({"reasoning_content": "\n\n"}), out);
            }
            "response.output_item.added" => self.added(place, &event["item"], out),
            "response.function_call_arguments.delta" => self.arguments(place, text, out),
            "response.output_item.done" => self.done(place, &event["item"], out),
            "response.completed" | "response.incomplete" => self.ended(&event["response"], out),
            "response.failed" => self.failed(&event["response"]["error"], out),
            "error" if event["error"].is_object() => self.failed(&event["error"], out),
            "error" => self.failed(&event, out),
            _ => {}
        }
    }

    fn meet(&mut self, response: &Value) {
        self.head = Head {
            id: text_of(response, "id"),
            model: text_of(response, "model"),
            created: created(response),
        };
    }

    fn say(&self, delta: &Value, out: &mut Vec<u8>) {
        self.chunk(delta, None, out);
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>, out: &mut Vec<u8>) {
        let chunk = json!({
            "id": self.head.id,
            "object": "chat.completion.chunk",
            "created": self.head.created,
            "model": self.head.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        });
        out.extend_from_slice(&sse::data(&chunk.to_string()));
    }

    fn added(&mut self, place: u64, item: &Value, out: &mut Vec<u8>) {
        let Some(mut call) = call(item, &self.names) else {
            return;
        };
        let index = u64::try_from(self.calls.len()).unwrap_or_default();
        self.calls.insert(place, (index, false));
        call["index"] = json!(index);
        call["function"]["arguments"] = json!("");
        self.say(&json!({"tool_calls": [call]}), out);
    }

    fn arguments(&mut self, place: u64, text: &str, out: &mut Vec<u8>) {
        let Some((index, has_any)) = self.calls.get_mut(&place) else {
            return;
        };
        *has_any = true;
        let call = json!({"index": *index, "function": {"arguments": text}});
        self.say(&json!({"tool_calls": [call]}), out);
    }

    fn done(&mut self, place: u64, item: &Value, out: &mut Vec<u8>) {
        if is_kept(item) {
            return self.say(&json!({extra::ITEMS: [item]}), out);
        }
        let Some(call) = call(item, &self.names) else {
            return;
        };
        if !self.calls.contains_key(&place) {
            self.added(place, item, out);
        }
        // What takes text is told when it is whole, and some servers do so with all arguments.
        if self.calls.get(&place).is_some_and(|(_, has_any)| !has_any) {
            let whole = call["function"]["arguments"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            self.arguments(place, &whole, out);
        }
    }

    fn ended(&mut self, response: &Value, out: &mut Vec<u8>) {
        self.is_over = true;
        self.chunk(
            &json!({}),
            Some(finish_reason(response, !self.calls.is_empty())),
            out,
        );
        if let Some(usage) = usage(&response["usage"]) {
            out.extend_from_slice(&sse::data(&build::usage_chunk(&self.head, &usage)));
        }
        out.extend_from_slice(&sse::data("[DONE]"));
    }

    fn failed(&mut self, error: &Value, out: &mut Vec<u8>) {
        self.is_over = true;
        out.extend_from_slice(&sse::data(&json!({"error": failure(error)}).to_string()));
    }
}

/// A whole response as a chat completion; one that failed as the error.
pub(crate) fn whole(body: &[u8], names: &Names) -> Result<Bytes, serde_json::Error> {
    let response: Value = serde_json::from_slice(body)?;
    let is_response = response["output"].is_array();
    if response["status"] == "failed" || (!is_response && response["error"].is_object()) {
        let error = json!({"error": failure(&response["error"])});
        return Ok(error.to_string().into());
    }
    if !is_response {
        // Neither this nor an error: whoever reads it says so.
        return Ok(Bytes::copy_from_slice(body));
    }
    let mut message = json!({"role": "assistant", "content": null});
    let (mut calls, mut kept) = (Vec::new(), Vec::new());
    for item in response["output"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().into_iter().flatten() {
                    add(&mut message, "content", part["text"].as_str(), "");
                    add(&mut message, "refusal", part["refusal"].as_str(), "");
                }
            }
            Some("reasoning") => {
                let parts = [&item["summary"], &item["content"]];
                for part in parts.into_iter().filter_map(Value::as_array).flatten() {
                    add(
                        &mut message,
                        "reasoning_content",
                        part["text"].as_str(),
                        "\n\n",
                    );
                }
            }
            _ => calls.extend(call(item, names)),
        }
        if is_kept(item) {
            kept.push(item.clone());
        }
    }
    let reason = finish_reason(&response, !calls.is_empty());
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    if !kept.is_empty() {
        message[extra::ITEMS] = json!(kept);
    }
    let mut chat = json!({
        "id": text_of(&response, "id"),
        "object": "chat.completion",
        "created": created(&response),
        "model": text_of(&response, "model"),
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    });
    if let Some(usage) = usage(&response["usage"]) {
        chat["usage"] = build::usage_json(&usage);
    }
    Ok(chat.to_string().into())
}

/// Whether a chat has no word for it: what only its author can read, and what its servers did by themselves.
fn is_kept(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("reasoning") => item["encrypted_content"].is_string(),
        Some("message" | "function_call" | "custom_tool_call") | None => false,
        Some(_) => true,
    }
}

fn call(item: &Value, names: &Names) -> Option<Value> {
    let is_custom = match item["type"].as_str()? {
        "function_call" => false,
        "custom_tool_call" => true,
        _ => return None,
    };
    let name = names.function(&Called {
        name: text_of(item, "name"),
        namespace: item["namespace"].as_str().map(str::to_owned),
        is_custom,
    });
    let arguments = if is_custom {
        tools::arguments_of(item["input"].as_str().unwrap_or_default())
    } else {
        text_of(item, "arguments")
    };
    Some(json!({
        "id": item["call_id"], "type": "function", "function": {"name": name, "arguments": arguments},
    }))
}

fn add(message: &mut Value, key: &str, text: Option<&str>, between: &str) {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return;
    };
    let joined = match message[key].as_str() {
        Some(before) => format!("{before}{between}{text}"),
        None => text.to_owned(),
    };
    message[key] = json!(joined);
}

fn finish_reason(response: &Value, calls: bool) -> &'static str {
    match response["incomplete_details"]["reason"].as_str() {
        Some("content_filter") => "content_filter",
        Some(_) => "length",
        None if calls => "tool_calls",
        None => "stop",
    }
}

fn failure(error: &Value) -> Value {
    let message = error["message"]
        .as_str()
        .unwrap_or("the upstream gave no reason");
    json!({"message": message, "type": error["type"], "code": error["code"], "param": error["param"]})
}

fn usage(usage: &Value) -> Option<Usage> {
    let count = |path: &str| usage.pointer(path).and_then(Value::as_u64);
    let read = Usage {
        prompt: count("/input_tokens"),
        completion: count("/output_tokens"),
        total: count("/total_tokens"),
        cached: count("/input_tokens_details/cached_tokens"),
        cache_write: count("/input_tokens_details/cache_write_tokens"),
        reasoning: count("/output_tokens_details/reasoning_tokens"),
        is_estimated: false,
    };
    (read != Usage::default()).then_some(read)
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn created(response: &Value) -> u64 {
    // Some servers write it with a fraction.
    let at = &response["created_at"];
    at.as_u64()
        .or_else(|| at.as_f64()?.trunc().to_string().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::protocol::dialect::Telling;
    use crate::protocol::responses::answer::Head as ResponseHead;
    use crate::protocol::responses::telling::Teller;

    fn names() -> Names {
        super::names(
            json!({"tools": [{"type": "custom", "name": "patch"},
                {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}]})
            .to_string()
            .as_bytes(),
        )
    }

    fn teller() -> Teller {
        let head = ResponseHead {
            request_id: "r".into(),
            created: 1,
            echo: Map::new(),
            model: String::new(),
        };
        Teller::new(head, names())
    }

    /// An answer with everything in it.
    fn response() -> Value {
        json!({"id": "resp_up", "object": "response", "created_at": 5.0, "model": "m", "status": "completed",
            "incomplete_details": null, "output": [
                {"type": "reasoning", "id": "rs_0", "status": "completed", "encrypted_content": "sealed",
                 "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
                {"type": "message", "id": "msg_2", "role": "assistant", "status": "completed",
                 "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]},
                {"type": "function_call", "id": "fc_3", "status": "completed", "call_id": "c3", "namespace": "n", "name": "f", "arguments": "{}"},
                {"type": "custom_tool_call", "id": "ctc_4", "status": "completed", "call_id": "c4", "name": "patch", "input": "x"}],
            "usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 1}}})
    }

    fn without_ids(response: &Value) -> Value {
        let mut output = response["output"].clone();
        for item in output.as_array_mut().unwrap() {
            item.as_object_mut().unwrap().remove("id");
        }
        json!([
            output,
            response["usage"],
            response["status"],
            response["model"]
        ])
    }

    #[test]
    fn a_whole_response_comes_back_as_it_was() {
        let chat = whole(response().to_string().as_bytes(), &names()).unwrap();
        let told: Value = serde_json::from_slice(&teller().whole(&chat).unwrap()).unwrap();
        assert_eq!(without_ids(&told), without_ids(&response()));
    }

    #[test]
    fn so_does_a_stream() {
        let whole = response();
        let mut events = vec![
            json!({"type": "response.created", "response": {"id": "resp_up", "model": "m", "created_at": 5}}),
        ];
        for (place, item) in whole["output"].as_array().unwrap().iter().enumerate() {
            let at = |kind: &str, more: Value| {
                let mut event = json!({"type": kind, "output_index": place});
                event
                    .as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
                event
            };
            events.push(at("response.output_item.added", json!({"item": item})));
            events.push(match place {
                0 => at(
                    "response.reasoning_summary_text.delta",
                    json!({"delta": "hm"}),
                ),
                2 => at("response.output_text.delta", json!({"delta": "ab"})),
                3 => at(
                    "response.function_call_arguments.delta",
                    json!({"delta": "{}"}),
                ),
                _ => at("response.something.else", json!({})),
            });
            events.push(at("response.output_item.done", json!({"item": item})));
        }
        events.push(json!({"type": "response.completed", "response": whole}));
        let (mut reading, mut chat) = (Reading::new(names()), Vec::new());
        for event in &events {
            reading.event(&event.to_string(), &mut chat);
        }
        let text = String::from_utf8(chat).unwrap();
        let (mut teller, mut told) = (teller(), Vec::new());
        for data in text
            .split_terminator("\n\n")
            .filter_map(|frame| frame.strip_prefix("data: "))
        {
            teller.event(data, &mut told);
        }
        let told = String::from_utf8(told).unwrap();
        let last = told.split_terminator("\n\n").last().unwrap();
        let last: Value = serde_json::from_str(last.split_once("\ndata: ").unwrap().1).unwrap();
        assert_eq!(last["type"], "response.completed");
        assert_eq!(without_ids(&last["response"]), without_ids(&whole));
    }

    #[test]
    fn failures_stay_failures() {
        let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "no"}}});
        let mut out = Vec::new();
        Reading::new(names()).event(&failed.to_string(), &mut out);
        assert!(
            String::from_utf8(out)
                .unwrap()
                .contains(r#""message":"no""#)
        );
        let body =
            json!({"status": "failed", "output": [], "error": {"code": "c", "message": "no"}});
        let told: Value =
            serde_json::from_slice(&whole(body.to_string().as_bytes(), &names()).unwrap()).unwrap();
        assert_eq!(told["error"]["code"], "c");
    }
}
