//! Input items as the messages of a chat.
//!
//! Items are a flat list; a chat has them in messages, and wants the results of calls right behind the calls. What is one
//! turn of the model (reasoning, text, calls) becomes one message.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::names::{Called, Names};
use super::{content, fault, tools};
use crate::protocol::openai::request::FieldError;

/// A message, and what must stand right behind it.
struct Said {
    message: Value,
    /// Of the calls it makes.
    results: Vec<Value>,
    /// What the results show: a chat's results are text.
    shown: Vec<Value>,
}

impl Said {
    fn of(message: Value) -> Self {
        Self {
            message,
            results: Vec::new(),
            shown: Vec::new(),
        }
    }
}

/// Puts the messages together.
pub(super) struct Messages<'a> {
    names: &'a Names,
    /// What ids of items lead to.
    known: &'a BTreeMap<String, Value>,
    said: Vec<Said>,
    /// Where each call is made.
    calls: HashMap<String, usize>,
    /// Whether the last message is a turn of the model that goes on.
    is_open: bool,
}

impl<'a> Messages<'a> {
    pub(super) fn new(names: &'a Names, known: &'a BTreeMap<String, Value>) -> Self {
        Self {
            names,
            known,
            said: Vec::new(),
            calls: HashMap::new(),
            is_open: false,
        }
    }

    /// Takes a message that is one already.
    pub(super) fn message(&mut self, message: Value) {
        self.is_open = false;
        let is_result = message["role"] == "tool";
        match self.said.last_mut() {
            Some(last) if is_result && last.message["role"] == "assistant" => {
                last.results.push(message);
            }
            _ => {
                let at = self.said.len();
                let calls = message["tool_calls"].as_array();
                let ids = calls
                    .into_iter()
                    .flatten()
                    .filter_map(|call| call["id"].as_str());
                self.calls.extend(ids.map(|id| (id.to_owned(), at)));
                self.said.push(Said::of(message));
            }
        }
    }

    /// Takes one item. What is of no known kind is left out: kinds are added all the time.
    pub(super) fn item(&mut self, item: &Value, place: &str, faults: &mut Vec<FieldError>) {
        if let Some(text) = item.as_str() {
            return self.message(json!({"role": "user", "content": text}));
        }
        if !item.is_object() {
            let message = format!("`{place}` must be an object");
            faults.push(fault(place, "invalid_type", message));
            return;
        }
        match item["type"].as_str() {
            Some("message") | None => self.spoken(item, place, faults),
            Some("reasoning") => self.reasoning(item),
            Some("function_call") => self.call(item, place, &item["arguments"], false, faults),
            Some("custom_tool_call") => self.call(item, place, &item["input"], true, faults),
            Some("function_call_output" | "custom_tool_call_output") => {
                self.result(item, place, faults);
            }
            Some("item_reference") => self.reference(item, place, faults),
            Some(_) => {}
        }
    }

    fn spoken(&mut self, item: &Value, place: &str, faults: &mut Vec<FieldError>) {
        let said = &item["content"];
        let content_place = format!("{place}.content");
        if said.is_null() {
            let message = format!("`{content_place}` is required");
            faults.push(fault(&content_place, "missing_required_parameter", message));
            return;
        }
        if !said.is_string() && !said.is_array() {
            let message = format!("`{content_place}` must be a string or an array");
            faults.push(fault(&content_place, "invalid_type", message));
            return;
        }
        match item["role"].as_str() {
            Some("assistant") => self.answer(&content::text(said, "")),
            Some("user") => {
                let content = content::of_user(said, &content_place, faults);
                self.message(json!({"role": "user", "content": content}));
            }
            // `developer` is OpenAI's own word; every chat server knows `system`.
            Some("system" | "developer") => {
                let content = content::text(said, "\n\n");
                self.message(json!({"role": "system", "content": content}));
            }
            found => {
                let role = format!("{place}.role");
                let (code, message) = match found {
                    None => (
                        "missing_required_parameter",
                        format!("`{role}` is required"),
                    ),
                    Some(_) => (
                        "invalid_value",
                        format!("`{role}` must be one of user, assistant, system, developer"),
                    ),
                };
                faults.push(fault(role, code, message));
            }
        }
    }

