//! What the history keeps of a request beside its chat request, so that its response can be told again and gone on with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{Head, Status};
use super::back;
use super::names::Names;
use super::request::Translated;
use super::telling::Teller;

/// See the module. Small: tools and instructions are in the chat request already.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    has_instructions: bool,
    #[serde(default, skip_serializing_if = "Names::is_empty")]
    names: Names,
    echo: Map<String, Value>,
}

impl Kept {
    pub(crate) fn of(translated: &Translated) -> Self {
        let mut echo = translated.echo.clone();
        echo.remove("instructions");
        let tools = echo.get("tools").and_then(Value::as_array);
        let is_plain = |tool: &Value| tool["type"] == "function";
        // Others are not in the chat request, or not as they came.
        if tools.is_none_or(|tools| tools.iter().all(is_plain)) {
            echo.remove("tools");
        }
        Self {
            has_instructions: translated.has_instructions,
            names: translated.names.clone(),
            echo,
        }
    }
}

/// A request and its answer, as they were stored.
pub(crate) struct Stored {
    pub(crate) request_id: String,
    /// Unix seconds.
    pub(crate) created: i64,
    pub(crate) kept: Kept,
    pub(crate) chat: Map<String, Value>,
    /// The chat completion, as far as it came.
    pub(crate) answer: Option<Value>,
    /// None where the answer tells it.
    pub(crate) status: Option<Status>,
}

impl Stored {
    /// The response object.
    pub(crate) fn response(&self) -> Result<Value, serde_json::Error> {
        let head = self.head();
        if let Some(answer) = &self.answer {
            let mut teller = Teller::new(head, self.kept.names.clone());
            return teller.response(&answer.to_string(), self.status.clone());
        }
        let status = self.status.clone().unwrap_or(Status::InProgress);
        Ok(head.response(&status, &[], None))
    }

    /// The items it was asked with, the earlier ones included, each with an id.
    pub(crate) fn input_items(&self) -> Vec<Value> {
        let mut items = back::items(self.input(), &self.kept.names);
        for (at, item) in items.iter_mut().enumerate() {
            let kind = match item["type"].as_str() {
                Some("function_call") => "fc",
                Some("custom_tool_call") => "ctc",
                Some("reasoning") => "rs",
                Some("message") => "msg",
                _ => "out",
            };
            // Unlike those of the output these name a place in the input.
            item["id"] = json!(format!("{kind}_in_{}_{at}", self.request_id));
            if kind == "msg" || kind == "fc" {
                item["status"] = json!("completed");
            }
        }
        items
    }

    /// What the next request goes on from: all that was said, without the instructions. None while the answer is not whole.
    pub(crate) fn messages(&self) -> Option<Vec<Value>> {
        let choice = self.answer.as_ref()?.pointer("/choices/0")?;
        if self.status.is_some() || choice["finish_reason"].is_null() {
            return None;
        }
        let mut answer = choice["message"].clone();
        if let Some(members) = answer.as_object_mut() {
            // What was not said.
            members.retain(|key, value| key == "content" || !value.is_null());
            members.remove("refusal");
        }
        let mut messages = self.input().to_vec();
        messages.push(answer);
        Some(messages)
    }

    /// Its output by the ids of the items.
    pub(crate) fn items(&self) -> BTreeMap<String, Value> {
        let response = self.response().unwrap_or_default();
        let output = response["output"].as_array().cloned().unwrap_or_default();
        let by_id = |item: Value| Some((item["id"].as_str()?.to_owned(), item));
        output.into_iter().filter_map(by_id).collect()
    }

    fn input(&self) -> &[Value] {
        let messages = self.chat.get("messages").and_then(Value::as_array);
        let messages = messages.map(Vec::as_slice).unwrap_or_default();
        let first = usize::from(self.kept.has_instructions);
        messages.get(first..).unwrap_or_default()
    }

    fn head(&self) -> Head {
        let mut echo = self.kept.echo.clone();
        let instructions = self
            .chat
            .get("messages")
            .and_then(|messages| messages.get(0));
        let instructions = instructions.filter(|_| self.kept.has_instructions);
        let text = instructions.map(|message| message["content"].clone());
        echo.insert("instructions".into(), text.unwrap_or_default());
        echo.entry("tools").or_insert_with(|| tools(&self.chat));
        Head {
            request_id: self.request_id.clone(),
            created: self.created,
            echo,
            model: self
                .chat
                .get("model")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// The functions of a chat request in the flat form.
fn tools(chat: &Map<String, Value>) -> Value {
    let functions = chat
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let flat = functions.map(|tool| {
        let mut function = tool["function"].clone();
        function["type"] = json!("function");
        function
    });
    Value::Array(flat.collect())
}
