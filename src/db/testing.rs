//! What the tests of this folder share.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::json;

use crate::db::activity::ActivityRow;
use crate::db::history::{AttemptOutcome, AttemptRow, ExchangeStatus, OutcomeRow, RequestRow};
use crate::db::providers::{ConfigRow, ProviderRow};
use crate::db::recordings::Packed;
use crate::db::virtual_models::VirtualRow;
use crate::protocol::recording::Recording;
use crate::routing::virtuals::{Strategy, VirtualModel, VirtualTarget};

/// A database in memory with the current schema.
pub(crate) fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    conn.execute_batch(include_str!("../../schema.sql"))
        .unwrap();
    conn
}

/// Every row of every table, in order, as text. How the index of words is laid out is its own matter.
pub(crate) fn content(conn: &Connection) -> Vec<String> {
    let tables: Vec<String> = conn
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
                    AND name NOT IN ('history_words_data', 'history_words_idx') ORDER BY name",
        )
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut rows = Vec::new();
    for table in tables {
        let mut statement = conn
            .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
            .unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let cells: Vec<String> = (0..columns)
                .map(|column| text(row.get_ref(column).unwrap()))
                .collect();
            rows.push(format!("{table}: {}", cells.join(" | ")));
        }
    }
    rows
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn sample_provider(id: &str) -> (ProviderRow, Vec<ConfigRow>) {
    let provider = ProviderRow {
        id: id.into(),
        name: format!("Provider {id}"),
        kind: "openai".into(),
        enabled: true,
        priority: 3,
        description: None,
        origin: "user".into(),
        auto_enable: false,
        created_at: 1,
        updated_at: 1,
    };
    let config = vec![
        ConfigRow {
            key: "apiKey".into(),
            value: json!("sk-1"),
            is_sensitive: true,
            sealed: false,
        },
        ConfigRow {
            key: "baseURL".into(),
            value: json!("http://localhost:1/v1"),
            is_sensitive: false,
            sealed: false,
        },
    ];
    (provider, config)
}

pub(crate) fn sample_virtual(name: &str, targets: &[&str]) -> VirtualRow {
    let target = |target: &&str| VirtualTarget {
        target: (*target).into(),
        weight: 2,
    };
    VirtualRow {
        model: VirtualModel {
            name: name.into(),
            strategy: Strategy::Weighted,
            targets: targets.iter().map(target).collect(),
            enabled: true,
        },
        description: None,
        created_at: 1,
        updated_at: 1,
    }
}

pub(crate) fn sample_activity(id: &str) -> ActivityRow {
    ActivityRow {
        id: id.into(),
        kind: "provider_changed".into(),
        action: "created".into(),
        description: "a provider was made".into(),
        metadata: json!({"provider": "a"}),
        timestamp: 5,
    }
}

pub(crate) fn sample_request(id: &str) -> Arc<RequestRow> {
    Arc::new(RequestRow {
        request_id: id.into(),
        client_request_id: Some("theirs".into()),
        replay_of: None,
        tags: std::collections::BTreeMap::new(),
        session_id: None,
        timestamp: 7_200_500,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        port: 3001,
        user_agent: Some("test".into()),
        openai_request: r#"{"model":"m"}"#.into(),
        model: "m".into(),
        stream: true,
        plan: None,
        kept: None,
        key_id: None,
        words: "asked".into(),
    })
}

/// Two attempts, the second of which succeeded.
pub(crate) fn sample_outcome(response_id: &str) -> Box<OutcomeRow> {
    let attempt = |number, outcome| AttemptRow {
        number,
        provider_id: format!("p{number}"),
        upstream_model: "m-large".into(),
        started_at: 7_200_500,
        duration_ms: 4,
        ttft_ms: Some(2),
        upstream_status: Some(200),
        outcome,
        error: None,
        error_code: None,
        resumed_at: None,
    };
    Box::new(OutcomeRow {
        response_id: response_id.into(),
        status: ExchangeStatus::Completed,
        provider_id: Some("p2".into()),
        upstream_model: Some("m-large".into()),
        finished_at: 7_200_900,
        openai_response: Some(r#"{"id":"x"}"#.into()),
        words: Some("answered".into()),
        prompt_tokens: Some(10),
        completion_tokens: Some(5),
        total_tokens: None,
        cached_tokens: Some(1),
        reasoning_tokens: None,
        cost_microusd: Some(42),
        finish_reason: Some("stop".into()),
        error: None,
        error_code: None,
        http_status: 200,
        upstream_status: Some(200),
        queue_ms: Some(0),
        ttft_ms: Some(6),
        duration_ms: 9,
        attempts: vec![
            attempt(1, AttemptOutcome::Failed),
            attempt(2, AttemptOutcome::Succeeded),
        ],
        recording: Some(Packed::of(Recording::begun(
            "r",
            "/v1/chat/completions",
            5,
            BTreeMap::new(),
        ))),
        from_cache: None,
    })
}
