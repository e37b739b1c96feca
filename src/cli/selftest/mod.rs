//! `qwarden selftest`: this very binary, in a scratch folder, against an upstream that misbehaves.
//!
//! Each row breaks one thing and looks at what a client gets (reliability contract, R3, R10, R16 to R19, R24). Nothing of
//! the user's is touched: own ports, own database, loopback alone.

mod rows;
mod upstream;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::selftest::rows::Bench;
use crate::cli::selftest::upstream::{PATIENCE, SILENCE_MS, Upstream};
use crate::cli::table::{Column, Table};
use crate::cli::words::Show;
use crate::clock::new_id;
use crate::gateway::{Config, Gateway};
use crate::tasks::Tasks;

const COLUMNS: &[Column] = &[
    ("FAULT", "/fault", Show::Text),
    ("RESULT", "/result", Show::State),
    ("TOOK", "/duration_ms", Show::Took),
    ("WHAT SHOULD HAPPEN", "/expected", Show::Text),
    ("WHAT WAS WRONG", "/problem", Show::Text),
];

/// Runs the table; fails when any row did.
pub(crate) async fn run(console: &Console) -> Outcome {
    let scratch = Scratch::make()?;
    let tasks = Tasks::default();
    let upstream = Upstream::start(&tasks).await?;
    let settings = [
        ("server.port", json!(0)),
        ("server.qwenPort", json!(0)),
        ("server.apiPort", json!(0)),
        ("server.timeout", json!(SILENCE_MS)),
        ("system.discovery", json!(false)),
        (
            "qwen.baseUrl",
            json!(format!("http://{}", upstream.address)),
        ),
    ];
    let config = Config {
        data_dir: scratch.0.clone(),
        settings: settings
            .map(|(key, value)| (key.to_owned(), value))
            .to_vec(),
        ..Config::default()
    };
    let gateway = Gateway::start(config)
        .await
        .map_err(|error| Failure::Other(error.to_string()))?;
    let bench = Bench::of(&gateway, &upstream, scratch.0.join("qwarden.db")).await?;
    let mut results = Vec::new();
    for row in rows::ROWS {
        Console::note(&format!("... {}", row.fault));
        let began = Instant::now();
        let outcome = match tokio::time::timeout(PATIENCE, (row.look)(&bench)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it hangs: nothing for {} s", PATIENCE.as_secs())),
        };
        results.push(json!({
            "fault": row.fault,
            "expected": row.expected,
            "result": if outcome.is_ok() { "ok" } else { "failed" },
            "problem": outcome.err(),
            "duration_ms": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
    }
    drop(bench);
    drop(upstream);
    if !gateway.shutdown(Duration::from_secs(5)).await {
        results.push(
            json!({"fault": "shutdown", "expected": "ends in order", "result": "failed",
                            "problem": "tasks were left over", "duration_ms": 5_000}),
        );
    }
    let failed = results
        .iter()
        .filter(|row| row["result"] == "failed")
        .count();
    let answer = json!({"passed": results.len() - failed, "failed": failed, "rows": results});
    console.answer(&answer, || shown(&answer, console))?;
    Ok(if failed == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn shown(answer: &Value, console: &Console) -> String {
    let rows = answer["rows"].as_array().map(Vec::as_slice);
    let table = console.draw(&Table::of(rows.unwrap_or_default(), COLUMNS));
    format!(
        "{table}\n{} passed, {} failed\n",
        answer["passed"], answer["failed"]
    )
}

/// A folder that goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("qwarden-selftest-{}", new_id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left to the system's own cleaning where it cannot be removed.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
