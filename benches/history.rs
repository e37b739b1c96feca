//! What a long history costs those who ask for it: `cargo bench --bench history [EXCHANGES]`.
//!
//! Generates a database (a million exchanges unless told otherwise), serves it, and times questions over HTTP, beside the
//! cheapest one there is. Prints a table; measures, and judges nothing.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench's own work"
)]

use std::time::{Duration, Instant};

use qwarden::gateway::{Config, Gateway};
use qwarden::measure;
use serde_json::json;

const ROUNDS: usize = 20;

const QUESTIONS: &[&str] = &[
    "/api/health/live",
    "/api/responses/stats",
    "/api/responses/stats?group_by=provider",
    "/api/responses/stats?group_by=model",
    "/api/responses/stats?group_by=hour",
    "/api/responses/stats?provider=ollama&group_by=day",
    "/api/activity/stats",
    "/api/activity/recent",
    "/api/requests?limit=100&fields=id,timestamp,model,status",
    "/api/requests?limit=100",
    "/api/requests?model=model-3&stream=true&fields=id",
    "/api/requests?has_error=true&fields=id",
    "/api/requests?offset=900000&limit=50&fields=id",
];

fn main() {
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
    runtime.block_on(questions(data_dir));
}

async fn questions(data_dir: std::path::PathBuf) {
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
        insecure: false,
    })
    .await
    .expect("the gateway starts");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    println!("| question | p50 | worst of {ROUNDS} |\n|---|---|---|");
    for question in QUESTIONS {
        let url = format!("http://{}{question}", gateway.management_address());
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
        println!(
            "| `{question}` | {:.1} ms | {:.1} ms |",
            at(ROUNDS / 2),
            at(ROUNDS - 1)
        );
    }
    gateway.shutdown(Duration::from_secs(5)).await;
}
