//! A conversation as a chain of hashes, so that a request's history is found again although clients rewrite it.
//!
//! `h0 = H(system text, tools, model, account)`, `h(i+1) = H(h(i), message i)` in canonical form: what comes back from
//! a client is not what was sent to it (client-behaviour, 4; qwen-web-protocol, 8).

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::hex;
use crate::protocol::openai::message::{Attachment, Message, Role};

/// Changes when the canonical form does: old rows then are not found, rather than wrongly.
const VERSION: &[u8] = b"qwarden/1";

/// One link; shown as 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash([u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

/// The system text at the head of `messages`, and the rest. Later system messages stay where they are.
pub(crate) fn split_system(mut messages: Vec<Message>) -> (String, Vec<Message>) {
    let head = messages
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    let rest = messages.split_off(head);
    let texts: Vec<&str> = messages
        .iter()
        .map(|message| message.text.as_str())
        .collect();
    (texts.join("\n\n"), rest)
}

/// Where every history of these instructions begins.
pub(crate) fn root(system: &str, fingerprint: &str, model: &str, account: &str) -> Hash {
    let mut digest = Link::new();
    for text in [system, fingerprint, model, account] {
        digest.text(text);
    }
    digest.end()
}

/// The prefixes of `messages` that end in an answer, with their lengths, the longest first.
pub(crate) fn prefixes(root: Hash, messages: &[Message]) -> Vec<(usize, Hash)> {
    let mut places = Places::default();
    let mut hash = root;
    let mut found = Vec::new();
    for (length, message) in (1..).zip(messages) {
        hash = link(hash, message, &mut places);
        if message.role == Role::Assistant {
            found.push((length, hash));
        }
    }
    found.reverse();
    found
}

/// The history `messages` with `answer` at its end.
pub(crate) fn after_answer(root: Hash, messages: &[Message], answer: &Message) -> Hash {
    let mut places = Places::default();
    let history = messages
        .iter()
        .fold(root, |hash, message| link(hash, message, &mut places));
    link(history, answer, &mut places)
}

/// Calls by the order in which they were made: clients may give them other ids.
#[derive(Default)]
struct Places {
    by_id: HashMap<String, u64>,
    next: u64,
}

fn link(before: Hash, message: &Message, places: &mut Places) -> Hash {
    let mut digest = Link::new();
    digest.bytes(&before.0);
    let text = message.text.replace("\r\n", "\n");
    match message.role {
        Role::System => digest.tagged("system", &text),
        Role::User => digest.tagged("user", &text),
        Role::Assistant => {
            // White space around an answer does not survive every client.
            digest.tagged("assistant", text.trim());
            for call in &message.calls {
                digest.tagged("call", &call.name);
                digest.text(&canonical(&call.arguments));
                if let Some(id) = &call.id {
                    places.by_id.insert(id.clone(), places.next);
                }
                places.next += 1;
            }
        }
        Role::Tool => {
            let call = message.call_id.as_ref().and_then(|id| places.by_id.get(id));
            digest.tagged("tool", &text);
            match (call, &message.call_id) {
                (Some(place), _) => digest.bytes(&place.to_be_bytes()),
                (None, id) => digest.text(id.as_deref().unwrap_or_default()),
            }
        }
    }
    for attachment in &message.attachments {
        match attachment {
            Attachment::Url(url) => digest.tagged("url", url),
            Attachment::Inline { data, .. } => {
                digest.text("inline");
                digest.bytes(&Sha256::digest(data));
            }
        }
    }
    digest.end()
}

/// Arguments parsed and written again with sorted keys; none are `{}`, what is no JSON stands as it is.
fn canonical(arguments: &str) -> String {
    let arguments = arguments.trim();
    if arguments.is_empty() {
        return "{}".to_owned();
    }
    // The map of `serde_json` without `preserve_order` is sorted.
    serde_json::from_str::<Value>(arguments)
        .map_or_else(|_| arguments.to_owned(), |value| value.to_string())
}

/// Every part with its length before it, so that no two lists of parts read the same.
struct Link(Sha256);

