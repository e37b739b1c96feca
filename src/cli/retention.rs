//! `qwarden retention`: removes what the history has outlived, now instead of within the hour.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::progress::{self, Progress};
use crate::limits::command_line::VERY_LONG;

/// What to do.
#[derive(Args, Debug)]
#[command(after_help = "The settings `retention.*` say what goes: `qwarden settings list`.")]
pub(crate) struct Options {
    /// Only tell what would go.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(options: &Options, client: &Client, console: &Console) -> Outcome {
    if !options.dry_run {
        console.confirm("remove what the settings `retention.*` call outlived")?;
    }
    let mut progress = Progress::new();
    let call = client.post(&["api", "retention", "run"]).within(VERY_LONG);
    let asking = call.body(json!({"dry_run": options.dry_run})).send();
    let asking = progress.during(client, "retention:progress", line, asking);
    let answer = Box::pin(asking).await?;
    drop(progress);
    console.answer(&answer, || shown(&answer, options.dry_run))?;
    Ok(Exit::Done)
}

fn line(event: &Value) -> String {
    let rows = |key: &str| event[key].as_u64().unwrap_or_default();
    progress::part("removing what is outlived", rows("done"), rows("total"))
}

fn shown(answer: &Value, is_preview: bool) -> String {
    let verb = if is_preview { "would go" } else { "gone" };
    let counts = answer["deleted"].as_object();
    let lines = counts.into_iter().flatten().map(|(what, count)| {
        let what = what.replace('_', " ");
        format!("{what}: {count} {verb}\n")
    });
    lines.collect()
}
