//! `qwarden stats` and `qwarden response stats`: numbers over all exchanges, and by group.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome, or_nothing};
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{Show, at};

/// Of `GET /api/responses/stats`.
const ANSWERS: &[Column] = &[
    ("answers", "/total_responses", Show::Text),
    ("failed", "/failed", Show::Text),
    ("success %", "/success_rate", Show::Text),
    ("tokens", "/total_tokens", Show::Text),
    ("tokens in", "/total_prompt_tokens", Show::Text),
    ("tokens out", "/total_completion_tokens", Show::Text),
    ("cost", "/cost_microusd", Show::Cost),
    ("average time", "/avg_duration_ms", Show::Took),
    ("half within", "/p50_duration_ms", Show::Took),
    ("95 % within", "/p95_duration_ms", Show::Took),
    ("first content", "/p50_ttft_ms", Show::Took),
];

/// Of one of its groups.
const GROUPS: &[Column] = &[
    ("GROUP", "/group", Show::Text),
    ("ANSWERS", "/total_responses", Show::Text),
    ("FAILED", "/failed", Show::Text),
    ("SUCCESS %", "/success_rate", Show::Text),
    ("TOKENS", "/total_tokens", Show::Text),
    ("COST", "/cost_microusd", Show::Cost),
    ("AVERAGE", "/avg_duration_ms", Show::Took),
    ("95 %", "/p95_duration_ms", Show::Took),
];

const ACTIVITY: &[Column] = &[
    ("requests", "/total_api_requests", Show::Text),
    ("last hour", "/requests_last_hour", Show::Text),
    ("last day", "/requests_last_day", Show::Text),
    ("success % (day)", "/success_rate_percent", Show::Text),
    ("errors (day)", "/recent_errors", Show::Text),
    ("active sessions", "/active_sessions", Show::Text),
    ("providers", "/total_providers", Show::Text),
    ("models", "/total_models", Show::Text),
];

/// Which answers, and how they are told apart.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only of this session.
    #[arg(long)]
    session: Option<String>,
    /// Only of this provider.
    #[arg(short, long)]
    provider: Option<String>,
    /// Only of this model.
    #[arg(short, long)]
    model: Option<String>,
    /// Also by group.
    #[arg(long, value_name = "GROUP")]
    by: Option<By>,
}

/// What groups are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Provider,
    Model,
    Hour,
    Day,
    Session,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Session => "session",
        }
    }
}

/// A first look: what is served, and by whom.
pub(crate) async fn run(client: &Client, console: &Console) -> Outcome {
    let activity = client.get(&["api", "activity", "stats"]).send().await?;
    let call = client.get(&["api", "responses", "stats"]);
    let answers = or_nothing(call.query("group_by", Some("provider")).send().await)?;
    let groups = answers["groups"].as_array().into_iter().flatten();
    let by_provider: Vec<Value> = groups
        .map(|group| {
            let mut row = group.clone();
            row["provider"] = group["key"].clone();
            row
        })
        .collect();
    let body = json!({
        "stats": activity["stats"],
        "responses": answers,
        "byProvider": by_provider,
    });
    console.answer(&body, || {
        let activity = table::fields(&body["stats"], ACTIVITY);
        format!(
            "{activity}\n{}",
            shown(&answers, Some(By::Provider), console)
        )
    })?;
    Ok(Exit::Done)
}

/// All numbers of a choice of answers.
pub(crate) async fn of_answers(options: Options, client: &Client, console: &Console) -> Outcome {
    let body = client
        .get(&["api", "responses", "stats"])
        .query("session_id", options.session)
        .query("provider", options.provider)
        .query("model", options.model)
        .query("group_by", options.by.map(By::as_str))
        .send()
        .await?;
    console.answer(&body, || shown(&body, options.by, console))?;
    Ok(Exit::Done)
}

fn shown(body: &Value, by: Option<By>, console: &Console) -> String {
    let mut text = table::fields(body, ANSWERS);
    let rows: Vec<Value> = body["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| named(group, by))
        .collect();
    if let (Some(by), false) = (by, rows.is_empty()) {
        let _ = writeln!(text, "\nby {}:", by.as_str());
        text.push_str(&console.draw(&Table::of(&rows, GROUPS)));
    }
    text
}

/// A group with its key as people read it: those of times are Unix milliseconds, as text.
fn named(group: &Value, by: Option<By>) -> Value {
    let mut row = group.clone();
    let key = at(group, "/key");
    row["group"] = match (by, key.parse::<i64>()) {
        (Some(By::Hour | By::Day), Ok(begin)) => crate::cli::words::time(begin).into(),
        _ => key.into(),
    };
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_time_are_named_by_their_beginning() {
        let group = json!({"key": "1700000000000", "failed": 1});
        let name = |by| named(&group, by)["group"].clone();
        assert_eq!(name(Some(By::Hour)), "2023-11-14 22:13:20Z");
        assert_eq!(name(Some(By::Model)), "1700000000000");
    }
}
