//! `qwarden response`: the answers of the history.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::input::Page;
use crate::cli::stats;
use crate::cli::table::{self, Column};
use crate::cli::words::Show;

const COLUMNS: &[Column] = &[
    ("ID", "/id", Show::Text),
    ("TIME", "/timestamp", Show::Time),
    ("PROVIDER", "/provider", Show::Text),
    ("MODEL", "/upstream_model", Show::Text),
    ("FINISH", "/finish_reason", Show::Text),
    ("TOKENS", "/total_tokens", Show::Text),
    ("DURATION", "/duration_ms", Show::Took),
    ("ERROR", "/error", Show::Text),
];

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("response", "/response_id", Show::Text),
    ("request", "/request/request_id", Show::Text),
    ("session", "/session_id", Show::Text),
    ("time", "/timestamp", Show::Time),
    ("provider", "/provider", Show::Text),
    ("model", "/upstream_model", Show::Text),
    ("http status", "/http_status", Show::Text),
    ("finish reason", "/finish_reason", Show::Text),
    ("error", "/error", Show::Text),
    ("tokens in", "/prompt_tokens", Show::Text),
    ("tokens out", "/completion_tokens", Show::Text),
    ("tokens", "/total_tokens", Show::Text),
    ("cost", "/cost_microusd", Show::Cost),
    ("attempts", "/attempts", Show::Text),
    ("first byte", "/ttft_ms", Show::Took),
    ("duration", "/duration_ms", Show::Took),
];

/// What to do with answers.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List answers, the newest first. Filters combine.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// Show one; with --bodies what was said.
    Show {
        /// Its number or its UUID.
        id: String,
        /// Also the body.
        #[arg(long)]
        bodies: bool,
    },
    /// Numbers: tokens, times, how many succeeded.
    Stats(stats::Options),
    /// Delete one; its request stays.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its number or its UUID.
        id: String,
    },
}

/// Which answers.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    #[command(flatten)]
    page: Page,
    /// Only of this session.
    #[arg(long)]
    session: Option<String>,
    /// Only to this request (its UUID).
    #[arg(long)]
    request: Option<String>,
    /// Only those that ended so: stop, length, `tool_calls` ...
    #[arg(long)]
    finish_reason: Option<String>,
    /// Only errors.
    #[arg(long)]
    errors: bool,
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List(filter) => {
            let body = client
                .get(&["api", "responses"])
                .query("limit", Some(filter.page.limit))
                .query("offset", Some(filter.page.offset))
                .query("session_id", filter.session)
                .query("request_id", filter.request)
                .query("finish_reason", filter.finish_reason)
                .query("has_error", filter.errors.then_some(true))
                .send()
                .await?;
            console.list(&body, "responses", COLUMNS)?;
        }
        Verb::Show { id, bodies } => {
            let body = client.get(&["api", "responses", &id]).send().await?;
            console.answer(&body, || {
                let mut text = table::fields(&body, FIELDS);
                if bodies {
                    let said = body.get("openai_response").unwrap_or(&Value::Null);
                    let _ = writeln!(text, "\nanswer:\n{said:#}");
                }
                text
            })?;
        }
        Verb::Stats(options) => return stats::of_answers(options, client, console).await,
        Verb::Remove { id } => {
            console.confirm(&format!("delete the response `{id}`"))?;
            let body = client.delete(&["api", "responses", &id]).send().await?;
            console.answer(&body, || format!("response {id} deleted"))?;
        }
    }
    Ok(Exit::Done)
}
