//! The texts of a body that people may look for.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::lenient;

/// Bytes of a request's texts, and of an answer's. An agent repeats its whole history with each request; what is new in
/// one, and what it is about, comes well within.
const MOST: usize = 32 << 10;
/// Bytes of one text that is neither the last thing said nor the answer.
const MOST_ASIDE: usize = 8 << 10;

#[derive(Deserialize)]
struct WireRequest {
    #[serde(default, deserialize_with = "lenient::list")]
    messages: Vec<WireMessage>,
}

#[derive(Deserialize)]
struct WireAnswer {
    #[serde(default, deserialize_with = "lenient::list")]
    choices: Vec<WireChoice>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    message: Option<WireMessage>,
    #[serde(default)]
    text: lenient::Text,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    role: lenient::Text,
    #[serde(default)]
    content: lenient::Text,
    #[serde(default)]
    reasoning_content: lenient::Text,
    #[serde(default)]
    reasoning: lenient::Text,
}

/// What the user said last, the instructions, and what the user said before, the newest first. Empty when `body` is no
/// request.
pub(crate) fn of_request(body: &str) -> String {
    let Ok(request) = serde_json::from_str::<WireRequest>(body) else {
        return String::new();
    };
    let said = |roles: &'static [&'static str]| {
        request.messages.iter().rev().filter(move |message| {
            let role = message.role.0.as_deref();
            role.is_some_and(|role| roles.contains(&role))
        })
    };
    let mut texts = Texts::default();
    for (index, message) in said(&["user"])
        .take(1)
        .chain(said(&["system", "developer"]))
        .chain(said(&["user"]).skip(1))
        .enumerate()
    {
        texts.add(
            message.content.0.as_deref(),
            if index == 0 { MOST } else { MOST_ASIDE },
        );
    }
    texts.joined
}

/// What was answered, and what was thought. Empty when `body` is no answer.
pub(crate) fn of_answer(body: &str) -> String {
    let Ok(answer) = serde_json::from_str::<WireAnswer>(body) else {
        return String::new();
    };
    let mut texts = Texts::default();
    for choice in &answer.choices {
        texts.add(choice.text.0.as_deref(), MOST);
        if let Some(message) = &choice.message {
            texts.add(message.content.0.as_deref(), MOST - MOST_ASIDE);
            texts.add(message.reasoning_content.0.as_deref(), MOST_ASIDE);
            texts.add(message.reasoning.0.as_deref(), MOST_ASIDE);
        }
    }
    texts.joined
}

#[derive(Default)]
struct Texts {
    joined: String,
    /// Hashes would do; there are few, and none is longer than what is kept.
    known: BTreeSet<String>,
}

impl Texts {
    /// Adds the beginning of a text, once.
    fn add(&mut self, text: Option<&str>, most: usize) {
        let left = MOST.saturating_sub(self.joined.len() + 1);
        let Some(text) = text
            .map(str::trim)
            .filter(|text| !text.is_empty() && left > 0)
        else {
            return;
        };
        let text = beginning(text, most.min(left));
        if self.known.insert(text.to_owned()) {
            if !self.joined.is_empty() {
                self.joined.push('\n');
            }
            self.joined.push_str(text);
        }
    }
}

fn beginning(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_thing_said_comes_first_then_the_instructions() {
        let body = json!({"messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "first"}, {"type": "image_url", "image_url": {"url": "data:,"}}]},
            {"role": "assistant", "content": "not this"},
            {"role": "user", "content": "second"},
            {"role": "user", "content": "third"},
        ]});
        assert_eq!(
            of_request(&body.to_string()),
            "third\nbe brief\nsecond\nfirst"
        );
        for odd in [
            "",
            "[]",
            "{\"messages\":5}",
            "\"text\"",
            "{\"messages\":[5,{}]}",
        ] {
            assert_eq!(of_request(odd), "", "{odd}");
            assert_eq!(of_answer(odd), "", "{odd}");
        }
    }

    #[test]
    fn answers_and_thoughts_are_told() {
        let body = json!({"choices": [{"message": {"role": "assistant", "content": "Paris", "reasoning_content": "France"}},
                                      {"text": "old form"}]});
        assert_eq!(of_answer(&body.to_string()), "Paris\nFrance\nold form");
    }

    #[test]
    fn texts_are_bounded_between_characters() {
        let long = "ä".repeat(MOST);
        let body = json!({"messages": [{"role": "system", "content": long}, {"role": "user", "content": long}]});
        let text = of_request(&body.to_string());
        assert!(text.len() <= MOST && text.len() > MOST - 8);
    }
}
