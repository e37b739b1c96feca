//! Messages of a chat as the items they are made of.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::names::Names;
use super::tools;
use crate::protocol::dialect::extra;

/// The items that `messages` say, without ids.
pub(crate) fn items(messages: &[Value], names: &Names) -> Vec<Value> {
    let mut back = Back {
        names,
        items: Vec::new(),
        custom: HashSet::new(),
    };
    for message in messages {
        back.message(message);
    }
    back.items
}

struct Back<'a> {
    names: &'a Names,
    items: Vec<Value>,
    /// Ids of calls that take text.
    custom: HashSet<String>,
}

impl Back<'_> {
    fn message(&mut self, message: &Value) {
        match message["role"].as_str() {
            Some("assistant") => self.answer(message),
            Some("tool") => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                let kind = if self.custom.contains(id) {
                    "custom_tool_call_output"
                } else {
                    "function_call_output"
                };
                let output = match &message["content"] {
                    Value::Array(_) => Value::Array(parts(&message["content"], "input_text")),
                    content => json!(content.as_str().unwrap_or_default()),
                };
                self.items
                    .push(json!({"type": kind, "call_id": id, "output": output}));
            }
            role => {
                let content = parts(&message["content"], "input_text");
                let role = role.unwrap_or("user");
                self.items
                    .push(json!({"type": "message", "role": role, "content": content}));
            }
        }
    }

    fn answer(&mut self, message: &Value) {
        let said = |key: &str| message[key].as_str().filter(|text| !text.is_empty());
        let kept = message[extra::ITEMS].as_array();
        let kept = kept.map(Vec::as_slice).unwrap_or_default();
        // What its author sealed has the text with it.
        let is_sealed = kept.iter().any(|item| item["type"] == "reasoning");
        let told = said("reasoning_content").or_else(|| said("reasoning"));
        if let Some(text) = told.filter(|_| !is_sealed) {
            let summary = json!([{"type": "summary_text", "text": text}]);
            self.items
                .push(json!({"type": "reasoning", "summary": summary}));
        }
        self.items.extend_from_slice(kept);
        let content: Vec<Value> = parts(&message["content"], "output_text")
            .into_iter()
            .filter(|part| part["text"] != "")
            .collect();
        if !content.is_empty() {
            self.items
                .push(json!({"type": "message", "role": "assistant", "content": content}));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let id = call["id"].as_str().unwrap_or_default();
            let function = &call["function"];
            let called = self
                .names
                .called(function["name"].as_str().unwrap_or_default());
            let arguments = function["arguments"].as_str().unwrap_or_default();
            let mut item = if called.is_custom {
                self.custom.insert(id.to_owned());
                json!({"type": "custom_tool_call", "input": tools::input_of(arguments)})
            } else {
                json!({"type": "function_call", "arguments": arguments})
            };
            item["call_id"] = json!(id);
            item["name"] = json!(called.name);
            if let Some(namespace) = called.namespace {
                item["namespace"] = json!(namespace);
            }
            self.items.push(item);
        }
    }
}

fn parts(content: &Value, text: &str) -> Vec<Value> {
    match content {
        Value::String(said) => vec![json!({"type": text, "text": said})],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part_of(part, text))
            .collect(),
        _ => Vec::new(),
    }
}

fn part_of(part: &Value, text: &str) -> Option<Value> {
    match part["type"].as_str()? {
        "text" => Some(json!({"type": text, "text": part["text"]})),
        "image_url" => {
            let holder = &part["image_url"];
            let url = holder.as_str().or_else(|| holder["url"].as_str())?;
            let detail = holder["detail"].as_str().unwrap_or("auto");
            Some(json!({"type": "input_image", "image_url": url, "detail": detail}))
        }
        "file" => {
            let mut file = json!({"type": "input_file", "file_data": part["file"]["file_data"]});
            if let Some(name) = part["file"]["filename"].as_str() {
                file["filename"] = json!(name);
            }
            Some(file)
        }
        "input_audio" => Some(part.clone()),
        _ => None,
    }
}
