//! What goes through both translations comes back as it was.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::request::read;
use super::stream::Translator;
use super::telling::Messages;
use super::{content, upstream};
use crate::protocol::dialect::Telling;
use crate::protocol::sse::Reader;

/// Every event of a stream: its name and its data.
fn events(stream: &[u8]) -> Vec<(String, Value)> {
    let mut reader = Reader::new(1 << 20);
    let frames = reader.push(stream).expect("events");
    let events = frames.into_iter().filter_map(|frame| frame.event);
    events
        .map(|event| {
            let data = serde_json::from_str(&event.data).unwrap_or(json!(event.data));
            (event.name, data)
        })
        .collect()
}

/// The events an upstream sends for a message, its texts in pieces of `size` characters.
fn streamed(message: &Value, size: usize) -> Vec<Value> {
    let mut head = message.clone();
    head["content"] = json!([]);
    head["stop_reason"] = Value::Null;
    head["usage"]["output_tokens"] = json!(1);
    let mut all = vec![
        json!({"type": "message_start", "message": head}),
        json!({"type": "ping"}),
    ];
    for (index, block) in message["content"]
        .as_array()
        .expect("blocks")
        .iter()
        .enumerate()
    {
        let (mut start, mut deltas) = (block.clone(), Vec::new());
        let mut pieces = |text: &str, kind: &str, name: &str| {
            let characters: Vec<char> = text.chars().collect();
            for piece in characters.chunks(size) {
                deltas.push(json!({"type": kind, (name): piece.iter().collect::<String>()}));
            }
        };
        match block["type"].as_str().expect("a type") {
            "text" => {
                pieces(
                    block["text"].as_str().expect("a text"),
                    "text_delta",
                    "text",
                );
                start["text"] = json!("");
            }
            "thinking" => {
                pieces(
                    block["thinking"].as_str().expect("a text"),
                    "thinking_delta",
                    "thinking",
                );
                pieces(
                    block["signature"].as_str().expect("a text"),
                    "signature_delta",
                    "signature",
                );
                deltas.truncate(
                    deltas.len()
                        - block["signature"]
                            .as_str()
                            .expect("a text")
                            .chars()
                            .count()
                            .div_ceil(size),
                );
                deltas.push(json!({"type": "signature_delta", "signature": block["signature"]}));
                start["thinking"] = json!("");
                start["signature"] = json!("");
            }
            "tool_use" => {
                pieces(
                    &block["input"].to_string(),
                    "input_json_delta",
                    "partial_json",
                );
                start["input"] = json!({});
            }
            _ => {}
        }
        all.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        all.extend(
            deltas.into_iter().map(
                |delta| json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ),
        );
        all.push(json!({"type": "content_block_stop", "index": index}));
    }
    all.push(json!({
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]},
        "usage": {"output_tokens": message["usage"]["output_tokens"]},
    }));
    all.push(json!({"type": "message_stop"}));
    all
}

/// The message a client puts together from a stream, as the SDKs do.
fn put_together(stream: &[u8]) -> Value {
    let mut message = Value::Null;
    let (mut json, mut open) = (String::new(), None);
    for (name, data) in events(stream) {
        assert_eq!(
            data["type"],
            name.as_str(),
            "the name stands in the data too"
        );
        match name.as_str() {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                assert_eq!(open, None, "one block after the other");
                let blocks = message["content"].as_array_mut().expect("begun");
                assert_eq!(data["index"], blocks.len());
                open = data["index"].as_u64();
                blocks.push(data["content_block"].clone());
                json.clear();
            }
            "content_block_delta" => {
                assert_eq!(data["index"].as_u64(), open);
                let block = &mut message["content"]
                    [open.map_or(0, |at| usize::try_from(at).expect("small"))];
                let delta = &data["delta"];
                for name in ["text", "thinking", "signature"] {
                    if let Some(more) = delta[name].as_str() {
                        let so_far = block[name].as_str().unwrap_or_default();
                        block[name] = json!(format!("{so_far}{more}"));
                    }
                }
                json.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" => {
                let at = usize::try_from(open.take().expect("a block")).expect("small");
                if !json.is_empty() {
                    message["content"][at]["input"] =
                        serde_json::from_str(&json).expect("whole JSON");
                }
            }
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["stop_sequence"] = data["delta"]["stop_sequence"].clone();
                message["usage"] = data["usage"].clone();
            }
            "message_stop" => return message,
            other => panic!("an unexpected event: {other}"),
        }
    }
    panic!("no end");
}

/// Through the upstream's translation and the client's.
fn through(message: &Value, size: usize, keeps_all: bool) -> Value {
    let (mut translator, mut chat) = (Translator::new(keeps_all, 1), Vec::new());
    for event in streamed(message, size) {
        translator
            .event(&event.to_string(), &mut chat)
            .expect("an event");
    }
    put_together(&retold(&chat))
}

fn retold(chat: &[u8]) -> Vec<u8> {
    let (mut messages, mut out) = (Messages::new("1-2", "m".into(), 5), Vec::new());
    let mut reader = Reader::new(1 << 20);
    for event in reader
        .push(chat)
        .expect("chunks")
        .into_iter()
        .filter_map(|frame| frame.event)
    {
        messages.event(&event.data, &mut out);
    }
    out
}

