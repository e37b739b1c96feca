//! `qwarden alias`: virtual models, names that stand for one target or several.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome, Refusal};
use crate::cli::table::{self, Column, Table};
use crate::cli::words::Show;
use crate::routing::virtuals::Strategy;

const COLUMNS: &[Column] = &[
    ("NAME", "/name", Show::Text),
    ("TARGETS", "/names", Show::Text),
    ("STRATEGY", "/strategy", Show::Text),
    ("ENABLED", "/enabled", Show::Flag),
];

const FIELDS: &[Column] = &[
    ("name", "/name", Show::Text),
    ("description", "/description", Show::Text),
    ("strategy", "/strategy", Show::Text),
    ("enabled", "/enabled", Show::Flag),
    ("created", "/created_at", Show::Time),
    ("updated", "/updated_at", Show::Time),
];

const TARGETS: &[Column] = &[
    ("TARGET", "/target", Show::Text),
    ("WEIGHT", "/weight", Show::Text),
];

/// What to do with aliases.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List aliases.
    #[command(visible_alias = "ls")]
    List {
        /// Only those whose name or targets hold this.
        #[arg(short, long, value_name = "TEXT")]
        query: Option<String>,
    },
    /// Make an alias, or change the one of that name.
    #[command(after_help = "\
Examples:
  qwarden alias set coder qwen-direct-default/qwen3-coder-plus ollama/qwen3
  qwarden alias set 'claude-*' coder
  qwarden alias set fast groq/llama lab/llama --strategy weighted --weight 3,1")]
    Set(SetOptions),
    /// Show one with its targets.
    Show {
        /// Name of the alias.
        name: String,
    },
    /// Forget an alias.
    #[command(visible_alias = "rm")]
    Remove {
        /// Name of the alias.
        name: String,
    },
    /// Let requests use an alias.
    Enable {
        /// Name of the alias.
        name: String,
    },
    /// Keep requests from an alias.
    Disable {
        /// Name of the alias.
        name: String,
    },
}

/// What an alias is to be.
#[derive(Args, Debug)]
pub(crate) struct SetOptions {
    /// What clients send as `model`; `*` stands for any text.
    name: String,
    /// provider/model, a model, or another alias, the first choice first.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<String>,
    /// In which order targets are tried [default of a new one: priority].
    #[arg(short, long, value_parser = strategies())]
    strategy: Option<String>,
    /// Weights of the targets, by comma, in their order: 3,1 [default: 1 each].
    #[arg(short, long, value_delimiter = ',', value_name = "LIST")]
    weight: Vec<u32>,
    /// What it is for.
    #[arg(short, long)]
    description: Option<String>,
}

fn strategies() -> PossibleValuesParser {
    PossibleValuesParser::new(Strategy::ALL.map(Strategy::as_str))
}

impl SetOptions {
    fn body(self) -> Result<Map<String, Value>, Failure> {
        let (targets, weights) = (self.targets.len(), self.weight.len());
        if weights > 0 && weights != targets {
            return Err(Failure::Usage(format!(
                "--weight needs one weight for each target: there are {targets} targets and {weights} weights"
            )));
        }
        let weights = self.weight.into_iter().chain(std::iter::repeat(1));
        let targets: Vec<Value> = self
            .targets
            .into_iter()
            .zip(weights)
            .map(|(target, weight)| json!({"target": target, "weight": weight}))
            .collect();
        let given = [
            ("targets", Some(Value::from(targets))),
            ("strategy", self.strategy.map(Value::from)),
            ("description", self.description.map(Value::from)),
        ];
        Ok(given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect())
    }
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List { query } => {
            let mut body = client
                .get(&["api", "virtual-models"])
                .query("q", query)
                .query("limit", Some(1_000))
                .send()
                .await?;
            if !console.json {
                for row in body["virtual_models"].as_array_mut().into_iter().flatten() {
                    row["names"] = names(row);
                }
            }
            console.list(&body, "virtual_models", COLUMNS)?;
        }
        Verb::Set(options) => {
            let name = options.name.clone();
            let body = set(&name, options.body()?, client).await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Show { name } => {
            let body = client.get(&["api", "virtual-models", &name]).send().await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Remove { name } => {
            console.confirm(&format!("remove the alias `{name}`"))?;
            let path = ["api", "virtual-models", &name];
            let body = client.delete(&path).send().await?;
            console.answer(&body, || format!("alias {name} removed"))?;
        }
        Verb::Enable { name } => switch(&name, true, client, console).await?,
        Verb::Disable { name } => switch(&name, false, client, console).await?,
    }
    Ok(Exit::Done)
}

/// Changes what is there, or makes it.
async fn set(name: &str, body: Map<String, Value>, client: &Client) -> Result<Value, Failure> {
    let path = ["api", "virtual-models", name];
    let call = client.patch(&path).body(Value::Object(body.clone()));
    match call.send().await {
        Err(Failure::Refused(refusal)) if is_missing(&refusal) => {}
        answer => return answer,
    }
    let mut body = body;
    body.insert("name".into(), name.into());
    let call = client.post(&["api", "virtual-models"]);
    call.body(Value::Object(body)).send().await
}

fn is_missing(refusal: &Refusal) -> bool {
    refusal.status == StatusCode::NOT_FOUND.as_u16()
        && refusal.body["error"]["code"] == "virtual_model_not_found"
}

async fn switch(
    name: &str,
    enabled: bool,
    client: &Client,
    console: &Console,
) -> Result<(), Failure> {
    let call = client.patch(&["api", "virtual-models", name]);
    let body = call.body(json!({"enabled": enabled})).send().await?;
    let state = if enabled { "enabled" } else { "disabled" };
    console.answer(&body, || format!("{name} is {state}"))
}

fn names(row: &Value) -> Value {
    let targets = row["targets"].as_array().into_iter().flatten();
    targets.map(|target| target["target"].clone()).collect()
}

fn shown(body: &Value, console: &Console) -> String {
    let targets = body["targets"].as_array().map(Vec::as_slice);
    let targets = Table::of(targets.unwrap_or_default(), TARGETS);
    let mut text = table::fields(body, FIELDS);
    text.push('\n');
    text.push_str(&console.draw(&targets));
    text
}