impl Link {
    fn new() -> Self {
        let mut link = Self(Sha256::new());
        link.bytes(VERSION);
        link
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn tagged(&mut self, tag: &str, text: &str) {
        self.text(tag);
        self.text(text);
    }

    fn end(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::openai::message;

    fn read(messages: &Value) -> Vec<Message> {
        let body = json!({ "messages": messages });
        message::body(body.to_string().as_bytes())
            .expect("readable")
            .messages
    }

    fn last(messages: &Value) -> Hash {
        let messages = read(messages);
        let (answer, history) = messages.split_last().expect("not empty");
        after_answer(root("s", "t", "m", "a"), history, answer)
    }

    fn call(id: &str, arguments: &str, content: &Value) -> Value {
        json!({"role": "assistant", "content": content,
            "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}]})
    }

    #[test]
    fn what_clients_rewrite_does_not_count() {
        let history = |call: Value, id: &str, result: Value| {
            last(&json!([{"role": "user", "content": "go"}, call,
                {"role": "tool", "tool_call_id": id, "content": result}, {"role": "assistant", "content": "done"}]))
        };
        let sent = history(
            call("c1", r#"{"b": 1, "a": [2, 3]}"#, &json!("")),
            "c1",
            json!("x\r\ny"),
        );
        let returned = [
            history(
                call("c1", r#"{"a":[2,3],"b":1}"#, &Value::Null),
                "c1",
                json!("x\ny"),
            ),
            history(
                call("fc_9", r#"{"b":1,"a":[2,3]}"#, &json!([])),
                "fc_9",
                json!([{"type": "text", "text": "x\ny"}]),
            ),
        ];
        for again in returned {
            assert_eq!(again, sent);
        }
        let trimmed = last(
            &json!([{"role": "user", "content": "go"}, {"role": "assistant", "content": "done"}]),
        );
        let spaced = json!([{"role": "user", "content": [{"type": "text", "text": "go", "cache_control": {}}], "name": "n"},
            {"role": "assistant", "content": "\ndone \n", "reasoning_content": "hm", "refusal": null}]);
        assert_eq!(last(&spaced), trimmed);
    }

    #[test]
    fn what_was_said_counts() {
        let base = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"}]);
        let all = [
            base.clone(),
            json!([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "c"}]),
            json!([{"role": "user", "content": "b"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]),
            json!([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}, {"role": "assistant", "content": "c"}]),
            json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b "}, {"role": "assistant", "content": "c"}]),
            json!([{"role": "user", "content": "a"}, call("1", "{\"x\":1}", &json!("c"))]),
            json!([{"role": "user", "content": "a"}, call("1", "{\"x\":2}", &json!("c"))]),
            json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url",
                "image_url": {"url": "data:image/png;base64,aGk="}}]}, {"role": "assistant", "content": "c"}]),
        ];
        let hashes: Vec<String> = all
            .iter()
            .map(|messages| last(messages).to_string())
            .collect();
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{}", all[at]);
            assert_eq!(hash.len(), 64);
        }
        let messages = read(&base);
        for other in [
            root("S", "t", "m", "a"),
            root("s", "T", "m", "a"),
            root("s", "t", "M", "a"),
            root("s", "t", "m", "A"),
        ] {
            assert_ne!(prefixes(other, &messages)[0].1.to_string(), hashes[0]);
        }
    }

    #[test]
    fn the_system_text_is_what_stands_at_the_head() {
        let messages = read(
            &json!([{"role": "system", "content": "one"}, {"role": "developer", "content": "two"},
            {"role": "user", "content": "go"}, {"role": "system", "content": "later"}]),
        );
        let (system, rest) = split_system(messages);
        assert_eq!(
            (system.as_str(), rest.len(), rest[1].text.as_str()),
            ("one\n\ntwo", 2, "later")
        );
    }

    proptest! {
        #[test]
        fn an_answer_is_found_again(texts in prop::collection::vec(".*", 1..8)) {
            let messages: Vec<Value> = texts.iter().enumerate().map(|(at, text)| {
                json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": text})
            }).collect();
            let mut messages = read(&Value::Array(messages));
            if messages.len() % 2 == 1 {
                messages.pop();
            }
            let root = root("", "", "", "");
            for length in (2..=messages.len()).step_by(2) {
                let kept = after_answer(root, &messages[..length - 1], &messages[length - 1]);
                let found = prefixes(root, &messages);
                prop_assert!(found.contains(&(length, kept)));
                prop_assert!(found.windows(2).all(|pair| pair[0].0 > pair[1].0));
            }
        }
    }
}