fn words() -> impl Strategy<Value = String> {
    "[a-zé\u{1F600}\"\\\\{} \n]{1,24}"
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,6}", words(), 0..3).prop_map(|map| json!(map))
}

/// Blocks of an assistant's turn, in the order models write them.
fn said() -> impl Strategy<Value = Vec<Value>> {
    let thinking = prop::option::of((words(), "[A-Za-z0-9]{4,12}"));
    let text = prop::option::of(words());
    let calls = prop::collection::vec(("[a-zA-Z_]{1,12}", object()), 0..3);
    (thinking, text, calls).prop_map(|(thinking, text, calls)| {
        let mut blocks = Vec::new();
        if let Some((thought, signature)) = thinking {
            blocks.push(json!({"type": "thinking", "thinking": thought, "signature": signature}));
        }
        if text.is_some() || calls.is_empty() {
            let text = text.unwrap_or_else(|| "Well.".into());
            blocks.push(json!({"type": "text", "text": text}));
        }
        for (at, (name, input)) in calls.into_iter().enumerate() {
            blocks.push(json!({"type": "tool_use", "id": format!("toolu_{at}"), "name": name, "input": input}));
        }
        blocks
    })
}

fn message() -> impl Strategy<Value = Value> {
    let counts = (1..1_000_u64, 0..1_000_u64, 0..1_000_u64, 1..1_000_u64);
    (said(), counts, any::<bool>()).prop_map(|(blocks, (input, read, written, output), is_long)| {
        let has_calls = blocks.iter().any(|block| block["type"] == "tool_use");
        let stop = match (has_calls, is_long) {
            (true, _) => "tool_use",
            (false, true) => "max_tokens",
            (false, false) => "end_turn",
        };
        json!({
            "id": "msg_12", "type": "message", "role": "assistant", "model": "m", "content": blocks,
            "stop_reason": stop, "stop_sequence": null,
            "usage": {"input_tokens": input, "cache_creation_input_tokens": written,
                      "cache_read_input_tokens": read, "output_tokens": output},
        })
    })
}

/// A conversation that ends with the user, who answers every call.
fn conversation() -> impl Strategy<Value = Value> {
    let turn = (said(), words(), prop::option::of(words()), any::<bool>());
    let tools = prop::collection::btree_map("[a-zA-Z_]{1,12}", (words(), object()), 0..3);
    let knobs = (
        1..9_000_u64,
        prop::option::of(0..=10_u8),
        prop::option::of(words()),
    );
    (words(), prop::collection::vec(turn, 0..4), tools, prop::option::of(words()), knobs).prop_map(
        |(first, turns, tools, system, (max_tokens, heat, stop))| {
            let text = |text: &str| json!({"type": "text", "text": text});
            let mut messages = vec![json!({"role": "user", "content": [text(&first)]})];
            for (blocks, result, more, has_image) in turns {
                let mut answers: Vec<Value> = blocks
                    .iter()
                    .filter(|block| block["type"] == "tool_use")
                    .map(|block| json!({"type": "tool_result", "tool_use_id": block["id"], "content": [text(&result)]}))
                    .collect();
                if has_image {
                    let source = json!({"type": "base64", "media_type": "image/png", "data": "aGk="});
                    answers.push(json!({"type": "image", "source": source}));
                }
                if answers.is_empty() || more.is_some() {
                    answers.push(text(more.as_deref().unwrap_or("Go on.")));
                }
                messages.push(json!({"role": "assistant", "content": blocks}));
                messages.push(json!({"role": "user", "content": answers}));
            }
            let mut asked = json!({"model": "m", "max_tokens": max_tokens, "messages": messages});
            if let Some(system) = system {
                asked["system"] = json!(system);
            }
            if let Some(heat) = heat {
                asked["temperature"] = json!(f64::from(heat) / 10.0);
            }
            if let Some(stop) = stop {
                asked["stop_sequences"] = json!([stop]);
            }
            if !tools.is_empty() {
                let tools = tools.into_iter().map(|(name, (description, properties))| {
                    json!({"name": name, "description": description,
                           "input_schema": {"type": "object", "properties": properties}})
                });
                asked["tools"] = tools.collect();
                asked["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
            }
            asked
        },
    )
}

proptest! {
    #[test]
    fn conversations_come_back_as_they_were(asked in conversation()) {
        let chat = read(asked.to_string().as_bytes()).expect("a request").chat;
        let back = upstream::request(chat.to_string().as_bytes()).expect("a request");
        prop_assert_eq!(back, asked);
    }

    #[test]
    fn answers_come_back_as_they_were(message in message(), size in 1_usize..9) {
        prop_assert_eq!(through(&message, size, true), message.clone());
        let completion = content::completion(&message, true, 1);
        let mut telling = Messages::new("1-2", "m".into(), 5);
        let whole = telling.whole(completion.to_string().as_bytes()).expect("an answer");
        prop_assert_eq!(serde_json::from_slice::<Value>(&whole).expect("JSON"), message.clone());
        // A client of another dialect sees nothing but a chat completion.
        let plain = content::completion(&message, false, 1).to_string();
        prop_assert!(!plain.contains("signature") && !plain.contains("anthropic"));
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,60}", value in object()) {
        let _ = read(text.as_bytes());
        let _ = upstream::request(text.as_bytes());
        let asked = json!({"model": value, "messages": [value, text], "tools": value, "system": [value]});
        let _ = read(asked.to_string().as_bytes());
        let _ = upstream::request(asked.to_string().as_bytes());
        let mut out = Vec::new();
        let _ = Translator::new(true, 0).event(&text, &mut out);
        let _ = Translator::new(true, 0).event(&json!({"type": "content_block_start", "content_block": value}).to_string(), &mut out);
        Messages::new("x", "m".into(), 0).event(&text, &mut out);
    }
}

