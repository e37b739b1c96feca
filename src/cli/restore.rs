//! `qwarden restore`: puts a backup in the database's place, while no gateway runs.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::backup::told;
use crate::cli::console::Console;
use crate::cli::data_dir;
use crate::cli::failure::{Exit, Failure, Outcome};
use crate::cli::progress::{Progress, size};
use crate::clock::now_ms;
use crate::db::backups::Go;
use crate::db::restore;

/// What is restored, and where.
#[derive(Args, Debug)]
#[command(after_help = "\
The database that is there is kept beside the backups as
qwarden-replaced-TIME.db; restoring that one undoes this.")]
pub(crate) struct Options {
    /// A backup. It is only read.
    file: PathBuf,
    /// Where the database lies [default: the platform's data directory].
    #[arg(long, env = "QWARDEN_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) fn run(options: Options, console: &Console) -> Outcome {
    let dir = data_dir::checked(options.data_dir)?;
    let instance = data_dir::hold(&dir)?;
    let mut progress = Progress::new();
    let staged = restore::stage(&instance, &options.file, &mut |step| {
        progress.tell(|| told(step));
        Go::On
    });
    drop(progress);
    let failed = |error: crate::db::error::DbError| Failure::Other(error.to_string());
    let staged = staged.map_err(failed)?;
    let (bytes, schema_version) = (staged.bytes, staged.schema_version);
    let shown = options.file.display().to_string();
    console.confirm(&format!(
        "replace the database in `{}` by `{shown}` ({})",
        dir.display(),
        size(bytes)
    ))?;
    let kept = staged.put(now_ms()).map_err(failed)?;
    let body = json!({"success": true, "restored": options.file, "database": instance.database(), "bytes": bytes,
        "schema_version": schema_version, "kept": kept});
    console.answer(&body, || format!("restored {shown} ({})", size(bytes)))?;
    if let Some(kept) = kept {
        Console::note(&format!("what was there is kept as {}", kept.display()));
    }
    Ok(Exit::Done)
}
