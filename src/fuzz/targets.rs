//! What is fuzzed: everything that reads an upstream's, a client's or a user's bytes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{fuzz, hash};
use crate::http::management::credentials;
use crate::limits::upstreams::EVENT_LIMIT;
use crate::protocol::openai::request::FieldError;
use crate::protocol::qwen::curl;
use crate::protocol::qwen::stream::Translator;
use crate::protocol::sse::{Frame, Reader};
use crate::protocol::tools::declared::Tools;
use crate::protocol::tools::notation::{NATIVE_JSON, NEUTRAL, Notation};
use crate::protocol::tools::parser::{Parser, Piece};
use crate::protocol::{anthropic, ollama, openai, responses};

/// Cuts `input` into pieces whose sizes follow from the input itself, so that a failure is one again.
fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = fastrand::Rng::with_seed(hash(input));
    let most = 1 + random.usize(..64);
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((1 + random.usize(..most)).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// All frames, and why there are no more.
fn frames<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<Frame>, Option<String>) {
    let mut reader = Reader::new(limit);
    let mut frames = Vec::new();
    for piece in pieces {
        match reader.push(piece) {
            Ok(more) => frames.extend(more),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
    // A failure behind the last frames is told by the next call.
    if let Err(error) = reader.push(b"") {
        return (frames, Some(error.to_string()));
    }
    frames.extend(reader.finish());
    (frames, None)
}

#[test]
fn sse() {
    fuzz("sse", |input| {
        let mut way = String::new();
        for limit in [EVENT_LIMIT, 64] {
            let whole = frames(std::iter::once(input), limit);
            let cut = frames(pieces(input).into_iter(), limit);
            if whole != cut {
                return Err(format!("at once {whole:?}, in pieces {cut:?}"));
            }
            let events: Vec<_> = whole
                .0
                .iter()
                .filter_map(|frame| frame.event.as_ref())
                .collect();
            let names = events
                .iter()
                .filter(|event| event.name != "message")
                .count();
            let shape = format!(
                "{} {} {names} {:?};",
                whole.0.len().min(8),
                events.len().min(8),
                whole.1
            );
            way += &shape;
            // What the site's reader makes of it: it may refuse, and must not break.
            let mut site = Translator::new();
            let told: usize = events
                .iter()
                .map(|event| site.push(&event.data).len())
                .sum();
            way += &told.min(8).to_string();
        }
        Ok(way)
    });
}

fn tools() -> Arc<Tools> {
    let declared = json!([
        {"name": "read", "parameters": {"type": "object", "properties": {
            "filePath": {"type": "string"}, "offset": {"type": "integer"}}}},
        {"name": "write", "parameters": {"type": "object", "properties": {
            "content": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}}},
        {"name": "edit"}
    ]);
    Arc::new(Tools::read(Some(&declared)))
}

/// Everything that was read; text that came in pieces is one.
fn calls<'a>(notation: &'static Notation, pieces: impl Iterator<Item = &'a str>) -> Vec<Piece> {
    let mut parser = Parser::new(tools(), notation);
    let mut read: Vec<Piece> = Vec::new();
    let mut add = |more: Vec<Piece>| {
        for piece in more {
            match (read.last_mut(), piece) {
                (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
                (_, piece) => read.push(piece),
            }
        }
    };
    for piece in pieces {
        add(parser.push(piece));
    }
    add(parser.finish());
    read.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
    read
}

#[test]
fn tool_calls() {
    fuzz("tool_calls", |input| {
        let text = String::from_utf8_lossy(input);
        let chars: Vec<&str> = text
            .char_indices()
            .map(|(at, char)| &text[at..at + char.len_utf8()])
            .collect();
        let mut way = String::new();
        for notation in [&NATIVE_JSON, &NEUTRAL] {
            let whole = calls(notation, std::iter::once(text.as_ref()));
            let cut = calls(notation, chars.iter().copied());
            if whole != cut {
                return Err(format!("at once {whole:?}, in pieces {cut:?}"));
            }
            for piece in &whole {
                let Piece::Call(call) = piece else { continue };
                is_json(call.arguments.as_bytes())?;
                if !call.arguments.starts_with('{') {
                    return Err(format!("arguments are no object: {}", call.arguments));
                }
            }
            way += &whole
                .iter()
                .take(6)
                .map(|piece| match piece {
                    Piece::Text(_) => "t".to_owned(),
                    Piece::Call(call) => call.name.clone(),
                    Piece::Unreadable { reason, .. } => reason
                        .chars()
                        .filter(|char| !char.is_numeric())
                        .take(24)
                        .collect(),
                })
                .collect::<String>();
        }
        Ok(way)
    });
}

/// What was refused, without what differs from input to input.
fn refusal(faults: &[FieldError]) -> String {
    let place = |fault: &FieldError| {
        let place: String = fault
            .param
            .iter()
            .flat_map(|param| param.chars())
            .filter(|char| !char.is_numeric())
            .take(40)
            .collect();
        format!("{}@{place} ", fault.code)
    };
    faults.iter().take(3).map(place).collect()
}

/// Whether this is JSON. Half of a surrogate pair may stand in its text as `\ud800`, and a number may be too large for
/// `Value`: JSON allows both, and what passes byte for byte is not ours to judge.
fn is_json(bytes: &[u8]) -> Result<(), String> {
    let read = serde_json::from_slice::<&serde_json::value::RawValue>(bytes);
    read.map(drop)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(bytes)))
}

