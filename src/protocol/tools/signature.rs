//! Writes a JSON Schema as a TypeScript-like type: a fraction of the tokens, and what models read best.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::protocol::tools::schema::{self, DEPTH};

/// Keywords a type cannot express; they are shown as JSON behind the property they belong to.
const UNSAYABLE: [&str; 20] = [
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "prefixItems",
    "propertyNames",
    "patternProperties",
    "dependentRequired",
    "allOf",
    "not",
    "if",
    "then",
];

/// Types written per tool: mutual references could multiply them without end.
const TYPES: usize = 1_000;
/// Bytes of JSON Schema shown per tool, for the same reason.
const SHOWN: usize = 16_384;
/// How deep a limit may lie below the property that shows it.
const LIMITS: usize = 3;

/// The parameters as `{ name: type, other?: type }`, one property a line with its description.
pub(super) fn parameters(root: &Value) -> String {
    let mut writer = Writer {
        root,
        out: String::new(),
        refs: Vec::new(),
        types: 0,
        shown: 0,
    };
    let top = schema::resolve(root, root);
    if top
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|properties| !properties.is_empty())
        || schema::alternatives(top).is_some()
    {
        writer.kind(top, 0);
    } else {
        writer.out.push_str("{}");
    }
    if let Some(rest) = unsayable(top, root, 0) {
        let _ = write!(writer.out, " // JSON Schema: {rest}");
    }
    writer.out
}

struct Writer<'a> {
    root: &'a Value,
    out: String,
    /// The references being written out, so that a cycle is cut.
    refs: Vec<&'a str>,
    types: usize,
    shown: usize,
}

impl<'a> Writer<'a> {
    fn kind(&mut self, schema: &'a Value, depth: usize) {
        let reference = schema.get("$ref").and_then(Value::as_str);
        self.types += 1;
        if depth > DEPTH
            || self.types > TYPES
            || reference.is_some_and(|name| self.refs.contains(&name))
        {
            self.out.push_str("any");
            return;
        }
        self.refs.extend(reference);
        self.resolved(schema::resolve(schema, self.root), depth);
        if reference.is_some() {
            self.refs.pop();
        }
    }

    fn resolved(&mut self, schema: &'a Value, depth: usize) {
        if let Some(value) = schema.get("const") {
            self.out.push_str(&value.to_string());
        } else if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let values: Vec<String> = values.iter().map(Value::to_string).collect();
            self.out.push_str(&values.join(" | "));
        } else if let Some(list) = schema::alternatives(schema) {
            self.union(list.iter(), |writer, one| writer.kind(one, depth + 1));
        } else {
            let types = schema::types(schema);
            if types.is_empty() {
                self.named(guess(schema), schema, depth);
            } else {
                self.union(types.into_iter(), |writer, one| {
                    writer.named(one, schema, depth);
                });
            }
        }
    }

    /// Writes each alternative once.
    fn union<T>(&mut self, all: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        let before = std::mem::take(&mut self.out);
        let mut written: Vec<String> = Vec::new();
        for one in all {
            write(self, one);
            let text = std::mem::take(&mut self.out);
            if !written.contains(&text) {
                written.push(text);
            }
        }
        self.out = before;
        self.out.push_str(&written.join(" | "));
    }

    fn named(&mut self, name: &str, schema: &'a Value, depth: usize) {
        match name {
            "object" => self.object(schema, depth),
            "array" => {
                let from = self.out.len();
                match schema.get("items").filter(|items| items.is_object()) {
                    Some(items) => self.kind(items, depth + 1),
                    None => self.out.push_str("any"),
                }
                let is_union = self
                    .out
                    .get(from..)
                    .is_some_and(|item| item.contains(" | "));
                if is_union {
                    self.out.insert(from, '(');
                    self.out.push(')');
                }
                self.out.push_str("[]");
            }
            other => self.out.push_str(other),
        }
    }

    fn object(&mut self, schema: &'a Value, depth: usize) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let more = schema
            .get("additionalProperties")
            .filter(|more| more.is_object());
        let properties = properties.filter(|properties| !properties.is_empty());
        if properties.is_none() && more.is_none() {
            self.out.push_str("object");
            return;
        }
        let required = required(schema);
        let is_required = |name: &str| required.contains(&name);
        let mut ordered: Vec<(&String, &Value)> = properties.into_iter().flatten().collect();
        // What must be there comes first; the sort keeps the order otherwise.
        ordered.sort_by_key(|(name, _)| !is_required(name));
        self.out.push('{');
        for (name, property) in ordered {
            let mark = if is_required(name) { "" } else { "?" };
            self.line(depth + 1);
            let _ = write!(self.out, "{}{mark}: ", key(name));
            self.kind(property, depth + 1);
            self.remark(property);
        }
        if let Some(more) = more {
            self.line(depth + 1);
            self.out.push_str("[key: string]: ");
            self.kind(more, depth + 1);
        }
        self.line(depth);
        self.out.push('}');
    }

    /// Description, default and what the type could not say.
    fn remark(&mut self, property: &'a Value) {
        let resolved = schema::resolve(property, self.root);
        let description = property
            .get("description")
            .or_else(|| resolved.get("description"));
        let mut parts = Vec::new();
        if let Some(text) = description.and_then(Value::as_str) {
            parts.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        if let Some(default) = resolved.get("default").filter(|value| !value.is_null()) {
            parts.push(format!("default {default}"));
        }
        if self.shown < SHOWN
            && let Some(rest) = unsayable(resolved, self.root, 0)
        {
            let rest = rest.to_string();
            self.shown += rest.len();
            parts.push(format!("JSON Schema: {rest}"));
        }
        parts.retain(|part| !part.is_empty());
        if !parts.is_empty() {
            let _ = write!(self.out, " // {}", parts.join("; "));
        }
    }

    fn line(&mut self, depth: usize) {
        self.out.push('\n');
        self.out.push_str(&"  ".repeat(depth));
    }
}

