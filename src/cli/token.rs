//! `qwarden token`: the admin token, which opens management to other machines and unmasks keys.

use clap::Subcommand;

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::table::{self, Column};
use crate::cli::words::{Show, at};

const FIELDS: &[Column] = &[
    ("there is one", "/configured", Show::Flag),
    ("who needs it", "/required", Show::Text),
    ("you are", "/principal", Show::Text),
];

/// What to do with the admin token.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Show whether there is one, and who needs it.
    Show,
    /// Make a new one in place of the old one. It is printed this one time.
    New,
    /// Forget it; other machines are shut out then.
    #[command(visible_alias = "rm")]
    Remove,
}

pub(crate) async fn run(verb: &Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::Show => {
            let answer = client.get(&["api", "auth"]).send().await?;
            console.answer(&answer, || table::fields(&answer, FIELDS))?;
        }
        Verb::New => {
            let standing = client.get(&["api", "auth"]).send().await?;
            if standing["configured"] == true {
                console.confirm("replace the admin token; who has the old one is shut out")?;
            }
            let answer = client.post(&["api", "auth", "token"]).send().await?;
            console.answer(&answer, || at(&answer, "/token"))?;
            Console::note("keep it: it is not shown again; `--token` or QWARDEN_TOKEN presents it");
        }
        Verb::Remove => {
            console.confirm("forget the admin token")?;
            let answer = client.delete(&["api", "auth", "token"]).send().await?;
            console.answer(&answer, || at(&answer, "/message"))?;
        }
    }
    Ok(Exit::Done)
}
