//! A chat request as an upstream that speaks Anthropic's dialect is to get it.

use serde_json::{Map, Value, json};

use super::UNSIGNED;
use super::content::input;
use crate::protocol::dialect::extra;

/// What such an upstream is asked to write at most, when the request does not say: it must be told.
const MAX_TOKENS: u64 = 8_192;
/// The least it takes as a budget for thinking.
const LEAST_BUDGET: u64 = 1_024;
/// What says that the request does not begin with the user, whom the dialect wants first.
const OPENING: &str = "(The conversation goes on.)";

/// The Messages request that means the same. Fails when `chat` is no JSON object.
pub(crate) fn request(chat: &[u8]) -> Result<Value, serde_json::Error> {
    let asked: Map<String, Value> = serde_json::from_slice(chat)?;
    let mut out = Map::new();
    if let Some(model) = asked.get("model") {
        out.insert("model".into(), model.clone());
    }
    let (system, messages) = messages(asked.get("messages").unwrap_or(&Value::Null));
    if !system.is_empty() {
        out.insert("system".into(), json!(system.join("\n\n")));
    }
    out.insert("messages".into(), Value::Array(messages));
    let max_tokens = ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|name| asked.get(*name)?.as_u64())
        .unwrap_or(MAX_TOKENS);
    let max_tokens = thinking(&asked, max_tokens, &mut out);
    out.insert("max_tokens".into(), json!(max_tokens));
    options(&asked, &mut out);
    tools(&asked, &mut out);
    Ok(Value::Object(out))
}

fn options(asked: &Map<String, Value>, out: &mut Map<String, Value>) {
    let is_thinking = out.contains_key("thinking");
    if let Some(stream) = asked.get("stream").filter(|stream| stream.is_boolean()) {
        out.insert("stream".into(), stream.clone());
    }
    // Thinking goes with neither of the two.
    if !is_thinking {
        let temperature = asked.get("temperature").and_then(Value::as_f64);
        if let Some(temperature) = temperature {
            // There the hottest is 2, here 1.
            out.insert("temperature".into(), json!(temperature.clamp(0.0, 1.0)));
        } else if let Some(top_p) = asked.get("top_p").filter(|value| value.is_number()) {
            out.insert("top_p".into(), top_p.clone());
        }
        if let Some(top_k) = asked.get("top_k").filter(|value| value.is_number()) {
            out.insert("top_k".into(), top_k.clone());
        }
    }
    match asked.get("stop") {
        Some(Value::String(stop)) => {
            out.insert("stop_sequences".into(), json!([stop]));
        }
        Some(Value::Array(stops)) if !stops.is_empty() => {
            out.insert("stop_sequences".into(), json!(stops));
        }
        _ => {}
    }
    if let Some(user @ Value::String(_)) = asked.get("user") {
        out.insert("metadata".into(), json!({"user_id": user}));
    }
    let schema = asked
        .get("response_format")
        .and_then(|format| format.get("json_schema"))
        .and_then(|format| format.get("schema"));
    if let Some(schema) = schema {
        let format = json!({"type": "json_schema", "schema": schema});
        out.insert("output_config".into(), json!({"format": format}));
    }
}

/// How much to think; returns how much may be written, which must be more.
fn thinking(asked: &Map<String, Value>, max_tokens: u64, out: &mut Map<String, Value>) -> u64 {
    let effort = match asked.get("reasoning_effort").and_then(Value::as_str) {
        Some("minimal" | "low") => Some(2_048),
        Some("medium") => Some(8_192),
        Some("high" | "xhigh") => Some(16_384),
        _ => None,
    };
    let budget = asked.get("thinking_budget").and_then(Value::as_u64);
    let wanted = match asked.get("enable_thinking").and_then(Value::as_bool) {
        Some(false) => None,
        Some(true) => budget.or(effort).or(Some(8_192)),
        None => budget.or(effort),
    };
    let Some(budget) = wanted.map(|budget| budget.max(LEAST_BUDGET)) else {
        return max_tokens;
    };
    out.insert(
        "thinking".into(),
        json!({"type": "enabled", "budget_tokens": budget}),
    );
    max_tokens.max(budget + LEAST_BUDGET)
}

fn tools(asked: &Map<String, Value>, out: &mut Map<String, Value>) {
    let tools: Vec<Value> = asked
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            let function = tool.get("function")?;
            let mut told = Map::new();
            told.insert("name".into(), function.get("name")?.clone());
            if let Some(description @ Value::String(_)) = function.get("description") {
                told.insert("description".into(), description.clone());
            }
            let schema = function
                .get("parameters")
                .filter(|schema| schema.is_object());
            let schema = schema.cloned().unwrap_or_else(|| json!({"type": "object"}));
            told.insert("input_schema".into(), schema);
            if let Some(strict @ Value::Bool(_)) = function.get("strict") {
                told.insert("strict".into(), strict.clone());
            }
            Some(Value::Object(told))
        })
        .collect();
    if tools.is_empty() {
        return;
    }
    out.insert("tools".into(), Value::Array(tools));
    let is_single = asked.get("parallel_tool_calls") == Some(&Value::Bool(false));
    let mut choice = match asked.get("tool_choice") {
        Some(Value::String(word)) if word == "required" => json!({"type": "any"}),
        Some(Value::String(word)) if word == "none" => json!({"type": "none"}),
        Some(named @ Value::Object(_)) => {
            json!({"type": "tool", "name": named["function"]["name"]})
        }
        Some(_) => json!({"type": "auto"}),
        None if is_single => json!({"type": "auto"}),
        None => return,
    };
    if is_single && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = json!(true);
    }
    // While thinking no call can be demanded.
    let is_demanded = matches!(choice["type"].as_str(), Some("any" | "tool"));
    if is_demanded {
        out.remove("thinking");
    }
    out.insert("tool_choice".into(), choice);
}

