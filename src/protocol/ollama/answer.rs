//! A chat completion as Ollama tells it: one document, or one line for each piece.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::protocol::dialect::Telling;
use crate::protocol::openai::chunk::Usage;

/// Which of the two answers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Of `/api/chat`: the text is in a message.
    Chat,
    /// Of `/api/generate`: the text is the answer.
    Generate,
}

/// What the clock says: this module has none.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// In RFC 3339.
    pub(crate) at: String,
    /// Since the request came.
    pub(crate) since: Duration,
}

/// See the module.
pub(crate) struct OllamaTelling {
    shape: Shape,
    /// As the client named it.
    model: String,
    shows_thinking: bool,
    clock: Box<dyn Fn() -> Moment + Send>,
    /// When the first content came.
    began: Option<Duration>,
    calls: Vec<OpenCall>,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    has_failed: bool,
}

/// A call whose arguments still come.
#[derive(Default)]
struct OpenCall {
    index: u64,
    id: Option<String>,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(alias = "delta", default)]
    message: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize)]
struct CallPart {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: FunctionPart,
}

#[derive(Default, Deserialize)]
struct FunctionPart {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

impl Said {
    fn thinking(&mut self) -> String {
        let told = self.reasoning_content.take().or(self.reasoning.take());
        told.unwrap_or_default()
    }
}

impl OllamaTelling {
    pub(crate) fn new(
        shape: Shape,
        model: String,
        shows_thinking: bool,
        clock: Box<dyn Fn() -> Moment + Send>,
    ) -> Self {
        Self {
            shape,
            model,
            shows_thinking,
            clock,
            began: None,
            calls: Vec::new(),
            usage: None,
            finish_reason: None,
            has_failed: false,
        }
    }

    /// The answer to a request that asked nothing.
    pub(crate) fn loaded(&self, unloads: bool) -> Value {
        let mut told = self.piece(String::new(), String::new(), Vec::new());
        told.insert("done".into(), true.into());
        let reason = if unloads { "unload" } else { "load" };
        told.insert("done_reason".into(), reason.into());
        Value::Object(told)
    }

    fn piece(&self, text: String, thinking: String, calls: Vec<Value>) -> Map<String, Value> {
        let mut told = Map::new();
        told.insert("model".into(), self.model.as_str().into());
        told.insert("created_at".into(), (self.clock)().at.into());
        let thinking = Some(thinking).filter(|text| self.shows_thinking && !text.is_empty());
        match self.shape {
            Shape::Chat => {
                let mut message = Map::new();
                message.insert("role".into(), "assistant".into());
                message.insert("content".into(), text.into());
                if let Some(thinking) = thinking {
                    message.insert("thinking".into(), thinking.into());
                }
                if !calls.is_empty() {
                    message.insert("tool_calls".into(), calls.into());
                }
                told.insert("message".into(), message.into());
            }
            Shape::Generate => {
                told.insert("response".into(), text.into());
                if let Some(thinking) = thinking {
                    told.insert("thinking".into(), thinking.into());
                }
            }
        }
        told.insert("done".into(), false.into());
        told
    }

    /// Makes `told` the last that is said.
    fn close(&self, told: &mut Map<String, Value>) {
        let total = (self.clock)().since;
        let began = self.began.unwrap_or(total).min(total);
        let usage = self.usage.unwrap_or_default();
        let reason = match self.finish_reason.as_deref() {
            Some("length") => "length",
            // Ollama has no other word for an end.
            _ => "stop",
        };
        told.insert("done".into(), true.into());
        told.insert("done_reason".into(), reason.into());
        for (key, duration) in [
            ("total_duration", total),
            ("load_duration", Duration::ZERO),
            ("prompt_eval_duration", began),
            ("eval_duration", total.saturating_sub(began)),
        ] {
            told.insert(key.into(), nanos(duration).into());
        }
        for (key, count) in [
            ("prompt_eval_count", usage.prompt),
            ("eval_count", usage.completion),
        ] {
            told.insert(key.into(), count.unwrap_or_default().into());
        }
    }

