//! Answers of the calls about chats (qwen-web-protocol, 2, A7 and A9).

use serde_json::Value;

use super::refusal::{self, Refusal, RefusalKind};

/// The id of a chat that was just opened.
pub(crate) fn new_chat_id(body: &[u8]) -> Result<String, Refusal> {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if let Some(refusal) = refusal::from_value(&value) {
        return Err(refusal);
    }
    let id = value.pointer("/data/id").or_else(|| value.get("id"));
    id.and_then(Value::as_str)
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| Refusal {
            kind: RefusalKind::BadAnswer,
            message: "the site opened a chat without an id".into(),
            retry_after_s: None,
        })
}

/// What has become of one answer of a chat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChatState {
    /// Nothing more of it will come.
    pub(crate) is_done: bool,
    /// Its text, without reasoning.
    pub(crate) answer: Option<String>,
}

/// Looks for the answer `response_id` in a chat's history; none when it is not there.
pub(crate) fn chat_state(body: &[u8], response_id: &str) -> Option<ChatState> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let history = value.pointer("/data/chat/history")?;
    // A map by id, or a list.
    let message = match history.get("messages")? {
        Value::Object(map) => map.get(response_id)?,
        Value::Array(list) => list
            .iter()
            .find(|message| message.get("id").and_then(Value::as_str) == Some(response_id))?,
        _ => return None,
    };
    Some(ChatState {
        is_done: message.get("done").and_then(Value::as_bool) == Some(true),
        answer: answer(message),
    })
}

fn answer(message: &Value) -> Option<String> {
    let parts = message.get("content_list").and_then(Value::as_array);
    let answers: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter(|part| {
            matches!(
                part.get("phase").and_then(Value::as_str),
                None | Some("answer")
            )
        })
        .filter_map(|part| part.get("content")?.as_str())
        .collect();
    if answers.is_empty() {
        return message.get("content")?.as_str().map(str::to_owned);
    }
    Some(answers.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DETAIL: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/qwen-web/chat-detail.json"
    ));

    #[test]
    fn a_new_chat_has_an_id_or_a_reason() {
        let opened = br#"{"success":true,"data":{"id":"c1"}}"#;
        assert_eq!(new_chat_id(opened).as_deref(), Ok("c1"));
        let limited = br#"{"success":false,"data":{"code":"RateLimited","num":1}}"#;
        assert_eq!(
            new_chat_id(limited).unwrap_err().kind,
            RefusalKind::RateLimited
        );
        assert_eq!(new_chat_id(b"{}").unwrap_err().kind, RefusalKind::BadAnswer);
    }

    #[test]
    fn an_answer_is_found_in_the_history() {
        let id = "33333333-3333-4333-8333-333333333333";
        let expected = ChatState {
            is_done: true,
            answer: Some("Hi!".into()),
        };
        assert_eq!(chat_state(DETAIL, id), Some(expected));
        assert_eq!(chat_state(DETAIL, "other"), None);
        let listed =
            json!({"data": {"chat": {"history": {"messages": [{"id": "r", "content": "a"}]}}}});
        let state = chat_state(listed.to_string().as_bytes(), "r").expect("there");
        assert_eq!((state.is_done, state.answer.as_deref()), (false, Some("a")));
    }
}
