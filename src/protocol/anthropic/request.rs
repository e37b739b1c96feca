//! A Messages request, and the chat request it means.

use serde_json::{Map, Value, json};

use super::UNSIGNED;
use crate::protocol::dialect::extra;
use crate::protocol::openai::request::FieldError;

/// A request in both forms.
#[derive(Debug)]
pub(crate) struct Read {
    /// The chat request.
    pub(crate) chat: Value,
    /// The model the client named.
    pub(crate) model: String,
    /// What `metadata.user_id` calls the session: Claude Code puts JSON there, with `session_id` in it.
    pub(crate) session: Option<String>,
}

/// Translates a request. What a chat request has no word for (server tools, cache marks, containers) is left out: an
/// upstream that speaks Anthropic's dialect gets the request as it came. The error lists every problem there is.
pub(crate) fn read(body: &[u8]) -> Result<Read, Vec<FieldError>> {
    let whole: Value = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        Err(_) if body.trim_ascii().is_empty() => {
            return Err(vec![FieldError::whole(
                "empty_body",
                "the request has no body; send a JSON object",
            )]);
        }
        Err(error) => {
            return Err(vec![FieldError::whole(
                "invalid_json",
                format!("the body is not valid JSON: {error}"),
            )]);
        }
    };
    let Value::Object(asked) = whole else {
        return Err(vec![FieldError::whole(
            "invalid_type",
            "the body must be a JSON object",
        )]);
    };
    let mut reading = Reading::default();
    let chat = reading.request(&asked);
    if !reading.errors.is_empty() {
        return Err(reading.errors);
    }
    Ok(Read {
        chat: Value::Object(chat),
        model: text(&asked, "model").unwrap_or_default().to_owned(),
        session: session(&asked),
    })
}

#[derive(Default)]
struct Reading {
    errors: Vec<FieldError>,
}

impl Reading {
    fn request(&mut self, asked: &Map<String, Value>) -> Map<String, Value> {
        let mut chat = Map::new();
        match asked.get("model") {
            Some(Value::String(model)) if !model.is_empty() => {
                chat.insert("model".into(), json!(model));
            }
            Some(_) => self.wrong("model", "a string that is not empty"),
            None => self.missing("model"),
        }
        let mut messages = Vec::new();
        match asked.get("system") {
            None | Some(Value::Null) => {}
            Some(system @ (Value::String(_) | Value::Array(_))) => {
                let text = instructions(system);
                if !text.is_empty() {
                    messages.push(json!({"role": "system", "content": text}));
                }
            }
            Some(_) => self.wrong("system", "a string or a list of text blocks"),
        }
        match asked.get("messages") {
            Some(Value::Array(list)) if !list.is_empty() => {
                for (at, message) in list.iter().enumerate() {
                    self.message(at, message, &mut messages);
                }
            }
            Some(Value::Array(_)) => self.refuse(
                "messages",
                "invalid_value",
                "`messages` must hold at least one message",
            ),
            Some(_) => self.wrong("messages", "a list"),
            None => self.missing("messages"),
        }
        chat.insert("messages".into(), Value::Array(messages));
        self.options(asked, &mut chat);
        tools(asked, &mut chat);
        thinking(asked, &mut chat);
        chat
    }

