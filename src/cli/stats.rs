//! `qwarden stats`: numbers over all exchanges, and by provider.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome, or_nothing};
use crate::cli::table::{self, Column, Table};
use crate::cli::words::Show;

/// The newest exchanges are counted by provider; older ones are in the sums only.
const COUNTED: usize = 1_000;

/// Of `GET /api/responses/stats`.
pub(crate) const ANSWERS: &[Column] = &[
    ("answers", "/total_responses", Show::Text),
    ("tokens", "/total_tokens", Show::Text),
    ("tokens in", "/total_prompt_tokens", Show::Text),
    ("tokens out", "/total_completion_tokens", Show::Text),
    ("average time", "/avg_duration_ms", Show::Took),
    ("success %", "/success_rate", Show::Text),
];

const ACTIVITY: &[Column] = &[
    ("requests", "/total_api_requests", Show::Text),
    ("last hour", "/requests_last_hour", Show::Text),
    ("last day", "/requests_last_day", Show::Text),
    ("average time", "/avg_response_time_ms", Show::Took),
    ("success % (day)", "/success_rate_percent", Show::Text),
    ("errors (day)", "/recent_errors", Show::Text),
    ("active sessions", "/active_sessions", Show::Text),
    ("providers", "/total_providers", Show::Text),
    ("models", "/total_models", Show::Text),
];

const PROVIDERS: &[Column] = &[
    ("PROVIDER", "/provider", Show::Text),
    ("REQUESTS", "/requests", Show::Text),
    ("FAILED", "/failed", Show::Text),
    ("TOKENS", "/total_tokens", Show::Text),
    ("AVERAGE", "/avg_duration_ms", Show::Took),
];

pub(crate) async fn run(client: &Client, console: &Console) -> Outcome {
    let activity = client.get(&["api", "activity", "stats"]).send().await?;
    let call = client.get(&["api", "responses", "stats"]);
    let answers = or_nothing(call.send().await)?;
    let newest = client
        .get(&["api", "requests"])
        .query("limit", Some(COUNTED))
        .query("fields", Some("provider,status,response_summary"))
        .send()
        .await?;
    let rows = newest["requests"].as_array().map(Vec::as_slice);
    let rows = rows.unwrap_or_default();
    let by_provider = by_provider(rows);
    let body = json!({
        "stats": activity["stats"],
        "responses": answers,
        "byProvider": by_provider,
        "byProviderOf": rows.len(),
    });
    console.answer(&body, || {
        let mut text = table::fields(&body["stats"], ACTIVITY);
        if body["responses"].is_object() {
            text.push('\n');
            text.push_str(&table::fields(&body["responses"], ANSWERS));
        }
        if !by_provider.is_empty() {
            let _ = writeln!(text, "\nthe newest {} requests by provider:", rows.len());
            text.push_str(&console.draw(&Table::of(&by_provider, PROVIDERS)));
        }
        text
    })?;
    Ok(Exit::Done)
}

#[derive(Default)]
struct Sum {
    requests: u64,
    failed: u64,
    tokens: u64,
    answered: u64,
    duration: u64,
}

fn by_provider(rows: &[Value]) -> Vec<Value> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for row in rows {
        let sum = sums
            .entry(row["provider"].as_str().unwrap_or("-"))
            .or_default();
        sum.requests += 1;
        sum.failed += u64::from(row["status"] == "failed");
        let answer = &row["response_summary"];
        sum.tokens += answer["total_tokens"].as_u64().unwrap_or_default();
        if let Some(duration) = answer["duration_ms"].as_u64() {
            sum.answered += 1;
            sum.duration += duration;
        }
    }
    sums.into_iter()
        .map(|(provider, sum)| {
            json!({
                "provider": provider,
                "requests": sum.requests,
                "failed": sum.failed,
                "total_tokens": sum.tokens,
                "avg_duration_ms": sum.duration.checked_div(sum.answered),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_are_summed_by_provider() {
        let row = |provider: Option<&str>, status: &str, duration: Option<u64>| {
            let answer = duration.map(|ms| json!({"total_tokens": 10, "duration_ms": ms}));
            json!({"provider": provider, "status": status, "response_summary": answer})
        };
        let rows = [
            row(Some("b"), "completed", Some(100)),
            row(Some("b"), "failed", Some(300)),
            row(Some("b"), "in_progress", None),
            row(None, "failed", None),
        ];
        assert_eq!(
            by_provider(&rows),
            [
                json!({"provider": "-", "requests": 1, "failed": 1, "total_tokens": 0, "avg_duration_ms": null}),
                json!({"provider": "b", "requests": 3, "failed": 1, "total_tokens": 20, "avg_duration_ms": 200}),
            ]
        );
    }
}
