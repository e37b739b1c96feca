//! `qwarden use`: which provider is preferred, and asked when a request names no model.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::words::at;

/// Which provider.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Id of an enabled provider; `qwarden list` shows them.
    provider: String,
}

pub(crate) async fn run(options: &Options, client: &Client, console: &Console) -> Outcome {
    let before = active(client).await?;
    let body = client
        .put(&["api", "settings", "active_provider"])
        .body(json!({"value": options.provider}))
        .send()
        .await?;
    console.answer(&body, || {
        format!("From: {}\nTo:   {}", at(&before, ""), at(&body, "/value"))
    })?;
    Ok(Exit::Done)
}

/// The id of the active provider, or null.
pub(crate) async fn active(client: &Client) -> Result<Value, Failure> {
    let setting = client
        .get(&["api", "settings", "active_provider"])
        .send()
        .await?;
    Ok(setting["value"].clone())
}
