//! Whether a value follows a JSON Schema: the keywords that schemas of answers use, no more.
//!
//! What is not known here (`format`, `pattern`, remote references ..) holds: a validator that refuses what is right would
//! cost an answer. Names of places are JSON pointers.

use serde_json::{Map, Value};

/// Faults that are told: more help nobody.
const MOST_FAULTS: usize = 8;
/// Schemas that are looked at in one check. A schema can be written so that a check never ends.
const MOST_STEPS: usize = 100_000;
/// Schemas inside of each other.
const DEEPEST: usize = 128;

/// What is wrong with `value`, in sentences for whoever wrote it; nothing when it follows.
pub(crate) fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check {
        root: schema,
        steps: 0,
    };
    let mut faults = check.all(schema, value, "", 0);
    faults.truncate(MOST_FAULTS);
    faults
}

struct Check<'a> {
    root: &'a Value,
    steps: usize,
}

impl<'a> Check<'a> {
    fn all(&mut self, schema: &'a Value, value: &Value, at: &str, depth: usize) -> Vec<String> {
        self.steps += 1;
        if self.steps > MOST_STEPS || depth > DEEPEST {
            return Vec::new();
        }
        let schema = match schema {
            Value::Bool(false) => return vec![format!("{} must not be there", place(at))],
            Value::Object(schema) => schema,
            _ => return Vec::new(),
        };
        let mut faults = Vec::new();
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target
                .strip_prefix('#')
                .and_then(|path| self.root.pointer(path));
            if let Some(found) = found {
                faults.extend(self.all(found, value, at, depth + 1));
            }
        }
        if let Some(kinds) = schema.get("type")
            && !has_kind(kinds, value)
        {
            faults.push(format!("{} must be {}", place(at), kind_words(kinds)));
            // What else the schema says is about values of that kind.
            return faults;
        }
        if let Some(listed) = schema.get("enum").and_then(Value::as_array)
            && !listed.iter().any(|one| same(one, value))
        {
            faults.push(format!("{} must be one of {}", place(at), words(listed)));
        }
        if let Some(only) = schema.get("const")
            && !same(only, value)
        {
            faults.push(format!("{} must be {only}", place(at)));
        }
        match value {
            Value::Object(members) => faults.extend(self.object(schema, members, at, depth)),
            Value::Array(items) => faults.extend(self.array(schema, items, at, depth)),
            Value::String(text) => faults.extend(length(schema, text, at)),
            Value::Number(number) => {
                faults.extend(number.as_f64().and_then(|number| range(schema, number, at)));
            }
            Value::Null | Value::Bool(_) => {}
        }
        faults.extend(self.combined(schema, value, at, depth));
        faults
    }

    fn object(
        &mut self,
        schema: &'a Map<String, Value>,
        members: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                faults.push(format!("{} must have the member `{name}`", place(at)));
            }
        }
        let declared = schema.get("properties").and_then(Value::as_object);
        let is_patterned = schema.contains_key("patternProperties");
        for (name, value) in members {
            let below = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            if let Some(schema) = declared.and_then(|declared| declared.get(name)) {
                faults.extend(self.all(schema, value, &below, depth + 1));
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) if !is_patterned => {
                    faults.push(format!("{} must not have the member `{name}`", place(at)));
                }
                Some(schema) if !is_patterned => {
                    faults.extend(self.all(schema, value, &below, depth + 1));
                }
                _ => {}
            }
        }
        let count = members.len();
        faults.extend(
            bounds(schema, ("minProperties", "maxProperties"), count)
                .map(|words| format!("{} must have {words} members", place(at))),
        );
        faults
    }

    fn array(
        &mut self,
        schema: &'a Map<String, Value>,
        items: &[Value],
        at: &str,
        depth: usize,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let others = schema.get("items").filter(|items| !items.is_array());
        for (place, item) in items.iter().enumerate() {
            let own = first.and_then(|first| first.get(place)).or(others);
            if let Some(schema) = own {
                faults.extend(self.all(schema, item, &format!("{at}/{place}"), depth + 1));
            }
        }
        faults.extend(
            bounds(schema, ("minItems", "maxItems"), items.len())
                .map(|words| format!("{} must have {words} items", place(at))),
        );
        let is_unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        let is_twice = |(place, item): (usize, &Value)| {
            items.iter().take(place).any(|other| same(other, item))
        };
        if is_unique && items.len() <= 1_000 && items.iter().enumerate().any(is_twice) {
            faults.push(format!("{} must not have an item twice", place(at)));
        }
        faults
    }

    fn combined(
        &mut self,
        schema: &'a Map<String, Value>,
        value: &Value,
        at: &str,
        depth: usize,
    ) -> Vec<String> {
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        let mut faults = Vec::new();
        for one in list("allOf").into_iter().flatten() {
            faults.extend(self.all(one, value, at, depth + 1));
        }
        for key in ["anyOf", "oneOf"] {
            let Some(list) = list(key).filter(|list| !list.is_empty()) else {
                continue;
            };
            // One for values of that kind tells more than one for others.
            let mut closest: Option<((bool, usize), Vec<String>)> = None;
            let mut fitting = 0;
            for one in list {
                let found = self.all(one, value, at, depth + 1);
                if found.is_empty() {
                    fitting += 1;
                    continue;
                }
                let kinds = one.get("type");
                let is_of_others = kinds.is_some_and(|kinds| !has_kind(kinds, value));
                let distance = (is_of_others, found.len());
                if closest.as_ref().is_none_or(|(least, _)| distance < *least) {
                    closest = Some((distance, found));
                }
            }
            if fitting == 0 {
                faults.extend(closest.into_iter().flat_map(|(_, found)| found));
            } else if key == "oneOf" && fitting > 1 {
                faults.push(format!(
                    "{} must fit exactly one of the alternatives",
                    place(at)
                ));
            }
        }
        faults
    }
}

