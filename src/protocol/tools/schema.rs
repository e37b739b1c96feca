//! Looking things up in a JSON Schema.

use serde_json::Value;

/// How far `$ref` is followed and nesting is written out.
pub(super) const DEPTH: usize = 8;

/// Follows `$ref` within the root schema; what cannot be found stays as it is.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let mut at = schema;
    for _ in 0..DEPTH {
        let Some(target) = at.get("$ref").and_then(Value::as_str) else {
            return at;
        };
        let Some(found) = target
            .strip_prefix('#')
            .and_then(|pointer| root.pointer(pointer))
        else {
            return at;
        };
        at = found;
    }
    at
}

/// The type names a schema allows, empty when it names none.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The alternatives of `anyOf` or `oneOf`.
pub(super) fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
}

/// Whether something must be given.
pub(super) fn requires(root: &Value) -> bool {
    let required = resolve(root, root).get("required");
    required
        .and_then(Value::as_array)
        .is_some_and(|names| !names.is_empty())
}

/// The schema of a property.
pub(super) fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let declared = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    declared.or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|more| more.is_object())
    })
}

/// Every kind of value that fits; empty when the schema does not say.
pub(super) fn kinds<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a str> {
    let named = types(schema);
    if !named.is_empty() {
        return named;
    }
    if let Some(list) = alternatives(schema) {
        let each: Vec<Vec<&str>> = list
            .iter()
            .map(|one| own_kinds(resolve(one, root)))
            .collect();
        // An alternative that takes anything makes the whole take anything.
        let is_open = each.iter().any(Vec::is_empty);
        return if is_open { Vec::new() } else { each.concat() };
    }
    own_kinds(schema)
}

/// The part of the schema that speaks of values of `kind`; nothing when several do.
pub(super) fn of_kind<'a>(schema: &'a Value, kind: &str, root: &'a Value) -> Option<&'a Value> {
    let Some(list) = alternatives(schema) else {
        return Some(schema);
    };
    let mut fitting = list
        .iter()
        .map(|one| resolve(one, root))
        .filter(|one| own_kinds(one).contains(&kind));
    let only = fitting.next();
    only.filter(|_| fitting.next().is_none())
}

fn own_kinds(schema: &Value) -> Vec<&str> {
    let named = types(schema);
    if !named.is_empty() {
        return named;
    }
    let values: Vec<&Value> = match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => vec![value],
        (None, Some(Value::Array(values))) => values.iter().collect(),
        _ if schema.get("properties").is_some() => return vec!["object"],
        _ if schema.get("items").is_some() => return vec!["array"],
        _ => Vec::new(),
    };
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    values.into_iter().map(kind).collect()
}
