//! `qwarden session`: conversations that Qwen keeps for us.

use clap::{Subcommand, ValueEnum};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::failure::{Exit, Outcome};
use crate::cli::input::Page;
use crate::cli::request;
use crate::cli::table::{self, Column};
use crate::cli::words::{Show, at};

const COLUMNS: &[Column] = &[
    ("ID", "/id", Show::Text),
    ("MESSAGES", "/message_count", Show::Text),
    ("LAST USE", "/last_accessed", Show::Ago),
    ("EXPIRES", "/expires_at", Show::Time),
    ("BEGINS WITH", "/first_user_message", Show::Text),
];

const FIELDS: &[Column] = &[
    ("id", "/id", Show::Text),
    ("chat", "/chat_id", Show::Text),
    ("parent", "/parent_id", Show::Text),
    ("model", "/model", Show::Text),
    ("messages", "/message_count", Show::Text),
    ("requests", "/request_count", Show::Text),
    ("tokens", "/usage/total_tokens", Show::Text),
    ("expired", "/expired", Show::Flag),
    ("created", "/created_at", Show::Time),
    ("last use", "/last_accessed", Show::Time),
    ("expires", "/expires_at", Show::Time),
    ("begins with", "/first_user_message", Show::Text),
];

/// What to do with sessions.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// List conversations, the newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
        /// Which ones [default: all].
        #[arg(long)]
        state: Option<State>,
        /// By what [default: created-at].
        #[arg(long)]
        sort: Option<Sort>,
    },
    /// Show one.
    Show {
        /// Id of the session.
        id: String,
    },
    /// List the requests of one.
    Requests {
        /// Id of the session.
        id: String,
        #[command(flatten)]
        page: Page,
    },
    /// Delete one with its history.
    #[command(visible_alias = "rm")]
    Remove {
        /// Id of the session.
        id: String,
    },
    /// Delete those that have expired, with their history.
    Clean {
        /// Only count them.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Whether a conversation can still be gone on with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Active,
    Expired,
    All,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Sort {
    CreatedAt,
    LastAccessed,
}

pub(crate) async fn run(verb: Verb, client: &Client, console: &Console) -> Outcome {
    match verb {
        Verb::List { page, state, sort } => {
            let state = state.map(|state| match state {
                State::Active => "active",
                State::Expired => "expired",
                State::All => "all",
            });
            let sort = sort.map(|sort| match sort {
                Sort::CreatedAt => "created_at",
                Sort::LastAccessed => "last_accessed",
            });
            let body = client
                .get(&["api", "sessions"])
                .query("limit", Some(page.limit))
                .query("offset", Some(page.offset))
                .query("state", state)
                .query("sort", sort)
                .send()
                .await?;
            console.list(&body, "sessions", COLUMNS)?;
        }
        Verb::Show { id } => {
            let body = client.get(&["api", "sessions", &id]).send().await?;
            console.answer(&body, || table::fields(&body, FIELDS))?;
        }
        Verb::Requests { id, page } => {
            let body = client
                .get(&["api", "sessions", &id, "requests"])
                .query("limit", Some(page.limit))
                .query("offset", Some(page.offset))
                .send()
                .await?;
            console.list(&body, "requests", request::COLUMNS)?;
        }
        Verb::Remove { id } => {
            console.confirm(&format!("delete the session `{id}` and its history"))?;
            let body = client.delete(&["api", "sessions", &id]).send().await?;
            console.answer(&body, || format!("session {id} deleted"))?;
        }
        Verb::Clean { dry_run } => {
            if !dry_run {
                console.confirm("delete all expired sessions and their history")?;
            }
            let body = client
                .delete(&["api", "sessions"])
                .query("dry_run", dry_run.then_some(true))
                .send()
                .await?;
            console.answer(&body, || at(&body, "/message"))?;
        }
    }
    Ok(Exit::Done)
}
