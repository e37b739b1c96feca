//! `qwarden cache`: what the response cache holds, and emptying it.

use clap::{Args, Subcommand};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::table::{self, Column};
use crate::cli::words::{Show, at};

const FIELDS: &[Column] = &[
    ("on", "/enabled", Show::Text),
    ("answers", "/entries", Show::Text),
    ("at most", "/max_entries", Show::Text),
    ("bytes", "/bytes", Show::Text),
    ("at most", "/max_bytes", Show::Text),
    ("hits since the start", "/hits", Show::Text),
    ("misses since the start", "/misses", Show::Text),
    ("oldest", "/oldest", Show::Time),
    ("fresh for", "/ttl_ms", Show::Took),
];

/// What to do.
#[derive(Args, Debug)]
#[command(after_help = "\
`qwarden settings set cache.enabled true` turns it on for requests with
temperature 0; any other can ask for it with `x-qwarden-cache: on`.")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show what it holds [default].
    Show,
    /// Drop every answer.
    Clear {
        /// Only those that were asked for under this name.
        #[arg(short, long)]
        model: Option<String>,
    },
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    match options.verb.unwrap_or(Verb::Show) {
        Verb::Show => {
            let body = client.get(&["api", "cache"]).send().await?;
            console.answer(&body, || table::fields(&body, FIELDS))?;
        }
        Verb::Clear { model } => {
            console.confirm("drop the answers of the response cache")?;
            let call = client.delete(&["api", "cache"]).query("model", model);
            let body = call.send().await?;
            console.answer(&body, || {
                format!("{} answers dropped", at(&body, "/deleted"))
            })?;
        }
    }
    Ok(Exit::Done)
}
