//! Reading what upstreams say when they fail, in the shapes they were seen to use.

use serde_json::Value;

/// Longest message taken from a body that is not JSON, in characters.
const PLAIN_LIMIT: usize = 500;
/// Longest message taken from JSON, in characters.
const JSON_LIMIT: usize = 4000;

/// What an upstream said about a failure. Never empty, one line, no control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UpstreamFault {
    pub(crate) message: String,
    /// The error's `type`, such as `invalid_request_error`.
    pub(crate) kind: Option<String>,
    /// The error's `code`, such as `insufficient_quota`.
    pub(crate) code: Option<String>,
    /// An HTTP status (400 to 599) named inside the body.
    pub(crate) status: Option<u16>,
}

impl UpstreamFault {
    /// A fault with nothing but a message.
    pub(crate) fn text(message: &str) -> Self {
        Self {
            message: clean(message, PLAIN_LIMIT),
            ..Self::default()
        }
    }

    /// Whether the account behind the key has nothing left to spend: no retry mends that.
    pub(crate) fn is_quota(&self) -> bool {
        let named = |name: &Option<String>| {
            name.as_deref().is_some_and(|name| {
                matches!(name, "insufficient_quota" | "billing_hard_limit_reached")
            })
        };
        named(&self.code) || named(&self.kind)
    }
}

/// The fault in a body of any shape: the common JSON ones, HTML (its title only), or plain text cut at 500 characters.
pub(crate) fn read(body: &[u8]) -> UpstreamFault {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        return read_value(&value).unwrap_or_else(|| UpstreamFault::text(&value.to_string()));
    }
    let text = String::from_utf8_lossy(body);
    if is_html(body) {
        return UpstreamFault::text(&html_title(&text).map_or_else(
            || "the upstream sent an HTML page".to_owned(),
            |title| format!("the upstream sent an HTML page: {title}"),
        ));
    }
    match text.trim() {
        "" => UpstreamFault::text("the upstream gave no reason"),
        text => UpstreamFault::text(text),
    }
}

/// The fault a JSON body describes, or None when it does not look like an error.
///
/// Shapes: `{"error":{message,type,code}}` (`OpenAI`), `{"error":"text"}` (Ollama), `[{"error":{..}}]` (Gemini),
/// `{"object":"error","message"}` (vLLM), `{"message"}`, `{"detail"}` (`FastAPI`).
pub(crate) fn read_value(value: &Value) -> Option<UpstreamFault> {
    let value = match value {
        Value::Array(items) => items.first()?,
        other => other,
    };
    match value.get("error") {
        None | Some(Value::Null) => {}
        Some(Value::Object(error)) => {
            let error = Value::Object(error.clone());
            let message = message_of(&error).unwrap_or_else(|| error.to_string());
            return Some(fault(&error, &message));
        }
        Some(Value::String(text)) => return Some(fault(value, text)),
        Some(Value::Bool(false)) => return None,
        Some(other) => {
            let message = message_of(value).unwrap_or_else(|| other.to_string());
            return Some(fault(value, &message));
        }
    }
    message_of(value).map(|message| fault(value, &message))
}

/// Whether the bytes begin like an HTML page.
pub(crate) fn is_html(body: &[u8]) -> bool {
    let start: String = String::from_utf8_lossy(body.get(..200).unwrap_or(body))
        .trim_start()
        .to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}');
    ["<!doctype html", "<html", "<head", "<body"]
        .iter()
        .any(|tag| start.starts_with(tag))
}

fn fault(error: &Value, message: &str) -> UpstreamFault {
    let text = |key: &str| match error.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(clean(text, 100)),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let status = ["code", "status", "status_code"]
        .iter()
        .find_map(|key| http_status(error.get(*key)?));
    let message = if message.trim().is_empty() {
        "the upstream gave no reason"
    } else {
        message
    };
    UpstreamFault {
        message: clean(message, JSON_LIMIT),
        kind: text("type").or_else(|| {
            error
                .get("status")
                .and_then(Value::as_str)
                .map(|status| clean(status, 100))
        }),
        code: text("code"),
        status,
    }
}

fn message_of(value: &Value) -> Option<String> {
    let found = ["message", "detail", "msg"]
        .iter()
        .find_map(|key| value.get(*key).filter(|found| !found.is_null()))?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let messages: Vec<&str> = items
                .iter()
                .filter_map(|item| item.get("msg").and_then(Value::as_str))
                .collect();
            Some(if messages.is_empty() {
                found.to_string()
            } else {
                messages.join("; ")
            })
        }
        Value::Object(inner) => {
            let inner = inner
                .get("message")
                .or_else(|| inner.get("error"))
                .and_then(Value::as_str);
            Some(inner.map_or_else(|| found.to_string(), str::to_owned))
        }
        _ => None,
    }
}

fn http_status(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    u16::try_from(number)
        .ok()
        .filter(|status| (400..600).contains(status))
}

fn html_title(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower.get(open..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    let title = text
        .get(start..end)?
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    (!title.is_empty()).then_some(title)
}

/// At most `limit` characters, with control characters written out: it ends up in logs and terminals.
fn clean(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for (at, character) in text.trim().chars().enumerate() {
        if at == limit {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_shape_is_read() {
        for (body, message) in [
            (
                r#"{"error":{"message":"no key","type":"t","code":"c","param":null}}"#,
                "no key",
            ),
            (r#"{"error":"model not found"}"#, "model not found"),
            (
                r#"[{"error":{"code":400,"message":"bad key","status":"INVALID_ARGUMENT"}}]"#,
                "bad key",
            ),
            (
                r#"{"object":"error","message":"too long","code":400}"#,
                "too long",
            ),
            (r#"{"message":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
                "field required",
            ),
            (r#"{"error":{}}"#, "{}"),
            (r#"{"error":{"message":""}}"#, "the upstream gave no reason"),
            ("upstream\tbroke\n", r"upstream\tbroke"),
            ("", "the upstream gave no reason"),
            (
                "<!DOCTYPE html><title>502\n Bad Gateway</title>x",
                "the upstream sent an HTML page: 502 Bad Gateway",
            ),
            ("\n<html><body>x", "the upstream sent an HTML page"),
        ] {
            assert_eq!(read(body.as_bytes()).message, message, "{body}");
        }
    }

    #[test]
    fn type_code_and_status_are_kept() {
        let fault = read(br#"{"error":{"message":"m","type":"t","code":"insufficient_quota"}}"#);
        assert_eq!(
            (fault.kind.as_deref(), fault.code.as_deref(), fault.status),
            (Some("t"), Some("insufficient_quota"), None)
        );
        assert!(fault.is_quota());
        let fault = read(br#"{"error":{"message":"m","code":429}}"#);
        assert_eq!(
            (fault.code.as_deref(), fault.status),
            (Some("429"), Some(429))
        );
    }

    #[test]
    fn long_and_odd_text_is_cut_and_escaped() {
        assert_eq!(
            read("é".repeat(600).as_bytes()).message.chars().count(),
            501
        );
        assert_eq!(read(b"a\x1b[31mb").message, r"a\u{1b}[31mb");
        assert!(read(b"\xff\xfe").message.contains('\u{fffd}'));
    }

    #[test]
    fn an_answer_is_not_an_error() {
        assert_eq!(
            read_value(&serde_json::json!({"choices": [], "error": null})),
            None
        );
    }
}
