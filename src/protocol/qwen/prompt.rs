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
        parts.extend(messages.iter().map(|message| message.text.clone()));
    } else {
        parts.push(PREFACE.to_owned());
        parts.extend(headed(messages, &names(messages), writer));
    }
    parts.join("\n\n")
}

/// The messages from `from` on, for a chat that knows those before: results of tools first, then what the user says.
pub(crate) fn continuation(all: &[Message], from: usize, writer: &Writer<'_>) -> String {
    let new = all.get(from..).unwrap_or_default();
    let names = names(all);
    if new.iter().any(|message| message.role == Role::Assistant) {
        // An answer in between that the chat does not know.
        return headed(new, &names, writer).join("\n\n");
    }
    let (results, said): (Vec<&Message>, Vec<&Message>) =
        new.iter().partition(|message| message.role == Role::Tool);
    let results = results
        .iter()
        .map(|message| result(message, &names, writer));
    let said = said.iter().map(|message| match message.role {
        Role::System => format!("### System\n{}", message.text),
        _ => message.text.clone(),
    });
    results.chain(said).collect::<Vec<_>>().join("\n\n")
}

/// Each message below a heading that says whose it is.
fn headed(messages: &[Message], names: &HashMap<&str, &str>, writer: &Writer<'_>) -> Vec<String> {
    let mut parts = Vec::with_capacity(messages.len());
    let mut before = None;
    for message in messages {
        let body = match message.role {
            Role::Tool => result(message, names, writer),
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

fn result(message: &Message, names: &HashMap<&str, &str>, writer: &Writer<'_>) -> String {
    let id = message.call_id.as_deref().unwrap_or_default();
    let name = message.name.as_deref().or_else(|| names.get(id).copied());
    (writer.result)(name, id, &message.text)
}

/// The tools that were called, by the ids of the calls.
fn names(messages: &[Message]) -> HashMap<&str, &str> {
    let calls = messages.iter().flat_map(|message| &message.calls);
    calls
        .filter_map(|call| Some((call.id.as_deref()?, call.name.as_str())))
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