    fn options(&mut self, asked: &Map<String, Value>, chat: &mut Map<String, Value>) {
        for (name, own) in [
            ("max_tokens", "max_tokens"),
            ("temperature", "temperature"),
            ("top_p", "top_p"),
            ("top_k", "top_k"),
        ] {
            match asked.get(name) {
                None | Some(Value::Null) => {}
                Some(value @ Value::Number(_)) => {
                    chat.insert(own.into(), value.clone());
                }
                Some(_) => self.wrong(name, "a number"),
            }
        }
        match asked.get("stop_sequences") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(list @ Value::Array(_)) => {
                chat.insert("stop".into(), list.clone());
            }
            Some(_) => self.wrong("stop_sequences", "a list of strings"),
        }
        match asked.get("stream") {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) => {
                chat.insert("stream".into(), json!(true));
                chat.insert("stream_options".into(), json!({"include_usage": true}));
            }
            Some(_) => self.wrong("stream", "a boolean"),
        }
        let format = asked
            .get("output_config")
            .and_then(|config| config.get("format"))
            .or_else(|| asked.get("output_format"));
        if let Some(schema) = format.and_then(|format| format.get("schema")) {
            let schema = json!({"name": "answer", "schema": schema, "strict": true});
            chat.insert(
                "response_format".into(),
                json!({"type": "json_schema", "json_schema": schema}),
            );
        }
    }

    fn message(&mut self, at: usize, message: &Value, messages: &mut Vec<Value>) {
        let path = format!("messages[{at}]");
        let content = message.get("content").unwrap_or(&Value::Null);
        let blocks: Vec<Value> = match content {
            Value::String(text) => vec![json!({"type": "text", "text": text})],
            Value::Array(blocks) => blocks.clone(),
            Value::Null => {
                self.missing(&format!("{path}.content"));
                return;
            }
            _ => {
                self.wrong(
                    &format!("{path}.content"),
                    "a string or a list of content blocks",
                );
                return;
            }
        };
        match message.get("role").and_then(Value::as_str) {
            Some("user") => self.user(&path, &blocks, messages),
            Some("assistant") => messages.push(assistant(&blocks)),
            // Claude Code sends some in the middle (client-behaviour.md, 3).
            Some("system") => {
                messages.push(json!({"role": "system", "content": joined(content)}));
            }
            Some(_) => self.refuse(
                &format!("{path}.role"),
                "invalid_value",
                &format!("`{path}.role` must be `user` or `assistant`"),
            ),
            None => self.missing(&format!("{path}.role")),
        }
    }

    /// A chat request has a message of its own for each result of a tool; what else the user says comes after them.
    fn user(&mut self, path: &str, blocks: &[Value], messages: &mut Vec<Value>) {
        let mut parts = Vec::new();
        let mut has_results = false;
        for (at, block) in blocks.iter().enumerate() {
            let path = format!("{path}.content[{at}]");
            if kind(block) != "tool_result" {
                parts.extend(self.part(&path, block));
                continue;
            }
            has_results = true;
            let Some(id) = block.get("tool_use_id").and_then(Value::as_str) else {
                self.missing(&format!("{path}.tool_use_id"));
                continue;
            };
            let (mut text, mut images) = (String::new(), Vec::new());
            match block.get("content") {
                Some(Value::String(said)) => text.push_str(said),
                Some(Value::Array(inner)) => {
                    for (at, inner) in inner.iter().enumerate() {
                        let part = self.part(&format!("{path}.content[{at}]"), inner);
                        match part.as_ref().and_then(|part| part.get("text")) {
                            Some(said) => {
                                if !text.is_empty() {
                                    text.push('\n');
                                }
                                text.push_str(said.as_str().unwrap_or_default());
                            }
                            None => images.extend(part),
                        }
                    }
                }
                _ => {}
            }
            let failed = block.get("is_error").and_then(Value::as_bool) == Some(true);
            if failed && !says_error(&text) {
                text.insert_str(0, "Error: ");
            }
            if !images.is_empty() {
                // A tool's message holds text only.
                parts.push(json!({"type": "text", "text": format!("From the tool call {id}:")}));
                parts.append(&mut images);
            }
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
        }
        match parts.as_slice() {
            [] if has_results => {}
            [] => messages.push(json!({"role": "user", "content": ""})),
            [only] if only.get("text").is_some() => {
                messages.push(json!({"role": "user", "content": only["text"]}));
            }
            _ => messages.push(json!({"role": "user", "content": parts})),
        }
    }

    /// One part of a user's message.
    fn part(&mut self, path: &str, block: &Value) -> Option<Value> {
        match kind(block) {
            "text" => {
                let text = block.get("text").and_then(Value::as_str)?;
                Some(json!({"type": "text", "text": text}))
            }
            "image" => {
                let source = block.get("source").unwrap_or(&Value::Null);
                let url = self.address(path, source, "image/png")?;
                Some(json!({"type": "image_url", "image_url": {"url": url}}))
            }
            "document" => {
                let source = block.get("source").unwrap_or(&Value::Null);
                match kind(source) {
                    "text" => Some(json!({"type": "text", "text": source.get("data")?})),
                    "content" => {
                        let text = joined(source.get("content").unwrap_or(&Value::Null));
                        Some(json!({"type": "text", "text": text}))
                    }
                    _ => {
                        let data = self.address(path, source, "application/pdf")?;
                        let name = block.get("title").and_then(Value::as_str);
                        let file =
                            json!({"filename": name.unwrap_or("document.pdf"), "file_data": data});
                        Some(json!({"type": "file", "file": file}))
                    }
                }
            }
            // Search results and what is yet to come: better as text than not at all.
            "" => {
                self.missing(&format!("{path}.type"));
                None
            }
            _ => Some(json!({"type": "text", "text": block.to_string()})),
        }
    }

    fn address(&mut self, path: &str, source: &Value, usual: &str) -> Option<String> {
        match kind(source) {
            "base64" => {
                let data = source.get("data").and_then(Value::as_str)?;
                let media = source.get("media_type").and_then(Value::as_str);
                Some(format!("data:{};base64,{data}", media.unwrap_or(usual)))
            }
            "url" => source.get("url").and_then(Value::as_str).map(str::to_owned),
            _ => {
                self.refuse(
                    &format!("{path}.source"),
                    "invalid_value",
                    &format!("`{path}.source` must be of type `base64` or `url`; send the bytes themselves"),
                );
                None
            }
        }
    }

    fn missing(&mut self, path: &str) {
        self.refuse(
            path,
            "missing_required_parameter",
            &format!("`{path}` is required"),
        );
    }

    fn wrong(&mut self, path: &str, what: &str) {
        self.refuse(path, "invalid_type", &format!("`{path}` must be {what}"));
    }

    fn refuse(&mut self, path: &str, code: &'static str, message: &str) {
        self.errors.push(FieldError::of(path, code, message));
    }
}

