//! Where the database lives unless somebody says otherwise.

use std::path::PathBuf;

use anyhow::Context;

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
