//! Text completions, the form before chats: as a chat, for those that only chat.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::protocol::dialect::Telling;
use crate::protocol::openai::request::FieldError;

/// What means the same in both.
const SHARED: [&str; 12] = [
    "model",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stream_options",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "user",
];

/// The chat request that asks the same: the prompt is a message of the user.
pub(crate) fn chat(body: &[u8]) -> Result<Bytes, Vec<FieldError>> {
    let fault = |param: &str, code, message: &str| {
        vec![FieldError {
            param: Some(param.to_owned()),
            message: message.to_owned(),
            code,
        }]
    };
    let mut whole: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        fault(
            "prompt",
            "invalid_json",
            &format!("the body is not valid JSON: {error}"),
        )
    })?;
    let prompt = match whole.remove("prompt") {
        Some(Value::String(prompt)) => prompt,
        Some(Value::Array(mut prompts))
            if prompts.len() == 1 && prompts.first().is_some_and(Value::is_string) =>
        {
            prompts
                .pop()
                .and_then(|prompt| prompt.as_str().map(str::to_owned))
                .unwrap_or_default()
        }
        None | Some(Value::Null) => {
            return Err(fault(
                "prompt",
                "missing_required_parameter",
                "`prompt` is required",
            ));
        }
        Some(_) => {
            return Err(fault(
                "prompt",
                "invalid_value",
                "this model only chats: `prompt` must be one text; send one request for each",
            ));
        }
    };
    if whole
        .get("suffix")
        .and_then(Value::as_str)
        .is_some_and(|suffix| !suffix.is_empty())
    {
        return Err(fault(
            "suffix",
            "invalid_value",
            "this model only chats and cannot fill in before a `suffix`; name a model that completes",
        ));
    }
    whole.retain(|key, _| SHARED.contains(&key.as_str()));
    whole.insert(
        "messages".into(),
        json!([{"role": "user", "content": prompt}]),
    );
    Ok(Value::Object(whole).to_string().into())
}

/// Tells a chat completion as a text completion.
pub(crate) struct CompletionTelling;

fn retell(whole: &mut Value, key: &str) {
    for choice in whole["choices"].as_array_mut().into_iter().flatten() {
        let text = choice[key]["content"].as_str().unwrap_or_default();
        *choice = json!({"index": choice["index"], "text": text, "logprobs": null, "finish_reason": choice["finish_reason"]});
    }
    whole["object"] = "text_completion".into();
}

impl Telling for CompletionTelling {
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        let mut whole: Value = serde_json::from_slice(completion)?;
        retell(&mut whole, "message");
        Ok(whole.to_string().into())
    }

    fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        let told = match serde_json::from_str::<Value>(data) {
            Ok(mut chunk) if chunk["choices"].is_array() => {
                retell(&mut chunk, "delta");
                chunk.to_string()
            }
            _ => data.to_owned(),
        };
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(told.as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_asked_as_a_chat() {
        let body =
            json!({"model": "m", "prompt": ["hi"], "max_tokens": 3, "best_of": 2, "echo": true});
        let told: Value =
            serde_json::from_slice(&chat(body.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]})
        );
        for body in [
            json!({}),
            json!({"prompt": ["a", "b"]}),
            json!({"prompt": [1]}),
            json!({"prompt": "a", "suffix": "b"}),
        ] {
            assert!(chat(body.to_string().as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn the_answer_is_a_text() {
        let whole = json!({"id": "c", "object": "chat.completion", "choices": [
            {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}});
        let told = CompletionTelling
            .whole(whole.to_string().as_bytes())
            .unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            told,
            json!({"id": "c", "object": "text_completion", "usage": {"total_tokens": 3}, "choices": [
                {"index": 0, "text": "Hi", "logprobs": null, "finish_reason": "stop"}]})
        );
    }
}
