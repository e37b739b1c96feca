//! JSON in columns of text.

use rusqlite::types::Type;
use rusqlite::{Row, RowIndex};
use serde_json::Value;

/// The column's JSON; `None` for NULL.
pub(super) fn value(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<Value>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| checked(serde_json::from_str(&text)))
        .transpose()
}

/// A list of texts as a column's JSON.
pub(super) fn strings(list: &[String]) -> String {
    Value::from(list.to_vec()).to_string()
}

/// Makes a failure to read JSON one of reading the row.
pub(super) fn checked<T>(parsed: serde_json::Result<T>) -> rusqlite::Result<T> {
    // Which column it was does not reach the caller, so it is not looked up.
    parsed
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// About how many bytes `value` takes in memory.
pub(super) fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| key.len() + weight(value))
            .sum(),
    };
    size_of::<Value>() + inside
}
