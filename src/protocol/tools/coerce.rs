//! Brings arguments into the types the client declared: by the schema, never by how a value looks.

use serde_json::Value;

use crate::protocol::tools::declared::Tool;
use crate::protocol::tools::lenient::{self, Ending};
use crate::protocol::tools::raw;
use crate::protocol::tools::schema::{self, DEPTH};

/// The arguments of a call to `tool`; `text` is an object and stays as it is written where nothing needs a change.
pub(super) fn arguments(text: &str, tool: &Tool) -> String {
    let root = &tool.parameters;
    coerced(text, root, root, 0).unwrap_or_else(|| text.to_owned())
}

/// A value that was written without quotes, as in `<parameter=name>value</parameter>`.
pub(super) fn untyped(value: &str, name: &str, tool: &Tool) -> String {
    let quoted = raw::quoted(value);
    let root = &tool.parameters;
    schema::property(schema::resolve(root, root), name)
        .and_then(|property| coerced(&quoted, property, root, 1))
        .unwrap_or(quoted)
}

/// The value in the schema's type, or nothing if it can stay as it is.
fn coerced(text: &str, schema: &Value, root: &Value, depth: usize) -> Option<String> {
    if depth > DEPTH {
        return None;
    }
    let schema = schema::resolve(schema, root);
    let wanted = schema::kinds(schema, root);
    let kind = kind(text)?;
    let has = |kind: &str| wanted.contains(&kind);
    if wanted.is_empty() || kind == "null" {
        return None;
    }
    if has(kind) || (kind == "number" && has("integer")) {
        let schema = schema::of_kind(schema, kind, root)?;
        return match kind {
            "object" => members(text, schema, root, depth),
            "array" => items(text, schema, root, depth),
            _ => None,
        };
    }
    let converted = if kind == "string" {
        let content = raw::string(text)?;
        let content = content.trim();
        wanted.iter().find_map(|kind| parsed(content, kind))
    } else {
        has("string").then(|| raw::quoted(text))
    };
    match converted {
        Some(text) => Some(coerced(&text, schema, root, depth + 1).unwrap_or(text)),
        // One value where a list of them was asked for.
        None if has("array") => {
            let list = format!("[{text}]");
            Some(coerced(&list, schema, root, depth + 1).unwrap_or(list))
        }
        None => None,
    }
}

fn kind(text: &str) -> Option<&'static str> {
    match text.bytes().next()? {
        b'{' => Some("object"),
        b'[' => Some("array"),
        b'"' => Some("string"),
        b't' | b'f' => Some("boolean"),
        b'n' => Some("null"),
        _ => Some("number"),
    }
}

/// What a string holds, if it is a value of this kind.
fn parsed(content: &str, wanted: &str) -> Option<String> {
    let is_number = || {
        let begins = content.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        begins && raw::is_json(content)
    };
    match wanted {
        "integer" if is_number() && !content.contains(['.', 'e', 'E']) => Some(content.to_owned()),
        "number" if is_number() => Some(content.to_owned()),
        "boolean" if content.eq_ignore_ascii_case("true") => Some("true".into()),
        "boolean" if content.eq_ignore_ascii_case("false") => Some("false".into()),
        "null" if content == "null" => Some("null".into()),
        "array" if content.is_empty() => Some("[]".into()),
        "array" if content.starts_with('[') => json(content),
        "object" if content.starts_with('{') => json(content),
        _ => None,
    }
}

fn json(content: &str) -> Option<String> {
    if raw::is_json(content) {
        return Some(content.to_owned());
    }
    lenient::mend(content, Ending::Whole)
}

fn members(text: &str, schema: &Value, root: &Value, depth: usize) -> Option<String> {
    let members = raw::members(text)?;
    let changed: Vec<Option<String>> = members
        .iter()
        .map(|(name, value)| coerced(value, schema::property(schema, name)?, root, depth + 1))
        .collect();
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let pairs = members.iter().zip(&changed);
    Some(raw::object(pairs.map(|((name, value), changed)| {
        (name.as_str(), changed.as_deref().unwrap_or(value))
    })))
}