    fn take(&mut self, part: CallPart) {
        let index = part.index.unwrap_or_else(|| {
            // Whole answers do not number their calls.
            self.calls.last().map_or(0, |last| last.index + 1)
        });
        let known = self.calls.iter().position(|call| call.index == index);
        let place = known.unwrap_or(self.calls.len());
        if known.is_none() {
            self.calls.push(OpenCall {
                index,
                ..OpenCall::default()
            });
        }
        let Some(call) = self.calls.get_mut(place) else {
            return;
        };
        call.id = call.id.take().or(part.id.filter(|id| !id.is_empty()));
        call.name.push_str(&part.function.name.unwrap_or_default());
        call.arguments
            .push_str(&part.function.arguments.unwrap_or_default());
    }

    /// The calls, with their arguments as objects.
    fn calls(&mut self) -> Result<Vec<Value>, serde_json::Error> {
        let calls = std::mem::take(&mut self.calls);
        let told = calls.into_iter().map(|call| {
            let arguments = if call.arguments.trim().is_empty() {
                Map::new()
            } else {
                serde_json::from_str::<Map<String, Value>>(&call.arguments)?
            };
            let mut told = Map::new();
            if let Some(id) = call.id {
                told.insert("id".into(), id.into());
            }
            let function = json!({"name": call.name, "arguments": arguments});
            told.insert("function".into(), function);
            Ok(Value::Object(told))
        });
        told.collect()
    }

    fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        self.has_failed = true;
        line(&json!({"error": message}), out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        let calls = match self.calls() {
            Ok(calls) => calls,
            Err(error) => {
                let message = format!(
                    "the model called a tool with arguments that are no JSON object ({error}); send the request again"
                );
                return self.fail(&message, out);
            }
        };
        if !calls.is_empty() {
            let told = self.piece(String::new(), String::new(), calls);
            line(&Value::Object(told), out);
        }
        let mut last = self.piece(String::new(), String::new(), Vec::new());
        self.close(&mut last);
        line(&Value::Object(last), out);
    }
}

impl Telling for OllamaTelling {
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        let completion: Completion = serde_json::from_slice(completion)?;
        self.usage = completion.usage.as_ref().and_then(Usage::from_value);
        let choice = completion.choices.into_iter().next();
        let mut said = Said::default();
        if let Some(choice) = choice {
            self.finish_reason = choice.finish_reason;
            said = choice.message.unwrap_or_default();
        }
        for call in said.tool_calls.take().into_iter().flatten() {
            self.take(call);
        }
        let calls = self.calls()?;
        let thinking = said.thinking();
        let mut told = self.piece(said.content.unwrap_or_default(), thinking, calls);
        self.close(&mut told);
        Ok(Value::Object(told).to_string().into())
    }

    fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        if data == "[DONE]" {
            return self.finish(out);
        }
        // The exchange has read it before.
        let Ok(chunk) = serde_json::from_str::<Completion>(data) else {
            return;
        };
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let message = error.get("message").and_then(Value::as_str);
            return self.fail(message.unwrap_or("the model failed"), out);
        }
        let told_usage = chunk.usage.as_ref().and_then(Usage::from_value);
        self.usage = told_usage.or(self.usage);
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
            let mut said = choice.message.unwrap_or_default();
            for call in said.tool_calls.take().into_iter().flatten() {
                self.take(call);
            }
            let thinking = said.thinking();
            let text = said.content.unwrap_or_default();
            if text.is_empty() && (thinking.is_empty() || !self.shows_thinking) {
                continue;
            }
            if self.began.is_none() {
                self.began = Some((self.clock)().since);
            }
            let told = self.piece(text, thinking, Vec::new());
            line(&Value::Object(told), out);
        }
    }

    /// There are no comments between lines: a piece without text says that it goes on.
    fn silence(&mut self, out: &mut Vec<u8>) {
        let told = self.piece(String::new(), String::new(), Vec::new());
        line(&Value::Object(told), out);
    }

    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }
}

