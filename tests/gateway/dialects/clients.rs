//! The clients of the matrix: each asks and listens in its own dialect, as its SDK does.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{IMAGE, Scenario};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Chat,
    Messages,
    Responses,
    Ollama,
}

pub const CLIENTS: [Client; 4] = [
    Client::Chat,
    Client::Messages,
    Client::Responses,
    Client::Ollama,
];

/// What a client heard.
#[derive(Debug, Default)]
pub struct Transcript {
    pub text: String,
    pub thought: String,
    pub calls: Vec<(String, Value)>,
    /// `stop`, `calls` or `length`.
    pub end: Option<String>,
    /// Tokens in and out.
    pub usage: (u64, u64),
    pub errors: Vec<Value>,
    /// What came after what: `thought`, `text`, `call`.
    pub order: Vec<&'static str>,
    /// The names of the events.
    pub events: Vec<String>,
}

impl Transcript {
    pub fn to_json(&self) -> Value {
        let mut events: Vec<String> = Vec::new();
        for event in &self.events {
            match events.last_mut() {
                Some(last) if last.trim_end_matches(" ...") == event => {
                    *last = format!("{event} ...");
                }
                _ => events.push(event.clone()),
            }
        }
        json!({
            "text": self.text, "thought": self.thought, "calls": self.calls, "end": self.end,
            "usage": {"in": self.usage.0, "out": self.usage.1}, "errors": self.errors, "events": events,
        })
    }

    fn say(&mut self, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.text.push_str(text);
            self.order.push("text");
        }
    }

    fn think(&mut self, text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.thought.push_str(text);
            self.order.push("thought");
        }
    }

    fn call(&mut self, name: &Value, input: Value) {
        let name = name.as_str().expect("a name").to_owned();
        self.calls.push((name, input));
        self.order.push("call");
    }

    /// An error without what differs from run to run.
    fn fail(&mut self, error: &Value) {
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{error}"
        );
        self.errors
            .push(json!({"type": error["type"], "code": error["code"]}));
    }
}

fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().expect("a text")).expect("arguments are JSON")
}

impl Client {
    /// The path and the body of the scenario's request.
    pub fn request(self, model: &str, scenario: Scenario) -> (&'static str, Value) {
        match self {
            Self::Chat => ("/v1/chat/completions", chat_request(model, scenario)),
            Self::Messages => ("/v1/messages", messages_request(model, scenario)),
            Self::Responses => ("/v1/responses", responses_request(model, scenario)),
            Self::Ollama => ("/api/chat", ollama_request(model, scenario)),
        }
    }

    pub fn streamed(self, body: &str) -> Transcript {
        match self {
            Self::Chat => chat_stream(body),
            Self::Messages => messages_stream(body),
            Self::Responses => responses_stream(body),
            Self::Ollama => ollama_stream(body),
        }
    }

    pub fn whole(self, status: u16, body: &str) -> Transcript {
        let body: Value = serde_json::from_str(body).expect("JSON");
        let mut heard = Transcript::default();
        if status >= 400 {
            if self == Self::Messages {
                assert_eq!(body["type"], "error", "{body}");
            }
            if self == Self::Ollama {
                // A text is all there is.
                assert!(body["error"].is_string(), "{body}");
                heard.errors.push(reason(&body["error"]));
                return heard;
            }
            heard.fail(&body["error"]);
            return heard;
        }
        match self {
            Self::Chat => chat_whole(&body, &mut heard),
            Self::Messages => messages_whole(&body, &mut heard),
            Self::Responses => responses_whole(&body, &mut heard),
            Self::Ollama => ollama_said(&body, &mut heard),
        }
        heard
    }
}