/// A chat request that was made of another dialect's is a chat request.
fn is_chat(body: Bytes) -> Result<String, String> {
    let shown = String::from_utf8_lossy(&body).into_owned();
    match openai::request::parse(body) {
        Ok(request) => {
            let _ = (request.estimate(), request.prefix());
            Ok(format!(
                "ok {:?} {}",
                request.model.is_some(),
                request.stream
            ))
        }
        // What the client itself left out or got wrong may be said in the words of a chat.
        Err(faults) => {
            is_json(shown.as_bytes())?;
            Ok(format!("chat {}", refusal(&faults)))
        }
    }
}

#[test]
fn chat() {
    fuzz("chat", |input| {
        let body = Bytes::copy_from_slice(input);
        let request = match openai::request::parse(body) {
            Ok(request) => request,
            Err(faults) => return Ok(refusal(&faults)),
        };
        let sent = request.upstream_body(Some("target"), true);
        is_json(&sent)?;
        if let Ok(value) = serde_json::from_slice::<Value>(&sent) {
            if value["model"] != "target" {
                return Err(format!("the model is not rewritten: {value}"));
            }
            if request.stream && value["stream_options"]["include_usage"] != true {
                return Err(format!("usage is not asked for: {value}"));
            }
        }
        let again = openai::request::parse(sent.clone())
            .map_err(|faults| format!("{faults:?}: {sent:?}"))?;
        if again.stream != request.stream {
            return Err(format!("another request is sent: {sent:?}"));
        }
        is_chat(request.body.clone())
    });
}

#[test]
fn messages() {
    fuzz("messages", |input| match anthropic::request::read(input) {
        Ok(read) => is_chat(
            serde_json::to_vec(&read.chat)
                .map_err(|error| error.to_string())?
                .into(),
        ),
        Err(faults) => Ok(refusal(&faults)),
    });
}

#[test]
fn responses() {
    fuzz("responses", |input| {
        let asked = match responses::request::read(input) {
            Ok(asked) => asked,
            Err(faults) => return Ok(refusal(&faults)),
        };
        let native = asked.native(Vec::new(), &std::collections::BTreeMap::new());
        is_json(&native)?;
        match asked.chat(&responses::request::Before::default()) {
            Ok(translated) => is_chat(translated.chat),
            Err(faults) => Ok(format!("chat {}", refusal(&faults))),
        }
    });
}

#[test]
fn ollama() {
    fuzz("ollama", |input| {
        let mut way = String::new();
        for read in [ollama::request::chat, ollama::request::generate] {
            way += &match read(input) {
                Ok(ollama::request::Asked::Completion(asked)) => is_chat(asked.chat("target"))?,
                Ok(ollama::request::Asked::Load { .. }) => "load".into(),
                Err(faults) => refusal(&faults),
            };
        }
        way += if ollama::request::shown(input).is_ok() {
            "shown"
        } else {
            ""
        };
        Ok(way)
    });
}

#[test]
fn login() {
    fuzz("login", |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let copied = curl::read(&text);
        let mut way = format!(
            "{:?}{:?}{}",
            copied.cookies.is_some(),
            copied.bearer.is_some(),
            copied.headers.len().min(4)
        );
        let as_file = serde_json::from_str(&text).unwrap_or(Value::Null);
        for body in [
            json!({"curl": text}),
            json!({"cookies": text, "token": "t"}),
            json!({"cookies": as_file}),
            as_file.clone(),
        ] {
            let Value::Object(body) = body else { continue };
            way += match credentials::taken(&body) {
                None => "-",
                Some(true) => "+",
                // It goes out as headers, so nothing of it may end one.
                Some(false) => {
                    return Err(format!("a login that cannot be sent is kept: {body:?}"));
                }
            };
        }
        Ok(way)
    });
}
