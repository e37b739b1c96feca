//! `qwarden replay`: a recorded exchange once more, offline: would its client get the same today?

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::console::{Console, print};
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input;
use crate::cli::table::{Column, Table};
use crate::cli::words::Show;
use crate::exchange::replay;
use crate::protocol::recording::Recording;

const COLUMNS: &[Column] = &[
    ("EVENT", "/event", Show::Text),
    ("CHANGE", "/change", Show::Text),
    ("THEN", "/then", Show::Text),
    ("NOW", "/now", Show::Text),
];

/// Which recording.
#[derive(Args, Debug)]
#[command(after_help = "\
Needs no gateway and no network.
Exit codes: 0 the client would get the same, 1 it would not.
Example:
  qwarden request recording 42 -o 42.json && qwarden replay 42.json")]
pub(crate) struct Options {
    /// What `qwarden request recording` wrote; - reads standard input.
    file: PathBuf,
}

pub(crate) async fn run(options: &Options, console: &Console) -> Outcome {
    let text = input::file(&options.file)?;
    let unreadable =
        |error: String| Failure::Usage(format!("`{}`: {error}", options.file.display()));
    let recording =
        Recording::read(text.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let compared = Box::pin(replay::replay(&recording))
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    let is_equal = compared.is_equal;
    let answer =
        serde_json::to_value(&compared).map_err(|error| Failure::Other(error.to_string()))?;
    console.answer(&answer, || shown(&answer, console))?;
    if compared.is_partial && !console.json {
        Console::note("the recording ends early: only what it holds was compared");
    }
    Ok(if is_equal { Exit::Done } else { Exit::Failed })
}

fn shown(answer: &Value, console: &Console) -> String {
    let count = |key: &str| answer[key].as_u64().unwrap_or_default();
    let events = answer["events"].as_array().map(Vec::as_slice);
    let differing: Vec<Value> = (1..)
        .zip(events.unwrap_or_default())
        .filter(|(_, event)| event["change"] != "equal")
        .map(|(number, event)| {
            json!({"event": number, "change": event["change"], "then": event["then"], "now": event["now"]})
        })
        .collect();
    let sum = format!(
        "{} equal, {} changed, {} missing, {} added\n",
        count("equal"),
        count("changed"),
        count("missing"),
        count("added")
    );
    if differing.is_empty() {
        return sum;
    }
    console.draw(&Table::of(&differing, COLUMNS)) + &sum
}

/// Writes a recording to a file, or to standard output.
pub(crate) fn write(document: &str, file: Option<&PathBuf>) -> Result<(), Failure> {
    let Some(file) = file else {
        return print(document);
    };
    std::fs::write(file, document)
        .map_err(|error| Failure::Other(format!("`{}` cannot be written: {error}", file.display())))
}
