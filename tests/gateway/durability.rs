//! What was told is stored (R1, R2, R7, R8), also after `kill -9`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::binary::{Binary, fails};
use crate::support::{PATIENCE, client, figures, hear, read_cell, say, say_streamed};

#[tokio::test]
async fn r02_every_answer_a_client_got_whole_survives_kill_9() {
    const ALL: usize = 1_000;
    const WORKERS: usize = 16;
    let dir = TempDir::new().expect("a directory");
    let mut binary = Binary::start(dir.path(), &["--set", "history.commitWait=5000"]);
    let url = Arc::new(format!("{}/v1/chat/completions", binary.router));
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (url, next, client) = (url.clone(), next.clone(), client());
        workers.spawn(async move {
            let mut received = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= ALL {
                    return received;
                }
                let text = format!("answer number {number}");
                let body = if number % 2 == 0 { say("echo", &text) } else { say_streamed("echo", &text) };
                let response = client.post(&*url).json(&body).header("x-request-id", format!("n{number}")).send().await;
                let body = response.expect("an answer").text().await.expect("a whole body");
                let heard = if number % 2 == 0 {
                    serde_json::from_str::<Value>(&body).expect("JSON")["choices"][0]["message"]["content"]
                        .as_str()
                        .expect("text")
                        .to_owned()
                } else {
                    hear(&body).text
                };
                assert_eq!(heard, text);
                received.push(format!("n{number}"));
            }
        });
    }
    let mut received = Vec::new();
    while let Some(worker) = workers.join_next().await {
        received.extend(worker.expect("no panic"));
    }
    binary.kill();
    assert_eq!(received.len(), ALL);
    let database = dir.path().join("qwarden.db");
    assert_eq!(
        read_cell::<String>(&database, "PRAGMA integrity_check"),
        "ok"
    );
    let complete = "SELECT count(*) FROM requests q JOIN responses r ON r.request_id = q.id
                     WHERE q.status = 'completed' AND r.finish_reason = 'stop' AND r.total_tokens > 0
                       AND q.client_request_id IS NOT NULL";
    assert_eq!(
        read_cell::<i64>(&database, complete),
        i64::try_from(ALL).expect("few")
    );
    figures::record(
        "R2",
        "answers that were told and are there after kill -9",
        ALL,
    );
}

#[tokio::test]
async fn r02_a_kill_in_mid_load_loses_nothing_that_was_told() {
    let dir = TempDir::new().expect("a directory");
    for round in 0..3 {
        let mut binary = Binary::start(dir.path(), &["--set", "history.commitWait=5000"]);
        let url = Arc::new(format!("{}/v1/chat/completions", binary.router));
        let told = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..8 {
            let (url, told, client) = (url.clone(), told.clone(), client());
            workers.spawn(async move {
                let mut received = Vec::new();
                for number in 0.. {
                    let id = format!("r{round}-{worker}-{number}");
                    let asked = client
                        .post(&*url)
                        .json(&say_streamed("echo", &id))
                        .header("x-request-id", &id)
                        .send()
                        .await;
                    let Ok(response) = asked else { break };
                    let Ok(body) = response.text().await else {
                        break;
                    };
                    // Only the end marker tells a client that it has everything.
                    if !body.ends_with("data: [DONE]\n\n") {
                        break;
                    }
                    received.push(id);
                    told.fetch_add(1, Ordering::Relaxed);
                }
                received
            });
        }
        let enough = async {
            while told.load(Ordering::Relaxed) < 100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, enough)
            .await
            .expect("answers come");
        binary.kill();
        let mut received = Vec::new();
        while let Some(worker) = workers.join_next().await {
            received.extend(worker.expect("no panic"));
        }
        let database = dir.path().join("qwarden.db");
        assert_eq!(
            read_cell::<String>(&database, "PRAGMA integrity_check"),
            "ok"
        );
        for id in received {
            let sql = format!(
                "SELECT count(*) FROM requests q JOIN responses r ON r.request_id = q.id WHERE q.client_request_id = '{id}'"
            );
            assert_eq!(
                read_cell::<i64>(&database, &sql),
                1,
                "{id} was told and is lost"
            );
        }
    }
    // The next start closes what the kill left open.
    let binary = Binary::start(dir.path(), &[]);
    let database = dir.path().join("qwarden.db");
    assert_eq!(
        read_cell::<i64>(
            &database,
            "SELECT count(*) FROM requests WHERE status = 'in_progress'"
        ),
        0
    );
    drop(binary);
}

