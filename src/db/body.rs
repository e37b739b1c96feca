//! Bodies as the history keeps them: JSON text, packed where that saves something.

use std::io::{self, Read};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::db::json;

/// Shorter texts stay text. One of 4 KiB fits into the row's own page and the next, so packing would save no page worth
/// the time, and whoever looks into the file with other tools can read most rows.
const LEAST: usize = 4 << 10;
/// Zstandard's fastest regular level. Measured: see ARCHITECTURE.md, "History".
const LEVEL: i32 = 1;
/// Levels of nesting. `SQLite` reads JSON down to a thousand, `serde_json` down to 127 when it makes a tree of it; a body
/// is listed within an answer of ours.
const DEEPEST: usize = 100;
/// No body unpacks to more: what a damaged file claims must not take the memory.
const MOST: u64 = 1 << 30;
/// A frame's header is at most this long (RFC 8878, 3.1.1).
pub(super) const HEADER: u8 = 18;

/// A body, ready to be stored. Has no `Debug`: bodies are never logged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Body(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Text(String),
    Packed(Vec<u8>),
}

impl Body {
    /// Takes the text of a body. One that is not JSON, or nests too deep, is kept as a JSON string: history is never
    /// refused for its content. Takes about 3 ms per MB, so it is not for the writer's thread.
    pub(crate) fn of(text: String) -> Self {
        let text = if is_json(&text) {
            text
        } else {
            serde_json::Value::String(text).to_string()
        };
        if text.len() <= LEAST {
            return Self(Form::Text(text));
        }
        match zstd::bulk::compress(text.as_bytes(), LEVEL) {
            Ok(packed) if packed.len() < text.len() => Self(Form::Packed(packed)),
            _ => Self(Form::Text(text)),
        }
    }

    /// Bytes in memory and in the file.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Form::Text(text) => text.len(),
            Form::Packed(packed) => packed.len(),
        }
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::of(text.to_owned())
    }
}

impl ToSql for Body {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match &self.0 {
            Form::Text(text) => ValueRef::Text(text.as_bytes()),
            Form::Packed(packed) => ValueRef::Blob(packed),
        }))
    }
}

/// The text of a column of bodies.
struct Unpacked(String);

impl FromSql for Unpacked {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Blob(packed) => unpack(packed)
                .map(Self)
                .map_err(|error| FromSqlError::Other(Box::new(error))),
            _ => String::column_result(value).map(Self),
        }
    }
}

/// The column's body as JSON text; `None` for NULL.
pub(super) fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<String>> {
    let body: Option<Unpacked> = row.get(column)?;
    Ok(body.map(|body| body.0))
}

/// The column's body; `None` for NULL. Its own text, not parsed into a tree: bodies are large.
pub(super) fn read(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Box<RawValue>>> {
    text(row, column)?
        .map(|text| json::checked(RawValue::from_string(text)))
        .transpose()
}

/// How long the text is whose packed form begins with `header`.
pub(super) fn unpacked_length(header: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(header)
        .ok()
        .flatten()
}

fn unpack(packed: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    zstd::stream::read::Decoder::new(packed)?
        .take(MOST)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn is_json(text: &str) -> bool {
    is_shallow(text) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Brackets outside of strings, counted; what is no JSON is found by others.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut within, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b'[' | b'{' if !within => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !within => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest <= DEEPEST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    /// Through a column with the schema's rule.
    fn stored(body: &Body) -> (String, String) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE t (b ANY CHECK (typeof(b) = 'blob' OR json_valid(b))) STRICT",
        )
        .unwrap();
        conn.execute("INSERT INTO t VALUES (?1)", [body]).unwrap();
        conn.query_row("SELECT b, typeof(b) AS kind FROM t", [], |row| {
            Ok((text(row, "b")?.unwrap(), row.get("kind")?))
        })
        .unwrap()
    }

    #[test]
    fn long_bodies_are_packed_and_short_ones_are_not() {
        let short = r#"{"a":1}"#.to_owned();
        assert_eq!(stored(&Body::of(short.clone())), (short, "text".into()));
        let long = serde_json::json!({"text": "word ".repeat(10_000)}).to_string();
        let body = Body::of(long.clone());
        assert!(body.len() < long.len() / 10);
        let Form::Packed(packed) = &body.0 else {
            panic!("it is packed");
        };
        assert_eq!(
            unpacked_length(&packed[..usize::from(HEADER)]),
            Some(long.len() as u64)
        );
        assert_eq!(stored(&body), (long, "blob".into()));
    }

    #[test]
    fn what_is_not_json_or_too_deep_becomes_a_string() {
        let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
        for odd in ["", "no json", "{\"a\":", "\u{0}", "1 2", &deep] {
            let (text, _) = stored(&Body::of(odd.into()));
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), odd);
        }
        let good = format!("{}\"[[{{{{\\\"\"{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(stored(&Body::of(good.clone())).0, good);
        assert!(unpack(b"no frame").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_body_comes_back_as_it_was(words in proptest::collection::vec(any::<String>(), 0..400), times in 1..40_usize) {
            let body = serde_json::json!({"messages": vec![words; times]}).to_string();
            prop_assert_eq!(stored(&Body::of(body.clone())).0, body);
        }

        #[test]
        fn whatever_is_taken_for_json_is_json_to_the_table(text in "[-+0-9eE.{}\\[\\],:\"\\\\ua-f \\n]{0,24}") {
            let (stored, _) = stored(&Body::of(text));
            prop_assert!(serde_json::from_str::<IgnoredAny>(&stored).is_ok());
        }
    }
}
