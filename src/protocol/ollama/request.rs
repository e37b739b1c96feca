//! Requests of Ollama's API as chat requests.
//!
//! Options that a chat request has no word for (`num_ctx`, `top_k`, `mirostat`, ..) have no effect: servers that speak
//! `OpenAI` strictly refuse what they do not know. What is JSON inside (tools, schemas, arguments) keeps its bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::ollama::content::{self, ChatMessage, Message};
use crate::protocol::openai::request::FieldError;

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// An answer.
    Completion(Completion),
    /// Nothing: the model is to be made ready, or let go.
    Load { model: String, unloads: bool },
}

/// A question to a model.
#[derive(Debug)]
pub(crate) struct Completion {
    /// As the client named it.
    pub(crate) model: String,
    /// The client does not say that it wants no reasoning.
    pub(crate) shows_thinking: bool,
    /// The chat request, its model left out.
    body: Vec<u8>,
}

impl Completion {
    /// The chat request, to this model.
    pub(crate) fn chat(&self, model: &str) -> Bytes {
        let model = Value::from(model).to_string();
        let mut chat = Vec::with_capacity(self.body.len() + model.len() + 10);
        chat.extend_from_slice(b"{\"model\":");
        chat.extend_from_slice(model.as_bytes());
        chat.push(b',');
        // The body is an object that is not empty.
        chat.extend_from_slice(self.body.get(1..).unwrap_or_default());
        chat.into()
    }
}

/// The members of `POST /api/chat` and `POST /api/generate`. One struct for both: what is not of a path is passed over.
#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    prompt: Option<String>,
    suffix: Option<String>,
    system: Option<String>,
    images: Option<Vec<String>>,
    raw: Option<bool>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
    options: Option<Options>,
    think: Option<Value>,
    stream: Option<bool>,
    keep_alive: Option<Value>,
}

/// Those of Ollama's `options` that a chat request knows. A number of the wrong type is left to the upstream.
#[derive(Default, Deserialize)]
struct Options {
    temperature: Option<Value>,
    top_p: Option<Value>,
    seed: Option<Value>,
    presence_penalty: Option<Value>,
    frequency_penalty: Option<Value>,
    stop: Option<Value>,
    num_predict: Option<i64>,
}

#[derive(Serialize)]
struct Chat<'a> {
    messages: Vec<ChatMessage<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_thinking: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Format<'a> {
    JsonObject,
    JsonSchema { json_schema: Schema<'a> },
}

#[derive(Serialize)]
struct Schema<'a> {
    name: &'static str,
    schema: &'a RawValue,
}

/// Reads the body of `POST /api/chat`.
pub(crate) fn chat(body: &[u8]) -> Result<Asked, Vec<FieldError>> {
    let mut body = read(body)?;
    let model = model(&mut body)?;
    let messages = body.messages.take().unwrap_or_default();
    if messages.is_empty() {
        let unloads = unloads(&body);
        return Ok(Asked::Load { model, unloads });
    }
    completion(model, content::messages(messages), body)
}

/// Reads the body of `POST /api/generate`.
pub(crate) fn generate(body: &[u8]) -> Result<Asked, Vec<FieldError>> {
    let mut body = read(body)?;
    let model = model(&mut body)?;
    let prompt = body.prompt.take().unwrap_or_default();
    if prompt.is_empty() {
        let unloads = unloads(&body);
        return Ok(Asked::Load { model, unloads });
    }
    if body.suffix.as_deref().is_some_and(|text| !text.is_empty()) {
        return Err(vec![fault(
            "suffix",
            "invalid_value",
            format!("{model} does not support insert: leave `suffix` out"),
        )]);
    }
    // A raw prompt holds its system text itself.
    let is_raw = body.raw.unwrap_or_default();
    let system = body
        .system
        .take()
        .filter(|text| !text.is_empty() && !is_raw);
    let images = body.images.take().unwrap_or_default();
    body.tools = None;
    completion(model, content::prompt(system, prompt, &images), body)
}