/// One message may hold all that a turn brought.
fn assistant(blocks: &[Value]) -> Value {
    let (mut text, mut reasoning) = (String::new(), String::new());
    let (mut calls, mut redacted, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut signature = None;
    for block in blocks {
        let say = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match kind(block) {
            "text" => text.push_str(say("text")),
            "thinking" => {
                reasoning.push_str(say("thinking"));
                signature = Some(say("signature")).filter(|text| !matches!(*text, "" | UNSIGNED));
            }
            "redacted_thinking" => redacted.push(json!(say("data"))),
            "tool_use" => {
                let input = block.get("input").cloned().unwrap_or_else(|| json!({}));
                let function = json!({"name": say("name"), "arguments": input.to_string()});
                calls.push(json!({"id": say("id"), "type": "function", "function": function}));
            }
            "" => {}
            _ => others.push(block.clone()),
        }
    }
    let mut message = Map::new();
    message.insert("role".into(), json!("assistant"));
    let has_calls = !calls.is_empty();
    let content = if text.is_empty() && has_calls {
        Value::Null
    } else {
        json!(text)
    };
    message.insert("content".into(), content);
    if !reasoning.is_empty() {
        message.insert("reasoning_content".into(), json!(reasoning));
    }
    if let Some(signature) = signature {
        message.insert(extra::SIGNATURE.into(), json!(signature));
    }
    for (name, list) in [
        ("tool_calls", calls),
        (extra::REDACTED, redacted),
        (extra::BLOCKS, others),
    ] {
        if !list.is_empty() {
            message.insert(name.into(), Value::Array(list));
        }
    }
    Value::Object(message)
}

/// Tools with a schema are functions; those that Anthropic's servers run have none.
fn tools(asked: &Map<String, Value>, chat: &mut Map<String, Value>) {
    let list = asked.get("tools").and_then(Value::as_array);
    let functions: Vec<Value> = list
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            let schema = tool.get("input_schema")?;
            let mut function = Map::new();
            function.insert("name".into(), tool.get("name")?.clone());
            if let Some(description) = tool.get("description") {
                function.insert("description".into(), description.clone());
            }
            function.insert("parameters".into(), schema.clone());
            if let Some(strict @ Value::Bool(_)) = tool.get("strict") {
                function.insert("strict".into(), strict.clone());
            }
            Some(json!({"type": "function", "function": function}))
        })
        .collect();
    // Some servers refuse an empty list (client-behaviour.md, 3).
    if functions.is_empty() {
        return;
    }
    chat.insert("tools".into(), Value::Array(functions));
    let Some(choice) = asked.get("tool_choice") else {
        return;
    };
    let chosen = match kind(choice) {
        "any" => json!("required"),
        "none" => json!("none"),
        "tool" => {
            json!({"type": "function", "function": {"name": choice.get("name").unwrap_or(&Value::Null)}})
        }
        _ => json!("auto"),
    };
    chat.insert("tool_choice".into(), chosen);
    if choice.get("disable_parallel_tool_use") == Some(&Value::Bool(true)) {
        chat.insert("parallel_tool_calls".into(), json!(false));
    }
}

