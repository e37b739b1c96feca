use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::report::{Report, TableReport};
use super::source::Source;
use super::*;
use crate::db::error::DbError;
use crate::db::history::list::RowName;
use crate::db::testing::{self, content};

/// Later than the times of all rows, earlier than the end of the login (Unix ms).
const NOW: i64 = 1_763_000_000_000;

/// The newest layout: version 5 of the router's tables, version 4 of the Qwen proxy's.
const NEWEST: &str = "
    CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at INTEGER DEFAULT (strftime('%s', 'now')));
    CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL,
        updated_at INTEGER NOT NULL DEFAULT (strftime('%s', 'now')));
    CREATE TABLE sessions (id TEXT PRIMARY KEY, chat_id TEXT NOT NULL, parent_id TEXT,
        first_user_message TEXT NOT NULL, message_count INTEGER DEFAULT 0, created_at INTEGER NOT NULL,
        last_accessed INTEGER NOT NULL, expires_at INTEGER NOT NULL, user_id TEXT, conversation_hash TEXT);
    CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        request_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
        openai_request TEXT NOT NULL, qwen_request TEXT NOT NULL, model TEXT NOT NULL, stream BOOLEAN NOT NULL,
        created_at INTEGER NOT NULL, FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE);
    CREATE TABLE responses (id INTEGER PRIMARY KEY AUTOINCREMENT, request_id INTEGER NOT NULL,
        session_id TEXT NOT NULL, response_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, qwen_response TEXT,
        openai_response TEXT, parent_id TEXT, completion_tokens INTEGER, prompt_tokens INTEGER, total_tokens INTEGER,
        finish_reason TEXT, error TEXT, duration_ms INTEGER, created_at INTEGER NOT NULL,
        FOREIGN KEY (request_id) REFERENCES requests (id) ON DELETE CASCADE,
        FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE);
    CREATE TABLE qwen_credentials (id INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT NOT NULL, cookies TEXT NOT NULL,
        expires_at INTEGER, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE providers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
        enabled BOOLEAN NOT NULL DEFAULT 1, priority INTEGER NOT NULL DEFAULT 0, description TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE provider_configs (id INTEGER PRIMARY KEY AUTOINCREMENT, provider_id TEXT NOT NULL,
        key TEXT NOT NULL, value TEXT NOT NULL, is_sensitive BOOLEAN DEFAULT 0, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, UNIQUE (provider_id, key),
        FOREIGN KEY (provider_id) REFERENCES providers (id) ON DELETE CASCADE);
    CREATE TABLE models (id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, capabilities TEXT,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE provider_models (id INTEGER PRIMARY KEY AUTOINCREMENT, provider_id TEXT NOT NULL,
        model_id TEXT NOT NULL, is_default BOOLEAN DEFAULT 0, config TEXT, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, UNIQUE (provider_id, model_id),
        FOREIGN KEY (provider_id) REFERENCES providers (id) ON DELETE CASCADE,
        FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE);
    CREATE TABLE errors (id INTEGER PRIMARY KEY AUTOINCREMENT, error_id TEXT NOT NULL UNIQUE,
        timestamp INTEGER NOT NULL, error_type TEXT NOT NULL, error_code TEXT, error_message TEXT NOT NULL,
        stack_trace TEXT, session_id TEXT, request_id INTEGER, endpoint TEXT, method TEXT, user_agent TEXT,
        request_payload TEXT, response_payload TEXT, severity TEXT NOT NULL, resolved BOOLEAN DEFAULT 0, notes TEXT,
        created_at INTEGER NOT NULL, FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE SET NULL,
        FOREIGN KEY (request_id) REFERENCES requests (id) ON DELETE SET NULL);";

/// Its router had migrated before its Qwen proxy: no `errors`, no `user_id`, no `conversation_hash`.
const OLDER: &str = "
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at INTEGER NOT NULL);
    CREATE TABLE sessions (id TEXT PRIMARY KEY, chat_id TEXT NOT NULL, parent_id TEXT,
        first_user_message TEXT NOT NULL, message_count INTEGER DEFAULT 0, created_at INTEGER NOT NULL,
        last_accessed INTEGER NOT NULL, expires_at INTEGER NOT NULL);
    CREATE TABLE requests (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL,
        request_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
        openai_request TEXT NOT NULL, qwen_request TEXT NOT NULL, model TEXT NOT NULL, stream BOOLEAN NOT NULL,
        created_at INTEGER NOT NULL);
    CREATE TABLE responses (id INTEGER PRIMARY KEY AUTOINCREMENT, request_id INTEGER NOT NULL,
        session_id TEXT NOT NULL, response_id TEXT NOT NULL UNIQUE, timestamp INTEGER NOT NULL, qwen_response TEXT,
        openai_response TEXT, parent_id TEXT, completion_tokens INTEGER, prompt_tokens INTEGER, total_tokens INTEGER,
        finish_reason TEXT, error TEXT, duration_ms INTEGER, created_at INTEGER NOT NULL);
    INSERT INTO sessions VALUES ('s1', 'c1', NULL, 'hi', 2, 1, 2, 3);
    INSERT INTO requests VALUES (1, 's1', 'r1', 5, 'POST', '/v1/chat/completions', '{}', '{}', 'm', 0, 5);
    INSERT INTO responses VALUES (1, 1, 's1', 'a1', 6, NULL, '{}', NULL, 1, 2, 3, 'stop', NULL, 1, 6);";

const ROWS: &str = r#"
    INSERT INTO settings VALUES ('server.port', '3001.0', 1762000000), ('server.timeout', '90000.0', 1762000000),
        ('server.host', '0.0.0.0', 1762000000), ('logging.level', '"debug"', 1762000000),
        ('logging.logRequests', '0.0', 1762000000), ('system.minimizeToTray', 'true', 1762000000),
        ('system.autoStart', 'maybe', 1762000000), ('active_provider', 'lab', 1762000000),
        ('active_model', 'qwen3-max', 1762000000);
    INSERT INTO providers VALUES ('lab', 'Lab', 'generic', 1, 7, 'mine', 11, 12),
        ('twin', 'Provider taken', 'groq', 0, 3, NULL, 11, 12), ('there', 'There', 'groq', 1, 3, NULL, 11, 12);
    INSERT INTO provider_configs (provider_id, key, value, is_sensitive, created_at, updated_at) VALUES
        ('lab', 'baseURL', 'http://127.0.0.1:9/v1', 0, 1, 1), ('lab', 'timeout', '120000.0', 0, 1, 1),
        ('lab', 'apiKey', '123456', 0, 1, 1), ('lab', 'headers', '{"x-team":"a"}', 1.0, 1, 1),
        ('lab', 'quirks', '"{\"a\":true}"', 0, 1, 1), ('there', 'apiKey', 'sk-theirs', 1, 1, 1);
    INSERT INTO models VALUES ('qwen3-max', 'Qwen3 Max', NULL, '["chat","tools"]', 1, 1),
        ('twice', 'Twice', NULL, '"[\"chat\",\"code\"]"', 1, 1), ('broken', 'Broken', NULL, '["chat', 1, 1),
        ('commas', 'Commas', NULL, 'chat, tools', 1, 1), ('none', 'None', 'no list', NULL, 1, 1);
    INSERT INTO provider_models (provider_id, model_id, is_default, config, created_at, updated_at) VALUES
        ('lab', 'qwen3-max', 1, '"{\"t\":1}"', 1, 1), ('lab', 'twice', 1, 'no json', 1, 1),
        ('there', 'twice', 0, NULL, 1, 1);
    INSERT INTO sessions VALUES ('s1', 'c1', 'p1', 'hello', 4, 1, 2, 3, 'u', 'h');
    INSERT INTO requests VALUES
        (10, 's1', 'r-ok', 7200500, 'POST', '/v1/chat/completions', '{"model":"m"}', '{}', 'm', 1, 7200500),
        (11, 's1', 'r-bad', 7200600, 'POST', '/v1/chat/completions', 'no {json', '', 'made-up', 0, 7200600),
        (12, 's1', 'r-open', 7200700, 'POST', '/v1/chat/completions', '{}', '{}', 'm', 'true', 7200700);
    INSERT INTO responses VALUES
        (20, 10, 's1', 'a-ok', 7200900, '{"x":1}', '{"id":"y"}', 'p2', 5, 10, 15, 'stop', NULL, 400, 7200900),
        (21, 11, 's1', 'a-bad', 7200950, NULL, 'half {', NULL, NULL, 3, NULL, NULL, 'it broke', NULL, 7200950);
    INSERT INTO qwen_credentials VALUES (1, 'old-token', 'a=b', 1700000000, 1, 1),
        (2, 'hush-token', 'token=hush; a=b', 1800000000, 1, 1);
    INSERT INTO errors VALUES (1, 'e1', 7200950, 'qwen_api_error', 'E7', 'it broke', 'at x', 's1', 11,
        '/v1/chat/completions', 'POST', 'ua', '{}', NULL, 'WARN', 1, NULL, 7200950),
        (2, 'e2', 7200951, 'other', NULL, 'it broke', NULL, 'gone', 99, NULL, NULL, NULL, NULL, NULL, '?', 0, NULL, 1);
    -- What foreign keys would have kept out.
    INSERT INTO provider_configs (provider_id, key, value, created_at, updated_at) VALUES ('gone', 'apiKey', 'x', 1, 1);
    INSERT INTO provider_models (provider_id, model_id, created_at, updated_at) VALUES ('gone', 'qwen3-max', 1, 1);
    INSERT INTO requests VALUES (13, 's-gone', 'r-orphan', 7200800, 'GET', '/v1/models', '{}', '{}', 'unknown', 0, 1);
    INSERT INTO responses VALUES
        (22, 99, 's1', 'a-orphan', 7200960, NULL, NULL, NULL, 1, 1, 2, NULL, NULL, 1, 1),
        (23, 10, 's1', 'a-second', 7200970, NULL, NULL, NULL, 1, 1, 2, NULL, NULL, 1, 1);"#;

/// A file of the older program in a folder of its own, and where our database would lie.
struct Old {
    dir: TempDir,
}

impl Old {
    fn with(sql: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let old = Self { dir };
        let conn = Connection::open(old.path()).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for sql in sql {
            conn.execute_batch(sql).unwrap();
        }
        fs::create_dir(old.dir.path().join("data")).unwrap();
        fs::write(old.own(), "").unwrap();
        old
    }

    fn path(&self) -> PathBuf {
        // Characters that mean something in a URI.
        self.dir.path().join("provider router?#100%.db")
    }

    fn own(&self) -> PathBuf {
        self.dir.path().join("data/qwarden.db")
    }

    fn open(&self) -> Result<Source, DbError> {
        Source::open(&self.path(), &self.own())
    }

    /// Names and bytes of all files but ours.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }
}

fn carry(
    source: &Source,
    mut put: impl FnMut(&ImportRows) -> report::Tally,
) -> (Report, Option<OldLogin>) {
    let (mut report, mut login) = (Report::default(), None);
    source
        .read(NOW, &mut |piece| {
            report.read(&piece);
            match piece.content {
                Content::Nothing => {}
                Content::Login(found) => login = Some(found),
                Content::Rows(chunk) => {
                    let tally = put(&chunk.rows);
                    report.written(&chunk.rows, tally);
                }
            }
            true
        })
        .unwrap();
    (report, login)
}

fn import(conn: &Connection, source: &Source) -> (Report, Option<OldLogin>) {
    carry(source, |rows| write::apply(conn, rows).unwrap())
}

/// Ours, with a provider of a taken name and one of a taken id.
fn ours() -> Connection {
    let conn = testing::database();
    let (taken, config) = testing::sample_provider("taken");
    crate::db::providers::insert(&conn, &taken, &config).unwrap();
    let (there, config) = testing::sample_provider("there");
    crate::db::providers::insert(&conn, &there, &config).unwrap();
    conn
}

fn cell<T: rusqlite::types::FromSql>(conn: &Connection, sql: &str) -> T {
    conn.query_row(sql, [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn counts(report: &Report, table: &str) -> (u64, u64, u64, u64) {
    let TableReport {
        found,
        imported,
        existing,
        skipped,
        ..
    } = report.tables[table];
    assert_eq!(found, imported + existing + skipped, "{table}");
    (found, imported, existing, skipped)
}

#[test]
fn every_row_that_can_be_used_is_imported_and_the_others_are_told_of() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    let (report, login) = import(&conn, &old.open().unwrap());
    for (table, expected) in [
        ("providers", (3, 2, 1, 0)),
        ("provider_configs", (7, 5, 1, 1)),
        ("models", (5, 5, 0, 0)),
        ("provider_models", (4, 3, 0, 1)),
        ("sessions", (1, 1, 0, 0)),
        ("requests", (4, 4, 0, 0)),
        ("responses", (4, 2, 0, 2)),
        ("errors", (2, 2, 0, 0)),
    ] {
        assert_eq!(counts(&report, table), expected, "{table}: {report:#?}");
    }
    let reasons = |table: &str| report.tables[table].reasons.join("; ");
    assert!(reasons("provider_configs").contains("no provider `gone`"));
    assert!(reasons("responses").contains("`a-orphan`"));
    let logins = &report.tables["qwen_credentials"];
    assert_eq!((logins.found, logins.skipped), (2, 1));
    let login = login.unwrap();
    assert_eq!(login.token.expose_secret(), "hush-token");
    assert_eq!(login.cookies.expose_secret(), "token=hush; a=b");
    assert_eq!(login.expires_at, Some(1_800_000_000_000));
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("hush") && !text.contains("sk-"), "{text}");
}

#[test]
fn settings_are_repaired_and_what_is_not_good_is_left_out() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    conn.execute(
        "INSERT INTO settings VALUES ('server.timeout', '5000', 1)",
        [],
    )
    .unwrap();
    let (report, _) = import(&conn, &old.open().unwrap());
    assert_eq!(counts(&report, "settings"), (9, 6, 1, 2));
    let stored = crate::db::settings::rows(&conn).unwrap();
    let stored: Vec<_> = stored
        .iter()
        .map(|row| (row.key.as_str(), row.value.as_str(), row.updated_at))
        .collect();
    let at = 1_762_000_000_000;
    assert_eq!(
        stored,
        [
            ("active_model", "\"qwen3-max\"", at),
            ("active_provider", "\"lab\"", at),
            ("logging.level", "\"debug\"", at),
            ("logging.logRequests", "false", at),
            ("server.port", "3001", at),
            ("server.timeout", "5000", 1),
            ("system.minimizeToTray", "true", at),
        ]
    );
    let reasons = report.tables["settings"].reasons.join("; ");
    for part in ["`server.host`", "`system.autoStart` must be true or false"] {
        assert!(reasons.contains(part), "{reasons}");
    }
}

#[test]
fn an_active_provider_that_cannot_serve_is_left_out() {
    for id in ["off", "gone"] {
        let sql = format!(
            "INSERT INTO providers VALUES ('off', 'Off', 'groq', 0, 1, NULL, 1, 1);
             INSERT INTO settings VALUES ('active_provider', '{id}', 1)"
        );
        let old = Old::with(&[NEWEST, &sql]);
        let conn = ours();
        let (report, _) = import(&conn, &old.open().unwrap());
        assert_eq!(counts(&report, "settings"), (1, 0, 0, 1), "{id}");
        assert!(report.tables["settings"].reasons[0].contains("enabled provider"));
    }
}

#[test]
fn providers_keep_ids_and_values_and_take_another_name_where_theirs_is_taken() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    conn.execute(
        "UPDATE providers SET name = 'Provider taken (imported)' WHERE id = 'there'",
        [],
    )
    .unwrap();
    import(&conn, &old.open().unwrap());
    let all = crate::db::providers::all(&conn).unwrap();
    let find = |id: &str| all.iter().find(|stored| stored.provider.id == id).unwrap();
    let (lab, twin, there) = (find("lab"), find("twin"), find("there"));
    assert_eq!(twin.provider.name, "Provider taken (imported 2)");
    assert!(!twin.provider.enabled);
    assert_eq!(
        (lab.provider.name.as_str(), lab.provider.origin.as_str()),
        ("Lab", "import")
    );
    assert_eq!(
        (
            lab.provider.priority,
            lab.provider.created_at,
            lab.provider.updated_at
        ),
        (7, 11, 12)
    );
    let config: Vec<_> = lab
        .config
        .iter()
        .map(|row| (row.key.as_str(), row.value.to_string(), row.is_sensitive))
        .collect();
    assert_eq!(
        config,
        [
            ("apiKey", "\"123456\"".to_owned(), true),
            ("baseURL", "\"http://127.0.0.1:9/v1\"".to_owned(), false),
            ("headers", "{\"x-team\":\"a\"}".to_owned(), true),
            ("quirks", "{\"a\":true}".to_owned(), false),
            ("timeout", "120000".to_owned(), false),
        ]
    );
    // A key must not go to the address of another provider that has the same id.
    assert_eq!(there.config, testing::sample_provider("there").1);
    let linked: Vec<_> = lab
        .models
        .iter()
        .map(|linked| {
            let config = linked.provider_config.as_ref().map(ToString::to_string);
            (linked.model.id.as_str(), linked.is_default, config)
        })
        .collect();
    assert_eq!(
        linked,
        [
            ("qwen3-max", true, Some("{\"t\":1}".to_owned())),
            ("twice", false, None)
        ],
        "one default"
    );
    assert_eq!(there.models[0].model.id, "twice");
}

