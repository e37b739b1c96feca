//! What a long history costs those who ask for it: `cargo bench --bench history [EXCHANGES]`.
//!
//! Generates a database (a million exchanges unless told otherwise), serves it, and times questions over HTTP, beside the
//! cheapest one there is. Then half of the exchanges go, while a table is kept of how long each kind of write held the
//! database. Fails when a question of statistics takes longer than 50 ms (95th percentile), or a piece of what goes longer
//! than 20 ms in the middle of them all (their mean); a single longest one may be the machine's.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench's own work"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use qwarden::gateway::{Config, Gateway};
use qwarden::measure;
use serde_json::{Value, json};

const ROUNDS: usize = 40;
/// What a question of statistics may take (95th percentile), and what a piece of what goes may hold the database (mean).
const STATISTICS_MS: f64 = 50.0;
const PIECE_MS: f64 = 20.0;

const QUESTIONS: &[&str] = &[
    "/api/health/live",
    "/api/responses/stats",
    "/api/responses/stats?group_by=provider",
    "/api/responses/stats?group_by=model",
    "/api/responses/stats?group_by=hour",
    "/api/responses/stats?provider=ollama&group_by=day",
    "/api/responses/stats?group_by=session",
    "/api/responses/stats?group_by=session&limit=200",
    "/api/responses/stats?session_id=conversation-00000042",
    "/api/activity/stats",
    "/api/activity/recent",
    "/api/requests?limit=100&fields=id,timestamp,model,status",
    "/api/requests?limit=100",
    "/api/requests?model=model-3&stream=true&fields=id",
    "/api/requests?has_error=true&fields=id",
    "/api/requests?offset=900000&limit=50&fields=id",
    "/api/requests?q=question%20424242&fields=id",
];

fn main() -> ExitCode {
    let count = std::env::args().find_map(|argument| argument.parse().ok());
    let count: i64 = count.unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("a folder");
    let data_dir = dir.path().join("data");
    let began = Instant::now();
    measure::generate_history(&data_dir, count).expect("a history");
    println!(
        "{count} exchanges made in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let failures = runtime.block_on(measured(data_dir, count));
    for failure in &failures {
        println!("too slow: {failure}");
    }
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn measured(data_dir: std::path::PathBuf, count: i64) -> Vec<String> {
    let settings = [
        ("server.port", json!(0)),
        ("server.qwenPort", json!(0)),
        ("server.apiPort", json!(0)),
        ("system.discovery", json!(false)),
    ];
    let settings = settings
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
    let gateway = Gateway::start(Config {
        data_dir,
        settings,
        ..Config::default()
    })
    .await
    .expect("the gateway starts");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let base = format!("http://{}", gateway.management_address());
    // The words of all of them are added at the start, which is not what is asked here.
    let began = Instant::now();
    retain(&client, &base).await;
    println!("words added in {:.1} s", began.elapsed().as_secs_f64());
    let mut failures = questions(&client, &base).await;
    let began = Instant::now();
    let most = json!({"value": count / 2});
    let url = format!("{base}/api/settings/retention.maxRequests");
    let answer = client.put(url).json(&most).send().await;
    assert!(answer.expect("an answer").status().is_success());
    retain(&client, &base).await;
    println!("half of it gone in {:.1} s", began.elapsed().as_secs_f64());
    failures.extend(writes(&client, &base).await);
    gateway.shutdown(Duration::from_secs(5)).await;
    failures
}

/// Waits until nothing is outlived any more.
async fn retain(client: &reqwest::Client, base: &str) {
    let url = format!("{base}/api/retention/run");
    let answer = client.post(url).json(&json!({})).send().await;
    let answer = answer.expect("an answer");
    let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
    assert!(status.is_success(), "{status} {body}");
}

/// Returns those that take too long.
async fn questions(client: &reqwest::Client, base: &str) -> Vec<String> {
    let mut failures = Vec::new();
    println!("\n| question | p50 | p95 | worst of {ROUNDS} |\n|---|---|---|---|");
    for question in QUESTIONS {
        let url = format!("{base}{question}");
        let mut took: Vec<Duration> = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let answer = client.get(&url).send().await.expect("an answer");
            assert!(answer.status().is_success(), "{question}");
            answer.bytes().await.expect("a body");
            took.push(began.elapsed());
        }
        took.sort();
        let at = |index: usize| took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e3);
        let [p50, p95, worst] = [ROUNDS / 2, ROUNDS * 95 / 100 - 1, ROUNDS - 1].map(at);
        println!("| `{question}` | {p50:.1} ms | {p95:.1} ms | {worst:.1} ms |");
        if question.contains("stats") && p95 > STATISTICS_MS {
            failures.push(format!("{question}: {p95:.1} ms"));
        }
    }
    failures
}

/// Returns those that hold the database too long.
async fn writes(client: &reqwest::Client, base: &str) -> Vec<String> {
    let url = format!("{base}/api/health");
    let answer = client.get(url).send().await.expect("an answer");
    let health: Value = answer.json().await.expect("JSON");
    let writes = health.pointer("/checks/db/writes").expect("timings");
    println!("\n| write | number | mean | longest | over 20 ms |\n|---|---|---|---|---|");
    let mut failures = Vec::new();
    for (kind, timing) in writes.as_object().expect("kinds") {
        let number = |name: &str| timing.get(name).and_then(Value::as_f64).unwrap_or_default();
        let (count, longest) = (number("count"), number("longest_ms"));
        let slow = number("over_20_ms");
        let mean = number("total_ms") / count.max(1.0);
        println!("| {kind} | {count} | {mean:.2} ms | {longest:.1} ms | {slow} |");
        if mean > PIECE_MS {
            failures.push(format!("{kind}: {mean:.1} ms"));
        }
    }
    failures
}
