use super::*;
use crate::db::histogram::Histogram;
use crate::db::idempotency;
use crate::db::stats::{self, GroupBy, StatsFilter};

const OLD: &str = "CREATE TABLE cats (name TEXT) STRICT;";
const NEW: &str = "CREATE TABLE cats (name TEXT) STRICT; CREATE TABLE dogs (name TEXT) STRICT;
                   CREATE TABLE birds (name TEXT) STRICT;";
const STEPS: [Step<'_>; 2] = [
    Step {
        from: 1,
        to: 2,
        sql: "CREATE TABLE dogs (name TEXT) STRICT",
    },
    Step {
        from: 2,
        to: 4,
        sql: "CREATE TABLE birds (name TEXT) STRICT",
    },
];

fn v1() -> Schema<'static> {
    Schema {
        version: 1,
        sql: OLD,
        steps: &[],
    }
}

fn shape(conn: &Connection) -> Vec<String> {
    conn.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn old_file(dir: &Path) -> (PathBuf, Connection) {
    let path = dir.join("qwarden.db");
    let mut conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    let made = migrate_with(&mut conn, &v1(), &path, 5).unwrap();
    assert_eq!(
        made,
        Migrated {
            from: 0,
            to: 1,
            backup: None
        }
    );
    conn.execute("INSERT INTO cats VALUES ('tom')", []).unwrap();
    (path, conn)
}

#[test]
fn the_schema_loads_is_strict_and_carries_its_version() {
    let mut conn = Connection::open_in_memory().unwrap();
    let migrated = migrate(&mut conn, Path::new(""), 1).unwrap();
    assert_eq!(
        migrated,
        Migrated {
            from: 0,
            to: SCHEMA_VERSION,
            backup: None
        }
    );
    assert_eq!(user_version(&conn).unwrap(), SCHEMA_VERSION);
    let loose: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_list WHERE type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(loose, Vec::<String>::new());
    assert_eq!(
        migrate(&mut conn, Path::new(""), 1).unwrap().from,
        SCHEMA_VERSION,
        "again: nothing to do"
    );
}

#[test]
fn a_file_of_version_1_becomes_what_a_fresh_one_is_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    let mut conn = Connection::open(&path).unwrap();
    let first = Schema {
        version: 1,
        sql: include_str!("v1.sql"),
        steps: &[],
    };
    migrate_with(&mut conn, &first, &path, 5).unwrap();
    let insert = "INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, created_at)
                  VALUES (?1, 5, 'POST', '/p', ?2, 'm', 1, 5)";
    conn.execute(insert, ("u1", r#"{"a":1}"#)).unwrap();
    conn.execute("DELETE FROM requests", []).unwrap();
    conn.execute(insert, ("u2", r#"{"a":2}"#)).unwrap();
    assert_eq!(migrate(&mut conn, &path, 6).unwrap().from, 1);

    let mut fresh = Connection::open_in_memory().unwrap();
    migrate(&mut fresh, Path::new(""), 1).unwrap();
    assert_eq!(shape(&conn), shape(&fresh));
    let rules = |conn: &Connection| -> Vec<String> {
        let sql = "SELECT k || ' ' || v FROM history_words_config ORDER BY k";
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(rules(&conn), rules(&fresh), "of the index of words");
    drop(conn);
    // As another connection reads it, not as the one that changed it remembers it.
    let conn = Connection::open(&path).unwrap();
    assert_eq!(shape(&conn), shape(&fresh));
    let kept = "SELECT id || openai_request || bodies_dropped FROM requests";
    let kept: String = conn.query_row(kept, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, r#"2{"a":2}0"#);
    conn.execute(insert, ("u3", &b"packed"[..])).unwrap();
    assert!(conn.execute(insert, ("u4", "no json")).is_err());
    conn.execute_batch(
        "INSERT INTO history_words (rowid, prompt) VALUES (2, 'hello'); DELETE FROM requests",
    )
    .unwrap();
    let sound: String = conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn what_conversations_used_before_there_were_sums_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    let mut conn = Connection::open(&path).unwrap();
    let first = Schema {
        version: 1,
        sql: include_str!("v1.sql"),
        steps: &[],
    };
    migrate_with(&mut conn, &first, &path, 5).unwrap();
    conn.execute_batch(
        "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at)
         VALUES ('s', 'c', 'hi', 1, 1, 9);
         INSERT INTO idempotency_keys (key, method, path, body_hash, status, body, created_at)
         VALUES ('k', 'POST', '/p', 'h', 201, '{}', 5)",
    )
    .unwrap();
    let mut expected = Histogram::default();
    for (id, duration) in [0, 15, 16, 17, 31, 1_000, 70_000, 262_144, 900_000]
        .into_iter()
        .enumerate()
    {
        expected.add(duration);
        conn.execute(
            "INSERT INTO requests (request_id, session_id, timestamp, method, path, openai_request, model, stream, status,
                                   created_at)
             VALUES (?1, 's', 5, 'POST', '/p', '{}', 'm', 1, 'completed', 5)",
            [id.to_string()],
        )
        .unwrap();
        conn.execute(
            "INSERT INTO responses (request_id, session_id, response_id, timestamp, prompt_tokens, completion_tokens,
                                    provider_id, http_status, duration_ms, ttft_ms, created_at)
             VALUES (last_insert_rowid(), 's', ?1, 3600005, 2, 3, 'p', 200, ?2, NULL, 5)",
            (id.to_string(), duration),
        )
        .unwrap();
    }
    migrate(&mut conn, &path, 6).unwrap();
    let wanted = StatsFilter {
        session: Some("s".into()),
        ..StatsFilter::default()
    };
    let (sums, models) = stats::sums(&conn, &wanted, Some(GroupBy::Model)).unwrap();
    assert_eq!(
        (sums.requests, sums.completed, sums.total_tokens),
        (9, 9, 45)
    );
    assert_eq!(sums.durations, expected);
    assert_eq!(sums.first_contents, Histogram::default());
    assert_eq!(models.keys().collect::<Vec<_>>(), ["m"]);
    let kept = idempotency::find(&conn, "k", "POST", "/p", 6).unwrap();
    assert!(kept.is_some_and(|kept| kept.location.is_none()));
}

#[test]
fn an_older_file_is_backed_up_and_becomes_what_a_fresh_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let schema = Schema {
        version: 4,
        sql: NEW,
        steps: &STEPS,
    };
    let migrated = migrate_with(&mut conn, &schema, &path, 77).unwrap();
    let backup = dir.path().join("backups/qwarden-v1-77.db");
    assert_eq!(
        migrated,
        Migrated {
            from: 1,
            to: 4,
            backup: Some(backup.clone())
        }
    );

    let mut fresh = Connection::open_in_memory().unwrap();
    migrate_with(&mut fresh, &schema, Path::new(""), 1).unwrap();
    assert_eq!(shape(&conn), shape(&fresh));

    let copy = Connection::open(&backup).unwrap();
    assert_eq!(user_version(&copy).unwrap(), 1);
    let cat: String = copy
        .query_row("SELECT name FROM cats", [], |row| row.get(0))
        .unwrap();
    assert_eq!(cat, "tom");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode(&backup), mode(backup.parent().unwrap())),
            (0o600, 0o700)
        );
    }
}

