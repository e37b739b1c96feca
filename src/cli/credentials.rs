//! `qwarden credentials`: the stored chat.qwen.ai logins. Their secrets are never shown.

use clap::Subcommand;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::login;
use crate::cli::table::{self, Column};
use crate::cli::words::{Show, at};

const COLUMNS: &[Column] = &[
    ("LABEL", "/label", Show::Text),
    ("STATE", "/state", Show::State),
    ("EXPIRES", "/expiresAt", Show::Seconds),
    ("TOKEN", "/token_preview", Show::Text),
    ("SOURCE", "/source", Show::Text),
    ("LAST ERROR", "/last_error", Show::Text),
];

const FIELDS: &[Column] = &[
    ("label", "/label", Show::Text),
    ("state", "/state", Show::Text),
    ("valid", "/isValid", Show::Flag),
    ("expires", "/expiresAt", Show::Seconds),
    ("rests until", "/limited_until", Show::Seconds),
    ("token", "/token_preview", Show::Text),
    ("cookies", "/cookie_names", Show::Text),
    ("source", "/source", Show::Text),
    ("taken by the site", "/last_verified_at", Show::Seconds),
    ("created", "/createdAt", Show::Seconds),
    ("updated", "/updatedAt", Show::Seconds),
    ("last error", "/last_error", Show::Text),
];

/// What to do with logins.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List the stored logins.
    #[command(visible_alias = "ls")]
    List,
    /// Show one without its secrets.
    Show {
        /// Its label [default: the first].
        label: Option<String>,
    },
    /// Store a login; the same as `qwarden login`.
    Add(login::Options),
    /// Forget every stored login, or one.
    Clear {
        /// Its label [default: all].
        label: Option<String>,
    },
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List => {
            let body = stored(client).await?;
            console.list(&body, "accounts", COLUMNS)?;
        }
        Verb::Show { label } => {
            let body = stored(client).await?;
            let accounts = body["accounts"].as_array().map(Vec::as_slice);
            let account = accounts.unwrap_or_default().iter().find(|account| {
                label
                    .as_ref()
                    .is_none_or(|label| account["label"] == **label || account["id"] == **label)
            });
            match (account, label) {
                (Some(account), _) => {
                    console.answer(account, || table::fields(account, FIELDS))?;
                }
                (None, Some(label)) => {
                    return Err(Failure::Other(format!(
                        "there is no login `{label}`; `qwarden credentials list` shows them"
                    )));
                }
                (None, None) => {
                    console.answer(&body, || "no login is stored".into())?;
                    Console::note("`qwarden login --help` says how to hand one over");
                }
            }
        }
        Verb::Add(options) => return login::run(options, client, console).await,
        Verb::Clear { label } => return clear(label, client, console).await,
    }
    Ok(Exit::Done)
}

async fn stored(client: &Client) -> Result<Value, Failure> {
    client.get(&["api", "qwen", "credentials"]).send().await
}

/// Forgets all logins, or the one of `label`, after a question.
pub(crate) async fn clear(label: Option<String>, client: &Client, console: &Console) -> Outcome {
    match &label {
        Some(label) => console.confirm(&format!("forget the login `{label}`"))?,
        None => console.confirm("forget every stored login")?,
    }
    let body = client
        .delete(&["api", "qwen", "credentials"])
        .query("label", label)
        .send()
        .await?;
    console.answer(&body, || at(&body, "/message"))?;
    Ok(Exit::Done)
}