/// The model that is asked about, of the body of `POST /api/show`.
pub(crate) fn shown(body: &[u8]) -> Result<String, Vec<FieldError>> {
    #[derive(Deserialize)]
    struct Show {
        model: Option<String>,
        name: Option<String>,
    }
    let show: Show = serde_json::from_slice(body).map_err(|error| vec![unreadable(&error)])?;
    let named = show.model.or(show.name).filter(|model| !model.is_empty());
    named.ok_or_else(|| vec![no_model()])
}

fn read(body: &[u8]) -> Result<Body<'_>, Vec<FieldError>> {
    serde_json::from_slice(body).map_err(|error| vec![unreadable(&error)])
}

fn model(body: &mut Body<'_>) -> Result<String, Vec<FieldError>> {
    let model = body.model.take().filter(|model| !model.is_empty());
    model.ok_or_else(|| vec![no_model()])
}

fn completion(
    model: String,
    messages: Vec<ChatMessage<'_>>,
    body: Body<'_>,
) -> Result<Asked, Vec<FieldError>> {
    let options = body.options.unwrap_or_default();
    let stream = body.stream.unwrap_or(true);
    let (reasoning_effort, enable_thinking) = match &body.think {
        Some(Value::Bool(on)) => (None, Some(*on)),
        Some(Value::String(effort)) => (Some(effort.clone()), None),
        _ => (None, None),
    };
    let chat = Chat {
        messages,
        stream,
        stream_options: stream.then_some(StreamOptions {
            include_usage: true,
        }),
        tools: body.tools.filter(|tools| !is_nothing(tools)),
        response_format: format(body.format).map_err(|fault| vec![fault])?,
        reasoning_effort,
        enable_thinking,
        // Less than one means: as many as it takes.
        max_tokens: options.num_predict.filter(|most| *most > 0),
        temperature: options.temperature,
        top_p: options.top_p,
        seed: options.seed,
        presence_penalty: options.presence_penalty,
        frequency_penalty: options.frequency_penalty,
        stop: options
            .stop
            .filter(|stop| stop.as_array().is_none_or(|list| !list.is_empty())),
    };
    let shows_thinking = body.think != Some(Value::Bool(false));
    let body = serde_json::to_vec(&chat).map_err(|error| vec![unreadable(&error)])?;
    Ok(Asked::Completion(Completion {
        model,
        shows_thinking,
        body,
    }))
}

fn format(format: Option<&RawValue>) -> Result<Option<Format<'_>>, FieldError> {
    let Some(format) = format else {
        return Ok(None);
    };
    match format.get().trim() {
        "null" | "\"\"" => Ok(None),
        "\"json\"" => Ok(Some(Format::JsonObject)),
        text if text.starts_with('{') => Ok(Some(Format::JsonSchema {
            json_schema: Schema {
                name: "answer",
                schema: format,
            },
        })),
        _ => Err(fault(
            "format",
            "invalid_value",
            "`format` must be `json` or a JSON schema".into(),
        )),
    }
}

/// `null`, or a list without members: some servers refuse an empty list of tools.
fn is_nothing(list: &RawValue) -> bool {
    let text = list.get();
    text == "null"
        || text
            .strip_prefix('[')
            .is_some_and(|rest| rest.trim_start() == "]")
}

fn unloads(body: &Body<'_>) -> bool {
    match &body.keep_alive {
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => matches!(text.as_str(), "0" | "0s" | "0m" | "0h" | "0ms"),
        _ => false,
    }
}

fn no_model() -> FieldError {
    fault(
        "model",
        "missing_required_parameter",
        "model is required".into(),
    )
}

fn unreadable(error: &serde_json::Error) -> FieldError {
    FieldError {
        param: None,
        message: format!("the request cannot be read: {error}"),
        code: "invalid_json",
    }
}

