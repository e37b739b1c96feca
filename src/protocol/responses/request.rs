//! A request in the Responses dialect, and the chat request it means.
//!
//! What only `OpenAI`'s own servers know is not sent on (`metadata`, `prompt_cache_key`, `safety_identifier`, `include`,
//! `truncation`, `text.verbosity` ..): many chat servers refuse members that they do not know, and Codex writes some of
//! them into each request. `max_output_tokens` becomes `max_tokens`, the one name that all of them take.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::items::Messages;
use super::names::Names;
use super::tools::Tools;
use super::{echo, fault};
use crate::protocol::openai::request::FieldError;

const TEXTS: [&str; 7] = [
    "model",
    "instructions",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "user",
];
const FLAGS: [&str; 4] = ["stream", "store", "background", "parallel_tool_calls"];
const NUMBERS: [&str; 5] = [
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "top_logprobs",
];
const OBJECTS: [&str; 3] = ["text", "reasoning", "metadata"];

/// Members that a chat request has under the same name. Those behind `user` are no part of the dialect: clients add
/// them for servers that know them.
const SAME: [&str; 14] = [
    "model",
    "temperature",
    "top_p",
    "service_tier",
    "user",
    "seed",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "top_k",
    "enable_thinking",
    "thinking_budget",
    "chat_template_kwargs",
    "provider",
];

/// A request that was read.
pub(crate) struct Asked {
    members: BTreeMap<String, Box<RawValue>>,
    input: Vec<Value>,
    pub(crate) stream: bool,
    /// Whether the response is to be found afterwards.
    pub(crate) store: bool,
    /// The response that this one goes on from.
    pub(crate) previous: Option<String>,
    /// What the body calls its conversation.
    pub(crate) session: Option<String>,
}

/// What was said before, and elsewhere.
#[derive(Default)]
pub(crate) struct Before {
    /// Messages of a chat.
    pub(crate) messages: Vec<Value>,
    /// Stored items by their ids.
    pub(crate) items: BTreeMap<String, Value>,
}

/// The chat request, and what it takes to tell its answer.
pub(crate) struct Translated {
    pub(crate) chat: Bytes,
    pub(crate) echo: Map<String, Value>,
    pub(crate) names: Names,
    /// Whether the first message is made of `instructions`, which are not carried on.
    pub(crate) has_instructions: bool,
}

