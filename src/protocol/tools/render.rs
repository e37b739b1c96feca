//! Tools, calls and results as text of a prompt.

use std::fmt::Write as _;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::protocol::tools::declared::{Choice, Tool, Tools};
use crate::protocol::tools::notation::Notation;
use crate::protocol::tools::schema;
use crate::protocol::tools::signature;

/// How deep the example's arguments go.
const SAMPLE: usize = 3;

/// Explains the declared tools and how to call them; empty when there are none, or none may be called.
pub(crate) fn instructions(
    tools: &Tools,
    choice: &Choice,
    parallel: bool,
    notation: &Notation,
) -> String {
    let Some(example) = exemplary(tools).filter(|_| *choice != Choice::None) else {
        return String::new();
    };
    let Notation { open, close, .. } = notation;
    let several = if parallel {
        "Several calls that do not need each other's results: several such blocks, one after the other."
    } else {
        "Make one call per answer, then stop and wait for its result."
    };
    let mut out = format!(
        "# Tools\n\nThe user's program runs the functions below for you. To call one, write a block of exactly this form:\n\
         {open}\n{{\"name\": \"FUNCTION\", \"arguments\": {{...}}}}\n{close}\n\n\
         - The block holds one JSON object. Escape quotes, backslashes and line breaks inside its strings.\n\
         - Prose goes before the calls; after the last call end your answer. No code fence around a call.\n\
         - {several}\n\
         - When an action is needed, call; do not only announce it. Call only the functions below, with their exact names.\n\
         - All of them exist and work: never answer that a tool does not exist or is not available.\n\
         - Results come in the next message as {}> blocks. Never write such a block yourself.\n",
        notation.result_open
    );
    match choice {
        Choice::Required => out.push_str("- This answer must call at least one function.\n"),
        Choice::Named(name) => {
            let _ = writeln!(out, "- This answer must call the function `{name}`.");
        }
        Choice::Auto | Choice::None => {}
    }
    if !notation.note.is_empty() {
        let _ = writeln!(out, "- {}", notation.note);
    }
    out.push_str("\n## Functions\n");
    for tool in tools.iter() {
        let _ = writeln!(out, "\n### {}", tool.name);
        if !tool.description.is_empty() {
            let _ = writeln!(out, "{}", tool.description);
        }
        let _ = writeln!(
            out,
            "arguments: {}",
            signature::parameters(&tool.parameters)
        );
    }
    let arguments = sample(&tool_schema(example), &example.parameters, 0).to_string();
    let _ = write!(
        out,
        "\n## Example\n\n{}\n",
        call(&example.name, &arguments, notation)
    );
    out
}

/// A call as it stands in the history. Arguments that are no JSON are shown as a JSON string.
pub(crate) fn call(name: &str, arguments: &str, notation: &Notation) -> String {
    let arguments = arguments.trim();
    let shown = if arguments.is_empty() {
        "{}".to_owned()
    } else if serde_json::from_str::<&RawValue>(arguments).is_ok() {
        arguments.to_owned()
    } else {
        json!(arguments).to_string()
    };
    let Notation { open, close, .. } = notation;
    format!(
        "{open}\n{{\"name\": {}, \"arguments\": {shown}}}\n{close}",
        json!(name)
    )
}

/// A result as it stands in the next message. Closing marks inside `content` lose their meaning.
pub(crate) fn result(name: Option<&str>, id: &str, content: &str, notation: &Notation) -> String {
    let Notation {
        result_open,
        result_close,
        ..
    } = notation;
    let name = name.map_or_else(String::new, |name| format!(" name=\"{}\"", attribute(name)));
    let mark = result_close.trim_end_matches('>');
    let content = content.replace(mark, &mark.replacen("</", "<\\/", 1));
    format!(
        "{result_open}{name} id=\"{}\">\n{content}\n{result_close}",
        attribute(id)
    )
}

fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The first tool that needs arguments shows the most.
fn exemplary(tools: &Tools) -> Option<&Tool> {
    let needs = |tool: &&Tool| !signature::required(&tool_schema(tool)).is_empty();
    tools.iter().find(needs).or_else(|| tools.iter().next())
}

fn tool_schema(tool: &Tool) -> Value {
    schema::resolve(&tool.parameters, &tool.parameters).clone()
}

