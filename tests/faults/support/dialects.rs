//! The three dialects of clients: how they ask, and what their streams say.

use serde_json::{Value, json};

use super::{Heard, hear};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Chat,
    Messages,
    Responses,
}

pub const ALL: [Dialect; 3] = [Dialect::Chat, Dialect::Messages, Dialect::Responses];

impl Dialect {
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
        }
    }

    /// A streamed question to `model`.
    pub fn ask(self, model: &str) -> Value {
        match self {
            Self::Chat => {
                json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]})
            }
            Self::Messages => json!({"model": model, "stream": true, "max_tokens": 100,
                "messages": [{"role": "user", "content": "hi"}]}),
            Self::Responses => json!({"model": model, "stream": true, "input": "hi"}),
        }
    }

    /// The text of a stream, how often it told an error, and how often that it is whole.
    pub fn hear(self, events: &str) -> (String, usize, usize) {
        if self == Self::Chat {
            let Heard {
                text,
                errors,
                done,
                finish_reasons,
                ..
            } = hear(events);
            assert_eq!(done, 1, "one end marker: {events}");
            return (text, errors.len(), finish_reasons.len());
        }
        let (mut text, mut errors, mut ends) = (String::new(), 0, 0);
        for line in events.lines() {
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).expect("every data line is JSON");
            match event["type"].as_str().unwrap_or_default() {
                "content_block_delta" => {
                    text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
                }
                "response.output_text.delta" => {
                    text.push_str(event["delta"].as_str().unwrap_or_default());
                }
                "error" | "response.failed" => errors += 1,
                "message_stop" | "response.completed" => ends += 1,
                _ => {}
            }
        }
        (text, errors, ends)
    }
}
