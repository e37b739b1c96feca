//! Where the database lives unless somebody says otherwise, and the hold on it for verbs that need no gateway.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::failure::Failure;
use crate::db::instance::{DATABASE, Instance, OpenError};

/// `given`, or the platform's data directory.
pub(crate) fn or_default(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(dir) => Ok(dir),
        None => Ok(directories::ProjectDirs::from("", "", "qwarden")
            .context("this user has no home directory; name a place with --data-dir")?
            .data_dir()
            .to_owned()),
    }
}

pub(crate) fn checked(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    or_default(given).map_err(|error| Failure::Usage(format!("{error:#}")))
}

/// The database file, when there is one.
pub(crate) fn existing_database(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let dir = checked(given)?;
    let database = dir.join(DATABASE);
    if std::fs::metadata(&database).is_ok_and(|file| file.len() > 0) {
        return Ok(database);
    }
    Err(Failure::Other(format!(
        "there is no database in `{}`; name its folder with --data-dir",
        dir.display()
    )))
}

/// Takes the data directory for this process, as long as no gateway uses it.
pub(crate) fn hold(dir: &Path) -> Result<Instance, Failure> {
    Instance::open(dir, std::process::id()).map_err(|error| {
        Failure::Other(match &error {
            OpenError::InUse { pid: Some(pid), .. } => {
                format!(
                    "a gateway uses `{}`; stop it first: kill {pid}",
                    dir.display()
                )
            }
            _ => error.to_string(),
        })
    })
}

/// The same, for a directory with a database in it.
pub(crate) fn hold_existing(given: Option<PathBuf>) -> Result<Instance, Failure> {
    let database = existing_database(given)?;
    hold(database.parent().unwrap_or(Path::new(".")))
}
