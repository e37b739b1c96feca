//! What the client has of an answer, and how the events of another upstream are made to continue it.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::protocol::openai::chunk::{self, Scan};
use crate::protocol::openai::continuation::{Diverged, Joint, Way};
use crate::protocol::sse;

/// What the client has of the answer.
#[derive(Default)]
pub(super) struct Told {
    pub(super) content: String,
    has_calls: bool,
    has_ended: bool,
    has_many_choices: bool,
    /// `id`, `created` and `model` of its first chunk.
    head: Option<(Option<String>, Option<u64>, Option<String>)>,
}

impl Told {
    pub(super) fn add(&mut self, scan: &Scan) {
        if self.head.is_none() {
            self.head = Some((scan.id.clone(), scan.created, scan.model.clone()));
        }
        for choice in &scan.choices {
            self.has_many_choices |= choice.index > 0;
            self.content
                .push_str(choice.content.as_deref().unwrap_or_default());
            self.has_calls |= !choice.tool_calls.is_empty();
            self.has_calls |= choice.refusal.as_ref().is_some_and(|text| !text.is_empty());
            self.has_ended |= choice.finish_reason.is_some();
        }
    }

    /// Whether the client has any of it.
    pub(super) fn is_anything(&self) -> bool {
        self.head.is_some()
    }

    /// Whether another upstream can go on with it: one answer, of which the client has text only.
    pub(super) fn can_go_on(&self) -> bool {
        !(self.has_calls || self.has_ended || self.has_many_choices)
    }

    /// The beginning of a graft that continues this.
    pub(super) fn graft(&self, way: Way) -> Graft {
        let (id, created, model) = self.head.clone().unwrap_or_default();
        let mut head = Map::new();
        let fields = [
            ("id", id.map(Value::from)),
            ("created", created.map(Value::from)),
            ("model", model.map(Value::from)),
        ];
        for (key, value) in fields {
            if let Some(value) = value {
                head.insert(key.to_owned(), value);
            }
        }
        Graft {
            head,
            has_text: !self.content.is_empty(),
            joint: Joint::new(self.content.clone(), way),
        }
    }
}

/// Makes another upstream's events look like those before them.
pub(super) struct Graft {
    head: Map<String, Value>,
    has_text: bool,
    joint: Joint,
}

impl Graft {
    /// The event as the client shall get it; none when nothing of it is left.
    pub(super) fn fit(&mut self, data: &str) -> Result<Option<(Bytes, Scan)>, Diverged> {
        let Ok(Value::Object(mut event)) = serde_json::from_str::<Value>(data) else {
            return Ok(None);
        };
        for (key, value) in &self.head {
            event.insert(key.clone(), value.clone());
        }
        event.remove("system_fingerprint");
        let mut is_worth_telling = event.get("usage").is_some_and(|usage| !usage.is_null());
        let choices = event.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            is_worth_telling |= self.fit_choice(choice)?;
        }
        if !is_worth_telling {
            return Ok(None);
        }
        let data = Value::Object(event).to_string();
        let scan = chunk::scan(&data).unwrap_or_default();
        Ok(Some((sse::data(&data), scan)))
    }

    fn fit_choice(&mut self, choice: &mut Map<String, Value>) -> Result<bool, Diverged> {
        let is_end = choice
            .get("finish_reason")
            .is_some_and(|reason| !reason.is_null());
        let delta = choice.entry("delta").or_insert_with(|| json!({}));
        let Some(delta) = delta.as_object_mut() else {
            return Ok(is_end);
        };
        delta.remove("role");
        if self.has_text {
            // It thinks about how to go on: not a part of the answer.
            delta.remove("reasoning_content");
            delta.remove("reasoning");
        }
        let has_calls = delta
            .get("tool_calls")
            .and_then(Value::as_array)
            .is_some_and(|calls| !calls.is_empty());
        let mut text = String::new();
        if let Some(Value::String(more)) = delta.remove("content") {
            text.push_str(&self.joint.push(&more)?);
        }
        if is_end || has_calls {
            text.push_str(&self.joint.finish()?);
        }
        if !text.is_empty() {
            delta.insert("content".to_owned(), Value::from(text));
        }
        let has_more = delta
            .values()
            .any(|value| !value.is_null() && value.as_str() != Some(""));
        Ok(is_end || has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(delta: &Value, finish: Option<&str>) -> String {
        json!({"id": "second", "created": 9, "model": "other", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            .to_string()
    }

    fn told(text: &str) -> Told {
        let mut told = Told::default();
        let first = json!({"id": "first", "created": 1, "model": "one", "choices": [{"index": 0, "delta": {"content": text}}]});
        told.add(&chunk::scan(&first.to_string()).expect("a chunk"));
        told
    }

    #[test]
    fn another_upstreams_events_continue_the_first_ones() {
        let told = told("The answer is ");
        assert!(told.can_go_on());
        let mut graft = told.graft(Way::Instruction);
        let mut seen = Vec::new();
        for (delta, finish) in [
            (json!({"role": "assistant", "content": ""}), None),
            (json!({"reasoning_content": "They want me to go on."}), None),
            (json!({"content": "answer is "}), None),
            (json!({"content": "42."}), None),
            (json!({}), Some("stop")),
        ] {
            if let Some((raw, scan)) = graft.fit(&event(&delta, finish)).expect("it goes on") {
                let text = String::from_utf8(raw.to_vec()).expect("text");
                assert!(
                    text.contains("\"id\":\"first\"") && text.contains("\"model\":\"one\""),
                    "{text}"
                );
                seen.push((
                    scan.choices[0].content.clone(),
                    scan.choices[0].finish_reason.clone(),
                ));
            }
        }
        assert_eq!(
            seen,
            [(Some("42.".into()), None), (None, Some("stop".into()))]
        );
    }

    #[test]
    fn what_is_more_than_text_is_not_gone_on_with() {
        for delta in [
            json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
            json!({"refusal": "no"}),
        ] {
            let mut told = told("text");
            told.add(&chunk::scan(&event(&delta, None)).expect("a chunk"));
            assert!(!told.can_go_on(), "{delta}");
        }
        let mut ended = told("text");
        ended.add(&chunk::scan(&event(&json!({}), Some("stop"))).expect("a chunk"));
        assert!(!ended.can_go_on());
    }
}
