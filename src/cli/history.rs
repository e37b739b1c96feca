//! `qwarden history`: the latest exchanges, a line each.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::request::LIGHT;
use crate::cli::table::Column;
use crate::cli::words::Show;

const COLUMNS: &[Column] = &[
    ("REQUEST ID", "/request_id", Show::Text),
    ("PROVIDER", "/provider", Show::Text),
    ("MODEL", "/model", Show::Text),
    ("METHOD", "/method", Show::Text),
    ("ENDPOINT", "/path", Show::Text),
    ("STATUS", "/status", Show::State),
    ("DURATION", "/response_summary/duration_ms", Show::Took),
    ("TIME", "/timestamp", Show::Time),
];

/// How many, and whose.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many to show, 1 to 1000.
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only answered by this provider.
    #[arg(short, long)]
    provider: Option<String>,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let body = client
        .get(&["api", "requests"])
        .query("limit", Some(options.limit))
        .query("provider", options.provider)
        .query("fields", (!console.json).then_some(LIGHT))
        .send()
        .await?;
    console.list(&body, "requests", COLUMNS)?;
    Ok(Exit::Done)
}