#[test]
fn a_seed_that_nobody_touched_gives_way() {
    for (touched, imported, name) in [(false, 1, "Mine"), (true, 0, "Seed")] {
        let old = Old::with(&[
            NEWEST,
            "INSERT INTO providers VALUES ('seeded', 'Mine', 'lm-studio', 1, 1, NULL, 1, 1);",
        ]);
        let conn = testing::database();
        let (mut seed, config) = testing::sample_provider("seeded");
        seed.origin = "seed".into();
        seed.name = "Seed".into();
        seed.updated_at = seed.created_at + i64::from(touched);
        crate::db::providers::seed(&conn, &[(seed, config)]).unwrap();
        let (report, _) = import(&conn, &old.open().unwrap());
        assert_eq!(counts(&report, "providers").1, imported);
        let stored = crate::db::providers::all(&conn).unwrap();
        assert_eq!(stored[0].provider.name, name);
    }
}

#[test]
fn capabilities_are_read_however_they_were_encoded() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    import(&conn, &old.open().unwrap());
    let models = crate::db::models::all(&conn).unwrap();
    let of = |id: &str| {
        models
            .iter()
            .find(|model| model.id == id)
            .unwrap()
            .capabilities
            .join("+")
    };
    let found = ["qwen3-max", "twice", "broken", "commas", "none"].map(of);
    assert_eq!(found, ["chat+tools", "chat+code", "", "chat+tools", ""]);
}