/// The texts of the system, and the turns: there is no role for tools here, and no two turns of one side in a row.
fn messages(messages: &Value) -> (Vec<String>, Vec<Value>) {
    let (mut system, mut turns): (Vec<String>, Vec<Value>) = (Vec::new(), Vec::new());
    for message in messages.as_array().into_iter().flatten() {
        let content = message.get("content").unwrap_or(&Value::Null);
        match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") if turns.is_empty() => system.extend(texts(content)),
            Some("system" | "developer") => {
                let text = texts(content).join("\n\n");
                let told = format!("<system-reminder>\n{text}\n</system-reminder>");
                add(
                    &mut turns,
                    "user",
                    vec![json!({"type": "text", "text": told})],
                );
            }
            Some("assistant") => add(&mut turns, "assistant", assistant(message)),
            Some("tool" | "function") => {
                let id = message.get("tool_call_id").cloned().unwrap_or_default();
                let mut result = json!({"type": "tool_result", "tool_use_id": id});
                let said = parts(content);
                if !said.is_empty() {
                    result["content"] = Value::Array(said);
                }
                add(&mut turns, "user", vec![result]);
            }
            _ => add(&mut turns, "user", parts(content)),
        }
    }
    let begins_with_user = turns.first().is_some_and(|turn| turn["role"] == "user");
    if !begins_with_user {
        turns.insert(
            0,
            json!({"role": "user", "content": [{"type": "text", "text": OPENING}]}),
        );
    }
    (system, turns)
}

/// Appends to the last turn where that is of the same side: results of tools must all be in one turn, and come first.
fn add(turns: &mut Vec<Value>, role: &str, blocks: Vec<Value>) {
    if blocks.is_empty() {
        return;
    }
    let last = turns
        .last_mut()
        .filter(|turn| turn["role"] == role)
        .and_then(|turn| turn["content"].as_array_mut());
    match last {
        Some(content) => content.extend(blocks),
        None => turns.push(json!({"role": role, "content": blocks})),
    }
}

fn assistant(message: &Value) -> Vec<Value> {
    let mut blocks = Vec::new();
    let say = |name: &str| message.get(name).and_then(Value::as_str);
    // Only its author can tell whether a thought is unchanged, and only by its signature.
    if let (Some(thought), Some(signature)) = (say("reasoning_content"), say(extra::SIGNATURE))
        && signature != UNSIGNED
    {
        blocks.push(json!({"type": "thinking", "thinking": thought, "signature": signature}));
    }
    let list = |name: &str| {
        message
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for hidden in list(extra::REDACTED) {
        blocks.push(json!({"type": "redacted_thinking", "data": hidden}));
    }
    blocks.extend(parts(message.get("content").unwrap_or(&Value::Null)));
    blocks.extend(list(extra::BLOCKS).cloned());
    for call in list("tool_calls") {
        let function = call.get("function").unwrap_or(&Value::Null);
        blocks.push(json!({
            "type": "tool_use",
            "id": call.get("id").cloned().unwrap_or_default(),
            "name": function.get("name").cloned().unwrap_or_default(),
            "input": input(function.get("arguments").unwrap_or(&Value::Null)),
        }));
    }
    blocks
}

fn texts(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// The blocks of a message's content. Empty texts are left out: they are refused.
fn parts(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(parts) => parts.iter().filter_map(part).collect(),
        _ => Vec::new(),
    }
}

fn part(part: &Value) -> Option<Value> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
    match kind {
        "text" | "input_text" => {
            let text = part.get("text")?.as_str().filter(|text| !text.is_empty())?;
            Some(json!({"type": "text", "text": text}))
        }
        "image_url" => {
            let image = part.get("image_url")?;
            let url = image.get("url").unwrap_or(image).as_str()?;
            Some(json!({"type": "image", "source": source(url)}))
        }
        "file" => {
            let file = part.get("file")?;
            let data = file.get("file_data")?.as_str()?;
            let mut document = json!({"type": "document", "source": source(data)});
            if let Some(name @ Value::String(_)) = file.get("filename") {
                document["title"] = name.clone();
            }
            Some(document)
        }
        _ => None,
    }
}

/// A data URL's bytes, or where to find them.
fn source(url: &str) -> Value {
    let inline = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"));
    match inline {
        Some((media, data)) => json!({"type": "base64", "media_type": media, "data": data}),
        None => json!({"type": "url", "url": url}),
    }
}
