//! `POST /api/import`: the database of the older program, over a real gateway.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::site::{Site, jwt};
use crate::support::upstream::{Upstream, json_answer, whole};
use crate::support::{TestGateway, say};

/// Far in the future (Unix seconds).
const LATER: u64 = 4_000_000_000;

/// Layout of the older program's database.
const LAYOUT: &str = "
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE sessions (id TEXT PRIMARY KEY, chat_id TEXT NOT NULL, parent_id TEXT,
        first_user_message TEXT NOT NULL, message_count INTEGER DEFAULT 0, created_at INTEGER NOT NULL,
        last_accessed INTEGER NOT NULL, expires_at INTEGER NOT NULL, user_id TEXT, conversation_hash TEXT);
    CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        request_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
        openai_request TEXT NOT NULL, qwen_request TEXT NOT NULL, model TEXT NOT NULL, stream BOOLEAN NOT NULL,
        created_at INTEGER NOT NULL);
    CREATE TABLE responses (id INTEGER PRIMARY KEY AUTOINCREMENT, request_id INTEGER NOT NULL,
        session_id TEXT NOT NULL, response_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, qwen_response TEXT,
        openai_response TEXT, parent_id TEXT, completion_tokens INTEGER, prompt_tokens INTEGER, total_tokens INTEGER,
        finish_reason TEXT, error TEXT, duration_ms INTEGER, created_at INTEGER NOT NULL);
    CREATE TABLE qwen_credentials (id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, cookies TEXT NOT NULL,
        expires_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE providers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
        enabled BOOLEAN NOT NULL DEFAULT 1, priority INTEGER NOT NULL DEFAULT 0, description TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE provider_configs (id INTEGER PRIMARY KEY AUTOINCREMENT, provider_id TEXT NOT NULL,
        key TEXT NOT NULL, value TEXT NOT NULL, is_sensitive BOOLEAN DEFAULT 0, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, UNIQUE (provider_id, key));
    CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, capabilities TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE provider_models (id INTEGER PRIMARY KEY AUTOINCREMENT, provider_id TEXT NOT NULL,
        model_id TEXT NOT NULL, is_default BOOLEAN DEFAULT 0, config TEXT, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, UNIQUE (provider_id, model_id));";

/// More rows than fit into one chunk.
const HISTORY: &str = "
    INSERT INTO sessions VALUES ('s1', 'c1', NULL, 'hello', 2, 1, 2, 3, NULL, NULL);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1100)
    INSERT INTO requests SELECT i, 's1', 'r-' || i, i, 'POST', '/v1/chat/completions', '{\"n\":' || i || '}', '{}',
        'old-model', 0, i FROM n;
    INSERT INTO responses SELECT id, id, 's1', 'a-' || id, timestamp, NULL, '{}', NULL, 1, 2, 3, 'stop', NULL, 4, id
        FROM requests;";

pub fn old(dir: &Path, base_url: &str, token: &str) -> PathBuf {
    let path = dir.join("provider-router.db");
    let conn = rusqlite::Connection::open(&path).expect("a file");
    for sql in ["PRAGMA journal_mode = WAL", LAYOUT, HISTORY] {
        conn.execute_batch(sql).expect("it runs");
    }
    conn.execute_batch(&format!(
        "INSERT INTO settings VALUES ('server.timeout', '90000.0', 1), ('active_provider', 'lab', 1),
             ('server.host', '0.0.0.0', 1);
         INSERT INTO providers VALUES ('lab', 'Lab', 'generic', 1, 7, NULL, 1, 1),
             ('lm-studio-default', 'LM Studio Default', 'lm-studio', 1, 10, NULL, 1, 1);
         INSERT INTO provider_configs (provider_id, key, value, created_at, updated_at) VALUES
             ('lab', 'baseURL', '{base_url}', 1, 1), ('lab', 'apiKey', 'sk-planted', 1, 1);
         INSERT INTO models VALUES ('old-model', 'Old model', NULL, '\"[\\\"chat\\\"]\"', 1, 1);
         INSERT INTO provider_models (provider_id, model_id, is_default, created_at, updated_at) VALUES
             ('lab', 'old-model', 1, 1, 1);
         INSERT INTO qwen_credentials VALUES (1, '{token}', 'token={token}; a=b', {LATER}, 1, 1);"
    ))
    .expect("it runs");
    path
}

