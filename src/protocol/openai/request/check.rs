//! What is checked of a request, and how it is said.

use serde_json::value::RawValue;

use super::FieldError;
use super::members::{Kind, Members, kind_of, members};

/// Deepest nesting of arrays and objects that is accepted.
const DEPTH_LIMIT: usize = 128;

const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];
const NUMBERS: [&str; 6] = [
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
];

/// The members of the body, or why it has none.
pub(super) fn top_level(body: &[u8]) -> Result<Members<'_>, FieldError> {
    if body.trim_ascii().is_empty() {
        return Err(FieldError::whole(
            "empty_body",
            "the request has no body; send a JSON object",
        ));
    }
    if is_too_deep(body) {
        return Err(FieldError::whole(
            "too_deep",
            format!("the body is nested deeper than {DEPTH_LIMIT} levels"),
        ));
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| invalid_json(&error))?;
    if kind_of(whole) != Kind::Object {
        let found = kind_of(whole).name();
        return Err(FieldError::whole(
            "invalid_type",
            format!("the body must be a JSON object, not {found}"),
        ));
    }
    members(whole).map_err(|error| invalid_json(&error))
}

fn invalid_json(error: &serde_json::Error) -> FieldError {
    FieldError::whole(
        "invalid_json",
        format!("the body is not valid JSON: {error}"),
    )
}

/// Checks every message, one level deep. Returns how many there are, and the first of the user.
pub(super) fn messages<'a>(
    fields: &Members<'a>,
    errors: &mut Vec<FieldError>,
) -> (usize, Option<&'a RawValue>) {
    let Some(messages) = fields.get("messages") else {
        errors.push(FieldError::of(
            "messages",
            "missing_required_parameter",
            "`messages` is required",
        ));
        return (0, None);
    };
    let messages: Vec<&'a RawValue> = if let Ok(list) = serde_json::from_str(messages.get()) {
        list
    } else {
        errors.push(wrong_type("messages", "an array", messages));
        return (0, None);
    };
    if messages.is_empty() {
        errors.push(FieldError::of(
            "messages",
            "invalid_value",
            "`messages` must hold at least one message",
        ));
    }
    let mut first_of_user = None;
    for (at, message) in messages.iter().enumerate() {
        let is_of_user = one_message(&format!("messages[{at}]"), message, errors);
        if is_of_user && first_of_user.is_none() {
            first_of_user = Some(*message);
        }
    }
    (messages.len(), first_of_user)
}

/// Returns whether it is the user's.
fn one_message(path: &str, message: &RawValue, errors: &mut Vec<FieldError>) -> bool {
    let fields = match members(message) {
        Ok(fields) if kind_of(message) == Kind::Object => fields,
        _ => {
            errors.push(wrong_type(path, "an object", message));
            return false;
        }
    };
    let role = role(&format!("{path}.role"), fields.get("role"), errors);
    let content = format!("{path}.content");
    match fields.last("content") {
        // An assistant that calls tools may say nothing.
        None if role.as_deref() == Some("assistant") => {}
        None => errors.push(FieldError::of(
            &content,
            "missing_required_parameter",
            format!("`{content}` is required"),
        )),
        Some(value) => match kind_of(value) {
            Kind::String | Kind::Array | Kind::Null => {}
            _ => errors.push(wrong_type(&content, "a string, an array or null", value)),
        },
    }
    if role.as_deref() == Some("tool") {
        let id = format!("{path}.tool_call_id");
        match fields.get("tool_call_id") {
            Some(value) if kind_of(value) == Kind::String => {}
            Some(value) => errors.push(wrong_type(&id, "a string", value)),
            None => {
                let message = format!("`{id}` is required when the role is `tool`");
                errors.push(FieldError::of(&id, "missing_required_parameter", message));
            }
        }
    }
    role.as_deref() == Some("user")
}

fn role(path: &str, role: Option<&RawValue>, errors: &mut Vec<FieldError>) -> Option<String> {
    let Some(value) = role else {
        errors.push(FieldError::of(
            path,
            "missing_required_parameter",
            format!("`{path}` is required"),
        ));
        return None;
    };
    let Ok(role) = serde_json::from_str::<String>(value.get()) else {
        errors.push(wrong_type(path, "a string", value));
        return None;
    };
    if !ROLES.contains(&role.as_str()) {
        let shown: String = role.chars().take(40).collect();
        let message = format!(
            "`{path}` is `{}`; it must be one of {}",
            shown.escape_debug(),
            ROLES.join(", ")
        );
        errors.push(FieldError::of(path, "invalid_value", message));
    }
    Some(role)
}

/// Checks the types of the options that every upstream reads.
pub(super) fn options(fields: &Members<'_>, errors: &mut Vec<FieldError>) {
    let mut check = |key: &str, allowed: &[Kind], words: &str| {
        if let Some(value) = fields.get(key)
            && !allowed.contains(&kind_of(value))
        {
            errors.push(wrong_type(key, words, value));
        }
    };
    for key in NUMBERS {
        check(key, &[Kind::Number], "a number");
    }
    check("tools", &[Kind::Array], "an array");
    check("stream_options", &[Kind::Object], "an object");
    check("stop", &[Kind::String, Kind::Array], "a string or an array");
}

pub(super) fn wrong_type(path: &str, expected: &str, found: &RawValue) -> FieldError {
    FieldError::of(
        path,
        "invalid_type",
        format!("`{path}` must be {expected}, not {}", kind_of(found).name()),
    )
}

/// `RawValue` is skipped over without serde's own recursion limit.
fn is_too_deep(body: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH_LIMIT {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
