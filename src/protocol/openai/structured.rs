//! Answers by a schema from models that cannot be held to one: they are told it, what they write is looked at, and they
//! are asked once more where it does not follow.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::protocol::schema;

/// What an answer is to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// Any JSON object.
    Object,
    Schema(Value),
}

/// What a model made of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Judged {
    /// It follows, or is of a kind that need not: a call, a refusal, an answer cut at its limit. The completion, its
    /// texts nothing but JSON.
    Fits(Bytes),
    Faulty(Fault),
}

/// How it does not follow.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    text: String,
    pub(crate) faults: Vec<String>,
}

/// What `response_format` of a request says.
pub(crate) fn wanted(body: &[u8]) -> Option<Wanted> {
    #[derive(serde::Deserialize)]
    struct Body {
        response_format: Option<Value>,
    }
    let format = serde_json::from_slice::<Body>(body).ok()?.response_format?;
    match format.get("type")?.as_str()? {
        "json_object" => Some(Wanted::Object),
        "json_schema" => {
            let schema = format.pointer("/json_schema/schema")?;
            Some(Wanted::Schema(schema.clone()))
        }
        _ => None,
    }
}

impl Wanted {
    fn instruction(&self) -> String {
        let shape = match self {
            Self::Object => String::new(),
            Self::Schema(schema) => format!(" It must follow this JSON Schema:\n{schema}"),
        };
        format!(
            "Answer with one JSON value and nothing else: no words before or after it, no code fence.{shape}"
        )
    }

    fn faults(&self, value: &Value) -> Vec<String> {
        match self {
            Self::Object if value.is_object() => Vec::new(),
            Self::Object => vec!["the answer must be a JSON object".into()],
            Self::Schema(schema) => schema::faults(schema, value),
        }
    }

    /// The request with what is wanted told in words.
    pub(crate) fn told(&self, body: &[u8]) -> Option<Bytes> {
        let mut whole: Map<String, Value> = serde_json::from_slice(body).ok()?;
        whole.remove("response_format");
        let instruction = self.instruction();
        let messages = whole.get_mut("messages")?.as_array_mut()?;
        let first = messages
            .first_mut()
            .filter(|first| matches!(first["role"].as_str(), Some("system" | "developer")));
        match first.and_then(|first| first.get_mut("content")) {
            // Some templates take one system message, and only at the head.
            Some(Value::String(text)) => {
                text.push_str("\n\n");
                text.push_str(&instruction);
            }
            Some(Value::Array(parts)) => parts.push(json!({"type": "text", "text": instruction})),
            _ => messages.insert(0, json!({"role": "system", "content": instruction})),
        }
        serde_json::to_vec(&whole).ok().map(Bytes::from)
    }

    /// Looks at a completion.
    pub(crate) fn judge(&self, completion: &Bytes) -> Judged {
        let fits = || Judged::Fits(completion.clone());
        let Ok(mut whole) = serde_json::from_slice::<Value>(completion) else {
            return fits();
        };
        let mut has_changed = false;
        let choices = whole.get_mut("choices").and_then(Value::as_array_mut);
        for choice in choices.into_iter().flatten() {
            let is_cut = matches!(
                choice["finish_reason"].as_str(),
                Some("length" | "content_filter" | "tool_calls")
            );
            let Some(message) = choice.get_mut("message").filter(|said| said.is_object()) else {
                continue;
            };
            let is_refusal = message["refusal"].is_string();
            let calls = message["tool_calls"].as_array();
            if is_cut || is_refusal || calls.is_some_and(|calls| !calls.is_empty()) {
                continue;
            }
            let Some(text) = message["content"].as_str() else {
                continue;
            };
            let found = json_in(text);
            let faults = match &found {
                None => vec!["the answer must be JSON".to_owned()],
                Some((_, value)) => self.faults(value),
            };
            if !faults.is_empty() {
                let text = text.to_owned();
                return Judged::Faulty(Fault { text, faults });
            }
            let only = found.map(|(json, _)| json).filter(|json| *json != text);
            if let Some(only) = only.map(str::to_owned) {
                message["content"] = only.into();
                has_changed = true;
            }
        }
        if has_changed {
            Judged::Fits(whole.to_string().into())
        } else {
            fits()
        }
    }
}