#[test]
fn history_keeps_its_ids_and_counts_for_the_usage_once() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    import(&conn, &old.open().unwrap());
    let exchange = |id: &str| {
        crate::db::history::exchange(&conn, &RowName::read(id))
            .unwrap()
            .unwrap()
    };
    let ok = exchange("r-ok");
    assert_eq!(
        (ok.session_id.as_deref(), ok.status.as_str(), ok.stream),
        (Some("s1"), "completed", true)
    );
    let answer = ok.response.unwrap();
    assert_eq!(
        (
            answer.response_id.as_str(),
            answer.http_status,
            answer.duration_ms
        ),
        ("a-ok", 200, 400)
    );
    assert_eq!(answer.qwen_response.unwrap().get(), r#"{"x":1}"#);
    assert_eq!(answer.parent_id.as_deref(), Some("p2"));
    let bad = exchange("r-bad");
    assert_eq!(
        (bad.status.as_str(), bad.openai_request.get()),
        ("failed", r#""no {json""#)
    );
    assert!(bad.qwen_request.is_none());
    let answer = bad.response.unwrap();
    assert_eq!(
        (answer.error.as_deref(), answer.http_status),
        (Some("it broke"), 500)
    );
    assert_eq!(answer.openai_response.unwrap().get(), r#""half {""#);
    let open = exchange("r-open");
    assert_eq!((open.status.as_str(), open.stream), ("interrupted", true));
    let orphan = exchange("r-orphan");
    assert_eq!((orphan.session_id, orphan.method.as_str()), (None, "GET"));
    let usage: Vec<String> = content(&conn)
        .into_iter()
        .filter(|row| row.starts_with("usage_rollups"))
        .collect();
    let number = |n: i64| format!("Integer({n})");
    let row = |model: &str, sums: [i64; 11]| {
        let sums: Vec<String> = sums.into_iter().map(number).collect();
        format!(
            "usage_rollups: Integer(7200000) |  | {model} | {}",
            sums.join(" | ")
        )
    };
    assert_eq!(
        usage,
        [
            row("", [1, 0, 1, 0, 0, 3, 0, 3, 0, 0, 0]) + " | Integer(0)",
            row("m", [1, 1, 0, 0, 0, 10, 5, 15, 0, 0, 400]) + " | Integer(0)",
        ]
    );
    let failures: String = cell(
        &conn,
        "SELECT group_concat(concat_ws('/', e.error_id, e.severity, e.session_id, q.request_id, e.resolved), ' ')
           FROM errors e LEFT JOIN requests q ON q.id = e.request_id",
    );
    assert_eq!(failures, "e1/warning/s1/r-bad/1 e2/error/0");
    let session: String = cell(
        &conn,
        "SELECT concat_ws('/', chat_id, parent_id, first_user_message, message_count, user_id, conversation_hash,
                          created_at, last_accessed, expires_at) FROM sessions",
    );
    assert_eq!(session, "c1/p1/hello/4/u/h/1/2/3");
}

#[test]
fn a_second_import_changes_nothing() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    let (first, _) = import(&conn, &old.open().unwrap());
    let once = content(&conn);
    let (second, _) = import(&conn, &old.open().unwrap());
    assert_eq!(once, content(&conn));
    assert_eq!(second.imported(), 0, "{second:#?}");
    for (table, report) in &first.tables {
        let again = &second.tables[table];
        assert_eq!(again.existing, report.imported + report.existing, "{table}");
        assert_eq!(
            (again.found, again.skipped),
            (report.found, report.skipped),
            "{table}"
        );
    }
}

