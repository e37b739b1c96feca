use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::db::migrate;
use crate::db::recovery::Recovered;
use crate::db::testing::{self, content};

const REQUESTS: i64 = 4_000;

/// A file with history, and what it holds as text.
fn filled() -> (TempDir, PathBuf, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.db");
    let mut conn = Connection::open(&path).unwrap();
    migrate::migrate(&mut conn, &path, 1).unwrap();
    conn.execute_batch(&format!(
        "INSERT INTO sessions (id, chat_id, first_user_message, created_at, last_accessed, expires_at) VALUES ('s', 'c', 'hi', 1, 1, 1);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {REQUESTS})
           INSERT INTO requests (id, request_id, session_id, timestamp, method, path, openai_request, model, stream, status, created_at)
           SELECT i, 'r' || i, 's', i, 'POST', '/v1', json_object('x', hex(zeroblob(100))), 'm', 0,
                  iif(i = 7, 'in_progress', 'completed'), i FROM n;
         INSERT INTO responses (request_id, response_id, timestamp, http_status, duration_ms, created_at)
           SELECT id, 'a' || id, timestamp, 200, 1, 1 FROM requests WHERE id <> 7;
         INSERT INTO usage_rollups (hour, provider, model, requests, total_tokens)
           SELECT id, 'p', 'm', 2, 10 FROM requests WHERE id <= 50;
         INSERT INTO usage_latencies VALUES (1, 'p', 'm', x'0302', x'');
         INSERT INTO activity (seq, id, type, action, description, metadata, timestamp) VALUES (1, 'x', 't', 'a', 'd', '{{}}', 1);"
    ))
    .unwrap();
    let held = content(&conn);
    (dir, path, held)
}

fn fresh() -> Connection {
    let conn = testing::database();
    recovery::put(&conn, &Recovered::begun(REQUESTS + 1)).unwrap();
    conn
}

/// Copies all that can be; every piece is stored twice.
fn salvaged(path: &std::path::Path, to: &Connection) -> Recovered {
    let source = Source::open(path).unwrap();
    let mut position = Position::default();
    while !position.is_end() {
        let piece = source.next(&position, 100);
        assert_eq!(apply(to, &piece).unwrap(), 1);
        assert_eq!(apply(to, &piece).unwrap(), 0, "once is enough");
        assert_ne!(position, piece.to, "it goes on");
        position = piece.to.clone();
    }
    recovery::stored(to).unwrap().unwrap()
}

fn count(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_sound_file_comes_over_whole() {
    let (_dir, path, held) = filled();
    let to = fresh();
    let end = salvaged(&path, &to);
    assert!(end.done);
    assert_eq!(end.unreadable, 0);
    let is_kept = |row: &&String| !row.starts_with("metadata");
    let came: Vec<String> = content(&to).iter().filter(is_kept).cloned().collect();
    // What was under way when the file was lost was interrupted.
    let held: Vec<String> = held
        .iter()
        .map(|row| row.replace("in_progress", "interrupted"))
        .collect();
    assert_eq!(came, held);
}

/// Numbers of the pages that hold the rows of `requests`, in their order.
fn leaves(path: &std::path::Path) -> Vec<usize> {
    let conn = Connection::open(path).unwrap();
    let sql =
        "SELECT pageno FROM dbstat WHERE name = 'requests' AND pagetype = 'leaf' ORDER BY path";
    let mut statement = conn.prepare(sql).unwrap();
    let pages = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    pages
        .map(|page| usize::try_from(page.unwrap()).unwrap())
        .collect()
}

#[test]
fn what_cannot_be_read_is_passed_over_and_the_rest_comes() {
    let (_dir, path, _) = filled();
    let leaves = leaves(&path);
    let per_leaf = REQUESTS / i64::try_from(leaves.len()).unwrap() + 1;
    let mut bytes = fs::read(&path).unwrap();
    // Two next to each other, one alone, and the last.
    let broken = [leaves[20], leaves[21], leaves[60], leaves[leaves.len() - 1]];
    for page in broken {
        bytes[(page - 1) * 4096..page * 4096].fill(0xa5);
    }
    fs::write(&path, bytes).unwrap();
    let to = fresh();
    let end = salvaged(&path, &to);
    assert!(end.done);
    assert!(end.unreadable >= 3, "{end:?}");
    let came = count(&to, "SELECT count(*) FROM requests");
    assert!(came >= REQUESTS - 4 * per_leaf, "{came} of {REQUESTS}");
    assert!(came < REQUESTS);
    assert_eq!(
        count(&to, "SELECT count(*) FROM responses"),
        came - 1,
        "an answer without its question is left out"
    );
    assert_eq!(count(&to, "SELECT count(*) FROM activity"), 1);
}

#[test]
fn sums_are_added_to_those_that_are_there() {
    let (_dir, path, _) = filled();
    let to = fresh();
    to.execute_batch(
        "INSERT INTO usage_rollups (hour, provider, model, requests, total_tokens) VALUES (5, 'p', 'm', 1, 7), (9000, 'p', 'm', 1, 1);
         INSERT INTO usage_latencies VALUES (1, 'p', 'm', x'0301', x'0101');",
    )
    .unwrap();
    salvaged(&path, &to);
    let both = "SELECT requests * 1000 + total_tokens FROM usage_rollups WHERE hour = 5";
    assert_eq!(count(&to, both), 3_017);
    assert_eq!(count(&to, "SELECT count(*) FROM usage_rollups"), 51);
    let merged: (Vec<u8>, Vec<u8>) = to
        .query_row(
            "SELECT durations, first_contents FROM usage_latencies",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(merged, (vec![3, 3], vec![1, 1]));
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_done_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.db");
    fs::write(&path, "this is no database ".repeat(500)).unwrap();
    let to = fresh();
    let end = match Source::open(&path) {
        Ok(_) => salvaged(&path, &to),
        Err(_) => return,
    };
    assert!(end.done && end.rows == 0 && end.unreadable > 0, "{end:?}");
}
