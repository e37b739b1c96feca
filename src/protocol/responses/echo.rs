//! What a response repeats of its request. The SDKs' types require most of it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// Members that are repeated as they came; what stands there where none came.
const REPEATED: [(&str, &str); 17] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("store", "true"),
    ("temperature", "1.0"),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// The members of a response that its request decides.
pub(super) fn of(members: &BTreeMap<String, Box<RawValue>>) -> Map<String, Value> {
    let given = |key: &str| -> Option<Value> {
        let given = members.get(key)?;
        serde_json::from_str(given.get())
            .ok()
            .filter(|value: &Value| !value.is_null())
    };
    let mut echo = Map::new();
    for (key, usual) in REPEATED {
        let value = given(key).or_else(|| serde_json::from_str(usual).ok());
        echo.insert(key.into(), value.unwrap_or_default());
    }
    for (key, usual) in [
        ("reasoning", json!({"effort": null, "summary": null})),
        ("text", json!({"format": {"type": "text"}})),
    ] {
        let mut value = usual;
        if let (Some(Value::Object(given)), Some(members)) = (given(key), value.as_object_mut()) {
            members.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
        }
        echo.insert(key.into(), value);
    }
    echo
}
