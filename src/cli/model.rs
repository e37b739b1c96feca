//! `qwarden model`: models, and which provider offers them.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{Show, at};
use crate::limits::command_line::LONG;

const COLUMNS: &[Column] = &[
    ("ID", "/id", Show::Text),
    ("NAME", "/name", Show::Text),
    ("CAPABILITIES", "/capabilities", Show::Text),
    ("STATUS", "/status", Show::State),
];

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("name", "/name", Show::Text),
    ("description", "/description", Show::Text),
    ("capabilities", "/capabilities", Show::Text),
    ("created", "/created_at", Show::Time),
    ("updated", "/updated_at", Show::Time),
];

const PROVIDERS: &[Column] = &[
    ("PROVIDER", "/id", Show::Text),
    ("ENABLED", "/enabled", Show::Flag),
    ("DEFAULT", "/is_default", Show::Flag),
];

const SYNCED: &[Column] = &[
    ("PROVIDER", "/provider", Show::Text),
    ("SYNCED", "/success", Show::Flag),
    ("MODELS", "/totalModels", Show::Text),
    ("NEW", "/modelsAdded", Show::Text),
    ("LINKED", "/linksAdded", Show::Text),
    ("ERROR", "/error", Show::Text),
];

/// What to do with models.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List models.
    #[command(visible_alias = "ls")]
    List {
        /// Only those that can do this: chat, tools, code ...
        #[arg(short, long)]
        capability: Option<String>,
        /// Only those of this provider.
        #[arg(short, long)]
        provider: Option<String>,
        /// Only those whose id or name holds this.
        #[arg(short, long, value_name = "TEXT")]
        query: Option<String>,
    },
    /// Show one with the providers that offer it.
    Show {
        /// Id of the model.
        id: String,
    },
    /// Describe a model.
    Add {
        /// Printable characters without blanks.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Change what is named; the rest stays.
    Edit {
        /// Id of the model.
        id: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Forget a model and its links.
    #[command(visible_alias = "rm")]
    Remove {
        /// Id of the model.
        id: String,
        /// Even when it is the active one.
        #[arg(long)]
        force: bool,
    },
    /// Say that a provider offers a model.
    Link {
        /// Id of the provider.
        provider: String,
        /// Id of the model.
        model: String,
        /// Ask the provider for it when a request names no model.
        #[arg(long)]
        default: bool,
    },
    /// Say that a provider no longer offers a model.
    Unlink {
        /// Id of the provider.
        provider: String,
        /// Id of the model.
        model: String,
    },
    /// Choose the model a provider is asked for when a request names none.
    Default {
        /// Id of the provider.
        provider: String,
        /// Id of a model that is linked to it.
        model: String,
    },
    /// Ask providers for their models and keep the new ones.
    Sync {
        /// Id of the provider [default: every enabled one].
        provider: Option<String>,
    },
}

/// What can be said of a model, new or not.
#[derive(Args, Debug)]
pub(crate) struct Fields {
    /// Name for people [default of a new one: its id].
    #[arg(long)]
    name: Option<String>,
    /// What it is good for.
    #[arg(long)]
    description: Option<String>,
    /// What it can do, by comma: chat,tools.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    capabilities: Option<Vec<String>>,
}

impl Fields {
    fn body(self) -> Map<String, Value> {
        let given = [
            ("name", self.name.map(Value::from)),
            ("description", self.description.map(Value::from)),
            ("capabilities", self.capabilities.map(Value::from)),
        ];
        given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List {
            capability,
            provider,
            query,
        } => {
            let body = client
                .get(&["api", "models"])
                .query("capability", capability)
                .query("provider", provider)
                .query("q", query)
                .query("limit", Some(1_000))
                .send()
                .await?;
            console.list(&body, "models", COLUMNS)?;
        }
        Verb::Show { id } => {
            let body = client.get(&["api", "models", &id]).send().await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Add { id, fields } => {
            let mut body = fields.body();
            body.entry("name").or_insert_with(|| id.clone().into());
            body.insert("id".into(), id.into());
            let call = client.post(&["api", "models"]).body(Value::Object(body));
            let body = call.send().await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Edit { id, fields } => {
            let body = fields.body();
            if body.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; `qwarden model edit --help` lists what can be".into(),
                ));
            }
            let call = client.put(&["api", "models", &id]);
            let body = call.body(Value::Object(body)).send().await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Remove { id, force } => {
            console.confirm(&format!("remove the model `{id}` and its links"))?;
            let body = client
                .delete(&["api", "models", &id])
                .query("force", force.then_some(true))
                .send()
                .await?;
            console.answer(&body, || format!("model {id} removed"))?;
        }
        Verb::Link {
            provider,
            model,
            default,
        } => {
            let body = client
                .post(&["api", "providers", &provider, "models"])
                .body(json!({"model_id": model, "is_default": default}))
                .send()
                .await?;
            console.answer(&body, || format!("{provider} offers {model}"))?;
        }
        Verb::Unlink { provider, model } => {
            console.confirm(&format!("take the model `{model}` from `{provider}`"))?;
            let path = ["api", "providers", &provider, "models", &model];
            let body = client.delete(&path).send().await?;
            console.answer(&body, || format!("{provider} no longer offers {model}"))?;
        }
        Verb::Default { provider, model } => {
            let path = ["api", "providers", &provider, "models", &model, "default"];
            let body = client.put(&path).send().await?;
            console.answer(&body, || {
                format!("{provider} is asked for {model} by default")
            })?;
        }
        Verb::Sync { provider } => return sync(provider, client, console).await,
    }
    Ok(Exit::Done)
}

async fn sync(provider: Option<String>, client: &Client, console: &Console) -> Outcome {
    let mut path = vec!["api", "models", "sync"];
    path.extend(provider.as_deref());
    let body = client.post(&path).within(LONG).send().await?;
    console.answer(&body, || {
        let row = |provider: &str, result: &Value| {
            let mut row = result.clone();
            row["provider"] = provider.into();
            row
        };
        let rows: Vec<Value> = match (&provider, body["results"].as_object()) {
            (Some(provider), _) => vec![row(provider, &body["result"])],
            (None, Some(results)) => results.iter().map(|(id, result)| row(id, result)).collect(),
            (None, None) => Vec::new(),
        };
        console.draw(&Table::of(&rows, SYNCED))
    })?;
    Console::note(&at(&body, "/message"));
    Ok(if body["success"] == false {
        Exit::Failed
    } else {
        Exit::Done
    })
}

fn shown(body: &Value, console: &Console) -> String {
    let model = &body["model"];
    let mut text = table::fields(model, FIELDS);
    let providers = model["providers"].as_array().map(Vec::as_slice);
    if let Some(providers) = providers.filter(|providers| !providers.is_empty()) {
        text.push('\n');
        text.push_str(&console.draw(&Table::of(providers, PROVIDERS)));
    }
    text
}