#[tokio::test]
async fn r01_r30_a_provider_that_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().expect("a directory");
    let mut binary = Binary::start(dir.path(), &[]);
    let body = json!({"id": "kept", "name": "Kept", "type": "openai", "config": {"apiKey": "sk-secret-planted"}});
    let response = client()
        .post(format!("{}/api/providers", binary.management))
        .json(&body)
        .send()
        .await;
    assert_eq!(response.expect("an answer").status(), 201);
    binary.kill();
    let mut binary = Binary::start(dir.path(), &[]);
    assert!(binary.ready_after < Duration::from_secs(2), "R30");
    let response = client()
        .get(format!("{}/api/providers/kept", binary.management))
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 200);
    let shown = response.text().await.expect("text");
    assert!(
        shown.contains("***MASKED***") && !shown.contains("sk-secret-planted"),
        "{shown}"
    );
    binary.kill();
}

#[test]
fn r08_a_second_process_is_refused_with_the_pid_of_the_first() {
    let dir = TempDir::new().expect("a directory");
    let mut first = Binary::start(dir.path(), &[]);
    let (status, said) = fails(
        dir.path(),
        &["--port", "0", "--qwen-port", "0", "--api-port", "0"],
    );
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains(&first.pid().to_string()) && said.contains("--data-dir"),
        "{said}"
    );
    assert_eq!(said.trim().lines().count(), 1, "one clear line: {said}");
    // A lock left behind by a killed process blocks nobody.
    first.kill();
    Binary::start(dir.path(), &[]);
}

#[test]
fn r07_a_newer_database_is_refused_and_left_as_it_was() {
    let dir = TempDir::new().expect("a directory");
    drop(Binary::start(dir.path(), &[]));
    let database = dir.path().join("qwarden.db");
    let conn = rusqlite::Connection::open(&database).expect("it opens");
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 999; PRAGMA wal_checkpoint(TRUNCATE);").expect("set");
    drop(conn);
    let before = std::fs::read(&database).expect("readable");
    let (status, said) = fails(
        dir.path(),
        &["--port", "0", "--qwen-port", "0", "--api-port", "0"],
    );
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("newer"), "{said}");
    assert_eq!(std::fs::read(&database).expect("readable"), before);
}

#[cfg(unix)]
#[test]
fn s10_files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let binary = Binary::start(&data, &[]);
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).expect("readable") {
        let path = entry.expect("an entry").path();
        assert_eq!(
            mode(&path),
            if path.is_dir() { 0o700 } else { 0o600 },
            "{}",
            path.display()
        );
    }
    drop(binary);
}

#[tokio::test]
async fn s09_a_planted_secret_is_in_no_log_line_and_no_answer() {
    let dir = TempDir::new().expect("a directory");
    let log = dir.path().join("log");
    let file = std::fs::File::create(&log).expect("a file");
    let mut binary = Binary::logging(&dir.path().join("data"), &["--log-level", "debug"], file);
    let config = json!({"baseURL": "http://127.0.0.1:1/v1?api-version=2&key=planted-in-url", "apiKey": "planted-key",
        "headers": {"authorization": "planted-header"}});
    let body = json!({"id": "p", "name": "P", "type": "openai", "config": config});
    let client = client();
    let mut seen = Vec::new();
    let created = client
        .post(format!("{}/api/providers", binary.management))
        .json(&body)
        .send()
        .await
        .expect("an answer");
    seen.push(created.text().await.expect("text"));
    let chat = client
        .post(format!("{}/v1/chat/completions", binary.router))
        .bearer_auth("planted-client");
    let refused = chat
        .json(&say("p/x", "hi"))
        .send()
        .await
        .expect("an answer");
    seen.push(refused.text().await.expect("text"));
    for path in [
        "/api/providers",
        "/api/providers/p",
        "/api/health",
        "/api/supervision/events",
        "/api/proxy/status",
    ] {
        let shown = client
            .get(format!("{}{path}", binary.management))
            .send()
            .await
            .expect("an answer");
        seen.push(shown.text().await.expect("text"));
    }
    seen.push(
        client
            .get(format!("{}/health", binary.router))
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text"),
    );
    binary.signal("TERM");
    let status = tokio::task::spawn_blocking(move || binary.wait())
        .await
        .expect("no panic");
    assert_eq!(status.code(), Some(0));
    let logged = std::fs::read_to_string(&log).expect("a log");
    assert!(
        logged.contains("upstream_unreachable") || logged.contains("completion failed"),
        "it logs at debug: {logged}"
    );
    for text in seen.iter().chain([&logged]) {
        assert!(!text.contains("planted"), "{text}");
    }
}