fn fault(param: impl Into<String>, code: &'static str, message: String) -> FieldError {
    FieldError {
        param: Some(param.into()),
        message,
        code,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(asked: Asked) -> Value {
        let Asked::Completion(completion) = asked else {
            panic!("{asked:?}")
        };
        serde_json::from_slice(&completion.chat("m")).unwrap()
    }

    fn of_chat(body: &Value) -> Value {
        told(chat(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_chat_keeps_all_that_a_chat_request_knows() {
        let chat = of_chat(&json!({
            "model": "m:latest", "think": "high", "keep_alive": "5m",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "what is this?", "images": ["iVBORw0KGgo="]},
                {"role": "assistant", "content": "", "thinking": "hm",
                 "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2}}},
                                {"id": "c9", "function": {"name": "g", "arguments": {}}}]},
                {"role": "tool", "tool_name": "g", "content": "G"},
                {"role": "tool", "content": "F"}
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "format": {"type": "object"},
            "options": {"temperature": 0, "top_p": 0.5, "seed": 7, "num_predict": 9, "stop": ["x"], "num_ctx": 4096}
        }));
        assert_eq!(
            chat,
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true},
                "reasoning_effort": "high", "max_tokens": 9, "temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["x"],
                "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": [{"type": "text", "text": "what is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
                    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [
                        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{\"b\":1,\"a\":2}"}},
                        {"id": "c9", "type": "function", "function": {"name": "g", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c9", "content": "G"},
                    {"role": "tool", "tool_call_id": "call_0", "content": "F"}
                ]
            })
        );
        let cut = json!({"model": "m", "messages": [{"role": "tool", "content": "F"}]});
        assert_eq!(
            of_chat(&cut)["messages"],
            json!([{"role": "user", "content": "F"}])
        );
    }

    #[test]
    fn what_is_not_said_is_not_made_up() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": false,
            "tools": [], "format": "", "think": false, "options": {"num_predict": -1, "stop": []}});
        assert_eq!(
            of_chat(&body),
            json!({"model": "m", "stream": false, "messages": [{"role": "user", "content": "hi"}], "enable_thinking": false})
        );
    }

    #[test]
    fn a_prompt_is_a_message_of_the_user() {
        let of = |body: Value| generate(body.to_string().as_bytes());
        let told = told(
            of(json!({"model": "m", "prompt": "hi", "system": "s", "format": "json", "stream": false})).unwrap(),
        );
        assert_eq!(
            told,
            json!({"model": "m", "stream": false, "response_format": {"type": "json_object"},
                "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]})
        );
        let insert = of(json!({"model": "m", "prompt": "a", "suffix": "b"}));
        assert!(insert.unwrap_err()[0].message.contains("insert"));
    }

    #[test]
    fn a_request_without_a_question_loads_or_unloads() {
        for (body, wanted) in [
            (json!({"model": "m"}), false),
            (json!({"model": "m", "messages": [], "keep_alive": 0}), true),
            (
                json!({"model": "m", "prompt": "", "keep_alive": "0s"}),
                true,
            ),
            (json!({"model": "m", "keep_alive": "5m"}), false),
        ] {
            for read in [chat, generate] {
                let asked = read(body.to_string().as_bytes()).unwrap();
                assert!(matches!(asked, Asked::Load { unloads, .. } if unloads == wanted));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, words) in [
            (
                json!({"messages": [{"role": "user", "content": "hi"}]}),
                "model is required",
            ),
            (
                json!({"model": "m", "format": 7, "messages": [{"role": "user", "content": "x"}]}),
                "`format`",
            ),
            (json!({"model": "m", "messages": 7}), "cannot be read"),
        ] {
            let faults = chat(body.to_string().as_bytes()).unwrap_err();
            assert!(
                faults[0].message.contains(words),
                "{body}: {}",
                faults[0].message
            );
        }
        assert!(shown(b"{}").is_err());
        assert_eq!(shown(br#"{"name":"m"}"#).unwrap(), "m");
    }
}
