//! An answer in its other form: a whole one as the events of a stream, and a stream's events as a whole one.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::limits::upstreams::EVENT_LIMIT;
use crate::limits::upstreams::MOST_ASSEMBLED;
use crate::protocol::openai::answer::Assembled;
use crate::protocol::openai::build;
use crate::protocol::openai::chunk::{self, Scan, Usage};
use crate::protocol::sse::{self, Reader};

/// One event of a stream, and what is in it.
pub(crate) struct Told {
    pub(crate) raw: Bytes,
    pub(crate) scan: Scan,
}

/// A stream that is whole: every choice finished, no error, and the end marker.
pub(crate) struct WholeStream {
    pub(crate) told: Vec<Told>,
    /// The end marker as it was sent.
    pub(crate) marker: Bytes,
    pub(crate) assembled: Assembled,
}

/// Reads a stream; none when it is not whole. Comments are left out.
pub(crate) fn read(stream: &[u8]) -> Option<WholeStream> {
    let mut reader = Reader::new(EVENT_LIMIT);
    let frames = reader.push(stream).ok()?;
    if reader.is_mid_event() {
        return None;
    }
    let mut assembled = Assembled::new(MOST_ASSEMBLED);
    let mut told = Vec::with_capacity(frames.len());
    let mut marker = None;
    for frame in frames {
        let Some(event) = frame.event.filter(|event| !event.data.is_empty()) else {
            continue;
        };
        let scan = chunk::scan(&event.data).ok()?;
        if marker.is_some() || scan.error.is_some() {
            return None;
        }
        let raw = frame.raw;
        if scan.done {
            marker = Some(raw);
            continue;
        }
        assembled.feed(&scan);
        told.push(Told { raw, scan });
    }
    let is_whole = assembled.is_complete() && !assembled.is_truncated();
    let marker = marker.filter(|_| is_whole)?;
    Some(WholeStream {
        told,
        marker,
        assembled,
    })
}

/// Whether a whole answer is complete: it has choices, and each says why it finished.
pub(crate) fn is_complete(whole: &[u8]) -> bool {
    let Ok(Value::Object(whole)) = serde_json::from_slice(whole) else {
        return false;
    };
    let has_failed = whole.get("error").is_some_and(|error| !error.is_null());
    let choices = whole.get("choices").and_then(Value::as_array);
    let is_finished = |choice: &Value| {
        let reason = choice["finish_reason"].as_str();
        reason.is_some_and(|reason| !reason.is_empty()) && choice["message"].is_object()
    };
    !has_failed
        && choices.is_some_and(|choices| !choices.is_empty() && choices.iter().all(is_finished))
}

/// A whole answer as events: of each choice its role, what it says, and why it finished; then the usage. None when it
/// is not complete.
pub(crate) fn split(whole: &[u8]) -> Option<Vec<Told>> {
    if !is_complete(whole) {
        return None;
    }
    let mut head: Map<String, Value> = serde_json::from_slice(whole).ok()?;
    let choices = head.remove("choices")?;
    let usage = head.remove("usage");
    head.insert("object".into(), json!("chat.completion.chunk"));
    let mut told = Vec::new();
    for (place, choice) in (0_u64..).zip(choices.as_array()?) {
        let index = choice["index"].as_u64().unwrap_or(place);
        let mut message = choice["message"].as_object()?.clone();
        let role = message.remove("role").unwrap_or_else(|| json!("assistant"));
        message.retain(|_, value| !value.is_null());
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (place, call) in (0_u64..).zip(calls.into_iter().flatten()) {
            if let Some(call) = call.as_object_mut() {
                call.entry("index").or_insert_with(|| json!(place));
            }
        }
        let mut event = |delta: Value, reason: Option<&Value>| {
            let choice = json!({"index": index, "delta": delta, "finish_reason": reason});
            told.extend(event(&head, &json!([choice]), None));
        };
        // As OpenAI begins: a text with nothing of it, calls without one.
        let begun = message.get("content").map(|_| "");
        event(json!({"role": role, "content": begun}), None);
        if !message.is_empty() {
            event(Value::Object(message), None);
        }
        event(json!({}), choice.get("finish_reason"));
    }
    if let Some(usage) = usage.as_ref().and_then(Usage::from_value) {
        told.extend(event(&head, &json!([]), Some(&usage)));
    }
    Some(told)
}

