//! The parts of a message, from a client's words into a chat's.

use serde_json::{Value, json};

use super::fault;
use crate::protocol::openai::request::FieldError;

/// What a chat message says: its text, or its parts where they are more than that.
pub(super) fn of_user(content: &Value, place: &str, faults: &mut Vec<FieldError>) -> Value {
    let parts = match content {
        Value::String(text) => return json!(text),
        content => parts(content, place, faults),
    };
    match parts.as_slice() {
        [] => json!(""),
        [only] if only["type"] == "text" => only["text"].clone(),
        _ => Value::Array(parts),
    }
}

/// The text of a message whose role has nothing else. Pieces of an answer are one text, instructions are paragraphs.
pub(super) fn text(content: &Value, between: &str) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(text_of).collect();
            texts.join(between)
        }
        _ => String::new(),
    }
}

/// The parts of `content`; what is known to be none is left out.
pub(super) fn parts(content: &Value, place: &str, faults: &mut Vec<FieldError>) -> Vec<Value> {
    let list = content.as_array().into_iter().flatten().enumerate();
    list.filter_map(|(at, part)| part_of(part, &format!("{place}[{at}]"), faults))
        .collect()
}

fn part_of(part: &Value, place: &str, faults: &mut Vec<FieldError>) -> Option<Value> {
    if let Some(text) = text_of(part) {
        return Some(json!({"type": "text", "text": text}));
    }
    match part["type"].as_str() {
        Some("input_image" | "image_url") => image(part, place, faults),
        Some("input_file" | "file") => file(part, place, faults),
        Some("input_audio") => {
            Some(json!({"type": "input_audio", "input_audio": part["input_audio"]}))
        }
        _ => None,
    }
}

fn text_of(part: &Value) -> Option<&str> {
    match part["type"].as_str() {
        Some("input_text" | "output_text" | "text" | "summary_text" | "reasoning_text") => {
            part["text"].as_str()
        }
        Some("refusal") => part["refusal"].as_str(),
        None => part.as_str(),
        Some(_) => None,
    }
}

fn image(part: &Value, place: &str, faults: &mut Vec<FieldError>) -> Option<Value> {
    let holder = &part["image_url"];
    let Some(url) = holder.as_str().or_else(|| holder["url"].as_str()) else {
        let message = format!(
            "`{place}` has no `image_url`; images are taken as data URLs, not as ids of files"
        );
        faults.push(fault(
            format!("{place}.image_url"),
            "missing_required_parameter",
            message,
        ));
        return None;
    };
    let detail = part["detail"]
        .as_str()
        .or_else(|| holder["detail"].as_str());
    let mut image = json!({"url": url});
    // `auto` is what is meant without it, and some servers know neither the member nor `original`.
    if let Some(detail @ ("low" | "high")) = detail {
        image["detail"] = json!(detail);
    }
    Some(json!({"type": "image_url", "image_url": image}))
}

fn file(part: &Value, place: &str, faults: &mut Vec<FieldError>) -> Option<Value> {
    let holder = if part["file"].is_object() {
        &part["file"]
    } else {
        part
    };
    let Some(data) = holder["file_data"].as_str() else {
        let message = format!(
            "`{place}` has no `file_data`; files are taken as data URLs, not by id or address"
        );
        faults.push(fault(
            format!("{place}.file_data"),
            "missing_required_parameter",
            message,
        ));
        return None;
    };
    let mut file = json!({"file_data": data});
    if let Some(name) = holder["filename"].as_str() {
        file["filename"] = json!(name);
    }
    Some(json!({"type": "file", "file": file}))
}
