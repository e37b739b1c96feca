//! `qwarden activity`: what happened lately.

use clap::Args;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::table::Column;
use crate::cli::words::Show;

/// Of `GET /api/activity/recent`.
pub(crate) const COLUMNS: &[Column] = &[
    ("TIME", "/timestamp_ms", Show::Time),
    ("TYPE", "/type", Show::Text),
    ("ACTION", "/action", Show::Text),
    ("WHAT", "/description", Show::Text),
];

/// How many.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many to show, 1 to 1000.
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

pub(crate) async fn run(options: &Options, client: &Client, console: &Console) -> Outcome {
    let call = client.get(&["api", "activity", "recent"]);
    let body = call.query("limit", Some(options.limit)).send().await?;
    console.list(&body, "activities", COLUMNS)?;
    Ok(Exit::Done)
}
