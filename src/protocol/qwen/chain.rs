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
const VERSION: &[u8] = b"qwarden/2";
/// What the ids of our own calls begin with; 32 hexadecimal digits follow.
pub(crate) const CALL_ID: &str = "call_";

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
    // One that shows an image stays a message: as mere text it would lose it.
    let head = messages
        .iter()
        .take_while(|message| message.role == Role::System && message.attachments.is_empty())
        .count();
    let rest = messages.split_off(head);
    let texts: Vec<&str> = messages
        .iter()
        .map(|message| message.text.as_str())
        .filter(|text| !text.is_empty())
        .collect();
    (texts.join("\n\n"), rest)
}

/// Where every history of these instructions begins.
pub(crate) fn root(system: &str, fingerprint: &str, model: &str, account: &str) -> Hash {
    let mut digest = Link::new();
    digest.tagged("root", &to_lf(system));
    for text in [fingerprint, model, account] {
        digest.text(text);
    }
    digest.end()
}

/// The prefixes of `messages` that end in an answer, with their lengths, the longest first; and all of it.
pub(crate) fn prefixes(root: Hash, messages: &[Message]) -> (Vec<(usize, Hash)>, Hash) {
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
    (found, hash)
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
    let text = to_lf(&message.text);
    match message.role {
        Role::System => digest.tagged("system", &text),
        Role::User => digest.tagged("user", &text),
        Role::Assistant => {
            // White space around an answer does not survive every client.
            digest.tagged("assistant", text.trim());
            for call in &message.calls {
                // Claude Code adds the defaults of a tool's schema to the arguments it was sent.
                if let Some(own) = call.id.as_deref().and_then(own_id) {
                    digest.tagged("own call", own);
                } else {
                    digest.tagged("call", &call.name);
                    digest.text(&canonical(&call.arguments));
                }
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
                (Some(place), _) => digest.tagged("at", &place.to_string()),
                (None, id) => digest.tagged("id", id.as_deref().unwrap_or_default()),
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

/// The id that the gateway gave a call, also where a client put something before it: nobody else makes such ids, so it
/// stands for the call, whatever became of its arguments.
fn own_id(id: &str) -> Option<&str> {
    let own = id.get(id.find(CALL_ID)?..)?;
    let digits = own.get(CALL_ID.len()..)?;
    let is_own = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_own.then_some(own)
}

fn to_lf(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// Arguments parsed and written again with sorted keys; none are `{}`, what is no JSON stands as it is.
fn canonical(arguments: &str) -> String {
    let arguments = arguments.trim();
    if arguments.is_empty() {
        return "{}".to_owned();
    }
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            shorten(&mut value);
            value.sort_all_objects();
            value.to_string()
        }
        Err(_) => arguments.to_owned(),
    }
}

/// Makes `1.0` and `1e3` the integers they are: that is how clients in JavaScript write them again.
fn shorten(value: &mut Value) {
    /// Integers up to here are exact in JavaScript.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().filter(|float| float.abs() <= EXACT);
            // By way of the decimal form: `as` is not checked.
            let whole = float
                .filter(|float| float.fract() == 0.0)
                .and_then(|float| format!("{float:.0}").parse::<i64>().ok());
            if let Some(whole) = whole {
                *number = whole.into();
            }
        }
        _ => {}
    }
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
    use std::collections::BTreeMap;

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
            json!([{"role": "user", "content": "a"}, call("1", "{\"x\":1.5}", &json!("c"))]),
            json!([{"role": "user", "content": "a"}, call("1", "{\"x\":\"1\"}", &json!("c"))]),
            json!([{"role": "user", "content": "a"}, call("1", "{x", &json!("c"))]),
            json!([{"role": "user", "content": "a"}, call("1", "", &json!("c"))]),
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
            assert_ne!(prefixes(other, &messages).0[0].1.to_string(), hashes[0]);
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
        let shown = json!([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "https://h/a"}}]);
        let messages = read(
            &json!([{"role": "system", "content": ""}, {"role": "system", "content": "one"},
            {"role": "system", "content": shown}]),
        );
        let (system, rest) = split_system(messages);
        assert_eq!((system.as_str(), rest.len()), ("one", 1));
        assert_eq!(split_system(Vec::new()), (String::new(), Vec::new()));
    }

    #[test]
    fn numbers_are_what_they_count() {
        for (sent, returned) in [
            (r#"{"a": 1.0, "b": [1e3]}"#, r#"{"a":1,"b":[1000]}"#),
            ("-0.0", "0"),
            ("0.10", "0.1"),
            (" {} ", ""),
        ] {
            assert_eq!(canonical(sent), canonical(returned), "{sent}");
        }
        for (one, other) in [
            ("1", "1.5"),
            ("1e300", "1e301"),
            ("1", "\"1\""),
            ("{", "{}"),
        ] {
            assert_ne!(canonical(one), canonical(other), "{one}");
        }
    }

    #[test]
    fn a_call_of_ours_is_known_by_its_id() {
        let id = "call_01a221f13039723b897f2c66494d4a6c";
        let of = |id: &str, arguments: &str| last(&json!([call(id, arguments, &json!(""))]));
        let sent = of(id, r#"{"path":"a"}"#);
        assert_eq!(of(id, r#"{"path":"a","replace_all":false}"#), sent);
        assert_eq!(of(&format!("fc_{id}"), "{}"), sent);
        assert_ne!(of("call_01a221f13039723b897f2c66494d4a6d", "{}"), sent);
        assert_ne!(of("call_1", r#"{"path":"a"}"#), sent);
    }

    #[test]
    fn results_belong_to_their_calls() {
        let with = |first: &str, second: &str| {
            last(
                &json!([call("a", "{}", &json!("")), call("b", "{}", &json!("")),
                {"role": "tool", "tool_call_id": first, "content": "x"},
                {"role": "tool", "tool_call_id": second, "content": "x"}, {"role": "assistant", "content": "c"}]),
            )
        };
        let all = [
            with("a", "b"),
            with("b", "a"),
            with("a", "?"),
            with("0", "1"),
        ];
        for (at, hash) in all.iter().enumerate() {
            assert!(!all[..at].contains(hash), "{at}");
        }
    }

    /// What happens in a conversation; `Call` stands for the call and its result.
    #[derive(Clone, Debug, PartialEq)]
    enum Turn {
        User(String),
        Assistant(String),
        System(String),
        Call(String, BTreeMap<String, i64>, String),
    }

    fn turns() -> impl Strategy<Value = Vec<Turn>> {
        let text = "[a-z\u{e9}]([a-z \n]{0,6}[a-z])?";
        let arguments = prop::collection::btree_map("[a-c]", any::<i64>(), 1..4);
        let turn = prop_oneof![
            text.prop_map(Turn::User),
            text.prop_map(Turn::Assistant),
            text.prop_map(Turn::System),
            ("[a-c]{1,3}", arguments, text)
                .prop_map(|(name, arguments, result)| Turn::Call(name, arguments, result)),
        ];
        prop::collection::vec(turn, 1..8)
    }

    fn hashed(turns: &[Turn], write: impl Fn(usize, &Turn) -> Vec<Value>) -> Hash {
        let written = turns.iter().enumerate();
        let mut messages: Vec<Value> = written.flat_map(|(at, turn)| write(at, turn)).collect();
        messages.push(json!({"role": "assistant", "content": "end"}));
        last(&Value::Array(messages))
    }

    fn plainly(at: usize, turn: &Turn) -> Vec<Value> {
        let said = |role: &str, text: &str| vec![json!({"role": role, "content": text})];
        match turn {
            Turn::User(text) => said("user", text),
            Turn::Assistant(text) => said("assistant", text),
            Turn::System(text) => said("system", text),
            Turn::Call(name, arguments, result) => {
                let function = json!({"name": name, "arguments": json!(arguments).to_string()});
                vec![
                    json!({"role": "assistant", "content": "", "tool_calls": [{"id": format!("c{at}"), "function": function}]}),
                    json!({"role": "tool", "tool_call_id": format!("c{at}"), "content": result}),
                ]
            }
        }
    }

    fn otherwise(at: usize, turn: &Turn) -> Vec<Value> {
        let parts = |text: &str| {
            let text = text.replace('\n', "\r\n");
            let middle = (0..=text.len() / 2)
                .rev()
                .find(|at| text.is_char_boundary(*at));
            let (head, tail) = text.split_at(middle.unwrap_or_default());
            json!([{"type": "text", "text": head, "cache_control": {}}, {"type": "input_text", "text": tail}])
        };
        match turn {
            Turn::User(text) => vec![json!({"role": "user", "content": parts(text), "name": "n"})],
            Turn::Assistant(text) => {
                vec![
                    json!({"role": "assistant", "content": format!(" {text}\n"), "reasoning_content": "hm"}),
                ]
            }
            Turn::System(text) => vec![json!({"role": "developer", "content": parts(text)})],
            Turn::Call(name, arguments, result) => {
                let members = arguments
                    .iter()
                    .rev()
                    .map(|(key, value)| format!("\n {key:?} : {value}"));
                let arguments = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
                let function = json!({"name": name, "arguments": arguments});
                vec![
                    json!({"role": "assistant", "content": null, "tool_calls": [{"id": format!("fc_{at}"), "function": function}]}),
                    json!({"role": "tool", "tool_call_id": format!("fc_{at}"), "content": parts(result)}),
                ]
            }
        }
    }

    /// The same turn with something else in it.
    fn changed(turn: &Turn, how: u8) -> Turn {
        match (turn, how) {
            (Turn::User(text), 0) => Turn::Assistant(text.clone()),
            (Turn::User(text), 1) => Turn::System(text.clone()),
            (Turn::User(text), _) => Turn::User(format!("{text}x")),
            (Turn::Assistant(text) | Turn::System(text), 0) => Turn::User(text.clone()),
            (Turn::Assistant(text), _) => Turn::Assistant(format!("{text}x")),
            (Turn::System(text), _) => Turn::System(format!("{text}x")),
            (Turn::Call(name, arguments, result), 0) => {
                Turn::Call(format!("{name}x"), arguments.clone(), result.clone())
            }
            (Turn::Call(name, arguments, result), 1) => {
                let mut arguments = arguments.clone();
                for value in arguments.values_mut() {
                    *value = value.wrapping_add(1);
                }
                Turn::Call(name.clone(), arguments, result.clone())
            }
            (Turn::Call(name, arguments, result), _) => {
                Turn::Call(name.clone(), arguments.clone(), format!("{result}x"))
            }
        }
    }

    proptest! {
        #[test]
        fn rewriting_a_history_does_not_change_it(turns in turns()) {
            prop_assert_eq!(hashed(&turns, otherwise), hashed(&turns, plainly));
        }

        #[test]
        fn changing_a_history_does(turns in turns(), at in any::<prop::sample::Index>(), how in 0u8..3) {
            let before = hashed(&turns, plainly);
            let at = at.index(turns.len());
            let mut other = turns.clone();
            other[at] = changed(&turns[at], how);
            prop_assert_ne!(hashed(&other, plainly), before);
            let mut other = turns.clone();
            other.rotate_left(at);
            prop_assert_eq!(hashed(&other, plainly) == before, other == turns);
            other = turns;
            other.remove(at);
            prop_assert_ne!(hashed(&other, plainly), before);
        }

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
                let found = prefixes(root, &messages).0;
                prop_assert!(found.contains(&(length, kept)));
                let own = prefixes(root, &messages[..length]).0;
                prop_assert_eq!(own.first(), Some(&(length, kept)));
                prop_assert!(found.windows(2).all(|pair| pair[0].0 > pair[1].0));
            }
        }
    }
}
