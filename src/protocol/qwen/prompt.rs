//! A history as the one user message that the site takes per turn (qwen-web-protocol, 3 and 8).

use std::collections::HashMap;

use crate::protocol::openai::message::{Message, Role};

/// How calls and results of the history are written.
pub(crate) struct Writer<'a> {
    /// A call: its name and arguments.
    pub(crate) call: &'a dyn Fn(&str, &str) -> String,
    /// A result: the name of the tool where it is known, the id of the call, the content.
    pub(crate) result: &'a dyn Fn(Option<&str>, &str, &str) -> String,
}

/// A message, and the tool it is the result of where that is known.
type Named<'a> = (&'a Message, Option<&'a str>);

/// Stands between the instructions and a history of several messages.
const PREFACE: &str =
    "# The conversation so far\n\nGo on as the assistant: answer the last message below.";

/// The first message of a new chat: the instructions, then the whole history.
pub(crate) fn flatten(
    system: &str,
    instructions: &str,
    messages: &[Message],
    writer: &Writer<'_>,
) -> String {
    let mut parts: Vec<String> = [system, instructions]
        .into_iter()
        .filter(|text| !text.trim().is_empty())
        .map(str::to_owned)
        .collect();
    if messages.iter().all(|message| message.role == Role::User) {
        parts.extend(messages.iter().filter_map(said));
    } else {
        parts.push(PREFACE.to_owned());
        parts.extend(headed(&named(messages), writer));
    }
    parts.join("\n\n")
}

/// The messages from `from` on, for a chat that knows those before: results of tools first, then what the user says.
pub(crate) fn continuation(all: &[Message], from: usize, writer: &Writer<'_>) -> String {
    let named = named(all);
    let new = named.get(from..).unwrap_or_default();
    if new
        .iter()
        .any(|(message, _)| message.role == Role::Assistant)
    {
        // An answer in between that the chat does not know.
        return headed(new, writer).join("\n\n");
    }
    let (results, others): (Vec<Named<'_>>, Vec<Named<'_>>) = new
        .iter()
        .partition(|(message, _)| message.role == Role::Tool);
    let results = results.into_iter().map(|named| result(named, writer));
    let others = others.into_iter().filter_map(|(message, _)| said(message));
    results.chain(others).collect::<Vec<_>>().join("\n\n")
}

/// What a user or the system says, if anything: a message may be a mere image.
fn said(message: &Message) -> Option<String> {
    match message.role {
        _ if message.text.is_empty() => None,
        Role::System => Some(format!("### System\n{}", message.text)),
        _ => Some(message.text.clone()),
    }
}

