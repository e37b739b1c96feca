//! `qwarden start`, `stop`, `restart`: the gateway's two ports. The management API stays.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::status::services;
use crate::cli::words::at;
use crate::limits::command_line::SWITCH_MARGIN;

/// How to close the ports.
#[derive(Args, Debug)]
pub(crate) struct StopOptions {
    /// Ms open requests may take to finish [default: 2000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    drain_ms: Option<u64>,
}

pub(crate) async fn start(client: &Client, console: &Console) -> Outcome {
    let body = open(client).await?;
    tell(&body, console)
}

pub(crate) async fn stop(options: &StopOptions, client: &Client, console: &Console) -> Outcome {
    let body = close(options, client).await?;
    tell(&body, console)
}

pub(crate) async fn restart(options: &StopOptions, client: &Client, console: &Console) -> Outcome {
    close(options, client).await?;
    let body = open(client).await?;
    tell(&body, console)
}

async fn open(client: &Client) -> Result<Value, Failure> {
    client.post(&["api", "proxy", "start"]).send().await
}

async fn close(options: &StopOptions, client: &Client) -> Result<Value, Failure> {
    let drain = Duration::from_millis(options.drain_ms.unwrap_or_default());
    client
        .post(&["api", "proxy", "stop"])
        .query("drain_ms", options.drain_ms)
        .within(drain + SWITCH_MARGIN)
        .send()
        .await
}

fn tell(body: &Value, console: &Console) -> Outcome {
    console.answer(body, || services(body, console))?;
    Console::note(&at(body, "/message"));
    if body["aborted"].as_u64().is_some_and(|aborted| aborted > 0) {
        Console::note(&format!("{} requests were cut off", body["aborted"]));
    }
    Ok(if body["success"] == false {
        Exit::Failed
    } else {
        Exit::Done
    })
}
