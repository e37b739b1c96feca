//! Counts of tokens for when an upstream gives none, by the tokenizer of `OpenAI`'s newer models. Others' differ by some
//! per cent, so what comes from here is marked as estimated.

use serde_json::Value;

use super::chunk::Usage;

/// What each message costs beside its texts.
const PER_MESSAGE: u64 = 4;
/// What an image costs about.
const PER_IMAGE: u64 = 1_000;

/// The tokens of a text.
pub(crate) fn of_text(text: &str) -> u64 {
    bpe_openai::o200k_base().count(text) as u64
}

/// The tokens of a chat request: its messages and its tools.
pub(crate) fn of_request(chat: &Value) -> u64 {
    let messages = chat.get("messages").and_then(Value::as_array);
    let said: u64 = messages
        .into_iter()
        .flatten()
        .map(|message| PER_MESSAGE + of_message(message))
        .sum();
    let tools = chat.get("tools").filter(|tools| !tools.is_null());
    said + tools.map_or(0, |tools| of_text(&tools.to_string()))
}

fn of_message(message: &Value) -> u64 {
    let text = |value: &Value| value.as_str().map_or(0, of_text);
    let content = match message.get("content") {
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| match part.get("text") {
                Some(said) => text(said),
                None => PER_IMAGE,
            })
            .sum(),
        Some(content) => text(content),
        None => 0,
    };
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let called: u64 = calls
        .into_iter()
        .flatten()
        .filter_map(|call| call.get("function"))
        .map(|function| of_text(&function.to_string()))
        .sum();
    let thought = message.get("reasoning_content").map_or(0, text);
    content + called + thought
}

/// What an answer came to, of which no counts came: from the request's body and the answer's message.
pub(crate) fn estimate(request: &[u8], message: &Value) -> Usage {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let prompt = of_request(&request);
    let completion = of_message(message);
    Usage {
        prompt: Some(prompt),
        completion: Some(completion),
        total: Some(prompt + completion),
        is_estimated: true,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::openai::build;

    #[test]
    fn tokens_are_counted_and_said_to_be_estimated() {
        // Counts of the tokenizer's own documentation and of its reference implementation.
        for (text, tokens) in [("", 0), ("hello world", 2), ("tiktoken is great!", 6)] {
            assert_eq!(of_text(text), tokens, "{text}");
        }
        let request = json!({
            "messages": [
                {"role": "user", "content": "hello world"},
                {"role": "user", "content": [{"type": "text", "text": "hello world"}, {"type": "image_url"}]},
            ],
        });
        let usage = estimate(
            request.to_string().as_bytes(),
            &json!({"content": "hello world", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}),
        );
        assert_eq!(usage.prompt, Some(2 * 4 + 2 * 2 + 1_000));
        assert!(usage.completion > Some(2));
        assert_eq!(build::usage_json(&usage)["estimated"], true);
    }
}
