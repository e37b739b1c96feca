//! `qwarden provider`: the registry, and the short verbs `list` and `test`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::{self, pair};
use crate::cli::switch::active;
use crate::cli::table::{self, Column, Table};
use crate::cli::words::{Show, at};
use crate::limits::command_line::LONG;

const COLUMNS: &[Column] = &[
    (" ", "/active", Show::Mark),
    ("ID", "/id", Show::Text),
    ("NAME", "/name", Show::Text),
    ("TYPE", "/type", Show::Text),
    ("ENABLED", "/enabled", Show::Flag),
    ("PRIORITY", "/priority", Show::Text),
    ("HEALTH", "/health/state", Show::State),
];

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("name", "/name", Show::Text),
    ("type", "/type", Show::Text),
    ("description", "/description", Show::Text),
    ("enabled", "/enabled", Show::Flag),
    ("priority", "/priority", Show::Text),
    ("health", "/health/state", Show::Text),
    ("error", "/health/error", Show::Text),
    ("checked", "/health/checked_at", Show::Ago),
    ("created", "/created_at", Show::Time),
    ("updated", "/updated_at", Show::Time),
];

const CONFIG: &[Column] = &[
    ("CONFIG", "/key", Show::Text),
    ("VALUE", "/value", Show::Text),
];

const USED: &[Column] = &[
    ("USED", "/model", Show::Text),
    ("BREAKER", "/breaker", Show::Text),
    ("REOPENS", "/reopens_in_ms", Show::Took),
    ("RESTS", "/resting_for_ms", Show::Took),
    ("RUNNING", "/in_flight", Show::Text),
    ("LAST ERROR", "/last_error", Show::Text),
];

const MODELS: &[Column] = &[
    ("MODEL", "/id", Show::Text),
    ("NAME", "/name", Show::Text),
    ("DEFAULT", "/is_default", Show::Flag),
];

/// What to do with providers.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List providers; `*` marks the active one.
    #[command(visible_alias = "ls")]
    List(ListOptions),
    /// Show one with its configuration (secrets masked) and models.
    Show {
        /// Id of the provider.
        id: String,
    },
    /// Add a provider; the next request can use it.
    #[command(after_help = "\
Examples:
  qwarden provider add --id groq --type groq --api-key-file key.txt
  qwarden provider add --id lab --type openai-compatible \\
      --config baseURL=http://127.0.0.1:9000/v1 --config timeout=60000

Known types bring their base URL; any other type needs baseURL.")]
    Add(AddOptions),
    /// Change what is named; the rest stays.
    Edit(EditOptions),
    /// Remove a provider.
    #[command(visible_alias = "rm")]
    Remove {
        /// Id of the provider.
        id: String,
        /// Even when it is the active one; the next by priority takes its place.
        #[arg(long)]
        force: bool,
    },
    /// Let requests use a provider.
    Enable {
        /// Id of the provider.
        id: String,
    },
    /// Keep requests from a provider; those under way finish.
    Disable {
        /// Id of the provider.
        id: String,
    },
    /// Ask a provider whether it works (exit code 1 if not).
    Test(TestOptions),
    /// Read a provider from the database again.
    Reload {
        /// Id of the provider.
        id: String,
    },
}

/// Which providers.
#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// Only of this type.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only enabled ones.
    #[arg(short, long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only disabled ones.
    #[arg(short, long)]
    disabled: bool,
}

/// Which provider, and how to ask it.
#[derive(Args, Debug)]
pub(crate) struct TestOptions {
    /// Id of the provider [default: the active one].
    id: Option<String>,
    /// Ask this model for a completion, instead of asking for the models.
    #[arg(long)]
    model: Option<String>,
    /// What to ask it.
    #[arg(long, requires = "model")]
    prompt: Option<String>,
}

/// A new provider.
#[derive(Args, Debug)]
pub(crate) struct AddOptions {
    /// Lower-case letters, digits and `-`.
    #[arg(long)]
    id: String,
    /// Kind of server: openai, ollama, groq, qwen-direct, openai-compatible ...
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    fields: Fields,
}

/// A changed provider.
#[derive(Args, Debug)]
pub(crate) struct EditOptions {
    /// Id of the provider.
    id: String,
    /// Another kind of server.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    fields: Fields,
    /// Remove this key of the configuration; can be repeated.
    #[arg(long, value_name = "KEY")]
    unset_config: Vec<String>,
}

/// What can be said of a provider, new or not.
#[derive(Args, Debug)]
struct Fields {
    /// Name for people [default of a new one: its id].
    #[arg(long)]
    name: Option<String>,
    /// Higher is asked first.
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i64>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// One key of its configuration, such as baseURL=http://127.0.0.1:9000/v1; can be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, Value)>,
    /// Take apiKey from a file, or from standard input (-).
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Requests may use it.
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Requests may not use it.
    #[arg(long)]
    disabled: bool,
}

