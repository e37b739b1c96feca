//! A chat request that was translated from another dialect, without the members that its upstream would refuse.
//!
//! The translation keeps all it can, under names that some vendors understand. Servers differ in what they do with a member
//! they do not know: most leave it alone, some refuse the request. So each gets what it is known to take; nothing of this
//! touches a request that a client wrote as a chat request.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::protocol::dialect::extra;

/// Vendors that understand Qwen's words for thinking.
const THINKING: [&str; 3] = ["dashscope", "siliconflow", "qwen"];
/// Vendors that refuse what their own documentation does not name.
const STRICT: [&str; 7] = [
    "openai", "groq", "mistral", "gemini", "xai", "cerebras", "together",
];
/// Models that take `reasoning_effort`: to others it is an error.
const REASONERS: [&str; 6] = ["o1", "o3", "o4", "gpt-5", "gpt-oss", "openai/gpt-oss"];

/// The request for a vendor of this kind and this model of it.
pub(crate) fn request(body: &Bytes, kind: &str, model: &str) -> Bytes {
    let Ok(Value::Object(mut asked)) = serde_json::from_slice(body) else {
        return body.clone();
    };
    let is_any = |list: &[&str]| list.iter().any(|one| kind.starts_with(one));
    // `openai-compatible` is everything but OpenAI.
    let is_strict = is_any(&STRICT) && kind != "openai-compatible";
    if !is_any(&THINKING) {
        asked.remove("enable_thinking");
        asked.remove("thinking_budget");
    }
    if is_strict {
        asked.remove("top_k");
    }
    let takes_effort = kind == "openrouter" || REASONERS.iter().any(|name| model.starts_with(name));
    if !takes_effort {
        asked.remove("reasoning_effort");
    }
    let messages = asked.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        plain_message(message, is_strict);
    }
    Value::Object(asked).to_string().into()
}

fn plain_message(message: &mut Map<String, Value>, is_strict: bool) {
    for name in [
        extra::SIGNATURE,
        extra::REDACTED,
        extra::BLOCKS,
        extra::ITEMS,
    ] {
        message.remove(name);
    }
    // Models that think between calls want their thoughts back; who does not know the member refuses it.
    if is_strict {
        message.remove("reasoning_content");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_vendor_gets_what_it_takes() {
        let asked = json!({
            "model": "m", "top_k": 3, "enable_thinking": true, "thinking_budget": 9, "reasoning_effort": "high",
            "messages": [{"role": "assistant", "content": "a", "reasoning_content": "r", "reasoning_signature": "s",
                          "redacted_reasoning": ["x"], "anthropic_blocks": [{}]}],
        });
        let of = |kind: &str, model: &str| -> Value {
            let body = request(&asked.to_string().into(), kind, model);
            serde_json::from_slice(&body).expect("JSON")
        };
        assert_eq!(
            of("openai", "gpt-4.1"),
            json!({"model": "m", "messages": [{"role": "assistant", "content": "a"}]})
        );
        assert_eq!(of("openai", "gpt-5-mini")["reasoning_effort"], "high");
        let qwen = of("dashscope-intl", "qwen3-coder-plus");
        assert_eq!(
            (&qwen["enable_thinking"], &qwen["thinking_budget"]),
            (&json!(true), &json!(9))
        );
        let local = of("openai-compatible", "m");
        assert_eq!(local["top_k"], 3);
        assert_eq!(
            local["messages"],
            json!([{"role": "assistant", "content": "a", "reasoning_content": "r"}])
        );
    }
}
