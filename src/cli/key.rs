//! `qwarden key`: the API keys of clients of the router and the Qwen proxy.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::table::{self, Column};
use crate::cli::words::{Show, at};

const COLUMNS: &[Column] = &[
    ("ID", "/id", Show::Text),
    ("NAME", "/name", Show::Text),
    ("BEGINS", "/prefix", Show::Text),
    ("MODELS", "/allowed_models", Show::Text),
    ("PER MINUTE", "/rate_per_minute", Show::Text),
    ("OFF", "/disabled", Show::Flag),
    ("LAST USED", "/last_used_at", Show::Time),
];

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("name", "/name", Show::Text),
    ("begins", "/prefix", Show::Text),
    ("models", "/allowed_models", Show::Text),
    ("off", "/disabled", Show::Flag),
    ("ends", "/expires_at", Show::Time),
    ("requests a minute", "/rate_per_minute", Show::Text),
    ("tokens a day", "/tokens_per_day", Show::Text),
    ("tokens a month", "/tokens_per_month", Show::Text),
    ("dollars a day", "/cost_per_day", Show::Text),
    ("dollars a month", "/cost_per_month", Show::Text),
    ("made", "/created_at", Show::Time),
    ("last used", "/last_used_at", Show::Time),
];

/// What to do with keys.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the keys.
    #[command(visible_alias = "ls")]
    List,
    /// Show one with its limits.
    Show {
        /// Its id.
        id: String,
    },
    /// Make a key. It is printed this one time.
    Add {
        /// What it is called, such as the machine it is for.
        name: String,
        #[command(flatten)]
        limits: Limits,
    },
    /// Change what a key may do.
    Edit {
        /// Its id.
        id: String,
        /// Call it so.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Take a key out of service; what it used stays known.
    Disable {
        /// Its id.
        id: String,
    },
    /// Put a key into service again.
    Enable {
        /// Its id.
        id: String,
    },
    /// Delete a key.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id.
        id: String,
    },
}

/// What a key may do.
#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Only these models, by comma; `groq/*` means all that begin so.
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    models: Option<Vec<String>>,
    /// Requests a minute.
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
    /// Tokens a day.
    #[arg(long, value_name = "NUMBER")]
    tokens_per_day: Option<u64>,
    /// Tokens a month.
    #[arg(long, value_name = "NUMBER")]
    tokens_per_month: Option<u64>,
    /// US dollars a day.
    #[arg(long, value_name = "DOLLARS")]
    cost_per_day: Option<f64>,
    /// US dollars a month.
    #[arg(long, value_name = "DOLLARS")]
    cost_per_month: Option<f64>,
}

impl Limits {
    /// As the API takes them; what is not given is left out.
    fn body(self) -> Map<String, Value> {
        let all = [
            ("allowed_models", self.models.map(|models| json!(models))),
            ("rate_per_minute", self.rate.map(Value::from)),
            ("tokens_per_day", self.tokens_per_day.map(Value::from)),
            ("tokens_per_month", self.tokens_per_month.map(Value::from)),
            ("cost_per_day", self.cost_per_day.map(Value::from)),
            ("cost_per_month", self.cost_per_month.map(Value::from)),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List => {
            let answer = client.get(&["api", "keys"]).send().await?;
            console.list(&answer, "keys", COLUMNS)?;
        }
        Verb::Show { id } => {
            let answer = client.get(&["api", "keys", &id]).send().await?;
            console.answer(&answer, || table::fields(&answer, FIELDS))?;
        }
        Verb::Add { name, limits } => {
            let mut body = limits.body();
            body.insert("name".into(), name.into());
            let call = client.post(&["api", "keys"]);
            let answer = call.body(Value::Object(body)).send().await?;
            console.answer(&answer, || at(&answer, "/key"))?;
            Console::note("keep it: it is not shown again");
        }
        Verb::Edit { id, name, limits } => {
            let mut body = limits.body();
            body.extend(name.map(|name| ("name".to_owned(), name.into())));
            if body.is_empty() {
                return Err(Failure::Usage(
                    "say what is to change: `qwarden key edit --help`".into(),
                ));
            }
            change(&id, Value::Object(body), "changed", client, console).await?;
        }
        Verb::Disable { id } => {
            change(&id, json!({"disabled": true}), "disabled", client, console).await?;
        }
        Verb::Enable { id } => {
            change(&id, json!({"disabled": false}), "enabled", client, console).await?;
        }
        Verb::Remove { id } => {
            console.confirm(&format!("delete the key `{id}`"))?;
            let answer = client.delete(&["api", "keys", &id]).send().await?;
            console.answer(&answer, || at(&answer, "/message"))?;
        }
    }
    Ok(Exit::Done)
}

async fn change(
    id: &str,
    body: Value,
    what: &str,
    client: &Client,
    console: &Console,
) -> Result<(), Failure> {
    let answer = client.put(&["api", "keys", id]).body(body).send().await?;
    console.answer(&answer, || format!("{} {what}", at(&answer, "/name")))
}
