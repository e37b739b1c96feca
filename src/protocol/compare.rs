//! What a client got then and gets now, event by event. What is made anew each time (ids, times) does not count.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::protocol::recording::{Form, Received};
use crate::protocol::sse::{Event, Reader};

/// Most bytes of one event.
const EVENT: usize = 64 << 20;
/// Pairs of events that are looked at to find which belong together; beyond it the first goes with the first.
const PAIRS: usize = 4_000_000;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Equal,
    Changed,
    Missing,
    Added,
}

/// One event of both sides; equal ones without their text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Compared {
    pub(crate) change: Change,
    pub(crate) then: Option<String>,
    pub(crate) now: Option<String>,
}

/// Both sides of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Comparison {
    pub(crate) request_id: String,
    /// The version that recorded, and the one that compared.
    pub(crate) recorded_by: String,
    pub(crate) replayed_by: String,
    pub(crate) is_equal: bool,
    /// The recording ends before the answer did (it was cut, or the client left): only what it holds was compared.
    pub(crate) is_partial: bool,
    pub(crate) equal: usize,
    pub(crate) changed: usize,
    pub(crate) missing: usize,
    pub(crate) added: usize,
    pub(crate) events: Vec<Compared>,
}

/// Compares what came then with what comes now; of a partial `then` only as far as it goes.
pub(crate) fn compare(then: &Received, now: &Received, is_partial: bool) -> Vec<Compared> {
    let then = normal_events(then);
    let mut now = normal_events(now);
    if is_partial {
        now.truncate(then.len());
    }
    aligned(&then, &now)
}

fn aligned(then: &[String], now: &[String]) -> Vec<Compared> {
    let common = |pairs: &mut dyn Iterator<Item = (&String, &String)>| {
        pairs.take_while(|(then, now)| then == now).count()
    };
    let head = common(&mut then.iter().zip(now));
    let (then, now) = (&then[head..], &now[head..]);
    let tail = common(&mut then.iter().rev().zip(now.iter().rev()));
    let (then, now) = (&then[..then.len() - tail], &now[..now.len() - tail]);
    let mut compared = vec![equal(); head];
    let (mut missing, mut added) = (Vec::new(), Vec::new());
    let mut at = (0, 0);
    for (then_at, now_at) in in_common(then, now) {
        missing.extend_from_slice(&then[at.0..then_at]);
        added.extend_from_slice(&now[at.1..now_at]);
        settle(&mut compared, &mut missing, &mut added);
        compared.push(equal());
        at = (then_at + 1, now_at + 1);
    }
    missing.extend_from_slice(&then[at.0..]);
    added.extend_from_slice(&now[at.1..]);
    settle(&mut compared, &mut missing, &mut added);
    compared.extend(vec![equal(); tail]);
    compared
}

/// What was lost and what is new between two equal events: as far as they go together, changed.
fn settle(compared: &mut Vec<Compared>, missing: &mut Vec<String>, added: &mut Vec<String>) {
    let (mut missing, mut added) = (missing.drain(..), added.drain(..));
    loop {
        let (then, now) = (missing.next(), added.next());
        let change = match (&then, &now) {
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Missing,
            (None, Some(_)) => Change::Added,
            (None, None) => return,
        };
        compared.push(Compared { change, then, now });
    }
}

fn equal() -> Compared {
    Compared {
        change: Change::Equal,
        then: None,
        now: None,
    }
}

