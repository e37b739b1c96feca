//! Reads the calls out of one block whose beginning and end are known.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::protocol::tools::coerce;
use crate::protocol::tools::declared::{Tool, Tools};
use crate::protocol::tools::lenient::{self, Ending};
use crate::protocol::tools::notation::{FUNCTION, FUNCTION_CLOSE};
use crate::protocol::tools::raw;
use crate::protocol::tools::schema;

/// A call that has been read: the tool's declared name and its arguments as a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// What is read of a block: every call in it, or why it cannot be read.
pub(super) type Reading = Result<Vec<Found>, String>;

/// Where a JSON call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between call marks: whatever else the object holds is passed over.
    Tag,
    /// In a code fence: anything but a name and arguments makes it an example of something else.
    Fence,
}

const NAMES: [&str; 5] = ["name", "tool", "tool_name", "function", "function_name"];
const ARGUMENTS: [&str; 5] = ["arguments", "parameters", "input", "args", "params"];
const BESIDE: [&str; 5] = ["id", "call_id", "tool_call_id", "type", "index"];

/// Whether a call's object may begin with this key.
pub(super) fn is_call_key(key: &str) -> bool {
    NAMES.contains(&key) || ARGUMENTS.contains(&key) || BESIDE.contains(&key)
}

/// Reads JSON: one object, several, or an array of them; strictly first, else leniently.
pub(super) fn json(content: &str, ending: Ending, place: Place, tools: &Tools) -> Reading {
    let content = unfenced(content);
    let values: Vec<Cow<'_, str>> = match raw::sequence(content) {
        Some(values) => values.into_iter().map(Cow::Borrowed).collect(),
        None => mended(content, ending).ok_or("the block is no JSON")?,
    };
    let mut found = Vec::new();
    for value in &values {
        if value.starts_with('[') && place == Place::Tag {
            for item in raw::items(value).ok_or("the block is no list of calls")? {
                found.push(call(item, place, tools)?);
            }
        } else {
            found.push(call(value, place, tools)?);
        }
    }
    if found.is_empty() || (place == Place::Fence && found.len() > 1) {
        return Err("the block holds no call".into());
    }
    Ok(found)
}

/// A call that the site handed back in its own form: the declared tool that was meant, and its arguments in its types.
pub(crate) fn native(
    name: &str,
    arguments: &str,
    tools: &Tools,
) -> Result<(String, String), String> {
    let tool = declared(name, tools)?;
    // Nothing where something must be was lost on the way.
    if arguments.trim().is_empty() && schema::requires(&tool.parameters) {
        return Err(format!("the arguments of `{}` did not come", tool.name));
    }
    let found = finished(&object(arguments)?, tool);
    Ok((found.name, found.arguments))
}

/// Reads `<function=name><parameter=key>value</parameter></function>`, once or several times. A missing
/// `</parameter>` is forgiven only where the block's end leaves no other reading (`Ending::Forgiving`).
pub(super) fn functions(content: &str, ending: Ending, tools: &Tools) -> Reading {
    let mut found = Vec::new();
    let mut rest = content.trim();
    while !rest.is_empty() {
        let (name, body) = rest
            .strip_prefix(FUNCTION)
            .and_then(|rest| rest.split_once('>'))
            .ok_or("the block holds more than functions")?;
        let tool = declared(unquoted(name), tools)?;
        let (arguments, after) = function_body(body, ending, tool)?;
        found.push(finished(&arguments, tool));
        rest = after.trim_start();
    }
    if found.is_empty() {
        return Err("the block holds no call".into());
    }
    Ok(found)
}

/// Reads `<name><key>value</key></name>`, or JSON between the outer marks.
pub(super) fn elements(content: &str, tools: &Tools) -> Reading {
    let broken = || "the block holds more than one element".to_owned();
    let head = content.trim().strip_prefix('<').ok_or_else(broken)?;
    let (name, body) = head.split_once('>').ok_or_else(broken)?;
    let close = format!("</{name}>");
    let mut rest = body.strip_suffix(&close).ok_or_else(broken)?.trim();
    let tool = declared(name, tools)?;
    if rest.starts_with('{') {
        return Ok(vec![finished(&object(rest)?, tool)]);
    }
    let mut values = Vec::new();
    while !rest.is_empty() {
        let inner = rest.strip_prefix('<').ok_or_else(broken)?;
        let (key, body) = inner.split_once('>').ok_or_else(broken)?;
        let close = format!("</{key}>");
        let (value, after) = until(body, &close, |next| {
            next.is_empty() || next.starts_with('<')
        })
        .ok_or_else(broken)?;
        values.push((key, coerce::untyped(value, key, tool)));
        rest = after;
    }
    Ok(vec![finished(&assembled(&values), tool)])
}