impl Fields {
    /// As a body; only what was given.
    fn body(self) -> Result<Map<String, Value>, Failure> {
        let mut config: Map<String, Value> = self.config.into_iter().collect();
        if let Some(path) = self.api_key_file {
            let key = input::file(&path)?;
            config.insert("apiKey".into(), key.trim().into());
        }
        let enabled = match (self.enabled, self.disabled) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        let given = [
            ("name", self.name.map(Value::from)),
            ("priority", self.priority.map(Value::from)),
            ("description", self.description.map(Value::from)),
            ("enabled", enabled.map(Value::from)),
            (
                "config",
                (!config.is_empty()).then_some(Value::Object(config)),
            ),
        ];
        Ok(given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect())
    }
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List(options) => return list(options, client, console).await,
        Verb::Test(options) => return test(options, client, console).await,
        Verb::Add(options) => return add(options, client, console).await,
        Verb::Edit(options) => return edit(options, client, console).await,
        Verb::Show { id } => {
            let body = client.get(&["api", "providers", &id]).send().await?;
            console.answer(&body, || shown(&body, console))?;
        }
        Verb::Remove { id, force } => {
            console.confirm(&format!("remove the provider `{id}`"))?;
            let body = client
                .delete(&["api", "providers", &id])
                .query("force", force.then_some(true))
                .send()
                .await?;
            console.answer(&body, || format!("provider {id} removed"))?;
        }
        Verb::Enable { id } => act(client, console, &id, "enable", "enabled").await?,
        Verb::Disable { id } => act(client, console, &id, "disable", "disabled").await?,
        Verb::Reload { id } => act(client, console, &id, "reload", "reloaded").await?,
    }
    Ok(Exit::Done)
}

async fn act(
    client: &Client,
    console: &Console,
    id: &str,
    verb: &str,
    done: &str,
) -> Result<(), Failure> {
    let body = client.post(&["api", "providers", id, verb]).send().await?;
    console.answer(&body, || format!("provider {id} {done}"))
}

pub(crate) async fn list(options: ListOptions, client: &Client, console: &Console) -> Outcome {
    let enabled = match (options.enabled, options.disabled) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let mut body = client
        .get(&["api", "providers"])
        .query("type", options.kind)
        .query("enabled", enabled)
        .query("limit", Some(1_000))
        .send()
        .await?;
    let chosen = active(client).await?;
    for provider in body["providers"].as_array_mut().into_iter().flatten() {
        provider["active"] = (!chosen.is_null() && provider["id"] == chosen).into();
    }
    body["active_provider"] = chosen;
    console.list(&body, "providers", COLUMNS)?;
    Ok(Exit::Done)
}

async fn add(options: AddOptions, client: &Client, console: &Console) -> Outcome {
    let mut body = options.fields.body()?;
    body.entry("name")
        .or_insert_with(|| options.id.clone().into());
    body.insert("id".into(), options.id.into());
    body.insert("type".into(), options.kind.into());
    let call = client.post(&["api", "providers"]);
    let made = call.body(Value::Object(body)).send().await?;
    console.answer(&made, || shown(&made, console))?;
    Ok(Exit::Done)
}

async fn edit(options: EditOptions, client: &Client, console: &Console) -> Outcome {
    let id = options.id;
    let mut body = options.fields.body()?;
    if let Some(kind) = options.kind {
        body.insert("type".into(), kind.into());
    }
    if body.is_empty() && options.unset_config.is_empty() {
        return Err(Failure::Usage(
            "nothing to change; `qwarden provider edit --help` lists what can be".into(),
        ));
    }
    if !body.is_empty() {
        let call = client.put(&["api", "providers", &id]);
        call.body(Value::Object(body)).send().await?;
    }
    for key in &options.unset_config {
        let path = ["api", "providers", &id, "config", key];
        client.delete(&path).send().await?;
    }
    let after = client.get(&["api", "providers", &id]).send().await?;
    console.answer(&after, || shown(&after, console))?;
    Ok(Exit::Done)
}

pub(crate) async fn test(options: TestOptions, client: &Client, console: &Console) -> Outcome {
    let id = match options.id {
        Some(id) => id,
        None => match active(client).await? {
            Value::String(id) => id,
            _ => {
                return Err(Failure::Usage(
                    "no provider is active: name one (`qwarden list` shows them), or choose one with `qwarden use`"
                        .into(),
                ));
            }
        },
    };
    let mut call = client.post(&["api", "providers", &id, "test"]).within(LONG);
    if let Some(model) = options.model {
        let prompt = options.prompt.unwrap_or_else(|| "Say ok.".into());
        call = call.body(json!({"model": model, "prompt": prompt}));
    }
    let body = call.send().await?;
    console.answer(&body, || {
        format!("{} {}", at(&body, "/provider_id"), verdict(&body))
    })?;
    Ok(if body["healthy"] == true {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// A test's answer as the end of a sentence.
pub(crate) fn verdict(body: &Value) -> String {
    let took = crate::cli::words::show(body.get("duration_ms"), Show::Took);
    if body["healthy"] == true {
        let found = match (&body["models_count"], &body["answer"]) {
            (Value::Number(count), _) => format!("{count} models, "),
            (_, Value::String(_)) => format!("\"{}\", ", at(body, "/answer")),
            _ => String::new(),
        };
        return format!("works: {found}{took}");
    }
    // The older program gives the reason as a text.
    let reason = match &body["error"] {
        Value::Object(_) => at(body, "/error/message"),
        _ => at(body, "/error"),
    };
    format!("does not work: {reason} ({took})")
}

fn shown(body: &Value, console: &Console) -> String {
    let mut text = table::fields(body, FIELDS);
    let health = body["health"]["models"].as_array().map(Vec::as_slice);
    if let Some(used) = health.filter(|used| !used.is_empty()) {
        text.push('\n');
        text.push_str(&console.draw(&Table::of(used, USED)));
    }
    let config: Vec<Value> = body["config"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    if !config.is_empty() {
        text.push('\n');
        text.push_str(&console.draw(&Table::of(&config, CONFIG)));
    }
    let models = body["models"].as_array().map(Vec::as_slice);
    if let Some(models) = models.filter(|models| !models.is_empty()) {
        text.push('\n');
        text.push_str(&console.draw(&Table::of(models, MODELS)));
    }
    text
}