/// How much to think, in the words of Qwen's API; who does not know them does not get them (`openai::plain`).
fn thinking(asked: &Map<String, Value>, chat: &mut Map<String, Value>) {
    let thinking = asked.get("thinking").unwrap_or(&Value::Null);
    match kind(thinking) {
        "enabled" => {
            chat.insert("enable_thinking".into(), json!(true));
            if let Some(budget) = thinking.get("budget_tokens").and_then(Value::as_u64) {
                chat.insert("thinking_budget".into(), json!(budget));
            }
        }
        "adaptive" => {
            chat.insert("enable_thinking".into(), json!(true));
        }
        "disabled" => {
            chat.insert("enable_thinking".into(), json!(false));
        }
        _ => {}
    }
    let effort = asked
        .get("output_config")
        .and_then(|config| config.get("effort"))
        .and_then(Value::as_str);
    if let Some(effort) = effort {
        let effort = if effort == "max" { "high" } else { effort };
        chat.insert("reasoning_effort".into(), json!(effort));
    }
}

/// The text of the system, without the block in which Claude Code reports itself to its vendor's billing.
fn instructions(system: &Value) -> String {
    match system {
        Value::Array(blocks) => {
            let is_report = |block: &&Value| {
                let text = block.get("text").and_then(Value::as_str);
                text.is_some_and(|text| text.starts_with("x-anthropic-billing-header:"))
            };
            let told = blocks.iter().filter(|block| !is_report(block));
            joined(&told.cloned().collect())
        }
        text => joined(text),
    }
}

/// The texts of a string or of a list of blocks.
fn joined(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks
                .iter()
                .filter_map(|block| block.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n\n")
        }
        _ => String::new(),
    }
}

/// Whether a result says by itself that it is a failure.
fn says_error(text: &str) -> bool {
    let start: String = text
        .trim_start()
        .chars()
        .take(24)
        .collect::<String>()
        .to_ascii_lowercase();
    start.contains("error")
}

fn session(asked: &Map<String, Value>) -> Option<String> {
    let id = asked.get("metadata")?.get("user_id")?.as_str()?;
    let inside: Value = serde_json::from_str(id).unwrap_or_default();
    inside
        .get("session_id")?
        .as_str()
        .map(|session| session.chars().take(256).collect())
}

fn kind(block: &Value) -> &str {
    block
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn text<'a>(asked: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    asked.get(name).and_then(Value::as_str)
}