fn function_body<'a>(
    body: &'a str,
    ending: Ending,
    tool: &Tool,
) -> Result<(String, &'a str), String> {
    let mut rest = body.trim_start();
    if rest.starts_with('{') {
        let (json, after) = until(rest, FUNCTION_CLOSE, |next| {
            next.is_empty() || next.starts_with(FUNCTION)
        })
        .ok_or("a function is not closed")?;
        return Ok((object(json)?, after));
    }
    let mut values = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(FUNCTION_CLOSE) {
            return Ok((assembled(&values), after));
        }
        if rest.is_empty() {
            // The outer mark has closed the block: only `</function>` was forgotten.
            return Ok((assembled(&values), rest));
        }
        let (key, body) = rest
            .strip_prefix("<parameter=")
            .and_then(|rest| rest.split_once('>'))
            .ok_or("a function holds more than parameters")?;
        let closed = until(body, "</parameter>", |next| {
            next.is_empty() || next.starts_with("<parameter=") || next.starts_with(FUNCTION_CLOSE)
        });
        let (value, after) = match closed {
            Some(found) => found,
            None if ending == Ending::Forgiving => {
                let end = ["\n<parameter=", FUNCTION_CLOSE]
                    .iter()
                    .filter_map(|mark| body.find(mark))
                    .min();
                let (value, after) = body.split_at(end.unwrap_or(body.len()));
                (trimmed(value), after.trim_start())
            }
            None => return Err("a parameter is not closed".into()),
        };
        let key = unquoted(key);
        values.push((key, coerce::untyped(value, key, tool)));
        rest = after;
    }
}

/// The value before the first `close` behind which something comes that may; a mark inside a value is passed over.
fn until<'a>(
    body: &'a str,
    close: &str,
    may_follow: impl Fn(&str) -> bool,
) -> Option<(&'a str, &'a str)> {
    body.match_indices(close).find_map(|(at, _)| {
        let after = body.get(at + close.len()..)?.trim_start();
        may_follow(after).then_some((trimmed(body.get(..at)?), after))
    })
}

/// Without the line breaks that set the marks apart from the value.
fn trimmed(value: &str) -> &str {
    let value = value
        .strip_prefix("\r\n")
        .or_else(|| value.strip_prefix('\n'))
        .unwrap_or(value);
    value
        .strip_suffix("\r\n")
        .or_else(|| value.strip_suffix('\n'))
        .unwrap_or(value)
}

fn unquoted(name: &str) -> &str {
    name.trim().trim_matches(|c| c == '"' || c == '\'')
}

/// The last of several values for one parameter counts.
fn assembled(values: &[(&str, String)]) -> String {
    let last: HashMap<&str, usize> = values
        .iter()
        .enumerate()
        .map(|(index, (key, _))| (*key, index))
        .collect();
    let kept = values
        .iter()
        .enumerate()
        .filter(|(index, (key, _))| last.get(key) == Some(index));
    raw::object(kept.map(|(_, (key, value))| (*key, value.as_str())))
}

fn unfenced(content: &str) -> &str {
    let content = content.trim();
    let Some(inner) = content.strip_prefix("```") else {
        return content;
    };
    let inner = inner.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    inner.trim_end().trim_end_matches('`').trim()
}

fn mended<'a>(content: &str, ending: Ending) -> Option<Vec<Cow<'a, str>>> {
    let mut values = Vec::new();
    let mut rest = content;
    loop {
        let (value, after) = lenient::mend_first(rest, ending)?;
        values.push(Cow::Owned(value));
        rest = after.trim_start_matches(|c: char| {
            c.is_whitespace() || matches!(c, '}' | ']' | ';' | '`' | ',')
        });
        if rest.is_empty() {
            return Some(values);
        }
    }
}

fn call(object: &str, place: Place, tools: &Tools) -> Result<Found, String> {
    let members = raw::members(object).ok_or("a call is no JSON object")?;
    if place == Place::Fence && !members.iter().all(|(key, _)| is_call_key(key)) {
        return Err("the object holds more than a call".into());
    }
    let get = |keys: [&str; 5]| {
        let mut known = keys.into_iter();
        known.find_map(|key| members.iter().find(|(name, _)| name == key))
    };
    let (key, name) = get(NAMES).ok_or("a call has no name")?;
    if key == "function" && name.starts_with('{') {
        // `{"type":"function","function":{..}}`; the inner object cannot nest again.
        let inner = raw::members(name).ok_or("a call is no JSON object")?;
        if inner.iter().any(|(key, _)| key == "function") {
            return Err("a call is nested too deep".into());
        }
        return call(name, place, tools);
    }
    let name = raw::string(name).ok_or("the name of a call is no string")?;
    let given = get(ARGUMENTS);
    if given.is_none() && place == Place::Fence {
        return Err("a call has no arguments".into());
    }
    let tool = declared(&name, tools)?;
    Ok(finished(&object_of(given.map(|(_, value)| *value))?, tool))
}

fn finished(arguments: &str, tool: &Tool) -> Found {
    Found {
        name: tool.name.clone(),
        arguments: coerce::arguments(arguments, tool),
    }
}

fn declared<'a>(name: &str, tools: &'a Tools) -> Result<&'a Tool, String> {
    tools.closest(name).ok_or_else(|| {
        let known: Vec<&str> = tools.names().collect();
        let name: String = name.chars().take(80).collect();
        format!(
            "tool `{name}` is not declared; declared are: {}",
            known.join(", ")
        )
    })
}

fn object_of(value: Option<&str>) -> Result<String, String> {
    let value = value.unwrap_or("{}");
    match value.bytes().next() {
        Some(b'"') => {
            let content = raw::string(value).ok_or("the arguments are no text")?;
            object(&content)
        }
        Some(b'n') => Ok("{}".into()),
        _ => object(value),
    }
}

/// A text that should be a JSON object, strictly or leniently; nothing at all is the empty one.
fn object(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok("{}".into());
    }
    let read = if raw::is_json(text) {
        Some(text.to_owned())
    } else {
        lenient::mend(text, Ending::Whole)
    };
    read.filter(|object| object.starts_with('{'))
        .ok_or_else(|| "the arguments are no JSON object".into())
}
