//! `qwarden doctor`: looks at everything that is known to go wrong, and says what to do about it.

mod files;
mod gateway;
mod ports;

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::data_dir;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::table::{Column, Table};
use crate::cli::words::Show;

const COLUMNS: &[Column] = &[
    ("CHECK", "/check", Show::Text),
    ("STATE", "/state", Show::State),
    ("FOUND", "/text", Show::Text),
];

/// Where to look when no gateway runs that could say.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where the database lives [default: the platform's data directory].
    #[arg(long, env = "QWARDEN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Port of the router, when no gateway runs that could be asked.
    #[arg(long, env = "QWARDEN_PORT", default_value_t = 3001)]
    port: u16,
    /// Port of the Qwen proxy, when no gateway runs that could be asked.
    #[arg(long, env = "QWARDEN_QWEN_PORT", default_value_t = 3000)]
    qwen_port: u16,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Problem,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: String,
    state: State,
    text: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &str, text: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state: State::Ok,
            text: text.into(),
            remedy: None,
        }
    }

    fn warning(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(check, text)
        }
    }

    fn problem(check: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Problem,
            remedy: Some(remedy.into()),
            ..Self::ok(check, text)
        }
    }
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let dir = data_dir::or_default(options.data_dir)
        .map_err(|error| Failure::Usage(format!("{error:#}")))?;
    let health = client.get(&["api", "health"]).send().await;
    let mut findings = gateway::reached(&health, client);
    let is_up = health.is_ok();
    findings.extend(ports::check(is_up, client, [options.port, options.qwen_port]).await);
    findings.extend(files::check(&dir, is_up));
    findings.push(files::clock(&dir, gateway::newest(is_up, client).await));
    if let Ok(health) = &health {
        findings.extend(gateway::check(health, client).await);
    }
    let worst = findings.iter().map(|finding| finding.state).max();
    let worst = worst.unwrap_or(State::Ok);
    let body = json!({"status": worst, "findings": findings});
    console.answer(&body, || shown(&findings, console))?;
    Ok(if worst == State::Problem {
        Exit::Unhealthy
    } else {
        Exit::Done
    })
}

fn shown(findings: &[Finding], console: &Console) -> String {
    let rows: Vec<Value> = findings.iter().map(|finding| json!(finding)).collect();
    let mut text = console.draw(&Table::of(&rows, COLUMNS));
    let told = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.remedy.as_ref()?)));
    // Below the table: a remedy is to be read whole.
    for (index, (finding, remedy)) in told.enumerate() {
        if index == 0 {
            text.push_str("\nwhat to do:\n");
        }
        let _ = writeln!(text, "  {}: {remedy}", finding.check);
    }
    text
}
