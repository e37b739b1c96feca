//! `qwarden env`: points a tool at the gateway. Prints what the tool needs, or writes it where the tool looks.

mod clients;
mod files;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::env::clients::{Setup, Target, Tool};
use crate::cli::failure::{Exit, Failure, Outcome};

const ROUTER_PORT: u16 = 3001;
const QWEN_PORT: u16 = 3000;
/// Where Ollama's clients look.
const OLLAMA_PORT: u16 = 11434;
/// Of a gateway that cannot be asked.
const MODEL: &str = "qwen3-max";
/// Built in; it only repeats what it hears.
const ECHO: &str = "echo";

/// Which tool, and how.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  qwarden env opencode --write             write OpenCode's configuration
  eval \"$(qwarden env claude-code)\"        for this shell only
  qwarden env codex --model ollama/qwen3:0.6b --write

Writing keeps what else is in the file, and leaves a copy beside it (.bak).")]
pub(crate) struct Options {
    /// The tool.
    tool: Tool,
    /// Model to use [default: the active one, else the first that is served].
    #[arg(short, long)]
    model: Option<String>,
    /// Use the Qwen proxy's port instead of the router's.
    #[arg(long)]
    qwen: bool,
    /// Write it where the tool looks, after a question.
    #[arg(short, long)]
    write: bool,
    /// Write it here instead.
    #[arg(long, value_name = "FILE", requires = "write")]
    path: Option<PathBuf>,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    let target = target(&options, client).await?;
    let setup = Setup::of(options.tool, &target);
    let path = match options.path {
        Some(path) => path,
        None => clients::path(options.tool)?,
    };
    if options.write {
        write(&setup, &path, &target, console)?;
    } else {
        let body = described(&setup, &path, &target);
        console.answer(&body, || setup.text.clone())?;
    }
    if !console.json {
        Console::note(&format!("then: {}", setup.then));
    }
    Ok(Exit::Done)
}

fn described(setup: &Setup, path: &std::path::Path, target: &Target) -> Value {
    json!({
        "base_url": target.root,
        "model": target.model,
        "path": path.display().to_string(),
        "text": setup.text,
        "then": setup.then,
    })
}

fn write(
    setup: &Setup,
    path: &std::path::Path,
    target: &Target,
    console: &Console,
) -> Result<(), Failure> {
    let old = files::read(path)?;
    let new = setup.change.merged(old.as_deref()).map_err(|reason| {
        Failure::Other(format!(
            "`{}` {reason}; left as it is. Without --write this prints what belongs there",
            path.display()
        ))
    })?;
    let mut body = described(setup, path, target);
    body["written"] = (old.as_deref() != Some(&new)).into();
    if old.as_deref() == Some(&new) {
        return console.answer(&body, || format!("{} says so already", path.display()));
    }
    console.confirm(&format!("write `{}`", path.display()))?;
    files::replace(path, &new)?;
    console.answer(&body, || format!("{} written", path.display()))
}

async fn target(options: &Options, client: &Client) -> Result<Target, Failure> {
    let call = client.get(&["api", "proxy", "status"]);
    let status = match call
        .query("fields", Some("providerRouter,qwenProxy"))
        .send()
        .await
    {
        Err(Failure::NotRunning { .. }) => {
            Console::note("no qwarden runs: these are its usual ports");
            None
        }
        status => Some(status?),
    };
    if matches!(options.tool, Tool::Ollama) {
        return ollama(options, client).await;
    }
    let (key, usual) = if options.qwen {
        ("qwenProxy", QWEN_PORT)
    } else {
        ("providerRouter", ROUTER_PORT)
    };
    let port = status
        .as_ref()
        .and_then(|status| status[key]["port"].as_u64())
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .unwrap_or(usual);
    let there = client.beside(port);
    let model = match (&options.model, status) {
        (Some(model), _) => model.clone(),
        (None, Some(_)) => {
            let model = served(client, &there).await;
            if model == ECHO {
                Console::note(
                    "no model is served but `echo`, which repeats what it hears; see --model",
                );
            }
            model
        }
        (None, None) => MODEL.to_owned(),
    };
    Ok(Target {
        root: there.url(),
        model,
    })
}

/// Ollama's API has a port of its own.
async fn ollama(options: &Options, client: &Client) -> Result<Target, Failure> {
    let call = client.get(&["api", "settings", "ollama.port"]);
    let port = match call.send().await {
        Err(Failure::NotRunning { .. }) => None,
        setting => setting?["value"].as_u64(),
    };
    let port = port.and_then(|port| u16::try_from(port).ok());
    if port.is_none_or(|port| port == 0) {
        Console::note(
            "the port of Ollama's API is off; open it with: qwarden settings set ollama.port 11434",
        );
    }
    let there = client.beside(port.filter(|port| *port > 0).unwrap_or(OLLAMA_PORT));
    let model = options.model.clone().unwrap_or_default();
    Ok(Target {
        root: there.url(),
        model,
    })
}

/// The model that requests without one would get, or one that can be had.
async fn served(client: &Client, there: &Client) -> String {
    let setting = client
        .get(&["api", "settings", "active_model"])
        .send()
        .await;
    if let Some(model) = setting
        .ok()
        .and_then(|body| body["value"].as_str().map(str::to_owned))
    {
        return model;
    }
    // A port that is closed, or wants a login, lists nothing.
    let listed = there
        .get(&["v1", "models"])
        .send()
        .await
        .unwrap_or_default();
    let ids = listed["data"].as_array().into_iter().flatten();
    let mut ids = ids.filter_map(|model| model["id"].as_str());
    let first = ids.clone().find(|id| *id != ECHO && !id.ends_with("/echo"));
    first.or_else(|| ids.next()).unwrap_or(MODEL).to_owned()
}
