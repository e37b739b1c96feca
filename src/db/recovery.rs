//! Opening the database whatever has become of its file (R5).
//!
//! A file that makes no sense is set aside under a dated name, never removed. A fresh one takes its place with the
//! configuration of the snapshot, and what became of the old one stands in it (`metadata`): which file still holds
//! history, and how far that has been copied.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::compact_utc;
use crate::db::backups;
use crate::db::connections::WriteConnection;
use crate::db::error::DbError;
use crate::db::files;
use crate::db::migrate::Migrated;
use crate::db::salvage::Position;
use crate::db::snapshot;

/// How names of files begin that were in the database's place.
pub(crate) const DAMAGED: &str = "qwarden-damaged-";
pub(crate) const RESCUED: &str = "qwarden-rescued-";

const KEY: &str = "recovery";
const STORED: &str = "SELECT value FROM metadata WHERE key = ?1";
const PUT: &str = "INSERT INTO metadata (key, value, updated_at) VALUES (?1, ?2, ?3)
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";

/// Numbers that the lost file may have given are not given again: no file gives one per millisecond.
const NUMBERS: &str = "INSERT INTO sqlite_sequence (name, seq)
    SELECT name, ?1 FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'";

/// What came in the place of a file that could not be used any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DatabaseRecovery)]
pub(crate) struct Recovered {
    /// Unix time, ms.
    pub(crate) at: i64,
    /// What was wrong.
    pub(crate) why: String,
    /// Names of the files that hold what was there, in the data directory.
    pub(crate) kept: Vec<String>,
    /// Rows of configuration that the snapshot gave back.
    pub(crate) configuration: u64,
    /// Rows of history that were copied so far.
    pub(crate) rows: u64,
    /// Places that could not be read.
    pub(crate) unreadable: u64,
    /// Whether all was copied that can be.
    pub(crate) done: bool,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) position: Position,
}

impl Recovered {
    /// Of which nothing has been copied yet. `at` is Unix time, ms.
    pub(crate) fn begun(at: i64) -> Self {
        Self {
            at,
            why: String::new(),
            kept: Vec::new(),
            configuration: 0,
            rows: 0,
            unreadable: 0,
            done: false,
            position: Position::default(),
        }
    }
}

/// A file that cannot be used any more, and how far its replacement has come. Outlives attempts that fail.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) error: DbError,
    at: i64,
    /// Set once nothing of it is in the database's place.
    kept: Option<Vec<String>>,
    /// Whether somebody still has it open, and copies it under this name.
    rescued: Option<String>,
}

impl Loss {
    pub(crate) fn new(error: DbError, now_ms: i64) -> Self {
        Self {
            error,
            at: now_ms,
            kept: None,
            rescued: None,
        }
    }

    /// Expects that what was lost is copied to the returned place by whoever has it open.
    pub(crate) fn rescued(&mut self, database: &Path) -> PathBuf {
        let name = free_name(database, RESCUED, self.at);
        self.rescued = Some(name.clone());
        database.with_file_name(name)
    }
}

/// A database that can be used.
pub(crate) struct Opened {
    pub(crate) writer: WriteConnection,
    pub(crate) migrated: Migrated,
    pub(crate) recovered: Option<Recovered>,
}

/// Opens the database at `path`. A file that is damaged, or that was lost as `loss` says, gets out of the way for a fresh
/// one. `loss` is none again when this succeeds.
pub(crate) async fn open(
    path: &Path,
    now_ms: i64,
    loss: &mut Option<Loss>,
) -> Result<Opened, DbError> {
    if loss.is_none() {
        match WriteConnection::open(path, now_ms).await {
            Ok((writer, migrated)) if migrated.from == 0 => {
                return fill(path, now_ms, writer, migrated).await;
            }
            Ok((writer, migrated)) => {
                let recovered = writer.prepare(|conn| stored(conn)).await?;
                writer.keep_configuration().await?;
                return Ok(Opened {
                    writer,
                    migrated,
                    recovered,
                });
            }
            Err(error) if error.is_ruin() => *loss = Some(Loss::new(error, now_ms)),
            Err(error) => return Err(error),
        }
    }
    let Some(known) = loss.as_mut() else {
        return Err(DbError::Other("there is nothing to recover".into()));
    };
    let opened = replace(path, known).await?;
    *loss = None;
    Ok(opened)
}

/// A file that was just made. With a snapshot beside it, it is not the first one here.
async fn fill(
    path: &Path,
    now_ms: i64,
    writer: WriteConnection,
    migrated: Migrated,
) -> Result<Opened, DbError> {
    let place = path.to_owned();
    let recovered = writer
        .prepare(move |conn| {
            let Some(configuration) = snapshot::restore(conn, &place)? else {
                return Ok(None);
            };
            let recovered = Recovered {
                why: "it was missing or empty".into(),
                configuration,
                done: true,
                position: Position::end(),
                ..Recovered::begun(now_ms)
            };
            begin(conn, &recovered).map(Some)
        })
        .await?;
    if let Some(recovered) = &recovered {
        tell(recovered);
    }
    writer.keep_configuration().await?;
    Ok(Opened {
        writer,
        migrated,
        recovered,
    })
}

