//! What goes through both translations comes back as it was.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::answer::{Moment, OllamaTelling, Shape};
use super::request::{self, Asked};
use crate::protocol::dialect::Telling;

fn text() -> impl Strategy<Value = String> {
    "[a-z\"\\\\\n é漢😀{}]{1,20}"
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map("[a-zA-Z-]{1,6}", text(), 0..3).prop_map(|map| {
        map.into_iter()
            .map(|(key, text)| (key, json!(text)))
            .collect()
    })
}

/// What a model says in a turn, as a chat has it: reasoning, text, and calls by name and arguments.
type Said = (
    Option<String>,
    Option<String>,
    Vec<(String, Map<String, Value>)>,
);

fn said() -> impl Strategy<Value = Said> {
    let calls = proptest::collection::vec(("[a-z_]{1,9}", object()), 0..4);
    (
        proptest::option::of(text()),
        proptest::option::of(text()),
        calls,
    )
}

/// The turn as a message of a chat; its calls are numbered from `first`.
fn message((thought, text, calls): &Said, first: usize) -> Value {
    let mut message = json!({"role": "assistant", "content": text.clone().unwrap_or_default()});
    if let Some(thought) = thought {
        message["reasoning_content"] = json!(thought);
    }
    if !calls.is_empty() {
        let calls = calls.iter().enumerate().map(|(at, (name, arguments))| {
            let arguments = json!(arguments).to_string();
            json!({"id": format!("call_{}", first + at), "type": "function",
                "function": {"name": name, "arguments": arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    message
}

/// A conversation as a chat request has it, and ends with the user.
fn conversation() -> impl Strategy<Value = Value> {
    let turn = (said(), text(), any::<bool>());
    let format = prop_oneof![
        Just(None),
        Just(Some(json!({"type": "json_object"}))),
        object().prop_map(|properties| {
            let schema = json!({"type": "object", "properties": properties});
            Some(
                json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}),
            )
        }),
    ];
    let knobs = (
        proptest::option::of(0..=10_u8),
        proptest::option::of(1..9_000_u64),
        proptest::option::of(proptest::collection::vec(text(), 1..3)),
        proptest::option::of(any::<bool>()),
        any::<bool>(),
    );
    let tools = proptest::collection::vec(("[a-z_]{1,9}", text(), object()), 0..3);
    (
        proptest::option::of(text()),
        proptest::collection::vec(turn, 0..4),
        tools,
        format,
        knobs,
    )
        .prop_map(|(system, turns, tools, format, (heat, most, stop, thinks, streams))| {
            let mut messages = Vec::new();
            if let Some(system) = system {
                messages.push(json!({"role": "system", "content": system}));
            }
            let mut numbered = 0;
            for (said, user, has_image) in turns {
                let content = if has_image {
                    json!([{"type": "text", "text": user},
                           {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/AA=="}}])
                } else {
                    json!(user)
                };
                messages.push(json!({"role": "user", "content": content}));
                messages.push(message(&said, numbered));
                for (at, (name, _)) in said.2.iter().enumerate() {
                    let id = format!("call_{}", numbered + at);
                    messages.push(json!({"role": "tool", "tool_call_id": id, "content": format!("{name}: {user}")}));
                }
                numbered += said.2.len();
            }
            messages.push(json!({"role": "user", "content": "Go on."}));
            let mut chat = json!({"model": "m", "messages": messages, "stream": streams});
            if streams {
                chat["stream_options"] = json!({"include_usage": true});
            }
            if let Some(heat) = heat {
                chat["temperature"] = json!(f64::from(heat) / 10.0);
            }
            if let Some(most) = most {
                chat["max_tokens"] = json!(most);
            }
            if let Some(stop) = stop {
                chat["stop"] = json!(stop);
            }
            if let Some(thinks) = thinks {
                chat["enable_thinking"] = json!(thinks);
            }
            if let Some(format) = format {
                chat["response_format"] = format;
            }
            if !tools.is_empty() {
                let tools = tools.into_iter().map(|(name, description, properties)| {
                    json!({"type": "function", "function": {"name": name, "description": description,
                        "parameters": {"type": "object", "properties": properties}}})
                });
                chat["tools"] = tools.collect();
            }
            chat
        })
}

/// The same as Ollama's clients write it, with the ids of the calls or, as most of them do, without.
fn ollama(chat: &Value, has_ids: bool) -> Value {
    let mut messages = Vec::new();
    for message in chat["messages"].as_array().expect("messages") {
        let mut told = json!({"role": message["role"]});
        match &message["content"] {
            Value::Array(parts) => {
                told["content"] = parts[0]["text"].clone();
                let url = parts[1]["image_url"]["url"].as_str().expect("a url");
                let (_, data) = url.split_once("base64,").expect("base64");
                told["images"] = json!([data]);
            }
            text => told["content"] = text.clone(),
        }
        if let Some(thought) = message.get("reasoning_content") {
            told["thinking"] = thought.clone();
        }
        if let Some(calls) = message["tool_calls"].as_array() {
            let calls = calls.iter().map(|call| {
                let arguments = call["function"]["arguments"].as_str().expect("a text");
                let arguments: Value = serde_json::from_str(arguments).expect("JSON");
                let function = json!({"name": call["function"]["name"], "arguments": arguments});
                if has_ids {
                    json!({"id": call["id"], "function": function})
                } else {
                    json!({"function": function})
                }
            });
            told["tool_calls"] = calls.collect();
        }
        if has_ids && message["role"] == "tool" {
            told["tool_call_id"] = message["tool_call_id"].clone();
        }
        messages.push(told);
    }
    let mut body = json!({"model": "m", "messages": messages, "stream": chat["stream"]});
    let mut options = Map::new();
    for (key, option) in [
        ("temperature", "temperature"),
        ("max_tokens", "num_predict"),
        ("stop", "stop"),
    ] {
        if let Some(value) = chat.get(key) {
            options.insert(option.to_owned(), value.clone());
        }
    }
    body["options"] = Value::Object(options);
    for (key, member) in [("tools", "tools"), ("enable_thinking", "think")] {
        if let Some(value) = chat.get(key) {
            body[member] = value.clone();
        }
    }
    match chat["response_format"]["type"].as_str() {
        Some("json_object") => body["format"] = json!("json"),
        Some(_) => body["format"] = chat["response_format"]["json_schema"]["schema"].clone(),
        None => {}
    }
    body
}

fn chat_of(body: &Value) -> Value {
    let Ok(Asked::Completion(completion)) = request::chat(body.to_string().as_bytes()) else {
        panic!("{body} asks nothing")
    };
    serde_json::from_slice(&completion.chat("m")).expect("JSON")
}

fn telling() -> OllamaTelling {
    let clock = || Moment {
        at: "now".into(),
        since: Duration::from_nanos(1),
    };
    OllamaTelling::new(Shape::Chat, "m".into(), true, Box::new(clock))
}

/// The events of a chat stream that say `message`, its texts in pieces of `size` characters.
fn streamed(message: &Value, size: usize) -> Vec<Value> {
    let pieces = |text: &Value| -> Vec<String> {
        let characters: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
        characters
            .chunks(size)
            .map(|piece| piece.iter().collect())
            .collect()
    };
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    for key in ["reasoning_content", "content"] {
        deltas.extend(
            pieces(&message[key])
                .iter()
                .map(|piece| json!({(key): piece})),
        );
    }
    let calls = message["tool_calls"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for (index, call) in calls.iter().enumerate() {
        let mut head = call.clone();
        head["index"] = json!(index);
        head["function"]["arguments"] = json!("");
        deltas.push(json!({"tool_calls": [head]}));
        for piece in pieces(&call["function"]["arguments"]) {
            deltas
                .push(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
        }
    }
    let reason = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
    let chunk = |delta| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
    deltas.into_iter().map(chunk).chain([last]).collect()
}

/// The message that a client puts together from the lines of a stream, and sends back.
fn put_together(stream: &[u8]) -> Value {
    let mut message = json!({"role": "assistant", "content": ""});
    for line in stream
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Value = serde_json::from_slice(line).expect("a line is JSON");
        for key in ["content", "thinking"] {
            if let Some(more) = line["message"][key].as_str() {
                let so_far = message[key].as_str().unwrap_or_default();
                message[key] = json!(format!("{so_far}{more}"));
            }
        }
        if line["message"]["tool_calls"].is_array() {
            message["tool_calls"] = line["message"]["tool_calls"].clone();
        }
    }
    message
}

/// What a message that Ollama's client sends back is in a chat.
fn returned(message: &Value) -> Value {
    let mut body = json!({"model": "m", "messages": [message]});
    body["messages"]
        .as_array_mut()
        .expect("a list")
        .push(json!({"role": "user", "content": "on"}));
    chat_of(&body)["messages"][0].take()
}

proptest! {
    #[test]
    fn conversations_come_back_as_they_were(chat in conversation(), has_ids in any::<bool>()) {
        prop_assert_eq!(chat_of(&ollama(&chat, has_ids)), chat);
    }

    #[test]
    fn answers_come_back_as_they_were(said in said(), size in 1_usize..9) {
        let message = message(&said, 0);
        let mut lines = Vec::new();
        let mut telling = telling();
        for event in streamed(&message, size) {
            telling.event(&event.to_string(), &mut lines);
        }
        telling.event("[DONE]", &mut lines);
        prop_assert_eq!(&returned(&put_together(&lines)), &message);
        // And the same when it is told whole.
        let completion = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
        let whole = self::telling().whole(completion.to_string().as_bytes()).expect("an answer");
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        prop_assert_eq!(&returned(&whole["message"]), &message);
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,60}", value in object()) {
        for read in [request::chat, request::generate] {
            let _ = read(text.as_bytes());
            let asked = json!({"model": text, "prompt": text, "messages": [{"role": text, "content": text,
                "tool_calls": [{"function": {"name": text, "arguments": value}}]}], "tools": value, "format": value});
            let _ = read(asked.to_string().as_bytes());
        }
        let mut out = Vec::new();
        telling().event(&text, &mut out);
        let _ = telling().whole(text.as_bytes());
    }
}
