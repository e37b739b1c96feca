//! `qwarden backup`: a copy of the database, also while it is used.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::console::Console;
use crate::cli::data_dir;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::input::absolute;
use crate::cli::progress::{self, Progress};
use crate::cli::table::Column;
use crate::cli::words::{Show, at};
use crate::clock::now_ms;
use crate::db::backups::{self, Go, Kind, Phase};
use crate::db::connections::ReadConnections;
use crate::db::error::DbError;
use crate::limits::command_line::VERY_LONG;
use crate::settings::{BACKUP_KEEP, Settings};

const COLUMNS: &[Column] = &[
    ("NAME", "/name", Show::Text),
    ("MADE", "/created_at", Show::Time),
    ("BYTES", "/bytes", Show::Text),
    ("SCHEMA", "/schema_version", Show::Text),
    ("KIND", "/kind", Show::Text),
];

/// Where the copy goes.
#[derive(Args, Debug)]
#[command(after_help = "\
Asks the running gateway. When none answers, the database is opened here.
A backup holds the stored logins sealed; the key that opens them lies beside the
database in a file of its own, and is not in it.")]
pub(crate) struct Options {
    /// A file that does not exist [default: a dated one in the data directory].
    file: Option<PathBuf>,
    /// List the backups of the data directory instead.
    #[arg(long, conflicts_with = "file")]
    list: bool,
    /// Where the database lies, when no gateway answers.
    #[arg(long, env = "QWARDEN_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) async fn run(options: Options, client: &Client, console: &Console) -> Outcome {
    if options.list {
        let answer = match client.get(&["api", "backups"]).send().await {
            Err(Failure::NotRunning { .. }) => {
                let database = data_dir::existing_database(options.data_dir)?;
                let found = backups::list(&database).map_err(|error| failed(&error))?;
                json!({"total": found.len(), "backups": found})
            }
            answer => answer?,
        };
        console.list(&answer, "backups", COLUMNS)?;
        return Ok(Exit::Done);
    }
    let to = options.file.as_deref().map(absolute).transpose()?;
    let mut progress = Progress::new();
    let call = client.post(&["api", "backup"]).within(VERY_LONG);
    let asking = call.body(json!({"path": to})).send();
    let asking = progress.during(client, "backup:progress", line, asking);
    let answer = match Box::pin(asking).await {
        Err(Failure::NotRunning { .. }) => {
            Box::pin(alone(options.data_dir, to.as_deref(), &mut progress)).await?
        }
        answer => answer?,
    };
    drop(progress);
    let size = progress::size(answer["backup"]["bytes"].as_u64().unwrap_or_default());
    console.answer(&answer, || at(&answer, "/backup/path"))?;
    Console::note(&format!("{size}, checked"));
    for name in answer["removed"].as_array().into_iter().flatten() {
        Console::note(&format!(
            "removed {}, as `{BACKUP_KEEP}` says",
            at(name, "")
        ));
    }
    Ok(Exit::Done)
}

fn line(event: &Value) -> String {
    let pages = |key: &str| event[key].as_u64().unwrap_or_default();
    progress::part(&at(event, "/phase"), pages("done"), pages("total"))
}

/// Without a gateway. The lock keeps one from starting meanwhile.
async fn alone(
    dir: Option<PathBuf>,
    to: Option<&Path>,
    progress: &mut Progress,
) -> Result<Value, Failure> {
    let instance = data_dir::hold_existing(dir)?;
    let database = instance.database();
    let made = backups::make(database, to, now_ms(), &mut |step| {
        progress.tell(|| told(step));
        Go::On
    });
    let backup = made.map_err(|error| failed(&error))?;
    let mut removed = Vec::new();
    if backup.kind == Kind::Backup {
        let keep = settings(database).await.size(BACKUP_KEEP);
        removed = backups::rotate(database, keep).map_err(|error| failed(&error))?;
    }
    Ok(json!({"success": true, "backup": backup, "removed": removed}))
}

/// How far a copy is.
pub(crate) fn told(step: backups::Progress) -> String {
    let what = match step.phase {
        Phase::Copying => "copying",
        Phase::Checking => "checking",
    };
    match step.phase {
        Phase::Copying => progress::part(what, step.done, step.total),
        Phase::Checking => progress::part(what, 0, 0),
    }
}

/// The defaults where they cannot be read: the file may be of an older or newer qwarden.
async fn settings(database: &Path) -> Settings {
    let stored = match ReadConnections::open(database, 1).await {
        Ok(readers) => readers.run(crate::db::settings::all).await,
        Err(error) => Err(error),
    };
    let stored = stored.unwrap_or_default();
    Settings::resolve(&stored, |name| std::env::var(name).ok(), &[]).0
}

fn failed(error: &DbError) -> Failure {
    Failure::Other(error.to_string())
}