fn items(text: &str, schema: &Value, root: &Value, depth: usize) -> Option<String> {
    let schema = schema.get("items").filter(|items| items.is_object())?;
    let items = raw::items(text)?;
    let changed: Vec<Option<String>> = items
        .iter()
        .map(|item| coerced(item, schema, root, depth + 1))
        .collect();
    if changed.iter().all(Option::is_none) {
        return None;
    }
    let values = items.iter().zip(&changed);
    let values: Vec<&str> = values
        .map(|(item, changed)| changed.as_deref().unwrap_or(item))
        .collect();
    Some(format!("[{}]", values.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tools::declared::Tools;
    use serde_json::json;

    fn of(schema: &Value, value: &str) -> String {
        let tools = Tools::read(Some(&json!([{"name": "t", "parameters": {
            "type": "object",
            "properties": {"v": schema},
            "$defs": {"N": {"type": "integer"}}
        }}])));
        let text = format!("{{\"v\":{value}}}");
        let out = arguments(&text, tools.find("t").unwrap());
        out[5..out.len() - 1].to_owned()
    }

    #[test]
    fn values_take_the_declared_type() {
        for (schema, value, right) in [
            (json!({"type": "integer"}), r#""3""#, "3"),
            (
                json!({"type": "integer"}),
                r#"" 12345678901234567890123 ""#,
                "12345678901234567890123",
            ),
            (json!({"type": "integer"}), r#""3.5""#, r#""3.5""#),
            (json!({"type": "integer"}), "1.0", "1.0"),
            (json!({"type": "number"}), r#""-1.50""#, "-1.50"),
            (json!({"type": "number"}), r#""three""#, r#""three""#),
            (json!({"type": "string"}), "3.10", r#""3.10""#),
            (json!({"type": "string"}), r#""42""#, r#""42""#),
            (json!({"type": "string"}), "true", r#""true""#),
            (json!({"type": "string"}), r#"{"a": 1}"#, r#""{\"a\": 1}""#),
            (json!({"type": "string"}), "null", "null"),
            (
                json!({"type": ["string", "null"]}),
                r#""null""#,
                r#""null""#,
            ),
            (json!({"type": "boolean"}), r#""True""#, "true"),
            (json!({"type": "boolean"}), "1", "1"),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                r#""[1, \"2\"]""#,
                "[1,2]",
            ),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                r#""one""#,
                r#"["one"]"#,
            ),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "7",
                r#"["7"]"#,
            ),
            (json!({"type": "array"}), r#""""#, "[]"),
            (json!({"type": "object"}), r#""{'a': 1,}""#, r#"{"a":1}"#),
            (
                json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
                r#"{ "z": 1.0, "n": "4" }"#,
                r#"{"z":1.0,"n":4}"#,
            ),
            (json!({"$ref": "#/$defs/N"}), r#""3""#, "3"),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}),
                r#""3""#,
                "3",
            ),
            (
                json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}),
                r#""3""#,
                r#""3""#,
            ),
            (json!({"enum": [1, 2]}), r#""2""#, "2"),
            (json!({"const": true}), r#""true""#, "true"),
            (json!({}), r#""3""#, r#""3""#),
        ] {
            assert_eq!(of(&schema, value), right, "{schema} {value}");
        }
    }

    #[test]
    fn what_is_right_or_unknown_stays_as_written() {
        let tools = Tools::read(Some(
            &json!([{"name": "t", "parameters": {"properties": {"a": {"type": "number"}}}}]),
        ));
        let text = "{ \"z\" : [1.0, 1e5] , \"a\" : 1.00 }";
        assert_eq!(arguments(text, tools.find("t").unwrap()), text);
    }
}