    fn answer(&mut self, text: &str) {
        self.turn(may_say, |turn| append(turn, "content", text));
    }

    fn reasoning(&mut self, item: &Value) {
        // The model's own words, where they are told, rather than what was made of them.
        let own = content::text(&item["content"], "\n\n");
        let summary = content::text(&item["summary"], "\n\n");
        let text = if own.is_empty() { summary } else { own };
        if text.is_empty() {
            return;
        }
        self.turn(may_say, |turn| append(turn, "reasoning_content", &text));
    }

    fn call(
        &mut self,
        item: &Value,
        place: &str,
        given: &Value,
        is_custom: bool,
        faults: &mut Vec<FieldError>,
    ) {
        let Some(id) = text(item, "call_id", place, faults) else {
            return;
        };
        let Some(name) = text(item, "name", place, faults) else {
            return;
        };
        let called = Called {
            name,
            namespace: item["namespace"].as_str().map(str::to_owned),
            is_custom,
        };
        let given = match given {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let arguments = if is_custom {
            tools::arguments_of(&given)
        } else {
            given
        };
        let name = self.names.function(&called);
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let add = |turn: &mut Value| match turn.get_mut("tool_calls").and_then(Value::as_array_mut)
        {
            Some(calls) => calls.push(call),
            None => turn["tool_calls"] = json!([call]),
        };
        self.turn(|_| true, add);
        self.calls.insert(id, self.said.len().saturating_sub(1));
    }

    fn result(&mut self, item: &Value, place: &str, faults: &mut Vec<FieldError>) {
        let Some(id) = text(item, "call_id", place, faults) else {
            return;
        };
        let output = &item["output"];
        let (text, shown) = match output {
            Value::String(text) => (text.clone(), Vec::new()),
            Value::Array(_) => {
                let parts = content::parts(output, &format!("{place}.output"), faults);
                let shown: Vec<Value> = parts
                    .into_iter()
                    .filter(|part| part["type"] != "text")
                    .collect();
                (content::text(output, "\n"), shown)
            }
            Value::Null => (String::new(), Vec::new()),
            other => (other.to_string(), Vec::new()),
        };
        let text = if text.is_empty() && !shown.is_empty() {
            "What this call returned is shown in the next message.".to_owned()
        } else {
            text
        };
        let message = json!({"role": "tool", "tool_call_id": id, "content": text});
        self.is_open = false;
        let place = self.calls.get(&id).and_then(|at| self.said.get_mut(*at));
        match place {
            Some(said) => {
                said.results.push(message);
                said.shown.extend(shown);
            }
            // Its upstream knows best whether it minds.
            None => self.said.push(Said {
                shown,
                ..Said::of(message)
            }),
        }
    }

    fn reference(&mut self, item: &Value, place: &str, faults: &mut Vec<FieldError>) {
        let Some(id) = text(item, "id", place, faults) else {
            return;
        };
        match self.known.get(&id) {
            Some(known) => {
                let known = known.clone();
                self.item(&known, place, faults);
            }
            None => faults.push(fault(
                format!("{place}.id"),
                "item_not_found",
                format!(
                    "`{place}` refers to the item `{id}`, which is not stored here (any more); send the item itself"
                ),
            )),
        }
    }

    /// Adds to the turn of the model that goes on, or to a new one where it cannot.
    fn turn(&mut self, goes_on: impl Fn(&Value) -> bool, add: impl FnOnce(&mut Value)) {
        match self.said.last_mut() {
            Some(last) if self.is_open && goes_on(&last.message) => add(&mut last.message),
            _ => {
                let mut message = json!({"role": "assistant", "content": null});
                add(&mut message);
                self.said.push(Said::of(message));
                self.is_open = true;
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Value> {
        let mut messages = Vec::with_capacity(self.said.len());
        for mut said in self.said {
            if said.message["role"] == "assistant"
                && said.message["content"].is_null()
                && !said.message["tool_calls"].is_array()
            {
                said.message["content"] = json!("");
            }
            messages.push(said.message);
            messages.extend(said.results);
            if !said.shown.is_empty() {
                messages.push(json!({"role": "user", "content": said.shown}));
            }
        }
        messages
    }
}

/// Two texts in a row are two messages. But what calls stays one, or the results would not follow.
fn may_say(turn: &Value) -> bool {
    turn["content"].is_null() || turn["tool_calls"].is_array()
}

fn append(message: &mut Value, key: &str, text: &str) {
    let joined = match message[key].as_str() {
        Some(before) if !before.is_empty() => format!("{before}\n\n{text}"),
        _ => text.to_owned(),
    };
    message[key] = json!(joined);
}

fn text(item: &Value, key: &str, place: &str, faults: &mut Vec<FieldError>) -> Option<String> {
    let found = item[key].as_str().filter(|text| !text.is_empty());
    if found.is_none() {
        let param = format!("{place}.{key}");
        let message = format!("`{param}` is required, as text");
        faults.push(fault(param, "missing_required_parameter", message));
    }
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(items: &Value) -> (Vec<Value>, Vec<FieldError>) {
        let (names, known) = (Names::default(), BTreeMap::new());
        let mut messages = Messages::new(&names, &known);
        let mut faults = Vec::new();
        for (at, item) in items.as_array().unwrap().iter().enumerate() {
            messages.item(item, &format!("input[{at}]"), &mut faults);
        }
        (messages.finish(), faults)
    }

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "id": "fc_any", "call_id": id, "name": "f", "arguments": "{}"})
    }

    fn output(id: &str, output: &Value) -> Value {
        json!({"type": "function_call_output", "call_id": id, "output": output})
    }

    #[test]
    fn a_turn_is_one_message_and_results_follow_their_calls() {
        let (said, faults) = messages(&json!([
            {"role": "developer", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do"}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": null},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "o"}, {"type": "output_text", "text": "k"}]},
            call("1"), call("2"),
            {"type": "message", "role": "user", "content": "meanwhile"},
            output("2", &json!("two")),
            output("1", &json!([{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}])),
            {"type": "new_kind", "x": 1},
            {"type": "message", "role": "assistant", "content": "one"},
            {"type": "message", "role": "assistant", "content": "two"},
        ]));
        assert_eq!(faults, []);
        assert_eq!(
            said,
            *json!([
                {"role": "system", "content": "a\n\nb"},
                {"role": "user", "content": "do"},
                {"role": "assistant", "content": "ok", "reasoning_content": "hm", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "2", "content": "two"},
                {"role": "tool", "tool_call_id": "1", "content": "x\ny"},
                {"role": "user", "content": "meanwhile"},
                {"role": "assistant", "content": "one"},
                {"role": "assistant", "content": "two"},
            ])
            .as_array()
            .unwrap()
        );
    }

    #[test]
    fn what_a_result_shows_comes_behind_all_results() {
        let image = json!({"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "high"});
        let (said, faults) = messages(&json!([
            call("1"),
            call("2"),
            output("1", &json!([image])),
            output("2", &json!("x"))
        ]));
        assert_eq!(faults, []);
        let roles: Vec<&str> = said
            .iter()
            .map(|said| said["role"].as_str().unwrap())
            .collect();
        assert_eq!(roles, ["assistant", "tool", "tool", "user"]);
        assert_eq!(
            said[3]["content"][0]["image_url"],
            json!({"url": "data:image/png;base64,aGk=", "detail": "high"})
        );
    }

    #[test]
    fn faults_name_their_place() {
        let (_, faults) = messages(&json!([
            7,
            {"type": "message", "content": "x"},
            {"type": "message", "role": "bot", "content": "x"},
            {"type": "message", "role": "user"},
            {"type": "function_call", "name": "f"},
            {"type": "function_call_output", "output": "x"},
            {"type": "item_reference", "id": "msg_1"},
            {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}, {"type": "input_file", "file_url": "x"}]},
        ]));
        let params: Vec<_> = faults
            .iter()
            .filter_map(|fault| fault.param.as_deref())
            .collect();
        assert_eq!(
            params,
            [
                "input[0]",
                "input[1].role",
                "input[2].role",
                "input[3].content",
                "input[4].call_id",
                "input[5].call_id",
                "input[6].id",
                "input[7].content[0].image_url",
                "input[7].content[1].file_data",
            ]
        );
    }
}