#[test]
fn a_preview_says_what_an_import_would_do() {
    let old = Old::with(&[NEWEST, ROWS]);
    let conn = ours();
    let before = content(&conn);
    let preview = || {
        carry(&old.open().unwrap(), |rows| {
            write::preview(&conn, rows).unwrap()
        })
        .0
    };
    let first = preview();
    assert_eq!(before, content(&conn));
    let (done, _) = import(&conn, &old.open().unwrap());
    for table in [
        "providers",
        "provider_configs",
        "models",
        "settings",
        "sessions",
        "requests",
        "errors",
    ] {
        assert_eq!(counts(&first, table), counts(&done, table), "{table}");
    }
    let second = preview();
    // That another answer is there is found out by trying.
    assert_eq!(second.tables["responses"].imported, 1);
    assert_eq!(second.imported(), 2, "{second:#?}");
}

#[test]
fn an_older_layout_without_some_tables_and_columns_is_imported() {
    let old = Old::with(&[OLDER]);
    let conn = testing::database();
    let (report, login) = import(&conn, &old.open().unwrap());
    assert_eq!(report.imported(), 3, "{report:#?}");
    assert!(login.is_none() && !report.tables.contains_key("errors"));
    assert_eq!(
        cell::<String>(&conn, "SELECT session_id FROM responses"),
        "s1"
    );
    assert_eq!(
        cell::<Option<String>>(&conn, "SELECT conversation_hash FROM sessions"),
        None
    );
}

