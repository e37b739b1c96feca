//! What a client says, hears and finds stored.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than anything here takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .expect("a client")
}

pub fn read_cell<T: rusqlite::types::FromSql>(database: &Path, sql: &str) -> T {
    let conn = rusqlite::Connection::open(database).expect("the database opens");
    conn.busy_timeout(PATIENCE).expect("a busy timeout");
    conn.query_row(sql, [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// A request for `model` that says `text`.
pub fn say(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed.
pub fn say_streamed(model: &str, text: &str) -> Value {
    json!({"model": model, "stream": true, "messages": [{"role": "user", "content": text}]})
}

/// The text of a streamed answer, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub text: String,
    pub finish_reasons: Vec<String>,
    pub errors: Vec<Value>,
    pub done: usize,
    pub usages: usize,
}

/// Reads events as a client would.
pub fn hear(events: &str) -> Heard {
    let mut heard = Heard::default();
    for line in events.lines() {
        let Some(data) = line.strip_prefix("data: ") else {
            assert!(
                line.is_empty() || line.starts_with(':') || line.starts_with("event:"),
                "odd line {line:?}"
            );
            continue;
        };
        if data == "[DONE]" {
            heard.done += 1;
            continue;
        }
        let event: Value = serde_json::from_str(data).expect("every data line is JSON");
        if !event["error"].is_null() {
            heard.errors.push(event["error"].clone());
        }
        if event["usage"].is_object() {
            heard.usages += 1;
        }
        for choice in event["choices"].as_array().into_iter().flatten() {
            heard
                .text
                .push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            heard
                .finish_reasons
                .extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }
    heard
}
