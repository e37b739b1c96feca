//! `qwarden retention`: removes what the history has outlived, now instead of within the hour.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::{Client, VERY_LONG};
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::progress::Progress;

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
    progress.tell(|| "removing what is outlived ...".into());
    let call = client.post(&["api", "retention", "run"]).within(VERY_LONG);
    let answer = call.body(json!({"dry_run": options.dry_run})).send().await;
    drop(progress);
    let answer = answer?;
    console.answer(&answer, || shown(&answer, options.dry_run))?;
    Ok(Exit::Done)
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