impl Fault {
    /// The request that asks once more. `body` is what was asked before.
    pub(crate) fn question(&self, body: &[u8]) -> Option<Bytes> {
        let mut whole: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let messages = whole.get_mut("messages")?.as_array_mut()?;
        messages.push(json!({"role": "assistant", "content": self.text}));
        let words = format!(
            "That does not follow what was asked for: {}. Answer again, with the whole corrected JSON value and nothing \
             else.",
            self.faults.join("; ")
        );
        messages.push(json!({"role": "user", "content": words}));
        serde_json::to_vec(&whole).ok().map(Bytes::from)
    }
}

/// `completion` with the tokens of `earlier` counted in: both were used for it.
pub(crate) fn with_usage_of(completion: Bytes, earlier: &[u8]) -> Bytes {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let (Some(mut whole), Some(earlier)) = (read(&completion), read(earlier)) else {
        return completion;
    };
    for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        let Some(more) = earlier["usage"][key].as_u64() else {
            continue;
        };
        if let Some(count) = whole["usage"][key].as_u64() {
            whole["usage"][key] = count.saturating_add(more).into();
        }
    }
    whole.to_string().into()
}

/// The JSON value in a text, which may stand in a code fence or between words; and its own text.
fn json_in(text: &str) -> Option<(&str, Value)> {
    let trimmed = text.trim();
    if let Ok(value) = serde_json::from_str(trimmed) {
        return Some((trimmed, value));
    }
    let starts = trimmed.match_indices(['{', '[']).take(16);
    starts.map(|(at, _)| at).find_map(|at| {
        let rest = trimmed.get(at..)?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let json = values.next()?.ok()?.get();
        Some((json, serde_json::from_str(json).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(content: &str, reason: &str) -> Bytes {
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason});
        json!({"choices": [choice], "usage": {"total_tokens": 3}})
            .to_string()
            .into()
    }

    #[test]
    fn what_is_wanted_is_read_and_told() {
        let of = |format: Value| wanted(json!({"response_format": format}).to_string().as_bytes());
        assert_eq!(of(json!({"type": "text"})), None);
        assert_eq!(of(json!({"type": "json_object"})), Some(Wanted::Object));
        let schema = of(
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}),
        );
        let schema = schema.expect("a schema");
        let told = |messages: Value| -> Value {
            let body = json!({"messages": messages, "response_format": 1, "seed": 7}).to_string();
            serde_json::from_slice(&schema.told(body.as_bytes()).unwrap()).unwrap()
        };
        let plain = told(json!([{"role": "user", "content": "hi"}]));
        assert!(
            plain["messages"][0]["content"]
                .as_str()
                .unwrap()
                .contains(r#"{"type":"array"}"#)
        );
        assert_eq!(
            (&plain["seed"], plain.get("response_format")),
            (&json!(7), None)
        );
        let led = told(
            json!([{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]),
        );
        assert_eq!(led["messages"].as_array().unwrap().len(), 2);
        assert!(
            led["messages"][0]["content"]
                .as_str()
                .unwrap()
                .starts_with("be kind\n\nAnswer")
        );
    }

    #[test]
    fn an_answer_is_judged_and_cleaned() {
        let wanted = Wanted::Schema(json!({"type": "object", "required": ["a"]}));
        for text in [
            "{\"a\":1}",
            " {\"a\":1}\n",
            "```json\n{\"a\":1}\n```",
            "Here: {\"a\":1} as you wished",
        ] {
            let Judged::Fits(told) = wanted.judge(&completion(text, "stop")) else {
                panic!("{text}");
            };
            let told: Value = serde_json::from_slice(&told).unwrap();
            assert_eq!(told["choices"][0]["message"]["content"], "{\"a\":1}");
        }
        for text in ["no", "{}", "[1", ""] {
            assert!(
                matches!(wanted.judge(&completion(text, "stop")), Judged::Faulty(_)),
                "{text}"
            );
        }
        assert!(matches!(
            wanted.judge(&completion("{\"a", "length")),
            Judged::Fits(_)
        ));
        let Judged::Faulty(fault) = wanted.judge(&completion("{}", "stop")) else {
            panic!("it follows");
        };
        let again = fault
            .question(br#"{"messages":[{"role":"user","content":"hi"}]}"#)
            .unwrap();
        let again: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(
            again["messages"][1],
            json!({"role": "assistant", "content": "{}"})
        );
        assert!(
            again["messages"][2]["content"]
                .as_str()
                .unwrap()
                .contains("`a`")
        );
    }

    #[test]
    fn both_questions_are_counted() {
        let summed = with_usage_of(completion("x", "stop"), &completion("y", "stop"));
        let summed: Value = serde_json::from_slice(&summed).unwrap();
        assert_eq!(summed["usage"]["total_tokens"], 6);
    }
}