/// Reads a body. The error lists every problem there is.
pub(crate) fn read(body: &[u8]) -> Result<Asked, Vec<FieldError>> {
    let members = members(body).map_err(|error| vec![error])?;
    let mut faults = Vec::new();
    let mut check = |keys: &[&str], is_right: fn(&Value) -> bool, wanted: &str| {
        for key in keys {
            if value(&members, key).is_some_and(|value| !is_right(&value)) {
                faults.push(fault(
                    *key,
                    "invalid_type",
                    format!("`{key}` must be {wanted}"),
                ));
            }
        }
    };
    check(&TEXTS, Value::is_string, "a string");
    check(&FLAGS, Value::is_boolean, "true or false");
    check(&NUMBERS, Value::is_number, "a number");
    check(&OBJECTS, Value::is_object, "an object");
    let text = |key: &str| {
        let text = value(&members, key).and_then(|value| value.as_str().map(str::to_owned));
        text.filter(|text| !text.is_empty())
    };
    let is = |key: &str| value(&members, key).and_then(|value| value.as_bool());
    if is("background") == Some(true) {
        let message =
            "`background` is not offered; leave it out and read the answer, streamed or whole";
        faults.push(fault("background", "unsupported_parameter", message));
    }
    for (key, instead) in [
        (
            "conversation",
            "send `previous_response_id`, or all items as `input`",
        ),
        (
            "prompt",
            "prompt templates live at their vendor; send their text as `instructions`",
        ),
    ] {
        if value(&members, key).is_some() {
            let message = format!("`{key}` is not offered; {instead}");
            faults.push(fault(key, "unsupported_parameter", message));
        }
    }
    let previous = text("previous_response_id");
    let input = match value(&members, "input") {
        Some(Value::String(text)) => {
            vec![json!({"type": "message", "role": "user", "content": text})]
        }
        Some(Value::Array(items)) => items,
        Some(_) => {
            faults.push(fault(
                "input",
                "invalid_type",
                "`input` must be a string or an array",
            ));
            Vec::new()
        }
        None => Vec::new(),
    };
    if input.is_empty() && previous.is_none() && text("instructions").is_none() && faults.is_empty()
    {
        faults.push(fault(
            "input",
            "missing_required_parameter",
            "`input` is required, as text or as items",
        ));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let metadata = value(&members, "client_metadata");
    let told = metadata.and_then(|told| told["session_id"].as_str().map(str::to_owned));
    let session = text("prompt_cache_key").or(told);
    Ok(Asked {
        stream: is("stream").unwrap_or_default(),
        store: is("store").unwrap_or(true),
        previous,
        session,
        input,
        members,
    })
}

impl Asked {
    /// The model by the client's name for it.
    pub(crate) fn model(&self) -> Option<String> {
        value(&self.members, "model").and_then(|model| model.as_str().map(str::to_owned))
    }

    /// The ids of stored items that the input refers to.
    pub(crate) fn references(&self) -> impl Iterator<Item = &str> {
        let references = self
            .input
            .iter()
            .filter(|item| item["type"] == "item_reference");
        references.filter_map(|item| item["id"].as_str())
    }

    /// The request as an upstream of the same dialect takes it: all that went before in it, and nothing stored there.
    /// `before` are items.
    pub(crate) fn native(&self, mut before: Vec<Value>, known: &BTreeMap<String, Value>) -> Bytes {
        let mut members = self.members.clone();
        members.remove("previous_response_id");
        let own = self.input.iter().map(|item| {
            let is_reference = item["type"] == "item_reference";
            let id = item["id"].as_str().filter(|_| is_reference);
            id.and_then(|id| known.get(id)).unwrap_or(item).clone()
        });
        before.extend(own);
        // Its author reads what it sealed, and knows nothing of what another one thought.
        before.retain(|item| item["type"] != "reasoning" || item["encrypted_content"].is_string());
        for item in before.iter_mut().filter(|item| item["type"] == "reasoning") {
            // What is sealed names the id it had there; the one it has here would not fit.
            if let Some(members) = item.as_object_mut() {
                members.remove("id");
            }
        }
        let mut put = |key: &str, value: Value| {
            if let Ok(value) = to_raw_value(&value) {
                members.insert(key.to_owned(), value);
            }
        };
        put("input", Value::Array(before));
        put("store", json!(false));
        serde_json::to_vec(&members).unwrap_or_default().into()
    }

    /// The chat request that this one means.
    pub(crate) fn chat(&self, before: &Before) -> Result<Translated, Vec<FieldError>> {
        let mut faults = Vec::new();
        let mut tools = Tools::read(self.members.get("tools").map(AsRef::as_ref), &mut faults);
        let mut chat = Chat::default();
        for key in SAME {
            if let Some(given) = self.given(key) {
                chat.raw(key, given);
            }
        }
        if let Some(most) = self.given("max_output_tokens") {
            chat.raw("max_tokens", most);
        }
        if let Some(effort) =
            value(&self.members, "reasoning").map(|reasoning| reasoning["effort"].clone())
            && effort.is_string()
        {
            chat.put("reasoning_effort", &effort);
        }
        if let Some(format) = self
            .given("text")
            .and_then(|text| format(text, &mut faults))
        {
            chat.raw("response_format", &format);
        }
        if self.stream {
            chat.put("stream", &json!(true));
            chat.put("stream_options", &json!({"include_usage": true}));
        }
        let choice = tools.choose(value(&self.members, "tool_choice").as_ref());
        let names = tools.names.clone();
        if tools.offers() {
            if let Some(choice) = choice {
                chat.put("tool_choice", &choice);
            }
            if let Some(parallel) = self.given("parallel_tool_calls") {
                chat.raw("parallel_tool_calls", parallel);
            }
            chat.put("tools", &tools.into_functions());
        }
        let instructions = value(&self.members, "instructions");
        let instructions = instructions
            .as_ref()
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty());
        let mut messages = Messages::new(&names, &before.items);
        if let Some(text) = instructions {
            messages.message(json!({"role": "system", "content": text}));
        }
        for message in &before.messages {
            messages.message(message.clone());
        }
        for (at, item) in self.input.iter().enumerate() {
            messages.item(item, &format!("input[{at}]"), &mut faults);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let messages = messages.finish();
        if messages.is_empty() {
            let message = "`input` holds nothing that a model could be told";
            return Err(vec![fault("input", "invalid_value", message)]);
        }
        chat.put("messages", &messages);
        Ok(Translated {
            chat: chat.finish(),
            echo: echo::of(&self.members),
            has_instructions: instructions.is_some(),
            names,
        })
    }

    fn given(&self, key: &str) -> Option<&RawValue> {
        let given = self.members.get(key).map(AsRef::as_ref);
        given.filter(|given: &&RawValue| given.get() != "null")
    }
}

/// The members of a chat request.
#[derive(Default)]
struct Chat(BTreeMap<&'static str, Box<RawValue>>);

impl Chat {
    fn raw(&mut self, key: &'static str, value: &RawValue) {
        self.0.insert(key, value.to_owned());
    }

    fn put(&mut self, key: &'static str, value: &impl serde::Serialize) {
        // It is made of JSON, so it can be written.
        if let Ok(value) = to_raw_value(value) {
            self.0.insert(key, value);
        }
    }

    fn finish(self) -> Bytes {
        serde_json::to_vec(&self.0).unwrap_or_default().into()
    }
}

fn members(body: &[u8]) -> Result<BTreeMap<String, Box<RawValue>>, FieldError> {
    let whole = |code, message: String| FieldError {
        param: None,
        message,
        code,
    };
    if body.trim_ascii().is_empty() {
        let message = "the request has no body; send a JSON object";
        return Err(whole("empty_body", message.to_owned()));
    }
    let read: Result<BTreeMap<String, Box<RawValue>>, _> = serde_json::from_slice(body);
    read.map_err(|error| {
        if error.is_data() {
            whole("invalid_type", "the body must be a JSON object".to_owned())
        } else {
            whole(
                "invalid_json",
                format!("the body is not valid JSON: {error}"),
            )
        }
    })
}

/// A member that is there and not null.
fn value(members: &BTreeMap<String, Box<RawValue>>, key: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(members.get(key)?.get()).ok()?;
    (!value.is_null()).then_some(value)
}

/// `text.format` as `response_format`; none where that is plain text.
fn format(text: &RawValue, faults: &mut Vec<FieldError>) -> Option<Box<RawValue>> {
    let text: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text.get()).ok()?;
    let format = text.get("format").filter(|format| format.get() != "null")?;
    let mut refuse = |message: &str| {
        faults.push(fault("text.format", "invalid_value", message));
        None
    };
    let Ok(members) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(format.get()) else {
        return refuse("`text.format` must be an object");
    };
    let kind = value(&members, "type");
    match kind.as_ref().and_then(Value::as_str) {
        Some("text") => None,
        Some("json_object") => to_raw_value(&json!({"type": "json_object"})).ok(),
        Some("json_schema") => {
            if !members
                .get("schema")
                .is_some_and(|schema| schema.get().starts_with('{'))
            {
                return refuse("`text.format.schema` is required, as an object");
            }
            let mut schema: BTreeMap<&str, &RawValue> = BTreeMap::new();
            for key in ["name", "description", "schema", "strict"] {
                if let Some(given) = members.get(key).filter(|given| given.get() != "null") {
                    schema.insert(key, given);
                }
            }
            let schema = to_raw_value(&schema).ok()?;
            let kind = to_raw_value("json_schema").ok()?;
            to_raw_value(&BTreeMap::from([("json_schema", schema), ("type", kind)])).ok()
        }
        _ => refuse("`text.format.type` must be one of text, json_object, json_schema"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &Value) -> Value {
        let translated = read(body.to_string().as_bytes())
            .unwrap()
            .chat(&Before::default());
        serde_json::from_slice(
            &translated
                .unwrap_or_else(|faults| panic!("{faults:?}"))
                .chat,
        )
        .unwrap()
    }

    fn faults(body: &Value) -> Vec<(String, &'static str)> {
        let faults = match read(body.to_string().as_bytes()) {
            Err(faults) => faults,
            Ok(asked) => asked.chat(&Before::default()).err().unwrap_or_default(),
        };
        let named = |fault: FieldError| (fault.param.unwrap_or_default(), fault.code);
        faults.into_iter().map(named).collect()
    }

    #[test]
    fn every_member_finds_its_place() {
        let chat = chat(&json!({
            "model": "m", "input": "hi", "instructions": "be kind", "stream": true, "max_output_tokens": 9,
            "temperature": 0, "top_p": 0.5, "user": "u", "service_tier": "auto", "seed": 3, "store": false,
            "metadata": {"a": "b"}, "prompt_cache_key": "k", "include": ["reasoning.encrypted_content"],
            "truncation": "auto", "background": false, "parallel_tool_calls": true, "tool_choice": "auto",
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "strict": true, "schema": {"type": "object"}}},
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false}],
        }));
        assert_eq!(
            chat,
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9, "temperature": 0,
                "top_p": 0.5, "user": "u", "service_tier": "auto", "seed": 3, "parallel_tool_calls": true, "tool_choice": "auto",
                "reasoning_effort": "low",
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object"}}},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
            })
        );
    }

    #[test]
    fn nothing_is_chosen_where_nothing_is_offered() {
        let chat = chat(
            &json!({"input": "hi", "tools": [{"type": "web_search"}], "tool_choice": "required",
            "parallel_tool_calls": false, "text": {"format": {"type": "text"}}, "reasoning": null, "temperature": null}),
        );
        assert_eq!(
            chat,
            json!({"messages": [{"role": "user", "content": "hi"}]})
        );
        let empty = self::chat(&json!({"input": "hi", "tools": [], "tool_choice": "auto"}));
        assert_eq!(empty, chat);
    }

    #[test]
    fn faults_name_the_member() {
        for (body, wanted) in [
            (json!({}), ("input", "missing_required_parameter")),
            (
                json!({"input": []}),
                ("input", "missing_required_parameter"),
            ),
            (json!({"input": 7}), ("input", "invalid_type")),
            (
                json!({"input": [{"type": "unheard"}]}),
                ("input", "invalid_value"),
            ),
            (
                json!({"input": "x", "background": true}),
                ("background", "unsupported_parameter"),
            ),
            (
                json!({"input": "x", "conversation": "c"}),
                ("conversation", "unsupported_parameter"),
            ),
            (
                json!({"input": "x", "stream": "yes"}),
                ("stream", "invalid_type"),
            ),
            (
                json!({"input": "x", "max_output_tokens": "9"}),
                ("max_output_tokens", "invalid_type"),
            ),
            (
                json!({"input": "x", "tools": {}}),
                ("tools", "invalid_type"),
            ),
            (
                json!({"input": "x", "text": {"format": {"type": "xml"}}}),
                ("text.format", "invalid_value"),
            ),
            (
                json!({"input": "x", "text": {"format": {"type": "json_schema"}}}),
                ("text.format", "invalid_value"),
            ),
        ] {
            assert_eq!(faults(&body), [(wanted.0.to_owned(), wanted.1)], "{body}");
        }
        assert!(matches!(read(b"[]"), Err(faults) if faults[0].code == "invalid_type"));
        assert!(matches!(read(b"{"), Err(faults) if faults[0].code == "invalid_json"));
        assert!(matches!(read(b" "), Err(faults) if faults[0].code == "empty_body"));
    }

    #[test]
    fn a_session_is_read_out_of_the_body() {
        let session = |body: Value| read(body.to_string().as_bytes()).unwrap().session;
        assert_eq!(
            session(json!({"input": "x", "client_metadata": {"session_id": "s"}})).as_deref(),
            Some("s")
        );
        assert_eq!(
            session(json!({"input": "x", "prompt_cache_key": "k"})).as_deref(),
            Some("k")
        );
        assert_eq!(session(json!({"input": "x"})), None);
    }
}