#[test]
fn the_log_of_the_first_layout_is_told_of() {
    let old = Old::with(&[
        "CREATE TABLE request_logs (id INTEGER PRIMARY KEY, what TEXT); INSERT INTO request_logs VALUES (1, 'x')",
    ]);
    let (report, _) = import(&testing::database(), &old.open().unwrap());
    assert_eq!(counts(&report, "request_logs"), (1, 0, 0, 1));
}

#[test]
fn long_histories_come_in_chunks() {
    let many = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1201)
        INSERT INTO requests SELECT i * 3, 's1', 'r' || i, i, 'POST', '/', '{}', '{}', 'm', 0, i FROM n;
        UPDATE requests SET openai_request = '\"' || hex(zeroblob(2500000)) || '\"' WHERE id IN (3, 6);
        UPDATE requests SET openai_request = '\"' || hex(zeroblob(4500000)) || '\"' WHERE id = 9;";
    let old = Old::with(&[NEWEST, many]);
    let mut sizes = Vec::new();
    let conn = testing::database();
    let (report, _) = carry(&old.open().unwrap(), |rows| {
        let ImportRows::Requests(chunk) = rows else {
            panic!("there is nothing else")
        };
        sizes.push(chunk.len());
        write::apply(&conn, rows).unwrap()
    });
    assert_eq!(sizes, [1, 1, 1, 500, 500, 198], "by bytes, then by rows");
    assert_eq!(counts(&report, "requests"), (1201, 1201, 0, 0));
    assert_eq!(
        cell::<String>(
            &conn,
            "SELECT openai_request FROM requests WHERE request_id = 'r3'"
        ),
        r#"{"qwarden":{"omitted":"too long","bytes":9000002}}"#
    );
}