/// JSON knows no integers: 1.0 is one.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn has_kind(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_number() && is_whole(value),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    };
    match kinds {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn kind_words(kinds: &Value) -> String {
    match kinds {
        Value::Array(kinds) => {
            let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
            format!("of type {}", kinds.join(" or "))
        }
        kind => format!("of type {}", kind.as_str().unwrap_or_default()),
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

fn length(schema: &Map<String, Value>, text: &str, at: &str) -> Option<String> {
    let count = text.chars().count();
    let words = bounds(schema, ("minLength", "maxLength"), count)?;
    Some(format!("{} must have {words} characters", place(at)))
}

/// Whether a number keeps to a bound.
type Holds = fn(f64, f64) -> bool;

fn range(schema: &Map<String, Value>, number: f64, at: &str) -> Option<String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let checks: [(&str, &str, Holds); 4] = [
        ("minimum", "at least", |number, bound| number >= bound),
        ("maximum", "at most", |number, bound| number <= bound),
        ("exclusiveMinimum", "more than", |number, bound| {
            number > bound
        }),
        ("exclusiveMaximum", "less than", |number, bound| {
            number < bound
        }),
    ];
    for (key, words, holds) in checks {
        if let Some(bound) = bound(key)
            && !holds(number, bound)
        {
            return Some(format!("{} must be {words} {bound}", place(at)));
        }
    }
    let step = bound("multipleOf").filter(|step| *step > 0.0)?;
    let times = number / step;
    ((times - times.round()).abs() > 1e-9)
        .then(|| format!("{} must be a multiple of {step}", place(at)))
}

fn bounds(
    schema: &Map<String, Value>,
    (least, most): (&str, &str),
    count: usize,
) -> Option<String> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    let count = count as u64;
    match (bound(least), bound(most)) {
        (Some(least), _) if count < least => Some(format!("at least {least}")),
        (_, Some(most)) if count > most => Some(format!("at most {most}")),
        _ => None,
    }
}

fn place(at: &str) -> String {
    if at.is_empty() {
        "the answer".into()
    } else {
        format!("`{at}`")
    }
}

fn words(values: &[Value]) -> String {
    let values: Vec<_> = values.iter().take(20).map(Value::to_string).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_follows_has_no_faults() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["name", "tags"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 3},
                "age": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 200},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2, "uniqueItems": true},
                "tree": {"$ref": "#/$defs/node"},
                "one": {"oneOf": [{"type": "string"}, {"type": "number", "multipleOf": 0.5}]},
            },
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["v"]}},
        });
        let good = json!({"name": "äöü", "age": 7.0, "tags": ["a", "b"], "tree": {"v": 1, "next": {"v": 2}}, "one": 1.5});
        assert_eq!(faults(&schema, &good), Vec::<String>::new());
        for (value, words) in [
            (json!([]), "the answer must be of type object"),
            (json!({"tags": []}), "`name`"),
            (json!({"name": "abcd", "tags": []}), "at most 3"),
            (
                json!({"name": "a", "tags": ["c"]}),
                "`/tags/0` must be one of \"a\", \"b\"",
            ),
            (json!({"name": "a", "tags": ["a", "a"]}), "twice"),
            (json!({"name": "a", "tags": [], "age": -1}), "at least 0"),
            (
                json!({"name": "a", "tags": [], "age": 1.5}),
                "integer or null",
            ),
            (
                json!({"name": "a", "tags": [], "x": 1}),
                "must not have the member `x`",
            ),
            (
                json!({"name": "a", "tags": [], "tree": {"v": 1, "next": {}}}),
                "`/tree/next` must have the member `v`",
            ),
            (
                json!({"name": "a", "tags": [], "one": 0.3}),
                "multiple of 0.5",
            ),
        ] {
            let found = faults(&schema, &value);
            assert!(
                found.iter().any(|fault| fault.contains(words)),
                "{value}: {found:?}"
            );
        }
    }

    #[test]
    fn a_schema_without_end_ends() {
        let schema = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "not": {"$ref": "#"}});
        let _ = faults(&schema, &json!({"a": 1}));
        assert!(faults(&json!({"$ref": "#/nowhere", "type": 7}), &json!(1)).is_empty());
        assert_eq!(faults(&json!(false), &json!(1)).len(), 1);
        assert!(faults(&json!(true), &json!(1)).is_empty());
    }
}