fn line(told: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(told.to_string().as_bytes());
    out.push(b'\n');
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(shape: Shape, shows_thinking: bool) -> OllamaTelling {
        let ticks = std::cell::Cell::new(0);
        let clock = move || {
            ticks.set(ticks.get() + 1);
            Moment {
                at: "now".into(),
                since: Duration::from_nanos(ticks.get()),
            }
        };
        OllamaTelling::new(shape, "m".into(), shows_thinking, Box::new(clock))
    }

    fn stream(telling: &mut OllamaTelling, events: &[Value]) -> Vec<Value> {
        let mut out = Vec::new();
        for event in events {
            telling.event(&event.to_string(), &mut out);
        }
        telling.event("[DONE]", &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn delta(delta: &Value, finish_reason: Option<&str>) -> Value {
        json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
    }

    #[test]
    fn pieces_come_as_lines_and_calls_whole() {
        let call = |part: Value| delta(&json!({"tool_calls": [part]}), None);
        let lines = stream(
            &mut telling(Shape::Chat, true),
            &[
                delta(&json!({"role": "assistant", "content": ""}), None),
                delta(&json!({"reasoning_content": "hm"}), None),
                delta(&json!({"content": "He"}), None),
                call(
                    json!({"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\""}}),
                ),
                call(json!({"index": 0, "function": {"arguments": ":1}"}})),
                call(json!({"index": 1, "id": "d", "function": {"name": "g", "arguments": ""}})),
                delta(&json!({}), Some("tool_calls")),
                json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}),
            ],
        );
        let message = |line: &Value| line["message"].clone();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            message(&lines[0]),
            json!({"role": "assistant", "content": "", "thinking": "hm"})
        );
        assert_eq!(message(&lines[1])["content"], "He");
        assert_eq!(
            message(&lines[2])["tool_calls"],
            json!([{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}},
                   {"id": "d", "function": {"name": "g", "arguments": {}}}])
        );
        assert_eq!(
            (
                &lines[3]["done"],
                &lines[3]["done_reason"],
                &lines[3]["eval_count"],
                &lines[3]["prompt_eval_count"]
            ),
            (&json!(true), &json!("stop"), &json!(5), &json!(3))
        );
        assert!(lines[3]["total_duration"].as_u64() > lines[3]["prompt_eval_duration"].as_u64());
    }

    #[test]
    fn an_error_is_the_last_line() {
        let mut telling = telling(Shape::Generate, true);
        let lines = stream(
            &mut telling,
            &[
                delta(&json!({"content": "He"}), None),
                json!({"error": {"message": "it broke"}}),
            ],
        );
        assert_eq!(lines[0]["response"], "He");
        assert_eq!(lines[1], json!({"error": "it broke"}));
        assert_eq!(lines.len(), 2);
        let broken =
            json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "[1"}}]});
        let lines = stream(
            &mut self::telling(Shape::Chat, true),
            &[delta(&broken, None)],
        );
        assert!(lines[0]["error"].as_str().unwrap().contains("arguments"));
    }

    #[test]
    fn a_whole_answer_is_one_document() {
        let completion = json!({"choices": [{"message": {"content": "Hi", "reasoning_content": "hm"},
            "finish_reason": "length"}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}});
        let mut telling = telling(Shape::Generate, false);
        let whole = telling.whole(completion.to_string().as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(
            (
                &told["response"],
                &told["done_reason"],
                &told["thinking"],
                &told["eval_count"]
            ),
            (&json!("Hi"), &json!("length"), &Value::Null, &json!(5))
        );
        let loaded = telling.loaded(true);
        assert_eq!(
            (&loaded["done_reason"], &loaded["response"]),
            (&json!("unload"), &json!(""))
        );
    }
}
