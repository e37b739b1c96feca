//! Values of a database whose columns hold what they should not: numbers as text, text twice encoded, nothing.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

/// Longer texts are left out. The rows of a chunk wait in memory, at most a few such texts each.
const MOST_TEXT: usize = 8 << 20;
/// How often JSON may be wrapped in a JSON string.
const MOST_WRAPS: usize = 4;

/// A row that is read without complaint: a column that is missing or makes no sense is `None`.
pub(super) struct Cells<'a>(pub(super) &'a Row<'a>);

impl Cells<'_> {
    /// About how many bytes the row holds.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.0.as_ref().column_count();
        let sizes = (0..columns).map(|column| match self.0.get_ref(column) {
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => 16 + bytes.len().min(MOST_TEXT),
            _ => 16,
        });
        sizes.sum()
    }

    /// Text that is not empty and not too long to be kept.
    pub(super) fn text(&self, column: &str) -> Option<String> {
        self.raw(column)?.ok().filter(|text| !text.is_empty())
    }

    /// Text for people, which may be missing.
    pub(super) fn words(&self, column: &str) -> String {
        self.text(column).unwrap_or_default()
    }

    /// A body: its own text, or a note of its size when it is longer than what is kept.
    pub(super) fn body(&self, column: &str) -> Option<String> {
        let body = self.raw(column)?.unwrap_or_else(|bytes| {
            json!({"qwarden": {"omitted": "too long", "bytes": bytes}}).to_string()
        });
        Some(body)
    }

    /// A whole number, also one that became a fraction or text.
    pub(super) fn integer(&self, column: &str) -> Option<i64> {
        match self.0.get_ref(column).ok()? {
            ValueRef::Integer(number) => Some(number),
            ValueRef::Real(number) => rounded(number),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text).ok()?.trim();
                text.parse()
                    .ok()
                    .or_else(|| text.parse().ok().and_then(rounded))
            }
            ValueRef::Null | ValueRef::Blob(_) => None,
        }
    }

    /// A count that is no count is none.
    pub(super) fn count(&self, column: &str) -> Option<i64> {
        self.integer(column).filter(|count| *count >= 0)
    }

    /// A truth value, also as a word.
    pub(super) fn flag(&self, column: &str) -> Option<bool> {
        if let Some(number) = self.integer(column) {
            return Some(number != 0);
        }
        match self.text(column)?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// The value as text; the error is its length when that is too much.
    fn raw(&self, column: &str) -> Option<Result<String, usize>> {
        match self.0.get_ref(column).ok()? {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(Ok(number.to_string())),
            ValueRef::Real(number) => Some(Ok(Value::from(number).to_string())),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) if bytes.len() > MOST_TEXT => {
                Some(Err(bytes.len()))
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Some(Ok(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
    }
}

/// What a text says once it is taken out of the JSON strings around it; `None` when it is no JSON.
pub(super) fn unwrapped(text: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    for _ in 0..MOST_WRAPS {
        let Value::String(inner) = &value else { break };
        let Ok(next) = serde_json::from_str(inner) else {
            break;
        };
        value = next;
    }
    Some(value)
}

/// A text without the JSON quotes somebody put around it.
pub(super) fn unquoted(text: &str) -> String {
    match serde_json::from_str(text.trim()) {
        Ok(Value::String(inner)) => inner,
        _ => text.to_owned(),
    }
}

/// `3001.0` is 3001. A fraction is rounded: the older program counted milliseconds in them.
pub(super) fn rounded(number: f64) -> Option<i64> {
    // Written out and read back, it cannot wrap around.
    number
        .is_finite()
        .then(|| format!("{number:.0}").parse().ok())?
}