async fn replace(path: &Path, loss: &mut Loss) -> Result<Opened, DbError> {
    if loss.kept.is_none() {
        loss.kept = Some(clear(path, loss)?);
    }
    let opened = match WriteConnection::open(path, loss.at).await {
        // Whoever put another file here may have meant something else.
        Err(error) if !error.is_storage() || error.is_ruin() => {
            let aside = set_aside(path, loss.at)?;
            loss.kept.get_or_insert_default().extend(aside);
            WriteConnection::open(path, loss.at).await?
        }
        opened => opened?,
    };
    let (writer, migrated) = opened;
    let kept = loss.rescued.iter().chain(loss.kept.iter().flatten());
    let recovered = Recovered {
        why: loss.error.to_string(),
        kept: kept.cloned().collect(),
        ..Recovered::begun(loss.at)
    };
    let (place, is_fresh) = (path.to_owned(), migrated.from == 0);
    let recovered = writer
        .prepare(move |conn| {
            let configuration = if is_fresh {
                snapshot::restore(conn, &place)?.unwrap_or_default()
            } else {
                0
            };
            let recovered = Recovered {
                configuration,
                ..recovered
            };
            begin(conn, &recovered)
        })
        .await?;
    tell(&recovered);
    writer.keep_configuration().await?;
    Ok(Opened {
        writer,
        migrated,
        recovered: Some(recovered),
    })
}

/// Makes room for a fresh file. Returns the names of what was moved.
fn clear(path: &Path, loss: &Loss) -> Result<Vec<String>, DbError> {
    // Also one that was emptied: connections that are still open would share it with the new ones.
    if !matches!(loss.error, DbError::Lost(_)) {
        return set_aside(path, loss.at).map(|kept| kept.into_iter().collect());
    }
    // Another file, or none: the log of the old one must not be taken for its.
    for suffix in ["-wal", "-shm"] {
        remove(&files::beside(path, suffix))?;
    }
    Ok(Vec::new())
}

/// Moves the file and its log to a dated name beside it. Returns that name; none when there was no file.
fn set_aside(path: &Path, at: i64) -> Result<Option<String>, DbError> {
    let name = free_name(path, DAMAGED, at);
    let kept = path.with_file_name(&name);
    match fs::rename(path, &kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        moved => moved.map_err(|error| failed(&error))?,
    }
    match fs::rename(files::beside(path, "-wal"), files::beside(&kept, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    remove(&files::beside(path, "-shm"))?;
    if let Some(dir) = path.parent() {
        files::sync_dir(dir).map_err(|error| failed(&error))?;
    }
    Ok(Some(name))
}

fn remove(path: &Path) -> Result<(), DbError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&error)),
        _ => Ok(()),
    }
}

/// A name for a file of that time which nobody has.
fn free_name(database: &Path, prefix: &str, at: i64) -> String {
    let stem = format!("{prefix}{}", compact_utc(at));
    let mut name = format!("{stem}.db");
    let mut number = 1;
    while fs::symlink_metadata(database.with_file_name(&name)).is_ok() {
        number += 1;
        name = format!("{stem}-{number:02}.db");
    }
    name
}

fn failed(error: &io::Error) -> DbError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DbError::Full,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => DbError::ReadOnly,
        kind => DbError::Io(kind.to_string()),
    }
}

fn tell(recovered: &Recovered) {
    tracing::error!(
        why = recovered.why,
        kept = ?recovered.kept,
        configuration = recovered.configuration,
        "a fresh database has taken the place of one that could not be used any more"
    );
}

fn begin(conn: &Connection, recovered: &Recovered) -> Result<Recovered, DbError> {
    conn.execute("DELETE FROM sqlite_sequence", [])?;
    conn.execute(NUMBERS, [recovered.at])?;
    put(conn, recovered)?;
    Ok(recovered.clone())
}

/// What the database says of a recovery.
pub(crate) fn stored(conn: &Connection) -> Result<Option<Recovered>, DbError> {
    let found: Option<String> = conn
        .prepare_cached(STORED)?
        .query_row([KEY], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
}

pub(super) fn put(conn: &Connection, recovered: &Recovered) -> Result<(), DbError> {
    let text =
        serde_json::to_string(recovered).map_err(|error| DbError::Other(error.to_string()))?;
    conn.prepare_cached(PUT)?
        .execute((KEY, text, recovered.at))?;
    Ok(())
}

/// Copies a file that has lost its name, through a connection that still has it open, to `to`.
pub(crate) fn rescue(conn: &Connection, to: &Path) -> Result<(), DbError> {
    let partial = files::beside(to, ".partial");
    files::create_private_file(&partial).map_err(|error| failed(&error))?;
    let copied = backups::copy_open(conn, &partial);
    if let Err(error) = copied {
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    fs::rename(&partial, to).map_err(|error| failed(&error))
}

/// Pages of the file at `path` that make no sense, read by a newcomer. What a rule of a table forbids is no damage.
pub(crate) fn damage(path: &Path) -> Result<Vec<String>, DbError> {
    let conn = Connection::open_with_flags(
        path,
        rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.execute_batch(
        "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    match backups::faults(&conn) {
        Err(DbError::Corrupt(reason)) => Ok(vec![reason]),
        found => Ok(found?
            .into_iter()
            .filter(|fault| is_damage(fault))
            .collect()),
    }
}

/// Whether a finding of `quick_check` is about pages, not about a value that its column forbids.
pub(crate) fn is_damage(fault: &str) -> bool {
    const VALUES: [&str; 3] = ["CHECK constraint", "NULL value", "non-"];
    !VALUES.iter().any(|value| fault.starts_with(value)) && !fault.contains(" value in ")
}