/// Name, description and schema of the tools.
fn tools() -> [(&'static str, Value); 2] {
    let schema = |name: &str| json!({"type": "object", "properties": {(name): {"type": "string"}}, "required": [name]});
    [("read", schema("filePath")), ("bash", schema("command"))]
}

fn chat_request(model: &str, scenario: Scenario) -> Value {
    let content = if scenario == Scenario::Image {
        let url = format!("data:image/png;base64,{IMAGE}");
        json!([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}])
    } else {
        json!("Hello.")
    };
    let mut body = json!({"model": model, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": content}]});
    if scenario.streams() {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    if scenario.has_tools() {
        body["tools"] = tools()
            .map(|(name, schema)| json!({"type": "function", "function": {"name": name, "description": format!("Use {name}."), "parameters": schema}}))
            .to_vec()
            .into();
    }
    body
}

fn chat_stream(body: &str) -> Transcript {
    let mut heard = Transcript::default();
    let mut calls: BTreeMap<u64, (Value, String)> = BTreeMap::new();
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if data == "[DONE]" {
            heard.events.push("[DONE]".into());
            continue;
        }
        let event: Value = serde_json::from_str(data).expect("JSON");
        if event["error"].is_object() {
            heard.events.push("error".into());
            heard.fail(&event["error"]);
        }
        if event["usage"].is_object() {
            heard.usage = (
                event["usage"]["prompt_tokens"].as_u64().expect("a count"),
                event["usage"]["completion_tokens"]
                    .as_u64()
                    .expect("a count"),
            );
            heard.events.push("usage".into());
        }
        for choice in event["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            for (name, kind) in [
                ("reasoning_content", "reasoning"),
                ("content", "content"),
                ("tool_calls", "call"),
            ] {
                let is_there = delta[name].as_str().is_some_and(|text| !text.is_empty())
                    || delta[name].is_array();
                if is_there {
                    heard.events.push(kind.into());
                }
            }
            heard.think(&delta["reasoning_content"]);
            heard.say(&delta["content"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = call["index"].as_u64().expect("an index");
                let entry = calls.entry(index).or_insert_with(|| {
                    assert!(
                        call["id"].is_string() && call["type"] == "function",
                        "{call}"
                    );
                    (call["function"]["name"].clone(), String::new())
                });
                entry
                    .1
                    .push_str(call["function"]["arguments"].as_str().unwrap_or_default());
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                heard.events.push("finish".into());
                heard.end = Some(
                    if reason == "tool_calls" {
                        "calls"
                    } else {
                        reason
                    }
                    .to_owned(),
                );
            }
        }
    }
    for (name, arguments) in calls.into_values() {
        heard.call(&name, parsed(&json!(arguments)));
    }
    heard
}

fn chat_whole(body: &Value, heard: &mut Transcript) {
    let choice = &body["choices"][0];
    heard.think(&choice["message"]["reasoning_content"]);
    heard.say(&choice["message"]["content"]);
    for call in choice["message"]["tool_calls"]
        .as_array()
        .into_iter()
        .flatten()
    {
        heard.call(
            &call["function"]["name"],
            parsed(&call["function"]["arguments"]),
        );
    }
    heard.end = choice["finish_reason"].as_str().map(str::to_owned);
    let count = |name: &str| body["usage"][name].as_u64().expect("a count");
    heard.usage = (count("prompt_tokens"), count("completion_tokens"));
}

fn messages_request(model: &str, scenario: Scenario) -> Value {
    let content = if scenario == Scenario::Image {
        let source = json!({"type": "base64", "media_type": "image/png", "data": IMAGE});
        json!([{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}])
    } else {
        json!("Hello.")
    };
    let mut body = json!({"model": model, "max_tokens": 1_000, "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
                          "messages": [{"role": "user", "content": content}]});
    if scenario.streams() {
        body["stream"] = json!(true);
    }
    if scenario.has_tools() {
        body["tools"] = tools()
            .map(|(name, schema)| json!({"name": name, "description": format!("Use {name}."), "input_schema": schema}))
            .to_vec()
            .into();
    }
    if scenario == Scenario::Thinking {
        body["thinking"] = json!({"type": "adaptive"});
    }
    body
}

fn messages_stream(body: &str) -> Transcript {
    let mut heard = Transcript::default();
    let (mut block, mut json) = (Value::Null, String::new());
    for frame in body
        .split("\n\n")
        .filter(|frame| frame.starts_with("event:"))
    {
        let (name, data) = frame.split_once('\n').expect("two lines");
        let name = name.trim_start_matches("event: ");
        let data: Value = serde_json::from_str(data.trim_start_matches("data: ")).expect("JSON");
        assert_eq!(data["type"], name);
        let delta = &data["delta"];
        heard.events.push(match name {
            "content_block_delta" => delta["type"].as_str().expect("a type").to_owned(),
            _ => name.to_owned(),
        });
        match name {
            "content_block_start" => {
                block = data["content_block"].clone();
                json.clear();
            }
            "content_block_delta" => {
                heard.say(&delta["text"]);
                heard.think(&delta["thinking"]);
                json.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" if block["type"] == "tool_use" => {
                heard.call(&block["name"], parsed(&json!(json)));
            }
            "message_delta" => {
                heard.end = Some(end_of(&delta["stop_reason"]));
                heard.usage = messages_usage(&data["usage"]);
            }
            "error" => heard.fail(&data["error"]),
            _ => {}
        }
    }
    heard
}

fn messages_whole(body: &Value, heard: &mut Transcript) {
    assert_eq!(
        (&body["type"], &body["role"]),
        (&json!("message"), &json!("assistant"))
    );
    for block in body["content"].as_array().expect("blocks") {
        heard.think(&block["thinking"]);
        heard.say(&block["text"]);
        if block["type"] == "tool_use" {
            heard.call(&block["name"], block["input"].clone());
        }
    }
    heard.end = Some(end_of(&body["stop_reason"]));
    heard.usage = messages_usage(&body["usage"]);
}

fn end_of(stop_reason: &Value) -> String {
    match stop_reason.as_str().expect("a reason") {
        "end_turn" => "stop",
        "tool_use" => "calls",
        other => other,
    }
    .to_owned()
}

fn messages_usage(usage: &Value) -> (u64, u64) {
    let count = |name: &str| usage[name].as_u64().expect("a count");
    let prompt = count("input_tokens")
        + count("cache_read_input_tokens")
        + count("cache_creation_input_tokens");
    (prompt, count("output_tokens"))
}

fn responses_request(model: &str, scenario: Scenario) -> Value {
    let mut content = vec![json!({"type": "input_text", "text": "Hello."})];
    if scenario == Scenario::Image {
        let url = format!("data:image/png;base64,{IMAGE}");
        content.push(json!({"type": "input_image", "image_url": url}));
    }
    let mut body = json!({"model": model, "store": false, "instructions": "Be brief.",
                          "input": [{"type": "message", "role": "user", "content": content}]});
    if scenario.streams() {
        body["stream"] = json!(true);
    }
    if scenario.has_tools() {
        body["tools"] = tools()
            .map(|(name, schema)| json!({"type": "function", "name": name, "description": format!("Use {name}."), "parameters": schema}))
            .to_vec()
            .into();
    }
    if scenario == Scenario::Thinking {
        body["reasoning"] = json!({"summary": "auto"});
    }
    body
}

fn responses_stream(body: &str) -> Transcript {
    let mut heard = Transcript::default();
    let frames = body
        .split("\n\n")
        .filter(|frame| frame.starts_with("event:"));
    for (number, frame) in frames.enumerate() {
        let (name, data) = frame.split_once('\n').expect("two lines");
        let name = name.trim_start_matches("event: ");
        let data: Value = serde_json::from_str(data.trim_start_matches("data: ")).expect("JSON");
        assert_eq!(data["type"], name);
        assert_eq!(data["sequence_number"], number, "numbers rise by one");
        heard.events.push(name.to_owned());
        match name {
            "response.output_text.delta" => heard.say(&data["delta"]),
            "response.reasoning_summary_text.delta" => heard.think(&data["delta"]),
            "response.output_item.done" if data["item"]["type"] == "function_call" => {
                heard.call(&data["item"]["name"], parsed(&data["item"]["arguments"]));
            }
            "response.completed" => {
                // The last event says all of it once more.
                let mut whole = Transcript::default();
                responses_whole(&data["response"], &mut whole);
                assert_eq!((&whole.text, &whole.calls), (&heard.text, &heard.calls));
                heard.end = whole.end;
                heard.usage = whole.usage;
            }
            "response.failed" => heard.fail(&data["response"]["error"]),
            _ => {}
        }
    }
    heard
}

fn responses_whole(body: &Value, heard: &mut Transcript) {
    assert_eq!(
        (&body["object"], &body["status"]),
        (&json!("response"), &json!("completed")),
        "{body}"
    );
    for item in body["output"].as_array().expect("items") {
        for part in item["summary"].as_array().into_iter().flatten() {
            heard.think(&part["text"]);
        }
        for part in item["content"].as_array().into_iter().flatten() {
            heard.say(&part["text"]);
        }
        if item["type"] == "function_call" {
            heard.call(&item["name"], parsed(&item["arguments"]));
        }
    }
    let end = if heard.calls.is_empty() {
        "stop"
    } else {
        "calls"
    };
    heard.end = Some(end.to_owned());
    let count = |name: &str| body["usage"][name].as_u64().expect("a count");
    heard.usage = (count("input_tokens"), count("output_tokens"));
}

fn ollama_request(model: &str, scenario: Scenario) -> Value {
    let mut user = json!({"role": "user", "content": "Hello."});
    if scenario == Scenario::Image {
        user = json!({"role": "user", "content": "What is this?", "images": [IMAGE]});
    }
    let mut body =
        json!({"model": model, "messages": [{"role": "system", "content": "Be brief."}, user]});
    // Unlike the others it streams unless it is told not to.
    if !scenario.streams() {
        body["stream"] = json!(false);
    }
    if scenario.has_tools() {
        body["tools"] = tools()
            .map(|(name, schema)| json!({"type": "function", "function": {"name": name, "description": format!("Use {name}."), "parameters": schema}}))
            .to_vec()
            .into();
    }
    if scenario == Scenario::Thinking {
        body["think"] = json!(true);
    }
    body
}

fn ollama_stream(body: &str) -> Transcript {
    let mut heard = Transcript::default();
    for line in body.lines() {
        let line: Value = serde_json::from_str(line).expect("every line is JSON");
        assert_eq!(heard.end, None, "nothing follows the end: {line}");
        if line["error"].is_string() {
            heard.events.push("error".into());
            heard.errors.push(reason(&line["error"]));
            continue;
        }
        let message = &line["message"];
        for (name, kind) in [
            ("thinking", "thinking"),
            ("content", "content"),
            ("tool_calls", "calls"),
        ] {
            let is_there = message[name].as_str().is_some_and(|text| !text.is_empty())
                || message[name].is_array();
            if is_there {
                heard.events.push(kind.into());
            }
        }
        if line["done"] == true {
            heard.events.push("done".into());
        }
        ollama_said(&line, &mut heard);
    }
    heard
}

/// An error without the words of what is below the gateway.
fn reason(error: &Value) -> Value {
    let text = error.as_str().expect("a text");
    json!(text.split(": ").next())
}

/// One line of a stream, or all of an answer.
fn ollama_said(line: &Value, heard: &mut Transcript) {
    assert!(
        line["model"].is_string() && line["created_at"].is_string(),
        "{line}"
    );
    let message = &line["message"];
    assert_eq!(message["role"], "assistant", "{line}");
    heard.think(&message["thinking"]);
    heard.say(&message["content"]);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        // Ollama's arguments are an object, not a text.
        assert!(call["function"]["arguments"].is_object(), "{call}");
        heard.call(
            &call["function"]["name"],
            call["function"]["arguments"].clone(),
        );
    }
    if line["done"] == true {
        // It has no word of its own for an end with calls.
        let has_calls = heard.order.contains(&"call");
        heard.end = Some(match line["done_reason"].as_str().expect("a reason") {
            "stop" if has_calls => "calls".to_owned(),
            reason => reason.to_owned(),
        });
        let count = |name: &str| line[name].as_u64().expect("a count");
        heard.usage = (count("prompt_eval_count"), count("eval_count"));
        assert!(line["total_duration"].is_u64(), "{line}");
    }
}