async fn import(gateway: &TestGateway, body: &Value) -> (u16, Value) {
    let response = gateway.post(&gateway.api("/api/import"), body).await;
    let status = response.status().as_u16();
    (status, response.json().await.expect("a JSON body"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_older_program_kept_is_in_force_with_the_answer() {
    let upstream = Upstream::start(|_| vec![json_answer(200, &whole("from the lab"))]).await;
    let site = Site::saying("from the site").await;
    let dir = tempfile::tempdir().expect("a folder");
    let token = jwt("u1", LATER);
    let path = old(dir.path(), &upstream.base_url(), &token);
    let gateway = TestGateway::with(&[("qwen.baseUrl", json!(site.upstream.origin()))]).await;

    let (status, told) = import(&gateway, &json!({"path": path, "dry_run": true})).await;
    assert_eq!((status, &told["dry_run"]), (200, &json!(true)), "{told}");
    assert_eq!(gateway.cell::<i64>("SELECT count(*) FROM requests"), 0);
    let (status, done) = import(&gateway, &json!({"path": path})).await;
    assert_eq!((status, &done["success"]), (200, &json!(true)), "{done}");
    assert_eq!(
        done["tables"], told["tables"],
        "the preview told what would be done"
    );
    for (table, imported, existing, skipped) in [
        ("providers", 2, 0, 0),
        ("provider_configs", 2, 0, 0),
        ("models", 1, 0, 0),
        ("provider_models", 1, 0, 0),
        ("settings", 2, 0, 1),
        ("sessions", 1, 0, 0),
        ("requests", 1_100, 0, 0),
        ("responses", 1_100, 0, 0),
        ("qwen_credentials", 1, 0, 0),
    ] {
        let row = &done["tables"][table];
        assert_eq!(
            (&row["imported"], &row["existing"], &row["skipped"]),
            (&json!(imported), &json!(existing), &json!(skipped)),
            "{table}: {row}"
        );
    }

    // The provider, its default model and the settings count for the next request.
    let (_, provider) = gateway.get(&gateway.api("/api/providers/lab")).await;
    assert_eq!(provider["origin"], "import");
    assert_eq!(provider["config"]["apiKey"], "***MASKED***");
    assert_eq!(provider["models"][0]["capabilities"], json!(["chat"]));
    let mut request = say("", "hello");
    request.as_object_mut().expect("an object").remove("model");
    let answer = gateway.chat(&request).await;
    assert_eq!(answer.headers()["x-qwarden-provider"], "lab");
    let (_, setting) = gateway
        .get(&gateway.api("/api/settings/server.timeout"))
        .await;
    assert_eq!(setting["value"], 90_000);
    let (_, exchange) = gateway.get(&gateway.api("/api/requests/r-1100")).await;
    assert_eq!(exchange["openai_request"], json!({"n": 1100}));
    assert_eq!(exchange["response"]["response_id"], "a-1100");

    // The login is used, and sealed.
    let response = gateway
        .post(
            &gateway.qwen("/v1/chat/completions"),
            &say("qwen3-max", "go"),
        )
        .await;
    let answer: Value = response.json().await.expect("JSON");
    assert_eq!(
        answer["choices"][0]["message"]["content"], "from the site",
        "{answer}"
    );
    assert_eq!(gateway.cell::<i64>("SELECT sealed FROM credentials"), 1);
    assert!(!done.to_string().contains(&token[8..40]) && !done.to_string().contains("planted"));

    let usage = "SELECT sum(requests) || '/' || sum(total_tokens) FROM usage_rollups WHERE model = 'old-model' AND provider = ''";
    assert_eq!(gateway.cell::<String>(usage), "1100/3300");
    let (status, again) = import(&gateway, &json!({"path": path})).await;
    assert_eq!((status, &again["imported"]), (200, &json!(0)), "{again}");
    assert_eq!(again["tables"]["requests"]["existing"], 1_100);
    assert_eq!(gateway.cell::<String>(usage), "1100/3300");

    // A start reads what was imported.
    let dir = gateway.stop().await;
    let gateway = TestGateway::reopened(dir, &[]).await;
    let (_, credentials) = gateway.get(&gateway.api("/api/qwen/credentials")).await;
    assert_eq!(credentials["isValid"], true);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_crashes_meanwhile_stores_every_row_and_counts_it_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = old(dir.path(), "http://127.0.0.1:9/v1", &jwt("u1", LATER));
    let gateway = TestGateway::start().await;
    let body = json!({ "path": path });
    let ((status, done), crashed) =
        tokio::join!(import(&gateway, &body), gateway.crash("database"));
    assert_eq!((status, crashed), (200, 200), "{done}");
    assert_eq!(done["tables"]["requests"]["found"], 1_100);
    let usage = "SELECT sum(requests) || '/' || sum(total_tokens) FROM usage_rollups";
    assert_eq!(gateway.cell::<String>(usage), "1100/3300");
    let rows = "SELECT count(*) FROM responses JOIN requests ON requests.id = responses.request_id";
    assert_eq!(gateway.cell::<i64>(rows), 1_100);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_with_the_reason() {
    let gateway = TestGateway::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let text = dir.path().join("text.db");
    std::fs::write(&text, "no database").expect("a file");
    for (body, status, part) in [
        (json!({}), 400, "`path`"),
        (json!({"path": "provider-router.db"}), 400, "absolute"),
        (json!({"path": text, "dry_run": 1}), 400, "`dry_run`"),
        (
            json!({"path": dir.path().join("none.db")}),
            422,
            "there is none at this path",
        ),
        (json!({"path": dir.path()}), 422, "no file"),
        (json!({"path": text}), 422, "no SQLite database"),
        (json!({"path": gateway.database()}), 422, "of this qwarden"),
    ] {
        let (got, error) = import(&gateway, &body).await;
        let message = error["message"].as_str().expect("words");
        assert_eq!(got, status, "{body}: {error}");
        assert!(message.contains(part), "{body}: {error}");
        if got == 422 {
            assert_eq!(
                (&error["error"]["code"], &error["error"]["param"]),
                (&json!("not_importable"), &json!("path"))
            );
        }
    }
    // The writer is as well as before.
    let (_, health) = gateway.get(&gateway.api("/api/health")).await;
    assert_eq!(health["status"], "ok", "{health}");
    gateway.stop().await;
}
