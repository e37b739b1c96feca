//! `qwarden settings`: every setting of the running gateway.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::{Console, print};
use crate::cli::failure::{Exit, Outcome};
use crate::cli::input::json_or_text;
use crate::cli::table::{Column, Table};
use crate::cli::words::{Show, at};
use crate::settings::{self, Kind};

const COLUMNS: &[Column] = &[
    ("SETTING", "/key", Show::Text),
    ("VALUE", "/value", Show::Text),
    ("WHAT", "/help", Show::Text),
];

/// What to do with settings.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List all values in force.
    #[command(visible_alias = "ls")]
    List {
        /// Only these: server, logging, history, provider ...
        category: Option<String>,
    },
    /// Print one value; with --json also what it may be.
    Get {
        /// For example server.timeout.
        key: String,
    },
    /// Store a value; it is checked first.
    Set {
        /// For example server.timeout.
        key: String,
        /// Numbers, true, false or text.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Go back to the default.
    Unset {
        /// For example server.timeout.
        key: String,
    },
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List { category } => {
            let call = client.get(&["api", "settings"]).query("category", category);
            let body = call.send().await?;
            console.answer(&body, || listed(&body, console))?;
        }
        Verb::Get { key } => {
            let body = client.get(&["api", "settings", &key]).send().await?;
            // The bare value, so that a script can use it; nothing where there is none.
            let text = match &body["value"] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            console.answer(&body, || text)?;
        }
        Verb::Set { key, value } => {
            // A text setting takes `123` as text; of unknown keys the gateway knows the type.
            let is_text = settings::find(&key)
                .is_some_and(|setting| matches!(setting.kind, Kind::Text | Kind::OneOf(_)));
            let value = if is_text {
                Value::from(value)
            } else {
                json_or_text(&value)
            };
            let call = client.put(&["api", "settings", &key]);
            let body = call.body(json!({"value": value})).send().await?;
            changed(&body, console)?;
        }
        Verb::Unset { key } => {
            let body = client.delete(&["api", "settings", &key]).send().await?;
            changed(&body, console)?;
        }
    }
    Ok(Exit::Done)
}

fn listed(body: &Value, console: &Console) -> String {
    let rows: Vec<Value> = body["settings"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let help = settings::find(key).map(|setting| setting.help);
            json!({"key": key, "value": value, "help": help})
        })
        .collect();
    console.draw(&Table::of(&rows, COLUMNS))
}

fn changed(body: &Value, console: &Console) -> Result<(), crate::cli::failure::Failure> {
    if console.json {
        return Console::json(body);
    }
    print(&format!("{} = {}", at(body, "/key"), at(body, "/value")))?;
    if body["requiresRestart"] == true {
        Console::note("it takes effect when `qwarden serve` is started again");
    }
    Ok(())
}