#[test]
fn reading_ends_when_nobody_wants_more() {
    let old = Old::with(&[NEWEST, ROWS]);
    let mut pieces = 0;
    old.open()
        .unwrap()
        .read(NOW, &mut |_| {
            pieces += 1;
            false
        })
        .unwrap();
    assert_eq!(pieces, 1);
}

#[test]
fn the_file_and_what_lies_beside_it_stay_as_they_are() {
    for mode in ["DELETE", "WAL", "TRUNCATE"] {
        let old = Old::with(&[&format!("PRAGMA journal_mode = {mode}"), NEWEST, ROWS]);
        let before = old.files();
        let (report, _) = import(&testing::database(), &old.open().unwrap());
        assert_eq!(counts(&report, "requests").1, 4);
        assert_eq!(before, old.files(), "{mode}");
    }
}

#[test]
fn what_is_only_in_the_log_is_imported_too() {
    let old = Old::with(&["PRAGMA journal_mode = WAL", NEWEST]);
    // The other program still has it open: the log is not folded in.
    let theirs = Connection::open(old.path()).unwrap();
    theirs.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    theirs.execute_batch(ROWS).unwrap();
    let before = old.files();
    assert!(before.len() > 1, "there is a log");
    let source = old.open().unwrap();
    let scratch = old.own().with_file_name("import");
    assert!(scratch.is_dir());
    let (report, _) = import(&testing::database(), &source);
    assert_eq!(counts(&report, "requests").1, 4);
    drop(source);
    assert!(!scratch.exists(), "the copy is gone");
    assert_eq!(before, old.files());
    drop(theirs);
}

