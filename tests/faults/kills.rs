//! `kill -9` at random points under load (R1, R2, R30), and how soon it serves again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::service::provider;
use crate::support::{
    PATIENCE, Service, client, figures, hear, read_cell, say, say_streamed, seeds,
};

/// What clients were told is done.
#[derive(Default)]
struct Told {
    /// Exchanges heard to their end, by the id their client gave them.
    exchanges: Vec<String>,
    created: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// Names that were changed last: acknowledged, and asked for after that.
    renamed: BTreeMap<String, (String, Option<String>)>,
}

impl Told {
    fn merge(&mut self, other: Self) {
        self.exchanges.extend(other.exchanges);
        self.created.extend(other.created);
        self.removed.extend(other.removed);
        self.renamed.extend(other.renamed);
    }
}

/// Asks for completions until the gateway is gone.
async fn converse(url: String, name: String, count: Arc<AtomicUsize>) -> Told {
    let client = client();
    let mut told = Told::default();
    for number in 0.. {
        let id = format!("{name}-{number}");
        let streamed = number % 2 == 0;
        let body = if streamed {
            say_streamed("echo", &id)
        } else {
            say("echo", &id)
        };
        let asked = client.post(&url).json(&body).header("x-request-id", &id);
        let Ok(response) = asked.send().await else {
            break;
        };
        assert_eq!(response.status(), 200, "{id}");
        // A body with a length is whole or an error.
        let Ok(body) = response.text().await else {
            break;
        };
        if streamed {
            // Only the end marker tells a client that it has everything.
            if !body.ends_with("data: [DONE]\n\n") {
                break;
            }
            assert_eq!(hear(&body).text, id);
        }
        told.exchanges.push(id);
        count.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Creates, renames and deletes providers until the gateway is gone.
async fn manage(api: String, name: String, count: Arc<AtomicUsize>) -> Told {
    let client = client();
    let mut told = Told::default();
    for number in 0.. {
        let id = format!("{name}-{number}");
        let url = format!("{api}/api/providers/{id}");
        let create = client
            .post(format!("{api}/api/providers"))
            .json(&provider(&id, "http://127.0.0.1:9/v1"));
        let Ok(response) = create.send().await else {
            break;
        };
        assert_eq!(response.status(), 201, "{id}");
        told.created.insert(id.clone());
        let mut acknowledged = id.clone();
        for change in 0..2 {
            let new = format!("{id} renamed {change}");
            told.renamed
                .insert(id.clone(), (acknowledged.clone(), Some(new.clone())));
            let Ok(response) = client.put(&url).json(&json!({"name": new})).send().await else {
                return told;
            };
            assert_eq!(response.status(), 200, "{id}");
            told.renamed.insert(id.clone(), (new.clone(), None));
            acknowledged = new;
            count.fetch_add(1, Ordering::Relaxed);
        }
        if number % 2 == 0 {
            // Once it is asked for, it may be there or not.
            told.created.remove(&id);
            told.renamed.remove(&id);
            let Ok(response) = client.delete(&url).send().await else {
                break;
            };
            assert!(response.status().is_success(), "{id}");
            told.removed.insert(id);
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Finds all of it in the database; returns how many rows were looked for.
fn find(database: &Path, told: &Told) -> usize {
    let conn = rusqlite::Connection::open(database).expect("it opens");
    conn.busy_timeout(PATIENCE).expect("a timeout");
    let count = |sql: &str, id: &str| -> i64 {
        conn.query_row(sql, [id], |row| row.get(0))
            .expect("a count")
    };
    for id in &told.exchanges {
        let complete = "SELECT count(*) FROM requests q JOIN responses r ON r.request_id = q.id
                         WHERE q.client_request_id = ?1 AND q.status = 'completed' AND r.finish_reason = 'stop'";
        assert_eq!(count(complete, id), 1, "{id} was told whole and is lost");
    }
    let provider = "SELECT count(*) FROM providers WHERE id = ?1";
    for id in &told.created {
        assert_eq!(count(provider, id), 1, "{id} was created and is lost");
        let configured = "SELECT count(*) FROM provider_configs WHERE provider_id = ?1";
        assert_eq!(count(configured, id), 2, "{id} lost a part of itself");
    }
    for id in &told.removed {
        assert_eq!(count(provider, id), 0, "{id} was deleted and is back");
    }
    for (id, (acknowledged, asked)) in &told.renamed {
        let name: String = conn
            .query_row("SELECT name FROM providers WHERE id = ?1", [id], |row| {
                row.get(0)
            })
            .expect("it is there");
        assert!(
            name == *acknowledged || Some(&name) == asked.as_ref(),
            "{id} is called {name}, not {acknowledged} or {asked:?}"
        );
    }
    told.exchanges.len() + told.created.len() + told.removed.len() + told.renamed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_r02_r30_no_kill_loses_what_was_acknowledged() {
    let mut dice = seeds::dice();
    let rounds = seeds::rounds(8);
    let mut service = Service::start(&["--set", "history.commitWait=5000"]);
    let (mut checked, mut restarts) = (0, Vec::new());
    for round in 0..rounds {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for worker in 0..4 {
            let (url, name) = (service.completions(), format!("e{round}-{worker}"));
            clients.spawn(converse(url, name, acknowledged.clone()));
        }
        for worker in 0..3 {
            let (api, name) = (
                service.binary.management.clone(),
                format!("p{round}-{worker}"),
            );
            clients.spawn(manage(api, name, acknowledged.clone()));
        }
        let began = Instant::now();
        while acknowledged.load(Ordering::Relaxed) == 0 {
            assert!(began.elapsed() < PATIENCE, "nothing is answered");
            tokio::task::yield_now().await;
        }
        // The random point: somewhere in the work of the next moments.
        tokio::time::sleep(Duration::from_micros(dice.u64(0..250_000))).await;
        service.binary.kill();
        let mut told = Told::default();
        while let Some(client) = clients.join_next().await {
            told.merge(client.expect("no panic"));
        }
        // What the kill left is met by the program first, by the test afterwards.
        restarts.push(service.restart());
        checked += find(&service.database(), &told);
        let integrity: String = read_cell(&service.database(), "PRAGMA integrity_check");
        assert_eq!(integrity, "ok", "round {round}");
        let open: i64 = read_cell(
            &service.database(),
            "SELECT count(*) FROM requests WHERE status = 'in_progress'",
        );
        assert_eq!(open, 0, "what a kill broke off is closed by the start");
    }
    // Each round begins to count once something was acknowledged.
    assert!(checked >= rounds, "there was load: {checked} rows");
    assert!(
        restarts.iter().all(|took| *took < Duration::from_secs(2)),
        "{restarts:?}"
    );
    let answer: Value = service
        .chat(&say("echo", "still there"))
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["choices"][0]["message"]["content"], "still there");
    figures::record("R1", "rounds of kill -9 under load", rounds);
    figures::record("R1", "rows checked", checked);
    figures::record("R1", "acknowledged and lost", 0);
    figures::record_times("R30", "restart to ready after kill -9", &mut restarts);
}

/// A history of so many bytes as years of use leave it, written by SQL.
fn grow(database: &Path, bytes: u64) {
    const ROWS: u64 = 16 << 10;
    let conn = rusqlite::Connection::open(database).expect("it opens");
    conn.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536",
    )
    .expect("set");
    let each = bytes / ROWS;
    let insert = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
           INSERT INTO requests (request_id, timestamp, method, path, openai_request, model, stream, status, created_at)
           SELECT 'big-' || i, i, 'POST', '/v1/chat/completions', randomblob({each}), 'm', 0, 'completed', i FROM n;
         INSERT INTO responses (request_id, response_id, timestamp, http_status, duration_ms, created_at)
           SELECT id, 'a-' || request_id, timestamp, 200, 1, 1 FROM requests WHERE request_id LIKE 'big-%';"
    );
    conn.execute_batch(&insert).expect("rows");
}

/// With `QWARDEN_LONG` a gigabyte, else 64 MB: what start-up reads must not depend on it.
#[tokio::test(flavor = "multi_thread")]
async fn r30_a_large_database_is_served_at_once_after_kill_9() {
    let megabytes: u64 = if seeds::is_long_run() { 1024 } else { 64 };
    let rounds = seeds::rounds(10);
    let mut service = Service::start(&["--set", "history.commitWait=5000"]);
    service.binary.signal("TERM");
    assert!(service.binary.exit_within(PATIENCE).is_some(), "it stops");
    grow(&service.database(), megabytes << 20);
    let mut restarts = Vec::new();
    for round in 0..rounds {
        restarts.push(service.restart());
        // Something is in the log that has to be read again.
        for number in 0..20 {
            let text = format!("{round} {number}");
            assert_eq!(service.chat(&say("echo", &text)).await.status(), 200);
        }
    }
    restarts.push(service.restart());
    assert!(
        restarts.iter().all(|took| *took < Duration::from_secs(2)),
        "{restarts:?}"
    );
    let stored: i64 = read_cell(&service.database(), "SELECT count(*) FROM responses");
    assert_eq!(
        usize::try_from(stored).expect("few"),
        (16 << 10) + 20 * rounds
    );
    let length = std::fs::metadata(service.database()).expect("there").len();
    assert!(length > megabytes << 20);
    figures::record("R30", "size of the database, MB", length >> 20);
    figures::record_times("R30", "restart to ready after kill -9", &mut restarts);
}
