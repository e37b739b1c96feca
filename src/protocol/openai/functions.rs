//! The older form of tools, `functions` and `function_call`: requests in it become requests with tools, which is what
//! servers still take, and answers go back in the form of the request.
//!
//! That form holds one call in an answer, so the model is asked for no more.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::protocol::dialect::Telling;

/// The request with tools; none when it is not in the older form.
pub(crate) fn modern(body: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    // Most requests have neither word, and need not be read.
    if !text.contains("\"functions\"") && !text.contains("\"function_call\"") {
        return None;
    }
    let mut whole: Map<String, Value> = serde_json::from_str(text).ok()?;
    let has_tools = whole.get("tools").is_some_and(|tools| !tools.is_null());
    let functions = whole.remove("functions").filter(Value::is_array);
    let choice = whole
        .remove("function_call")
        .filter(|choice| !choice.is_null());
    let messages = whole.get_mut("messages").and_then(Value::as_array_mut);
    let has_old_turns = messages.is_some_and(|messages| turns(messages));
    if has_tools || (functions.is_none() && choice.is_none() && !has_old_turns) {
        return None;
    }
    if let Some(Value::Array(functions)) = functions
        && !functions.is_empty()
    {
        let tools: Vec<_> = functions
            .into_iter()
            .map(|function| json!({"type": "function", "function": function}))
            .collect();
        whole.insert("tools".into(), tools.into());
        whole.insert("parallel_tool_calls".into(), false.into());
        let choice = choice.map(|choice| match choice.get("name") {
            Some(name) => json!({"type": "function", "function": {"name": name}}),
            None => choice,
        });
        if let Some(choice) = choice {
            whole.insert("tool_choice".into(), choice);
        }
    }
    serde_json::to_vec(&whole).ok().map(Bytes::from)
}

/// Rewrites calls and their results; returns whether there were any.
fn turns(messages: &mut [Value]) -> bool {
    let mut numbered = 0;
    let mut last: Option<(String, String)> = None;
    for message in messages {
        let Some(message) = message.as_object_mut() else {
            continue;
        };
        if let Some(call) = message.remove("function_call").filter(Value::is_object) {
            let id = format!("call_{numbered}");
            numbered += 1;
            let name = call["name"].as_str().unwrap_or_default().to_owned();
            let call = json!([{"id": id, "type": "function", "function": call}]);
            message.insert("tool_calls".into(), call);
            last = Some((id, name));
        }
        if message.get("role").and_then(Value::as_str) == Some("function") {
            message.insert("role".into(), "tool".into());
            let name = message.remove("name");
            let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
            let call = last.take().filter(|(_, called)| called == name);
            let id = call.map_or_else(|| format!("call_{name}"), |(id, _)| id);
            message.insert("tool_call_id".into(), id.into());
            numbered += 1;
        }
    }
    numbered > 0
}

/// Tells the answer in the older form.
pub(crate) struct FunctionTelling;

impl FunctionTelling {
    /// Of a whole message as of a delta.
    fn retell(choice: &mut Value, key: &str) {
        if choice["finish_reason"] == "tool_calls" {
            choice["finish_reason"] = "function_call".into();
        }
        let Some(said) = choice.get_mut(key).and_then(Value::as_object_mut) else {
            return;
        };
        let Some(Value::Array(calls)) = said.remove("tool_calls") else {
            return;
        };
        // A second call, which was not asked for, has no place.
        let first = calls
            .into_iter()
            .find(|call| call["index"].as_u64().unwrap_or_default() == 0);
        if let Some(Value::Object(mut call)) = first
            && let Some(function) = call.remove("function")
        {
            said.insert("function_call".into(), function);
        }
    }
}

impl Telling for FunctionTelling {
    fn whole(&mut self, completion: &[u8]) -> Result<Bytes, serde_json::Error> {
        let mut whole: Value = serde_json::from_slice(completion)?;
        for choice in whole["choices"].as_array_mut().into_iter().flatten() {
            Self::retell(choice, "message");
        }
        Ok(whole.to_string().into())
    }

    fn event(&mut self, data: &str, out: &mut Vec<u8>) {
        let mut text = String::new();
        match serde_json::from_str::<Value>(data) {
            Ok(mut chunk) if chunk["choices"].is_array() => {
                for choice in chunk["choices"].as_array_mut().into_iter().flatten() {
                    Self::retell(choice, "delta");
                }
                // Writing to a string cannot fail.
                let _ = write!(text, "data: {chunk}\n\n");
            }
            _ => {
                let _ = write!(text, "data: {data}\n\n");
            }
        }
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_becomes_tools() {
        let body = json!({"model": "m", "seed": 7, "functions": [{"name": "f", "parameters": {}}],
            "function_call": {"name": "f"}, "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "F"}]});
        let told: Value =
            serde_json::from_slice(&modern(body.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"model": "m", "seed": 7, "parallel_tool_calls": false,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}}, "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": null, "tool_calls": [
                        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "call_0", "content": "F"}]})
        );
    }

    #[test]
    fn other_requests_are_left_alone() {
        for body in [
            json!({"messages": [{"role": "user", "content": "say \"functions\" and \"function_call\""}]}),
            json!({"messages": [], "tools": [], "functions": [{"name": "f"}]}),
            json!({"messages": []}),
        ] {
            assert_eq!(modern(body.to_string().as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn calls_go_back_in_the_older_form() {
        let call = json!({"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let whole = json!({"choices": [{"message": {"content": null, "tool_calls": [call]}, "finish_reason": "tool_calls"}]});
        let told = FunctionTelling.whole(whole.to_string().as_bytes()).unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(
            told["choices"][0],
            json!({"message": {"content": null, "function_call": {"name": "f", "arguments": "{}"}}, "finish_reason": "function_call"})
        );
        let mut out = Vec::new();
        let chunk = json!({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": null}]});
        FunctionTelling.event(&chunk.to_string(), &mut out);
        FunctionTelling.event("[DONE]", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r#""delta":{"function_call":{"name":"f","arguments":"{}"}}"#),
            "{text}"
        );
        assert!(text.ends_with("data: [DONE]\n\n"));
    }
}