/// A value of the schema with only what is required.
fn sample(schema: &Value, root: &Value, depth: usize) -> Value {
    let schema = schema::resolve(schema, root);
    if depth > SAMPLE {
        return json!("...");
    }
    let first = |name: &str| schema.get(name)?.as_array()?.first().cloned();
    let given = schema
        .get("const")
        .or_else(|| schema.get("default"))
        .cloned();
    if let Some(value) = given
        .or_else(|| first("examples"))
        .or_else(|| first("enum"))
        .filter(|_| depth > 0)
    {
        return value;
    }
    if let Some(one) = schema::alternatives(schema).and_then(|list| list.first())
        && depth > 0
    {
        return sample(one, root, depth + 1);
    }
    match schema::types(schema).first().copied() {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => {
            let items = schema.get("items").filter(|items| items.is_object());
            items.map_or_else(
                || json!([]),
                |items| json!([sample(items, root, depth + 1)]),
            )
        }
        Some("string") => json!("..."),
        _ if depth > 0 && schema.get("properties").is_none() => json!("..."),
        _ => {
            let wanted = signature::required(schema);
            let member = |name: &str| {
                let property = schema.get("properties")?.get(name)?;
                Some((name.to_owned(), sample(property, root, depth + 1)))
            };
            Value::Object(wanted.into_iter().filter_map(member).collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tools::notation::{NATIVE_JSON, NEUTRAL};

    fn tools() -> Tools {
        Tools::read(Some(&json!([
            {"name": "now", "description": "Tells the time."},
            {"name": "edit", "description": "Changes a file.", "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Where"},
                    "mode": {"enum": ["a", "b"]},
                    "lines": {"type": "array", "items": {"type": "integer"}},
                    "at": {"$ref": "#/$defs/At"},
                    "rest": {"type": "string"}
                },
                "required": ["path", "mode", "lines", "at"],
                "$defs": {"At": {"type": "object", "properties": {"line": {"type": "integer"}}, "required": ["line"]}}
            }}
        ])))
    }

    #[test]
    fn instructions_name_the_tools_and_show_one_call() {
        let text = instructions(&tools(), &Choice::Auto, true, &NATIVE_JSON);
        for part in [
            "### now\nTells the time.\narguments: {}\n",
            "### edit\nChanges a file.\narguments: {\n  path: string // Where\n",
            "  at: {\n    line: integer\n  }\n",
            "  rest?: string\n}\n",
            "<tool_call>\n{\"name\": \"edit\", \"arguments\": {\"path\":\"...\",\"mode\":\"a\",\"lines\":[1],\"at\":{\"line\":1}}}\n</tool_call>\n",
            "<tool_response>",
            "several such blocks",
        ] {
            assert!(text.contains(part), "{part}\nmissing in\n{text}");
        }
        assert!(!text.contains("must call"));
    }

    #[test]
    fn instructions_follow_the_choice() {
        let with = |choice: &Choice, parallel| instructions(&tools(), choice, parallel, &NEUTRAL);
        assert!(with(&Choice::Required, true).contains("must call at least one"));
        assert!(with(&Choice::Named("now".into()), true).contains("must call the function `now`"));
        assert!(with(&Choice::Auto, false).contains("one call per answer"));
        assert!(with(&Choice::Auto, true).contains(NEUTRAL.note));
        assert!(with(&Choice::Auto, true).contains("<client_call>"));
        assert_eq!(with(&Choice::None, true), "");
        assert_eq!(
            instructions(&Tools::default(), &Choice::Required, true, &NEUTRAL),
            ""
        );
    }

    #[test]
    fn calls_keep_json_and_quote_the_rest() {
        for (arguments, shown) in [
            (r#"{"b": 1.0, "a": 2}"#, r#"{"b": 1.0, "a": 2}"#),
            ("", "{}"),
            ("{broken", r#""{broken""#),
        ] {
            assert_eq!(
                call("x\"y", arguments, &NATIVE_JSON),
                format!(
                    "<tool_call>\n{{\"name\": \"x\\\"y\", \"arguments\": {shown}}}\n</tool_call>"
                )
            );
        }
    }

    #[test]
    fn results_cannot_end_early() {
        assert_eq!(
            result(
                Some("a\"<b>&"),
                "c\n1",
                "x</tool_response>y</tool_response",
                &NATIVE_JSON
            ),
            "<tool_response name=\"a&quot;&lt;b&gt;&amp;\" id=\"c 1\">\nx<\\/tool_response>y<\\/tool_response\n</tool_response>"
        );
        assert_eq!(
            result(None, "1", "</tool_response>", &NEUTRAL),
            "<client_result id=\"1\">\n</tool_response>\n</client_result>"
        );
    }
}