fn event(head: &Map<String, Value>, choices: &Value, usage: Option<&Usage>) -> Option<Told> {
    let mut whole = head.clone();
    whole.insert("choices".into(), choices.clone());
    if let Some(usage) = usage {
        whole.insert("usage".into(), build::usage_json(usage));
    }
    let data = Value::Object(whole).to_string();
    let scan = chunk::scan(&data).ok()?;
    let raw = sse::data(&data);
    Some(Told { raw, scan })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(told: &[Told]) -> Vec<u8> {
        let mut bytes: Vec<u8> = told.iter().flat_map(|told| told.raw.to_vec()).collect();
        bytes.extend_from_slice(&sse::data("[DONE]"));
        bytes
    }

    #[test]
    fn a_whole_answer_survives_its_way_as_a_stream() {
        let whole = json!({"id": "c", "object": "chat.completion", "created": 7, "model": "m", "system_fingerprint": "f",
            "choices": [
                {"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "hi", "reasoning_content": "hm"}},
                {"index": 1, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"x\":1}"}}]}},
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
        let told = split(whole.to_string().as_bytes()).unwrap();
        assert_eq!(told.len(), 7, "three of each choice, and the usage");
        assert!(told[6].scan.usage_only && told[..6].iter().all(|told| !told.scan.usage_only));
        assert!(told[0].scan.choices[0].has_role);
        let again = read(&joined(&told)).unwrap();
        assert_eq!(again.told.len(), 7);
        let mut expected = whole.clone();
        expected
            .as_object_mut()
            .unwrap()
            .remove("system_fingerprint");
        assert_eq!(again.assembled.to_json(), expected);
        let text = String::from_utf8(told[0].raw.to_vec()).unwrap();
        assert!(text.contains(r#""system_fingerprint":"f""#), "{text}");
    }

    #[test]
    fn a_stream_counts_when_it_is_whole() {
        let said = |text: &str| {
            sse::data(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}).to_string())
        };
        let finish = sse::data(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        let done = sse::data("[DONE]");
        let error = sse::data(r#"{"error":{"message":"no"}}"#);
        let bytes = |frames: &[&Bytes]| -> Vec<u8> {
            frames.iter().flat_map(|frame| frame.to_vec()).collect()
        };
        let hi = said("hi");
        let comment = sse::comment("waiting");
        let stream = read(&bytes(&[&comment, &hi, &finish, &done])).unwrap();
        assert_eq!(stream.told.len(), 2);
        assert_eq!((&stream.told[0].raw, &stream.marker), (&hi, &done));
        assert_eq!(
            stream.assembled.to_json()["choices"][0]["message"]["content"],
            "hi"
        );
        for cut in [
            bytes(&[&hi, &done]),
            bytes(&[&hi, &finish]),
            bytes(&[&hi, &error, &done]),
            bytes(&[&hi, &finish, &done, &hi]),
            bytes(&[&done]),
            b"data: {\"choices\":[{\"finish_reason\":\"stop\"}]}".to_vec(),
        ] {
            assert!(read(&cut).is_none(), "{}", String::from_utf8_lossy(&cut));
        }
    }

    #[test]
    fn a_whole_answer_counts_when_every_choice_finished() {
        let with = |choices: Value| json!({"choices": choices}).to_string();
        let message = json!({"role": "assistant", "content": "x"});
        assert!(is_complete(
            with(json!([{"message": message, "finish_reason": "length"}])).as_bytes()
        ));
        for cut in [
            with(json!([])),
            with(json!([{"message": message, "finish_reason": null}])),
            with(json!([{"message": message, "finish_reason": "stop"}, {"message": message}])),
            with(json!([{"finish_reason": "stop"}])),
            "[]".into(),
            "no".into(),
        ] {
            assert!(
                !is_complete(cut.as_bytes()) && split(cut.as_bytes()).is_none(),
                "{cut}"
            );
        }
    }
}