#[test]
fn a_step_that_fails_takes_the_earlier_ones_back() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let before = shape(&conn);
    let steps = [
        Step {
            from: 1,
            to: 2,
            sql: "CREATE TABLE dogs (name TEXT) STRICT; DELETE FROM cats",
        },
        Step {
            from: 2,
            to: 3,
            sql: "CREATE TABLE cats (name TEXT) STRICT",
        },
    ];
    let schema = Schema {
        version: 3,
        sql: NEW,
        steps: &steps,
    };
    assert!(migrate_with(&mut conn, &schema, &path, 77).is_err());
    assert_eq!((shape(&conn), user_version(&conn).unwrap()), (before, 1));
    let cats: i64 = conn
        .query_row("SELECT count(*) FROM cats", [], |row| row.get(0))
        .unwrap();
    assert_eq!(cats, 1);
    assert_eq!(
        fs::read_dir(dir.path().join("backups")).unwrap().count(),
        0,
        "failing starts do not pile up copies"
    );
}

#[test]
fn a_step_that_leaves_dangling_references_is_taken_back() {
    let mut conn = Connection::open_in_memory().unwrap();
    let parents = "CREATE TABLE a (id INTEGER PRIMARY KEY) STRICT;
                   CREATE TABLE b (a INTEGER REFERENCES a (id)) STRICT;";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwarden.db");
    migrate_with(
        &mut conn,
        &Schema {
            version: 1,
            sql: parents,
            steps: &[],
        },
        &path,
        1,
    )
    .unwrap();
    conn.execute_batch("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
        .unwrap();
    let steps = [Step {
        from: 1,
        to: 2,
        sql: "DELETE FROM a",
    }];
    let outcome = migrate_with(
        &mut conn,
        &Schema {
            version: 2,
            sql: parents,
            steps: &steps,
        },
        &path,
        2,
    );
    assert!(matches!(outcome, Err(DbError::Unreadable(_))));
    assert_eq!(user_version(&conn).unwrap(), 1);
}

#[test]
fn a_file_of_another_program_is_not_taken_over() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(
        migrate(&mut conn, Path::new(""), 1),
        Err(DbError::Invalid(_))
    ));
    assert_eq!(shape(&conn).len(), 1);
}

#[test]
fn a_version_no_step_knows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut conn) = old_file(dir.path());
    let schema = Schema {
        version: 9,
        sql: NEW,
        steps: &STEPS,
    };
    assert!(matches!(
        migrate_with(&mut conn, &schema, &path, 1),
        Err(DbError::Invalid(_))
    ));
    assert!(!dir.path().join("backups").exists());
}