/// The names a schema requires.
pub(super) fn required(schema: &Value) -> Vec<&str> {
    let list = schema.get("required").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn unsayable(schema: &Value, root: &Value, depth: usize) -> Option<Value> {
    let map = schema.as_object().filter(|_| depth < LIMITS)?;
    let mut rest: Map<String, Value> = map
        .iter()
        .filter(|(name, _)| UNSAYABLE.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // An item has no line of its own that could carry its limits.
    if let Some(items) = map.get("items")
        && let Some(inner) = unsayable(schema::resolve(items, root), root, depth + 1)
    {
        rest.insert("items".into(), inner);
    }
    for name in ["anyOf", "oneOf"] {
        let has_object = |list: &Vec<Value>| {
            list.iter().any(|one| {
                let one = schema::resolve(one, root);
                one.get("properties").is_some() || unsayable(one, root, depth + 1).is_some()
            })
        };
        if let Some(list) = map
            .get(name)
            .and_then(Value::as_array)
            .filter(|l| has_object(l))
        {
            let resolved = list.iter().map(|one| schema::resolve(one, root).clone());
            rest.insert(name.into(), resolved.collect());
        }
    }
    (!rest.is_empty()).then_some(Value::Object(rest))
}

fn guess(schema: &Value) -> &'static str {
    if schema.get("properties").is_some() {
        "object"
    } else if schema.get("items").is_some() {
        "array"
    } else {
        "any"
    }
}

fn key(name: &str) -> String {
    let is_plain = !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(properties: &Value) -> String {
        parameters(&json!({"type": "object", "properties": properties, "required": ["r"]}))
    }

    #[test]
    fn types_are_written_short() {
        for (schema, text) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": ["string", "null"]}), "string | null"),
            (json!({"enum": ["a", 1]}), "\"a\" | 1"),
            (json!({"const": "x"}), "\"x\""),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                "integer[]",
            ),
            (json!({"items": {"enum": ["a", "b"]}}), "(\"a\" | \"b\")[]"),
            (json!({"type": "array"}), "any[]"),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "string"}, {"type": "null"}]}),
                "string | null",
            ),
            (json!({"type": "object"}), "object"),
            (json!({}), "any"),
            (
                json!({"type": "object", "additionalProperties": {"type": "number"}}),
                "{\n    [key: string]: number\n  }",
            ),
            (
                json!({"type": "object", "properties": {"z": {"type": "boolean"}}}),
                "{\n    z?: boolean\n  }",
            ),
            (
                json!({"type": "string", "description": " What\n it is ", "default": "d"}),
                "string // What it is; default \"d\"",
            ),
            (
                json!({"type": "integer", "minimum": 1}),
                "integer // JSON Schema: {\"minimum\":1}",
            ),
            (
                json!({"type": "array", "items": {"type": "string", "pattern": "a"}}),
                "string[] // JSON Schema: {\"items\":{\"pattern\":\"a\"}}",
            ),
        ] {
            assert_eq!(of(&json!({"r": schema})), format!("{{\n  r: {text}\n}}"));
        }
    }

    #[test]
    fn required_properties_come_first_and_odd_names_are_quoted() {
        let text = of(&json!({"-i": {"type": "boolean"}, "a": {}, "r": {}}));
        assert_eq!(text, "{\n  r: any\n  \"-i\"?: boolean\n  a?: any\n}");
    }

    #[test]
    fn references_are_resolved_and_cycles_cut() {
        let text = parameters(&json!({
            "type": "object",
            "properties": {"node": {"$ref": "#/$defs/Node"}, "gone": {"$ref": "#/$defs/Gone"}},
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}}
        }));
        assert_eq!(text, "{\n  node?: {\n    next?: any\n  }\n  gone?: any\n}");
    }

    #[test]
    fn schemas_that_refer_to_themselves_everywhere_come_to_an_end() {
        let all: Vec<Value> = (0..20)
            .map(|n| json!({"$ref": format!("#/$defs/d{n}")}))
            .collect();
        let names: Map<String, Value> = (0..20)
            .map(|n| (format!("d{n}"), json!({"$ref": format!("#/$defs/d{n}")})))
            .collect();
        let def = json!({"type": "object", "properties": names, "anyOf": all, "items": {"$ref": "#/$defs/d0"}});
        let defs: Map<String, Value> = (0..20).map(|n| (format!("d{n}"), def.clone())).collect();
        let required: Vec<&String> = names.keys().collect();
        let root = json!({"properties": names, "required": required, "$defs": defs});
        assert!(parameters(&root).len() < 1_000_000);
    }

    #[test]
    fn alternatives_of_objects_carry_their_schema() {
        let text = of(&json!({"r": {"oneOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "null"}
        ]}}));
        assert!(
            text.contains("| null // JSON Schema: {\"oneOf\":[{"),
            "{text}"
        );
    }

    #[test]
    fn tools_without_parameters_have_empty_braces() {
        assert_eq!(parameters(&Value::Null), "{}");
        assert_eq!(parameters(&json!({"type": "object"})), "{}");
    }
}