#[test]
fn what_chat_has_no_word_for_comes_along() {
    let message = json!({
        "id": "msg_12", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "One.", "signature": "first"},
            {"type": "redacted_thinking", "data": "hidden"},
            {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "srv", "content": [{"type": "web_search_result", "title": "t"}]},
            {"type": "thinking", "thinking": "Two.", "signature": "second"},
            {"type": "text", "text": "Done."},
        ],
        "stop_reason": "stop_sequence", "stop_sequence": "END",
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 4},
    });
    let back = through(&message, 4, true);
    assert_eq!(back, message);
}

#[test]
fn parallel_calls_that_come_mixed_are_told_one_after_the_other() {
    let call = |index: u64, id: Option<&str>, arguments: &str| {
        let mut call = json!({"index": index, "function": {"arguments": arguments}});
        if let Some(id) = id {
            call["id"] = json!(id);
            call["function"]["name"] = json!(format!("tool_{id}"));
        }
        json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]})
    };
    let mut chat = Vec::new();
    for chunk in [
        call(0, Some("a"), "{\"x\":"),
        call(1, Some("b"), "{\"y\":"),
        call(0, None, "1}"),
        call(1, None, "2}"),
        call(2, Some("c"), "{}"),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}}),
        json!("[DONE]"),
    ] {
        let data = chunk
            .as_str()
            .map_or_else(|| chunk.to_string(), str::to_owned);
        chat.extend_from_slice(&crate::protocol::sse::data(&data));
    }
    let message = put_together(&retold(&chat));
    let calls: Vec<_> = message["content"]
        .as_array()
        .expect("blocks")
        .iter()
        .map(|block| (block["id"].clone(), block["input"].clone()))
        .collect();
    assert_eq!(
        calls,
        [
            (json!("a"), json!({"x": 1})),
            (json!("b"), json!({"y": 2})),
            (json!("c"), json!({}))
        ]
    );
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(
        message["usage"],
        json!({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 6, "output_tokens": 4})
    );
}

#[test]
fn what_claude_code_sends_is_taken() {
    let asked = json!({
        "model": "claude-x", "max_tokens": 32_000, "stream": true,
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.092; cc_entrypoint=sdk-cli;"},
                   {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "Two."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "there"}]},
            {"role": "system", "content": "In the middle."},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                    {"type": "text", "text": "not found"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]},
                {"type": "document", "title": "d.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}}]},
        ],
        "tools": [], "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"},
        "context_management": {"edits": []}, "metadata": {"user_id": "{\"session_id\":\"s-1\"}"},
    });
    let read = read(asked.to_string().as_bytes()).expect("a request");
    assert_eq!(read.session.as_deref(), Some("s-1"));
    assert_eq!(
        read.chat,
        json!({
            "model": "claude-x", "max_tokens": 32_000, "stream": true, "stream_options": {"include_usage": true},
            "enable_thinking": true, "reasoning_effort": "high",
            "messages": [
                {"role": "system", "content": "One.\n\nTwo."},
                {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]},
                {"role": "system", "content": "In the middle."},
                {"role": "assistant", "content": "Yes?"},
                {"role": "tool", "tool_call_id": "t", "content": "Error: not found"},
                {"role": "user", "content": [
                    {"type": "text", "text": "From the tool call t:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "file", "file": {"filename": "d.pdf", "file_data": "data:application/pdf;base64,aGk="}}]},
            ],
        })
    );
}

#[test]
fn every_fault_is_named() {
    for (asked, param) in [
        (
            json!({"messages": [{"role": "user", "content": "x"}]}),
            "model",
        ),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (
            json!({"model": "m", "messages": [{"role": "robot", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user"}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}),
            "messages[0].content[0].tool_use_id",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}),
            "messages[0].content[0].source",
        ),
        (
            json!({"model": "m", "stream": "yes", "messages": [{"role": "user", "content": "x"}]}),
            "stream",
        ),
    ] {
        let errors = read(asked.to_string().as_bytes()).expect_err("faults");
        let params: Vec<_> = errors
            .iter()
            .filter_map(|error| error.param.as_deref())
            .collect();
        assert_eq!(params, [param], "{asked}");
    }
}