/// The longest common subsequence, as pairs of places.
fn in_common(then: &[String], now: &[String]) -> Vec<(usize, usize)> {
    if then.len().saturating_mul(now.len()) > PAIRS {
        let pairs = then.iter().zip(now).enumerate();
        return pairs
            .filter(|(_, (then, now))| then == now)
            .map(|(at, _)| (at, at))
            .collect();
    }
    let width = now.len() + 1;
    let mut lengths = vec![0_u32; (then.len() + 1) * width];
    for (i, left) in then.iter().enumerate().rev() {
        for (j, right) in now.iter().enumerate().rev() {
            lengths[i * width + j] = if left == right {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < then.len() && j < now.len() {
        if then[i] == now[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// The events of an answer without what is made anew each time.
fn normal_events(received: &Received) -> Vec<String> {
    let bytes = received.chunks.iter().map(|chunk| chunk.data.bytes());
    match received.form {
        Form::Nothing => Vec::new(),
        Form::Whole | Form::Refused => {
            let whole = bytes.collect::<Vec<_>>().concat();
            normal(&String::from_utf8_lossy(&whole))
                .into_iter()
                .collect()
        }
        Form::Events => {
            let mut reader = Reader::new(EVENT);
            let mut events: Vec<Event> = Vec::new();
            for bytes in bytes {
                let frames = reader.push(bytes).unwrap_or_default();
                events.extend(frames.into_iter().filter_map(|frame| frame.event));
            }
            events.extend(reader.finish().and_then(|frame| frame.event));
            events.iter().filter_map(normal_event).collect()
        }
        Form::Lines => {
            let whole = bytes.collect::<Vec<_>>().concat();
            let whole = String::from_utf8_lossy(&whole);
            whole.lines().filter_map(normal).collect()
        }
    }
}

fn normal_event(event: &Event) -> Option<String> {
    let data = normal(&event.data)?;
    if event.name == "message" {
        Some(data)
    } else {
        Some(format!("{}: {data}", event.name))
    }
}

/// None for a sign of life: when one is told depends on the clock.
fn normal(data: &str) -> Option<String> {
    let Ok(mut value) = serde_json::from_str::<Value>(data) else {
        return Some(data.to_owned());
    };
    if is_sign_of_life(&value) {
        return None;
    }
    forget(&mut value);
    // The order of members says nothing.
    value.sort_all_objects();
    Some(value.to_string())
}

/// Members that are made anew each time, in whatever dialect.
const ANEW: [&str; 10] = [
    "id",
    "item_id",
    "call_id",
    "created",
    "created_at",
    "completed_at",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
];
/// Members whose own members are the model's or the client's words: there an `id` is no id of ours.
const WORDS: [&str; 5] = ["input", "arguments", "tools", "metadata", "text"];

fn forget(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Object(members) => {
            for (key, value) in members {
                if WORDS.contains(&key.as_str()) || value.is_null() {
                    continue;
                }
                if ANEW.contains(&key.as_str()) {
                    *value = "*".into();
                } else {
                    forget(value);
                }
            }
        }
        _ => {}
    }
}

fn is_sign_of_life(value: &Value) -> bool {
    if value["type"] == "ping" {
        return true;
    }
    // Ollama's, which has no word for it.
    let is_mute = |text: &Value| text.as_str().is_none_or(str::is_empty);
    if value["done"] == false {
        let said = value.get("message").unwrap_or(value);
        let words = [&said["content"], &said["response"], &said["thinking"]];
        return words.into_iter().all(is_mute) && said["tool_calls"].is_null();
    }
    let choices = value.get("choices").and_then(Value::as_array);
    let is_empty = |choice: &Value| {
        choice["delta"]
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
            && choice["finish_reason"].is_null()
    };
    choices.is_some_and(|choices| !choices.is_empty() && choices.iter().all(is_empty))
        && value["usage"].is_null()
        && value["error"].is_null()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::protocol::recording::{Chunk, Data};
    use crate::protocol::sse;

    fn received(events: &[&str]) -> Received {
        Received {
            form: Form::Events,
            status: 200,
            outcome: "completed".into(),
            chunks: events
                .iter()
                .map(|event| Chunk {
                    at_ms: 0,
                    data: Data::Here(sse::data(event)),
                })
                .collect(),
        }
    }

    fn changes(then: &[&str], now: &[&str]) -> Vec<Change> {
        let compared = compare(&received(then), &received(now), false);
        compared.iter().map(|compared| compared.change).collect()
    }

    #[test]
    fn each_event_is_equal_changed_missing_or_added() {
        use Change::{Added, Changed, Equal, Missing};
        assert_eq!(changes(&["a", "b"], &["a", "b"]), [Equal, Equal]);
        assert_eq!(
            changes(&["a", "b", "c"], &["a", "x", "c"]),
            [Equal, Changed, Equal]
        );
        assert_eq!(
            changes(&["a", "b", "c", "d"], &["a", "c", "d"]),
            [Equal, Missing, Equal, Equal]
        );
        assert_eq!(
            changes(&["a", "b", "d"], &["z", "a", "b", "c", "d"]),
            [Added, Equal, Equal, Added, Equal]
        );
        assert_eq!(changes(&["a"], &[]), [Missing]);
    }

    #[test]
    fn ids_and_times_do_not_count_and_all_else_does() {
        let chunk = |id: &str, created: u64, call: &str, text: &str| {
            json!({"id": id, "created": created, "choices": [{"index": 0,
                "delta": {"content": text, "tool_calls": [{"id": call, "index": 0}]}}]})
            .to_string()
        };
        let (then, now) = (chunk("a", 1, "c1", "hi"), chunk("b", 2, "c2", "hi"));
        assert_eq!(changes(&[&then], &[&now]), [Change::Equal]);
        let now = chunk("a", 1, "c1", "ho");
        assert_eq!(changes(&[&then], &[&now]), [Change::Changed]);
        let alive = json!({"choices": [{"delta": {}, "finish_reason": null}]}).to_string();
        assert_eq!(changes(&[&then], &[&alive, &then]), [Change::Equal]);
        let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string();
        assert_eq!(changes(&[], &[&end]), [Change::Added]);
    }

    #[test]
    fn how_the_bytes_are_split_does_not_count() {
        let whole = received(&["a", "b"]);
        let bytes: Vec<u8> = whole
            .chunks
            .iter()
            .flat_map(|chunk| chunk.data.bytes().to_vec())
            .collect();
        let mut split = whole.clone();
        split.chunks = bytes
            .iter()
            .map(|byte| Chunk {
                at_ms: 0,
                data: Data::Here(Bytes::copy_from_slice(&[*byte])),
            })
            .collect();
        let compared = compare(&whole, &split, false);
        assert!(compared.iter().all(|one| one.change == Change::Equal));
        assert_eq!(compared.len(), 2);
    }

    #[test]
    fn of_a_partial_recording_only_what_it_holds_is_compared() {
        let compared = compare(&received(&["a"]), &received(&["a", "b"]), true);
        assert_eq!(compared.len(), 1);
        assert_eq!(compared[0].change, Change::Equal);
    }
}