/// Each message below a heading that says whose it is.
fn headed(messages: &[Named<'_>], writer: &Writer<'_>) -> Vec<String> {
    let mut parts = Vec::with_capacity(messages.len());
    let mut before = None;
    for (message, name) in messages {
        let body = match message.role {
            Role::Tool => result((message, *name), writer),
            Role::Assistant => {
                let calls = message.calls.iter();
                let calls = calls.map(|call| (writer.call)(&call.name, &call.arguments));
                let text = Some(message.text.clone()).filter(|text| !text.is_empty());
                text.into_iter().chain(calls).collect::<Vec<_>>().join("\n")
            }
            Role::System | Role::User => message.text.clone(),
        };
        let heading = match message.role {
            Role::System => "### System",
            Role::User => "### User",
            Role::Assistant => "### Assistant",
            Role::Tool => "### Tool results",
        };
        // Results that come together stand below one heading.
        if message.role == Role::Tool && before == Some(Role::Tool) {
            parts.push(body);
        } else {
            parts.push(format!("{heading}\n{body}"));
        }
        before = Some(message.role);
    }
    parts
}

fn result((message, name): Named<'_>, writer: &Writer<'_>) -> String {
    let id = message.call_id.as_deref().unwrap_or_default();
    (writer.result)(name, id, &message.text)
}

/// Finds the tools whose results the messages are. Ids may come again later: the call before the result counts.
fn named(messages: &[Message]) -> Vec<Named<'_>> {
    let mut called: HashMap<&str, &str> = HashMap::new();
    messages
        .iter()
        .map(|message| {
            for call in &message.calls {
                if let Some(id) = &call.id {
                    called.insert(id, &call.name);
                }
            }
            let by_id = || called.get(message.call_id.as_deref()?).copied();
            (message, message.name.as_deref().or_else(by_id))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::openai::message;

    fn read(messages: &Value) -> Vec<Message> {
        let body = json!({ "messages": messages });
        message::body(body.to_string().as_bytes())
            .expect("readable")
            .messages
    }

    fn with_writer<T>(work: impl FnOnce(&Writer<'_>) -> T) -> T {
        let call = |name: &str, arguments: &str| format!("CALL {name} {arguments}");
        let result = |name: Option<&str>, id: &str, content: &str| {
            format!("RESULT {} {id} {content}", name.unwrap_or("?"))
        };
        work(&Writer {
            call: &call,
            result: &result,
        })
    }

    fn history() -> Vec<Message> {
        read(&json!([
            {"role": "user", "content": "read both"},
            {"role": "assistant", "content": "Yes.", "tool_calls": [
                {"id": "1", "function": {"name": "read", "arguments": "{\"p\":\"a\"}"}},
                {"id": "2", "function": {"name": "list", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "A"},
            {"role": "tool", "tool_call_id": "2", "content": "B"},
            {"role": "user", "content": "and now?"},
        ]))
    }

    #[test]
    fn a_first_message_is_the_instructions_and_the_text() {
        let messages = read(&json!([{"role": "user", "content": "hi"}]));
        let flat = |system, instructions| {
            with_writer(|writer| flatten(system, instructions, &messages, writer))
        };
        assert_eq!(flat("be kind", "tools"), "be kind\n\ntools\n\nhi");
        assert_eq!(flat("", " "), "hi");
        let two =
            read(&json!([{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]));
        assert_eq!(
            with_writer(|writer| flatten("", "", &two, writer)),
            "one\n\ntwo"
        );
    }

    #[test]
    fn a_history_is_told_in_order_with_calls_and_results() {
        let flat = with_writer(|writer| flatten("be kind", "", &history(), writer));
        let expected = format!(
            "be kind\n\n{PREFACE}\n\n### User\nread both\n\n### Assistant\nYes.\nCALL read {{\"p\":\"a\"}}\nCALL list {{}}\n\n\
             ### Tool results\nRESULT read 1 A\n\nRESULT list 2 B\n\n### User\nand now?"
        );
        assert_eq!(flat, expected);
    }

    #[test]
    fn only_what_is_new_goes_on() {
        let go_on = |from| with_writer(|writer| continuation(&history(), from, writer));
        assert_eq!(go_on(2), "RESULT read 1 A\n\nRESULT list 2 B\n\nand now?");
        assert_eq!(go_on(4), "and now?");
        assert!(go_on(1).starts_with("### Assistant\nYes."));
        let mid = read(
            &json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "go"}]),
        );
        assert_eq!(
            with_writer(|writer| continuation(&mid, 0, writer)),
            "### System\nbe brief\n\ngo"
        );
        let mixed = read(
            &json!([{"role": "user", "content": "go on"}, {"role": "tool", "tool_call_id": "1", "content": "A"},
            {"role": "user", "content": null}]),
        );
        assert_eq!(
            with_writer(|writer| continuation(&mixed, 0, writer)),
            "RESULT ? 1 A\n\ngo on"
        );
        assert_eq!(go_on(9), "");
    }

    #[test]
    fn ids_that_come_again_name_the_call_before() {
        let turn = |name: &str, content: &str| {
            let calls = json!([{"id": "0", "function": {"name": name, "arguments": "{}"}}]);
            [
                json!({"role": "assistant", "tool_calls": calls}),
                json!({"role": "tool", "tool_call_id": "0", "content": content}),
            ]
        };
        let messages = [turn("read", "A"), turn("list", "B")].concat();
        let messages = read(&Value::Array(messages));
        let flat = with_writer(|writer| flatten("", "", &messages, writer));
        assert!(flat.contains("RESULT read 0 A"), "{flat}");
        assert!(flat.contains("RESULT list 0 B"), "{flat}");
        assert_eq!(
            with_writer(|writer| continuation(&messages, 3, writer)),
            "RESULT list 0 B"
        );
    }

    proptest! {
        #[test]
        fn nothing_of_a_history_is_lost(texts in prop::collection::vec("[a-z]{4,12}", 1..12)) {
            let roles = ["user", "assistant", "tool", "system"];
            let list: Vec<Value> = texts.iter().enumerate()
                .map(|(at, text)| json!({"role": roles[(at + text.len()) % 4], "content": text, "tool_call_id": "x"})).collect();
            let messages = read(&Value::Array(list));
            let flat = with_writer(|writer| flatten("", "", &messages, writer));
            let mut rest = flat.as_str();
            for text in &texts {
                let at = rest.find(text.as_str());
                prop_assert!(at.is_some(), "{} in {}", text, flat);
                rest = &rest[at.unwrap_or_default() + text.len()..];
            }
        }
    }
}