#[test]
fn what_is_no_such_database_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let own = file("qwarden.db");
    let make = |name: &str, sql: &str| {
        Connection::open(file(name))
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    };
    make("qwarden.db", include_str!("../../../schema.sql"));
    make("another.db", include_str!("../../../schema.sql"));
    make(
        "notes.db",
        "CREATE TABLE settings (key, value); CREATE TABLE notes (id)",
    );
    make(
        "view.db",
        "CREATE VIEW requests AS SELECT 1 AS openai_request",
    );
    fs::write(file("text.db"), "a text that is no database at all").unwrap();
    fs::write(file("empty.db"), "").unwrap();
    fs::write(file("cut.db"), b"SQLite format 3\0 and nothing of it").unwrap();
    let why = |path: &Path| match Source::open(path, &own) {
        Err(DbError::NotImportable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} opens", path.display()),
    };
    for (name, part) in [
        ("missing.db", "there is none"),
        ("qwarden.db", "of this qwarden"),
        ("another.db", "of qwarden itself"),
        ("notes.db", "none of the tables"),
        ("view.db", "none of the tables"),
        ("text.db", "no SQLite database"),
        ("empty.db", "no SQLite database"),
        ("cut.db", "cannot be read"),
        ("", "no file"),
    ] {
        let why = why(&file(name));
        assert!(why.contains(part), "{name}: {why}");
        let secret = dir.path().to_string_lossy();
        assert!(!why.contains(secret.as_ref()), "{why}");
    }
}
